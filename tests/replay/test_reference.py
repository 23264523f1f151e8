"""The catalogue of rules, and the table of what intent expects."""

from __future__ import annotations

import ast
import re
from itertools import groupby
from pathlib import Path

from shstk.replay.intent import FOLLOW, INTENT
from shstk.replay.rules import RULES
from shstk.schemas.revisions import SWITCHES

ROOT = Path(__file__).parents[2]
# The families in the catalogue's order, and how many rules of each the reference has: those of the
# kernel, then those about the trace itself.
FAMILIES = {"ST": 2, "A": 11, "X": 8, "E": 2, "P": 11, "M": 9, "G": 5, "V": 7, "F": 8}
FAMILIES |= {"T": 1, "H": 1, "N": 1, "I": 4, "Z": 10, "R": 12}


def test_the_catalogue_is_the_references() -> None:
    """Family by family, each numbered without a gap, none missing; more may have come."""
    ids = [re.fullmatch(r"([A-Z]+)(\d+)", id) for id in RULES]
    families = {
        family: [int(m[2]) for m in same]
        for family, same in groupby((m for m in ids if m), key=lambda m: m[1])
    }
    assert list(families) == list(FAMILIES)
    for family, numbers in families.items():
        first = 0 if family == "P" else 1
        assert numbers == list(range(first, first + len(numbers)))
        assert len(numbers) >= FAMILIES[family]
    assert sum(map(len, families.values())) == len(RULES)
    assert len({rule.slug for rule in RULES.values()}) == len(RULES)


def test_every_starred_fact_names_its_rule_and_source() -> None:
    assert {fact.rule for fact in INTENT.values()} <= {rule.slug for rule in RULES.values()}
    assert all(fact.source for fact in INTENT.values())
    follows = {name for name, fact in INTENT.items() if fact.intent == FOLLOW}
    assert follows >= {"default_size", "map_token_returns", "lock_arg", "sigframe", "prctl_numbers"}


def test_every_switch_is_followed_or_meant() -> None:
    """Of release_hook the facts are what it does: exit, exec, failed_clone."""
    assert set(SWITCHES) - set(INTENT) == {"release_hook"}


def test_rules_rest_on_switches() -> None:
    assert {switch for rule in RULES.values() for switch in rule.rests_on} <= set(SWITCHES)


def spelled(file: Path) -> list[str]:
    """The strings of a module, without its docstrings, that spell the id of a rule."""
    id = re.compile(rf"\b({'|'.join(RULES)})\b")
    tree = ast.parse(file.read_text())
    docs = [n.value for n in ast.walk(tree) if isinstance(n, ast.Expr)]
    return [
        n.value
        for n in ast.walk(tree)
        if isinstance(n, ast.Constant) and isinstance(n.value, str)
        if n not in docs and id.search(n.value)
    ]


def test_only_the_registry_spells_an_id() -> None:
    files = {file for part in ("replay", "shstk") for file in (ROOT / part).rglob("*.py")}
    registry = ROOT / "replay" / "rules" / "__init__.py"
    assert sorted(spelled(registry)) == sorted(RULES)
    assert {file: spelled(file) for file in files - {registry} if spelled(file)} == {}
