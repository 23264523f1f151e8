from __future__ import annotations

from pathlib import Path

import click

from shstk import render
from shstk.cli.common import Kernel, format_option
from shstk.cli.corpus.common import store_argument
from shstk.cli.terminal import Status


@click.command()
@store_argument
@click.argument("cause")
@click.option(
    "--clean",
    type=Kernel(),
    metavar="REV",
    help="The revision without the cause, on top of which switches are turned [default: the last of"
    " v3, v6, 7.0, 7.2, 7.3 that does not show it].",
)
@click.option(
    "--input",
    "out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    default="CAUSE.input",
    show_default=True,
    help="Where a shorter standard input is written.",
)
@format_option("text", "json")
def command(store: str, cause: str, clean: str | None, out: Path, format: str) -> None:
    """Find the least that still shows CAUSE, which `report` and `run` name by eight digits.

    The seed becomes the smallest; arguments and letters of them, lines and bytes of input are left
    out. Of the switches of the kernel those remain that show it on top of a revision that does not
    (delta debugging): they are the mechanism that causes it. The commands that reproduce it are
    printed.
    """
    from shstk.corpus.reduce import reduce
    from shstk.corpus.store import Store

    status = Status()
    if str(out) == "CAUSE.input":
        out = Path(f"{cause}.input")
    try:
        found = reduce(
            Store(store),
            cause,
            out,
            clean=clean,
            on_trial=lambda tried: status.show(f"{tried} runs"),
        )
    finally:
        status.clear()
    told = {
        "command": found.cell.subject.command,
        "kernel": found.cell.kernel,
        "seed": found.cell.seed,
        "quantum": found.cell.slices,
        "clean": found.clean or None,
        "switches": list(found.switches),
        "runs": found.tried,
        "reproduce": found.cell.commands,
    }
    if format == "json":
        render.write_json(told)
        return
    if found.switches:
        click.echo(f"{found.clean} does not show it, but with {' and '.join(found.switches)}:")
    elif found.cell.image:
        click.echo(f"{found.cell.kernel} is an Image: it has no switches to turn")
    elif found.clean:
        click.echo(f"{found.clean} does not show it, whatever of {found.cell.kernel} it gets")
    else:
        click.echo("every revision shows it")
    click.echo(f"{told['reproduce']}\n{found.tried} runs")
