from __future__ import annotations

from pathlib import Path

import click

from shstk.cli.common import RuleNames, pager_option, rules_from_option
from shstk.cli.terminal import show_text
from shstk.schemas.errors import UsageError


@click.command()
@click.argument("rule", type=RuleNames())
@rules_from_option
@pager_option
def command(rule: str, rules_from: tuple[Path, ...], pager: bool) -> None:
    """Explain a RULE (id or name): what it checks and why, quoting the kernel and the patch."""
    from shstk.replay.check import unknown
    from shstk.replay.rules.own import catalogue

    wanted, rules = rule.lower(), catalogue(rules_from)
    for known in rules.values():
        if wanted in (known.id.lower(), known.slug):
            text = f"{known.id} {known.slug} ({known.severity})\n\n{known.doc.strip()}\n"
            show_text(text, pager)
            return
    if family := [known.id for known in rules.values() if wanted == known.family.lower()]:
        raise UsageError(f"{rule!r} is a family of rules", f"name one: {' '.join(family)}")
    raise UsageError(f"no rule {rule!r}", unknown(rule, rules))
