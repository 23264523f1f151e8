"""The text of docs/rules.md, generated from the rules' docstrings (tools/generate_docs.py)."""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.intent import INTENT
from shstk.replay.needs import in_words
from shstk.replay.rules import RULES, named


def markdown() -> str:
    """The catalogue, the table of intent, and each rule's text."""
    return "\n".join([*_catalogue(), *_intent(), *_rules()])


def _catalogue() -> Iterator[str]:
    yield "# The rules\n"
    yield "Generated from the rules' docstrings by `python tools/generate_docs.py`; do not edit."
    yield "`shstk explain ID` prints one. Ids are never reused or renumbered.\n"
    yield "| id | name | severity | |"
    yield "|---|---|---|---|"
    for rule in RULES.values():
        link = f"[{rule.id}](#{rule.id.lower()}-{rule.slug})"
        yield f"| {link} | {rule.slug} | {rule.severity} | {rule.title} |"
    yield ""


def _intent() -> Iterator[str]:
    yield "## The intent for facts that depend on the revision\n"
    yield "`--expect intent` judges every revision by these facts, `--expect revision` by what the"
    yield "revision's code does.\n"
    yield "| fact | rule | intent | binds from | source |"
    yield "|---|---|---|---|---|"
    for name, fact in INTENT.items():
        rule = named(fact.rule).id
        yield f"| {name} | {rule} | {fact.intent} | {fact.binds_from} | {fact.source} |"
    yield ""


def _rules() -> Iterator[str]:
    for rule in RULES.values():
        yield f"## {rule.id} {rule.slug}\n"
        yield rule.doc.replace("\n## ", "\n### ")
        yield f"\n### Not evaluated without\n{in_words(rule.needs)}\n"
        if rule.also:
            yield f"### Evaluated in part without\n{in_words(rule.also)}\n"
