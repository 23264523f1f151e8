from __future__ import annotations

from pathlib import Path

import click

from shstk import render
from shstk.cli.common import format_option, rules_from_option


@click.command()
@rules_from_option
@format_option("text", "json", "csv")
def command(rules_from: tuple[Path, ...], format: str) -> None:
    """List the rules: id, name, severity, what each checks."""
    from shstk.replay.rules.own import catalogue

    rows = [[r.id, r.slug, r.severity, r.title] for r in catalogue(rules_from).values()]
    render.write_rows(["id", "name", "severity", "checks"], rows, format)
