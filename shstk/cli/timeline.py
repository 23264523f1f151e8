from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import shstk
from shstk.cli.common import Window, open_run, run_argument
from shstk.cli.configured import judge, judging_options
from shstk.cli.confined import confine_reading
from shstk.cli.terminal import working


@click.command()
@run_argument
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The trace file.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@click.option(
    "--window", type=Window(), metavar="A..B", help="Only from icount.n A to B, or A..+N."
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=200_000,
    show_default=True,
    metavar="N",
    help="At most N function calls and N system calls: those that last longest.",
)
@click.option(
    "--virtual-time",
    is_flag=True,
    help="Add a track of the guest's clock; the run is executed again for it.",
)
@judging_options
@click.pass_context
def command(
    ctx: click.Context,
    /,
    run: Path,
    output: Path | None,
    force: bool,
    window: tuple[int, int] | None,
    limit: int,
    virtual_time: bool,
    **how: Any,
) -> None:
    """Write RUN as a timeline that Perfetto's UI (https://ui.perfetto.dev) opens.

    There is a track for each task, with its function calls, system calls, signals, faults and
    findings, and the depth of its shadow stack; and one for each shadow stack, with its owner and
    the tasks that were on it. Arrows lead from a clone to its child, from the release of a stack to
    the wake-up after it, and from a signal to its sigreturn.

    One instruction is a microsecond: 1364.1 is at 1.364001 ms. The file is named after the run
    unless -o is given.
    """
    confine_reading(output or Path("here"), own_code=how["rules_from"])
    opened = open_run(run)
    target = output or Path(f"{opened.name.removesuffix('.run')}.pftrace")
    report = judge(ctx, opened, **how)
    with working(f"writing {target}"):
        left_out = shstk.write_timeline(
            opened,
            target,
            window=window,
            limit=limit,
            report=report,
            virtual_time=virtual_time,
            force=force,
        )
    for sentence in left_out:
        click.echo(f"left out: {sentence} (--window shows a part, --limit more)", err=True)
    click.echo(f"{target}: open it at https://ui.perfetto.dev", err=True)
