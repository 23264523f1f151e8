"""The registry: one line a rule. Ids are never reused or renumbered; nothing else names them."""

from __future__ import annotations

from importlib import import_module
from typing import Final

from replay.rules.outcome import Rule

# id, module (its name with hyphens is the slug), severity
CATALOGUE: Final = (
    ("A5", "thread_gets_own_stack", "error"),
    ("A7", "thread_starts_at_its_top", "error"),
    ("X1", "exit_releases_once", "error"),
)


def _load(id: str, name: str, severity: str) -> Rule:
    module = import_module(f"replay.rules.{name}")
    doc = (module.__doc__ or "").strip()
    return Rule(
        id=id,
        slug=name.replace("_", "-"),
        severity=severity,
        doc=doc,
        source=_source(doc),
        needs=module.NEEDS,
        applies=module.APPLIES,
        instances=module.check,
    )


def _source(doc: str) -> str:
    """The first of the rule's sources, on one line."""
    text = doc.partition("\n## Sources\n")[2].strip()
    return " ".join(text.split("\n\n")[0].split())


RULES: Final[dict[str, Rule]] = {line[0]: _load(*line) for line in CATALOGUE}
