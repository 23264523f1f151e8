from __future__ import annotations

from pathlib import Path

import click

from shstk import render
from shstk.cli.common import format_option
from shstk.cli.corpus.common import store_argument
from shstk.schemas.errors import Exit


@click.command()
@store_argument
@click.option(
    "--html", type=click.Path(path_type=Path), metavar="FILE", help="Write a page to FILE instead."
)
@click.option(
    "--against", metavar="STORE", help="On the page, mark the causes that this campaign has not."
)
@click.option("--force", is_flag=True, help="Replace an existing FILE.")
@format_option("text", "json")
def command(store: str, html: Path | None, against: str | None, force: bool, format: str) -> int:
    """Tell the findings of a campaign by cause, with the commands that reproduce each.

    The page has the matrix of all programs and kernels, too. Exit code 1 if there are findings or
    failed cells.
    """
    from shstk.corpus.page import page
    from shstk.corpus.store import Store
    from shstk.corpus.summary import text, to_json
    from shstk.writing import whole_file

    place = Store(store)
    told = to_json(place)
    if html is not None:
        with whole_file(html, force) as file:
            file.write(page(place, Store(against) if against else None).encode())
    elif format == "json":
        render.write_json(told)
    else:
        click.echo("\n".join(text(told)))
    return Exit.FINDINGS if told["causes"] or told["failed"] else Exit.OK
