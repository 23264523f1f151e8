"""Checks the findings of every rule in the listings of tests/rules, and that there are no others.

What a listing's ```expect blocks say is in shstk/listing/expected.py.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from shstk.listing import names
from shstk.listing.expected import HEADINGS, OUTCOMES, expectations, said, wrong
from shstk.replay.rules import RULES
from shstk.replay.rules.outcome import OK, Finding

HERE = Path(__file__).parent
LISTINGS = sorted(HERE.glob("*.md"))
CASES = [
    pytest.param(listing, run, expect, id=f"{listing.stem}-{run}-{expect}")
    for listing in LISTINGS
    for run, expect in sorted({(e.run, e.expect) for e in expectations(listing.read_text())})
]


@pytest.mark.parametrize(("listing", "run", "expect"), CASES)
def test_listing(listing: Path, run: str, expect: str) -> None:
    wanted = {e for e in expectations(listing.read_text()) if (e.run, e.expect) == (run, expect)}
    found = said(listing.read_text(), run, expect, listing.name)
    assert list(wrong(wanted, found)) == []


@pytest.mark.parametrize("listing", LISTINGS, ids=lambda path: path.stem)
def test_every_run_of_a_listing_has_an_expectation(listing: Path) -> None:
    assert set(names(listing.read_text())) == {e.run for e in expectations(listing.read_text())}


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_has_its_three_fixtures(rule: str) -> None:
    own = {e.outcome for e in expectations((HERE / f"{rule}.md").read_text()) if e.rule == rule}
    assert own == set(OUTCOMES)


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_that_finds_nothing_is_noticed(rule: str) -> None:
    """The mutation check: if the rule reports no findings, its violating fixtures must fail."""
    whole = RULES[rule]

    def blind(facts):  # type: ignore[no-untyped-def]
        return (OK if isinstance(o, Finding) else o for o in whole.instances(facts))

    rules = {**RULES, rule: replace(whole, instances=blind)}
    listing = (HERE / f"{rule}.md").read_text()
    wanted = {e for e in expectations(listing) if e.rule == rule and e.outcome == "violated"}
    found = {
        e
        for run, expect in {(e.run, e.expect) for e in wanted}
        for e in said(listing, run, expect, rules=rules)
    }
    assert wanted
    assert not wanted & found


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_explains_itself_under_the_fixed_headings(rule: str) -> None:
    doc = RULES[rule].doc
    assert re.findall(r"^## (.*)$", doc, re.M) == list(HEADINGS)
    assert RULES[rule].title.endswith(".")
    assert RULES[rule].source
