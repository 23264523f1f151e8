from __future__ import annotations

from pathlib import Path

import click

import shstk
from shstk.cli.common import as_option, expect_option, open_run, runs_argument
from shstk.cli.terminal import working
from shstk.schemas.errors import Exit


@click.command()
@runs_argument
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("report.html"),
    show_default=True,
    help="The page.",
)
@click.option("--force", is_flag=True, help="Replace an existing file.")
@expect_option
@as_option
def command(runs: tuple[Path, ...], output: Path, force: bool, expect: str, as_: str | None) -> int:
    """Write one HTML page on the RUNs: verdicts, findings with their evidence, and a picture.

    The picture shows every task, every shadow stack, and who was on it how deep, over the
    instructions of the run. The page needs no network. With several runs it begins with a table of
    the rules that are violated, by run.

    Exit code 1 if any rule is violated.
    """
    opened = [open_run(path) for path in runs]
    with working(f"judging and drawing {', '.join(run.name for run in opened)}"):
        reports = shstk.write_report(opened, output, expect=expect, as_=as_, force=force)
    click.echo(str(output), err=True)
    return Exit.OK if all(report.clean for report in reports) else Exit.FINDINGS
