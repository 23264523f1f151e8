from __future__ import annotations

from pathlib import Path

import click

from shstk.cli.common import format_option, open_run, run_argument
from shstk.cli.confined import confine_reading


@click.command()
@run_argument
@format_option("arrow", "parquet", "csv")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Directory for the files.")
@click.option("--force", is_flag=True, help="Write into an existing directory.")
def command(run: Path, format: str, out: Path | None, force: bool) -> None:
    """Write the tables of RUN as Arrow IPC, Parquet or CSV files, one file for each table.

    The directory is named after the run and the format unless -o is given.
    """
    from shstk.exporting import export

    confine_reading(out or Path("here"))
    opened = open_run(run)
    target = out or Path(f"{opened.name.removesuffix('.run')}.{format}")
    written = export(opened, target, format, force)
    click.echo(f"{len(written)} tables in {target}", err=True)
