from __future__ import annotations

import sys
from pathlib import Path

import click

from schemas.errors import Exit
from shstk.cli.common import Kernel, format_option, runs_argument


@click.command()
@runs_argument
@click.option(
    "--expect",
    type=click.Choice(["intent", "revision"]),
    default="intent",
    show_default=True,
    help="What the patch and the merged kernel mean, or what that revision's code does.",
)
@click.option("--as", "as_", type=Kernel(), metavar="REV", help="Judge by another revision.")
@click.option("--select", metavar="IDS", default="", help="Only these rules, by commas.")
@click.option("--ignore", metavar="IDS", default="", help="Not these rules.")
@click.option("-v", "--verbose", is_flag=True, help="Also what is satisfied or not evaluated.")
@format_option("text", "json", "csv")
@click.pass_context
def command(
    ctx: click.Context,
    runs: tuple[Path, ...],
    expect: str,
    as_: str | None,
    select: str,
    ignore: str,
    verbose: bool,
    format: str,
) -> int:
    """Judge each RUN: is every shadow stack allocated, handed on and released as specified?

    Exit code 1 if any rule is violated. json and csv give every rule's outcome, one row each.
    """
    import polars as pl

    from shstk import api, render, report

    reports = [
        api.check(run, expect=expect, as_=as_, select=_ids(select), ignore=_ids(ignore))
        for run in runs
    ]
    if format == "text":
        colour = sys.stdout.isatty() if ctx.color is None else ctx.color
        for i, made in enumerate(reports):
            if i:
                click.echo()
            report.write_text(made, sys.stdout, colour=colour, verbose=verbose)
    else:
        frames = [made.findings.select(pl.lit(made.run).alias("run"), pl.all()) for made in reports]
        render.write_frame(pl.concat(frames), format)
    return Exit.OK if all(made.clean for made in reports) else Exit.FINDINGS


def _ids(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
