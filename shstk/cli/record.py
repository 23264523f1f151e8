from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

import shstk
from shstk.cli.common import Size, plugin_option, show_plugins
from shstk.cli.guest import guest_options, settings, verbose_option
from shstk.cli.realkernel import REAL_OPTIONS, check_given, given, machine_options, real_options
from shstk.cli.terminal import (
    Interrupt,
    PassThrough,
    Progress,
    Status,
    show_tier,
    show_warnings,
)
from shstk.schemas.tables import DEFAULT_TRACE, MAX_SIZE, TRACES


@click.command(context_settings={"allow_interspersed_args": False})
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="RUN", help="Run directory."
)
@click.option("--force", is_flag=True, help="Replace an existing run.")
@guest_options()
@click.option(
    "--trace",
    default=",".join(DEFAULT_TRACE),
    show_default=True,
    metavar="TABLES",
    help=f"Executor tables to record: {', '.join(TRACES)}. Rules read only cfi.",
)
@click.option(
    "--max-size",
    type=Size(),
    default=MAX_SIZE,
    show_default=f"{MAX_SIZE >> 30}G",
    metavar="SIZE",
    help="End the run when it takes SIZE on disk; 0: no limit.",
)
@plugin_option
@verbose_option
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
    trace: str,
    max_size: int,
    plugins: tuple[str, ...],
    verbose: bool,
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
    if verbose:
        show_tier(options["tier"])
    passing = PassThrough()
    result = shstk.record(
        program,
        *args,
        out=output,
        force=force,
        trace=trace.split(","),
        max_size=max_size or None,
        plugins=plugins,
        **settings(options),
        on_output=passing,
        on_progress=Progress(),
        interrupted=Interrupt(),
    )
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
