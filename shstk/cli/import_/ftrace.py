from __future__ import annotations

from pathlib import Path

import click

import shstk
from shstk.cli.common import Size
from shstk.cli.import_.common import run_options
from shstk.cli.terminal import show_warnings


@click.command()
@click.argument("trace", type=click.Path(path_type=Path))
@run_options
@click.option(
    "--pid",
    type=click.IntRange(1),
    help="The program to import (default: the first that asks for a shadow stack).",
)
@click.option(
    "--stack-limit",
    type=Size(),
    help="Its RLIMIT_STACK, such as 8M, from which the size of a shadow stack follows"
    " (default: as the commands of ftrace-probes noted it).",
)
def command(
    trace: Path,
    output: Path,
    force: bool,
    kernel: str | None,
    pid: int | None,
    stack_limit: int | None,
) -> int:
    """Make a run of TRACE: the text of trace, trace_pipe or `trace-cmd report`, or a trace.dat.

    `shstk ftrace-probes` prints how to record one. The run has one program and all tasks that it
    creates.
    """
    made = shstk.import_ftrace(
        trace, output, pid=pid, kernel=kernel, stack_limit=stack_limit, force=force
    )
    show_warnings(made.warnings)
    click.echo(
        f"shstk: {made.program} (pid {made.pid}), {made.calls} calls, imported as {made.path}",
        err=True,
    )
    return 0
