from __future__ import annotations

from pathlib import Path

import click

from shstk import render
from shstk.cli.common import format_option
from shstk.cli.corpus.common import (
    Shown,
    corpus_argument,
    jobs_option,
    keep_options,
    keeping,
    ray_option,
    store_of,
    store_option,
    work_of,
)
from shstk.schemas.errors import Exit


class Shard(click.ParamType[tuple[int, int]]):
    """One of several equal parts: I/N."""

    name = "shard"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        part, slash, parts = str(value).partition("/")
        if not (slash and part.isdigit() and parts.isdigit() and 1 <= int(part) <= int(parts)):
            self.fail(f"{value!r} is not I/N, such as 1/4", param, ctx)
        return int(part), int(parts)


@click.command()
@corpus_argument
@store_option
@jobs_option
@ray_option
@keep_options
@click.option("--retry", is_flag=True, help="Execute the cells again that failed.")
@click.option(
    "--shard",
    type=Shard(),
    metavar="I/N",
    help="Only the I-th of N parts of the cells, for one of N machines (shstk corpus merge).",
)
@format_option("text", "json")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    corpus: Path,
    store: str | None,
    jobs: int,
    ray: str | None,
    keep: str,
    keep_size: int,
    retry: bool,
    shard: tuple[int, int] | None,
    format: str,
) -> int:
    """Execute and judge the cells of CORPUS.toml that STORE does not have yet.

    A cell that hangs, dies, or takes more than its limits of memory or disk has failed, and the
    others go on. Ctrl-C keeps what is done; the same command resumes. Exit code 1 if a cell has
    findings or failed.
    """
    from shstk.corpus.campaign import load
    from shstk.corpus.run import run
    from shstk.corpus.store import Store
    from shstk.corpus.summary import text, to_json

    campaign, place, shown = load(corpus), Store(store_of(corpus, store)), Shown()
    try:
        progress = run(
            campaign.cells,
            place,
            work=work_of(ctx, ray, jobs, campaign.host),
            keeping=keeping(keep, keep_size),
            retry=retry,
            part=slice(shard[0] - 1, None, shard[1]) if shard else slice(None),
            on_progress=shown,
        )
    finally:
        shown.clear()
    told = to_json(place)
    if format == "json":
        render.write_json(told | {"executed": progress.executed})
    else:
        click.echo("\n".join([*text(told), f"{progress.executed} cells executed now"]))
    return Exit.FINDINGS if told["causes"] or told["failed"] else Exit.OK
