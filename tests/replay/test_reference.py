"""docs/rules.md is what the rules and the table of intent say, docs/views.md what the views do."""

from __future__ import annotations

from pathlib import Path

from replay.intent import FOLLOW, INTENT, RESTS_ON
from replay.reference import markdown
from replay.rules import RULES
from replay.views import reference as views
from schemas.revisions import SWITCHES


def test_the_reference_is_current() -> None:
    document = Path(__file__).parents[2] / "docs" / "rules.md"
    assert document.read_text() == markdown(), "run python -m replay.reference > docs/rules.md"


def test_the_reference_of_views_is_current() -> None:
    document = Path(__file__).parents[2] / "docs" / "views.md"
    assert document.read_text() == views.markdown(), "run python -m replay.views.reference"


def test_the_catalogue_is_the_references() -> None:
    """The ids of the kernel's rules, in order, none missing, and the integrity rules."""
    named = [*(f"A{i}" for i in range(1, 12)), *(f"X{i}" for i in range(1, 9)), "E1", "E2"]
    calls = [*(f"P{i}" for i in range(11)), *(f"M{i}" for i in range(1, 10))]
    assert list(RULES) == ["ST1", "ST2", *named, *calls, "I1", "I2", "I3", "I4"]
    assert len({rule.slug for rule in RULES.values()}) == len(RULES)


def test_every_starred_fact_names_its_rule_switch_and_source() -> None:
    assert {fact.rule for fact in INTENT.values()} - {"G3"} <= set(RULES)
    assert all(fact.source for fact in INTENT.values())
    follows = {name for name, fact in INTENT.items() if fact.intent == FOLLOW}
    assert follows == {"default_size", "map_token_returns", "lock_arg", "sigframe", "prctl_numbers"}
    assert set(RESTS_ON) <= set(SWITCHES)
    assert frozenset().union(*RESTS_ON.values()) <= set(RULES)
