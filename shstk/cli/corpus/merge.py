from __future__ import annotations

from pathlib import Path

import click

from shstk.schemas.errors import OutputExists


@click.command()
@click.argument("stores", nargs=-1, required=True, metavar="STORE...")
@click.option("-o", "--output", required=True, metavar="STORE", help="The campaign of all.")
@click.option("--force", is_flag=True, help="Add to a campaign that exists.")
def command(stores: tuple[str, ...], output: str, force: bool) -> None:
    """Join campaigns: the parts that several machines did, or those of several people.

    A cell that several have is there once. Kept runs go with it.
    """
    from shstk.corpus.store import Store, merged

    if Path(output).exists() and not force:
        raise OutputExists(f"{output} already exists", "choose another with -o, or use --force")
    parts = [Store(store) for store in ([output] if force and Path(output).exists() else [])]
    parts += [Store(store) for store in stores]
    total = merged(parts, Store(output))
    click.echo(f"shstk: {total} cells of {len(stores)} campaigns are in {output}", err=True)
