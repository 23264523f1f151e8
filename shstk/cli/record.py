from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

import shstk
from shstk.cli.common import show_plugins
from shstk.cli.confined import confine_guest
from shstk.cli.guest import guest_options, recording, recording_options, settings
from shstk.cli.realkernel import REAL_OPTIONS, check_given, given, machine_options, real_options
from shstk.cli.terminal import (
    Interrupt,
    PassThrough,
    Progress,
    Status,
    show_warnings,
)


@click.command(context_settings={"allow_interspersed_args": False})
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="RUN", help="Run directory."
)
@click.option("--force", is_flag=True, help="Replace an existing run.")
@guest_options()
@recording_options
@machine_options()
@click.option("--exit-guest", is_flag=True, help="Exit as the program did (128 + signal).")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    program: str,
    args: tuple[str, ...],
    output: Path | None,
    force: bool,
    exit_guest: bool,
    **options: Any,
) -> int:
    """Run PROGRAM (a riscv64 Linux ELF) under a kernel revision and record it.

    The program's output is passed through. RUN is PROGRAM's name with .run unless -o is given. The
    exit code is 0 if the program was recorded, whatever its own exit code.

    With --real-kernel the program runs on that kernel instead, in QEMU, and --kernel names the
    revision whose rules are expected (default: the release in the kernel's banner).
    """
    real = options["real_kernel"] is not None
    check_given(ctx, real)
    if real:
        return _on_real_kernel(ctx, program, args, output, force, exit_guest, options)
    options = {name: options[name] for name in options if name not in REAL_OPTIONS}
    verbose, recorded, guest = options["verbose"], recording(options), settings(options)
    confine_guest(guest, recorded["plugins"], verbose, run=output or Path.cwd() / "guest.run")
    passing, progress = PassThrough(), Progress()
    result = shstk.record(
        program,
        *args,
        out=output,
        force=force,
        **recorded,
        **guest,
        on_output=passing,
        on_progress=progress,
        interrupted=Interrupt(),
    )
    progress.clear()
    show_warnings(result.warnings)
    end = result.describe()
    click.echo(f"shstk: {end}, {result.icount} instructions, recorded in {result.path}", err=True)
    show_plugins(result.plugins)
    passing.check()
    return (result.exit_code or 0) if exit_guest else 0


def _on_real_kernel(
    ctx: click.Context,
    program: str,
    args: tuple[str, ...],
    output: Path | None,
    force: bool,
    exit_guest: bool,
    options: dict[str, Any],
) -> int:
    passing, status = PassThrough(), Status()
    real = replace(
        real_options(options["real_kernel"], program, args, settings(options), options),
        kernel=options["kernel"] if given(ctx, "kernel") else None,
        out=output,
        force=force,
        on_output=passing,
        on_progress=status.show,
        interrupted=Interrupt(),
    )
    try:
        result = shstk.record_real_kernel(real)
    finally:
        status.clear()
    show_warnings(result.warnings)
    expected = shstk.open(result.path, verify=False).manifest.kernel
    click.echo(
        f"shstk: {result.describe()}, {result.icount} instructions, recorded in {result.path},"
        f" to be judged by {expected}",
        err=True,
    )
    passing.check()
    return (result.exit_code or 0) if exit_guest else 0
