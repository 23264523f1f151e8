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


# The families of the reference in its order, then those about the trace itself: how many of each.
FAMILIES = {"ST": 2, "A": 11, "X": 8, "E": 2, "P": 11, "M": 9, "G": 5, "V": 7, "F": 8}
FAMILIES |= {"T": 1, "H": 1, "N": 1, "I": 4, "Z": 10, "R": 12}


def test_the_catalogue_is_the_references() -> None:
    """The ids of the kernel's rules, in order, none missing, and the integrity rules."""
    first = {"P": 0}  # all others are numbered from 1
    ids = [f"{f}{first.get(f, 1) + i}" for f, count in FAMILIES.items() for i in range(count)]
    assert list(RULES) == ids
    assert len({rule.slug for rule in RULES.values()}) == len(RULES)


def test_every_starred_fact_names_its_rule_switch_and_source() -> None:
    assert {fact.rule for fact in INTENT.values()} <= set(RULES)
    assert all(fact.source for fact in INTENT.values())
    follows = {name for name, fact in INTENT.items() if fact.intent == FOLLOW}
    assert follows == {"default_size", "map_token_returns", "lock_arg", "sigframe", "prctl_numbers"}
    assert set(RESTS_ON) <= set(SWITCHES)
    assert frozenset().union(*RESTS_ON.values()) <= set(RULES)
