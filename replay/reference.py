"""docs/rules.md from the rules' docstrings: `python -m replay.reference > docs/rules.md`."""

from __future__ import annotations

from collections.abc import Iterator

from replay.intent import INTENT
from replay.rules import RULES
from replay.views import VIEWS


def markdown() -> str:
    """The catalogue of rules, the table of intent, and the views."""
    return "\n".join([*_catalogue(), *_intent(), *_views(), *_rules()])


def _catalogue() -> Iterator[str]:
    yield "# The rules\n"
    yield "Generated from the rules' docstrings (`python -m replay.reference > docs/rules.md`)."
    yield "`shstk explain ID` prints one. Ids are stable: never reused, never renumbered.\n"
    yield "| id | name | severity | |"
    yield "|---|---|---|---|"
    for rule in RULES.values():
        link = f"[{rule.id}](#{rule.id.lower()}-{rule.slug})"
        yield f"| {link} | {rule.slug} | {rule.severity} | {rule.title} |"
    yield ""


def _intent() -> Iterator[str]:
    yield "## What intent expects of the facts that depend on the revision\n"
    yield "`--expect intent` judges every revision by these; `--expect revision` by what the"
    yield "revision's code does.\n"
    yield "| fact | rule | intent | binds from | source |"
    yield "|---|---|---|---|---|"
    for name, fact in INTENT.items():
        since = fact.binds_from or "always"
        yield f"| {name} | {fact.rule} | {fact.intent} | {since} | {fact.source} |"
    yield ""


def _views() -> Iterator[str]:
    yield "## The views of `shstk query`\n"
    for view in VIEWS.values():
        yield f"### {view.name}\n"
        yield f"{view.doc[0].upper()}{view.doc[1:]}.\n"
        yield "| column | type | |"
        yield "|---|---|---|"
        for column in view.columns:
            yield f"| {column.name} | {column.type} | {column.doc} |"
        yield ""


def _rules() -> Iterator[str]:
    for rule in RULES.values():
        yield f"## {rule.id} {rule.slug}\n"
        yield rule.doc.replace("\n## ", "\n### ")
        yield ""


if __name__ == "__main__":
    print(markdown(), end="")
