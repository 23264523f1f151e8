from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import groupby

import click

from shstk import render
from shstk.cli.common import format_option
from shstk.schemas.revisions import DEFAULT_REVISION, REVISIONS, SWITCHES, resolve


@click.command()
@click.argument("revision", required=False)
@format_option("text", "json", "csv")
def command(revision: str | None, format: str) -> None:
    """List the kernel revisions and their switches; with REVISION, each value's source.

    A value marked (?) is not confirmed by any source. --kernel takes a revision's name, followed
    by changed switches, separated by commas: --kernel 7.2,release_hook=exit_thread. A revision of
    your own is a file: --kernel acme.toml (docs/extending.md).
    """
    if revision is not None:
        row = resolve(revision)
        header = ["switch", "value", "confirmed", "source"]
        rows = [[n, s.value, s.confirmed, s.source] for n, s in row.settings.items()]
        render.write_rows(header, rows, format)
    elif format == "text":
        named = [[row.name, row.date, row.doc] for row in REVISIONS.values()]
        render.write_rows(["revision", "date", "what changed"], named, format)
        click.echo("\n".join(_switches()))
    else:
        header = ["revision", *SWITCHES, "date", "what changed"]
        full = [
            [r.name, *(str(s) for s in r.settings.values()), r.date, r.doc]
            for r in REVISIONS.values()
        ]
        render.write_rows(header, full, format)
    sys.stdout.flush()


def _switches() -> Iterator[str]:
    """Each switch, its meaning, and the revisions that changed its value."""
    yield f"\nDefault: {DEFAULT_REVISION}. (?): not confirmed by any source. Sources:"
    yield "`shstk kernels REVISION`. Each switch, and the revisions that changed its value:"
    for switch in SWITCHES.values():
        values = ((str(row.settings[switch.name]), row.name) for row in REVISIONS.values())
        changes = [(value, next(same)[1]) for value, same in groupby(values, lambda pair: pair[0])]
        yield ""
        yield f"{switch.name}: " + ", ".join(f"{name} {value}" for value, name in changes)
        yield click.wrap_text(switch.doc, 80, "    ", "    ")
