from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import shstk
from shstk.cli.common import open_run, runs_argument
from shstk.cli.configured import judge, judging_options
from shstk.cli.confined import confine_reading
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
@judging_options
@click.pass_context
def command(
    ctx: click.Context, /, runs: tuple[Path, ...], output: Path, force: bool, **how: Any
) -> int:
    """Write one HTML page on the RUNs: verdicts, findings with their evidence, and a picture.

    The picture shows every task, every shadow stack, and who was on it how deep, over the
    instructions of the run. The page needs no network. With several runs it begins with a table of
    the rules that are violated, by run.

    Exit code 1 if any rule is violated.
    """
    confine_reading(output, own_code=how["rules_from"])
    opened = [open_run(path) for path in runs]
    judged = [judge(ctx, run, **how) for run in opened]
    with working(f"drawing {output}"):
        reports = shstk.write_report(opened, output, reports=judged, force=force)
    click.echo(str(output), err=True)
    return Exit.OK if all(report.clean for report in reports) else Exit.FINDINGS
