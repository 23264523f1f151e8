from __future__ import annotations

from pathlib import Path

import click

from shstk import render
from shstk.cli.common import format_option, open_run, run_argument
from shstk.cli.confined import confine_reading
from shstk.cli.terminal import working


@click.command()
@run_argument
@click.argument("sql")
@click.option(
    "--allow-files",
    is_flag=True,
    help="SQL may read files and URLs: read_csv('own.csv'), read_parquet, read_ipc, read_json.",
)
@format_option("text", "json", "csv")
def command(run: Path, sql: str, allow_files: bool, format: str) -> None:
    """Run SQL (Polars') over the tables and views of RUN.

    Tables are those of docs/schema.md, views those of docs/views.md (tasks, frames, slots, …);
    docs/queries.md has examples. Addresses may be written 0x…, positions icount.n:

    \b
      shstk query a.run "SELECT seq, start, length FROM mappings WHERE shadow_stack"
      shstk query a.run "SELECT * FROM cfi WHERE pc = 0x10084 AND seq >= 1042.0"
    """
    from shstk.sql import query

    if not allow_files:  # a URL takes the network
        confine_reading()
    opened = open_run(run)
    with working("answering"):
        answer = query(opened, sql, allow_files)
    render.write_frame(answer.frame, answer.units, format)
