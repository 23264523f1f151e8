from __future__ import annotations

import click

from shstk.schemas.errors import UsageError


@click.command()
@click.argument("rule")
def command(rule: str) -> None:
    """Explain a RULE (id or name): what it checks and why, quoting the kernel and the patch."""
    from shstk.replay.rules import RULES

    wanted = rule.lower()
    for known in RULES.values():
        if wanted in (known.id.lower(), known.slug):
            click.echo(f"{known.id} {known.slug} ({known.severity})\n\n{known.doc.strip()}")
            return
    raise UsageError(f"no rule {rule!r}", "`shstk rules` lists them")
