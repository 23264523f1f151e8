from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from shstk import render
from shstk.cli.common import (
    as_option,
    between_commas,
    expect_option,
    format_option,
    ignore_option,
    rules_from_option,
    select_option,
)
from shstk.cli.corpus.common import Shown, jobs_option, ray_option, store_argument, work_of
from shstk.schemas.errors import Exit, UsageError


@click.command()
@store_argument
@click.option("-o", "--output", required=True, metavar="STORE", help="Where the judgements are.")
@expect_option
@as_option
@select_option
@ignore_option
@rules_from_option
@jobs_option
@ray_option
@format_option("text", "json")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    store: str,
    output: str,
    expect: str,
    as_: str | None,
    select: str,
    ignore: str,
    rules_from: tuple[Path, ...],
    jobs: int,
    ray: str | None,
    format: str,
) -> int:
    """Judge the runs of a campaign anew, and write the judgements as another campaign.

    A kept run is opened; one that was not kept is executed again. `shstk corpus diff` tells what
    differs. Exit code 1 if a cell has findings or failed.
    """
    from shstk.corpus.campaign import HostLimits
    from shstk.corpus.run import Keeping, run
    from shstk.corpus.store import Store
    from shstk.corpus.summary import text, to_json
    from shstk.replay.check import chosen
    from shstk.replay.rules.own import catalogue
    from shstk.sweep.seeds import Judging

    judging = Judging(
        expect,
        tuple(between_commas(select)),
        tuple(between_commas(ignore)),
        tuple(file.absolute() for file in rules_from),
        as_,
    )
    chosen(judging.select, judging.ignore, catalogue(judging.rules_from))
    source, target, shown = Store(store), Store(output), Shown()
    if source.where == target.where:
        raise UsageError(f"{output} is the campaign itself", "choose another with -o")
    cells = [replace(cell, judging=judging) for cell in source.plan.values()]
    try:
        run(
            cells,
            target,
            work=work_of(ctx, ray, jobs, HostLimits()),
            keeping=Keeping(),
            kept=source,
            on_progress=shown,
        )
    finally:
        shown.clear()
    told = to_json(target)
    if format == "json":
        render.write_json(told)
    else:
        click.echo("\n".join(text(told)))
    return Exit.FINDINGS if told["causes"] or told["failed"] else Exit.OK
