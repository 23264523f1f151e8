from __future__ import annotations

from typing import TYPE_CHECKING

import click

from shstk import render
from shstk.cli.common import format_option
from shstk.cli.corpus.common import store_argument

if TYPE_CHECKING:
    from shstk.schemas.units import Unit


@click.command()
@store_argument
@click.argument("sql")
@click.option(
    "--allow-files",
    is_flag=True,
    help="SQL may read files and URLs: read_csv('own.csv'), read_parquet, read_ipc, read_json.",
)
@format_option("text", "json", "csv")
def command(store: str, sql: str, allow_files: bool, format: str) -> None:
    """Run SQL (Polars') over the tables `cells` and `findings` of a campaign.

    Only the columns and partitions (kernels) that it needs are read. docs/corpus.md lists the
    columns.

    \b
      shstk corpus query STORE "SELECT kernel, rule, count(*) FROM findings GROUP BY kernel, rule"
      shstk corpus query STORE "SELECT command, seed FROM cells WHERE outcome = 'timeout'"
    """
    from shstk.corpus.store import Store
    from shstk.sql import over

    place = Store(store)
    units: dict[str, Unit] = {"seq": "seq", "addr": "address"}
    frames = {"cells": place.cells.drop("findings", "spec"), "findings": place.findings}
    answer = over(frames, {"findings": units, "cells": {}}, sql, allow_files)
    render.write_frame(answer.frame, answer.units, format)
