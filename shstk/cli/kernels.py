from __future__ import annotations

import sys

import click

from shstk.cli.common import format_option
from shstk.schemas.revisions import DEFAULT_REVISION, REVISIONS, SWITCHES


@click.command()
@click.argument("revision", required=False)
@format_option("text", "json", "csv")
def command(revision: str | None, format: str) -> None:
    """List the kernel revisions and their switches; with REVISION, each value's source.

    A value marked (?) is one that no source text confirms. --kernel takes a revision's name, and
    switches turned after commas: --kernel 7.2,release_hook=exit_thread
    """
    from shstk import render

    if revision is not None:
        from shstk.schemas.revisions import resolve

        row = resolve(revision)
        header = ["switch", "value", "confirmed", "source"]
        rows = [[n, s.value, s.confirmed, s.source] for n, s in row.settings.items()]
    else:
        header = ["revision", *SWITCHES, "date", "what changed"]
        rows = [
            [r.name, *(str(s) for s in r.settings.values()), r.date, r.doc]
            for r in REVISIONS.values()
        ]
    render.write_rows(header, rows, format)
    if format == "text" and revision is None:
        click.echo(f"\nDefault: {DEFAULT_REVISION}. (?): no source text confirms it. Switches:")
        for switch in SWITCHES.values():
            click.echo(f"  {switch.name}: {switch.doc}")
    sys.stdout.flush()
