from __future__ import annotations

from pathlib import Path

import click

import shstk
from shstk import render
from shstk.cli.common import between_commas, format_option
from shstk.cli.terminal import working
from shstk.schemas.errors import Exit


@click.command()
@click.argument("a", type=click.Path(path_type=Path), metavar="A")
@click.argument("b", type=click.Path(path_type=Path), metavar="B")
@click.option(
    "--task", "tasks", multiple=True, metavar="PATH", help="Only this task: its path or tid."
)
@click.option(
    "--ignore",
    metavar="WORDS",
    default="",
    help="Ignore tables (signals), columns (syscalls.ret) or calls (read), separated by commas.",
)
@click.option(
    "-C",
    "--context",
    type=click.IntRange(0),
    default=2,
    show_default=True,
    metavar="N",
    help="Equal events around each difference.",
)
@click.option("--order", is_flag=True, help="Compare the order of all tasks' events too.")
@click.option("--exact", is_flag=True, help="Also what depends on scheduling: offsets, waiting.")
@format_option("text", "json")
def command(
    a: Path,
    b: Path,
    tasks: tuple[str, ...],
    ignore: str,
    context: int,
    order: bool,
    exact: bool,
    format: str,
) -> int:
    """What does run B do that run A does not?

    Tasks are matched by the path of their creation (main, main/clone#3), shadow stacks by their
    owner, addresses by what is mapped there. Each task's calls, clones, signals, faults, exit and
    changes to shadow stacks are compared in order; the order between tasks is not compared.
    Exit code 1 if there is a difference.
    """
    from shstk.replay.diff.report import text, to_json

    words = between_commas(ignore)
    with working(f"comparing {a} and {b}"):
        found = shstk.diff(
            a, b, tasks=tasks, ignore=words, context=context, order=order, exact=exact
        )
    if format == "json":
        render.write_json(to_json(found))
    else:
        click.echo(text(found), nl=False)
    return Exit.OK if found.same else Exit.FINDINGS
