"""The catalogue of rules, and the table of what intent expects."""

from __future__ import annotations

import re
from itertools import groupby

from shstk.replay.intent import FOLLOW, INTENT, RESTS_ON
from shstk.replay.rules import RULES
from shstk.schemas.revisions import SWITCHES

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
