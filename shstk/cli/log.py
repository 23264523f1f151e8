from __future__ import annotations

from pathlib import Path

import click

from shstk import render
from shstk.cli.common import Seq, format_option, open_run, run_argument
from shstk.schemas import seq as positions


@click.command()
@run_argument
@click.option("--tid", type=int, help="Only this task's events.")
@click.option("--around", type=Seq(), metavar="SEQ", help="Only events around icount.n.")
@click.option(
    "-C",
    "--context",
    type=click.IntRange(0),
    default=10,
    show_default=True,
    help="Events on either side of --around.",
)
@click.option("--calls", is_flag=True, help="Only system calls.")
@click.option("--cfi", is_flag=True, help="Only shadow-stack and landing-pad instructions.")
@format_option("text", "json")
def command(
    run: Path,
    tid: int | None,
    around: int | None,
    context: int,
    calls: bool,
    cfi: bool,
    format: str,
) -> None:
    """List the events of RUN in order: position, task, event.

    The events within a system call are indented below it. Instructions are omitted unless --cfi is
    given (with --calls: both).
    """
    from shstk import log

    lines = log.tell(open_run(run), tid=tid, around=around, context=context, calls=calls, cfi=cfi)
    if format == "json":
        render.write_json(
            [
                {"seq": positions.show(line.seq), "tid": line.tid, "table": line.table}
                | {"text": line.text}
                | ({"arguments": line.arguments} if line.table == "syscalls" else {})
                for line in lines
            ]
        )
        return
    told = False
    for line in lines:
        click.echo(log.text(line))
        told = True
    if not told:
        click.echo("no such event", err=True)
