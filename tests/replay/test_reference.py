"""The catalogue of rules, and the table of what intent expects."""

from __future__ import annotations

from shstk.replay.intent import FOLLOW, INTENT, RESTS_ON
from shstk.replay.rules import RULES
from shstk.schemas.revisions import SWITCHES

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
    assert follows == {
        "default_size",
        "map_token_returns",
        "lock_arg",
        "sigframe",
        "prctl_numbers",
        "cfi_prctl",
        "nousercfi",
    }
    assert set(RESTS_ON) <= set(SWITCHES)
    assert frozenset().union(*RESTS_ON.values()) <= set(RULES)
