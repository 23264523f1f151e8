from __future__ import annotations

import click

from shstk import render
from shstk.cli.common import format_option


@click.command()
@format_option("text", "json", "csv")
def command(format: str) -> None:
    """List the rules: id, name, severity, what each checks."""
    from shstk.replay.rules import RULES

    rows = [[r.id, r.slug, r.severity, r.title] for r in RULES.values()]
    render.write_rows(["id", "name", "severity", "checks"], rows, format)
