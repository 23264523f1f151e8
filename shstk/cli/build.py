from __future__ import annotations

from pathlib import Path

import click

import shstk


@click.command()
@click.argument("listing", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Run directory to create.")
@click.option("--run", help="Which of the listing's runs, if it has several.")
@click.option("--force", is_flag=True, help="Overwrite an existing run.")
def command(listing: Path, out: Path | None, run: str | None, force: bool) -> None:
    """Build a sealed run from a Markdown listing of events.

    The events are in blocks fenced as ```run; docs/listing.md describes the notation. The run is
    named after the listing unless -o is given.
    """
    out = out or Path(f"{run or listing.stem}.run")
    made = shstk.build(listing, out, run=run, force=force)
    click.echo(f"built {made}", err=True)
