from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import shstk
from shstk.cli.common import plugin_option, show_plugins
from shstk.cli.guest import guest_options, settings
from shstk.cli.terminal import Interrupt, PassThrough, Progress, show_warnings
from shstk.schemas.tables import DEFAULT_TRACE, TRACES


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
@plugin_option
@click.option("--exit-guest", is_flag=True, help="Exit as the program did (128 + signal).")
def command(
    program: str,
    args: tuple[str, ...],
    output: Path | None,
    force: bool,
    trace: str,
    plugins: tuple[str, ...],
    exit_guest: bool,
    **options: Any,
) -> int:
    """Run PROGRAM (a riscv64 Linux ELF) under a kernel revision and record it.

    The program's output is passed through. RUN is PROGRAM's name with .run unless -o is given. The
    exit code is 0 if the program was recorded, whatever its own exit code.
    """
    passing = PassThrough()
    result = shstk.record(
        program,
        *args,
        out=output,
        force=force,
        trace=trace.split(","),
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
