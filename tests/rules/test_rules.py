"""Checks the findings of every rule in the listings of tests/rules, and that there are no others.

A listing is Markdown for `shstk build` (docs/listing.md). Its blocks fenced as ```expect have one
line for each verdict that the rules must reach on its runs:

    RUN [revision] violated RULE SEQ tTID ADDR      all violations of a run are listed, no others
    RUN [revision] satisfied RULE N
    RUN [revision] not-evaluated RULE why

judged by intent, or by what the code of the run's revision does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl
import pytest

from shstk.listing import build_run, names
from shstk.replay.check import check
from shstk.replay.rules import RULES
from shstk.replay.rules.outcome import OK, Finding
from shstk.schemas import seq as positions

HERE = Path(__file__).parent
LISTINGS = sorted(HERE.glob("*.md"))
OUTCOMES = ("violated", "satisfied", "not-evaluated")


@dataclass(frozen=True)
class Expected:
    run: str
    expect: str
    outcome: str
    rule: str
    rest: str


def expectations(listing: Path) -> Iterator[Expected]:
    for block in re.findall(r"^```expect\n(.*?)^```", listing.read_text(), re.M | re.S):
        for line in block.splitlines():
            run, *words = line.split()
            expect = "revision" if words[0] == "revision" else "intent"
            outcome, rule, *rest = words[expect == "revision" :]
            assert outcome in OUTCOMES, line
            yield Expected(run, expect, outcome, rule, " ".join(rest).replace("_", ""))


def said(listing: Path, run: str, expect: str) -> set[Expected]:
    """The rules' verdicts on a run, in the form of `expect` lines."""
    frame = check(build_run(listing.read_text(), run, listing.name), expect=expect).findings
    return verdicts(frame, run, expect)


def verdicts(frame: pl.DataFrame, run: str, expect: str) -> set[Expected]:
    """Verdicts in the form of `expect` lines."""
    out = set()
    for row in frame.iter_rows(named=True):
        rest = row["why"] or str(row["checked"])
        if row["outcome"] == "violated":
            addr = "-" if row["addr"] is None else f"{row['addr']:#x}"
            rest = f"{positions.show(row['seq'])} t{row['tid']} {addr}"
        outcome = row["outcome"].replace(" ", "-")
        out.add(Expected(run, expect, outcome, row["rule"], rest.replace("_", "")))
    return out


CASES = [
    pytest.param(listing, run, expect, id=f"{listing.stem}-{run}-{expect}")
    for listing in LISTINGS
    for run, expect in sorted({(e.run, e.expect) for e in expectations(listing)})
]


@pytest.mark.parametrize(("listing", "run", "expect"), CASES)
def test_listing(listing: Path, run: str, expect: str) -> None:
    wanted = {e for e in expectations(listing) if (e.run, e.expect) == (run, expect)}
    found = said(listing, run, expect)
    violations = {e for e in found if e.outcome == "violated"}
    assert violations == {e for e in wanted if e.outcome == "violated"}
    assert wanted <= found, {e for e in found if e.rule in {w.rule for w in wanted}}


@pytest.mark.parametrize("listing", LISTINGS, ids=lambda path: path.stem)
def test_every_run_of_a_listing_has_an_expectation(listing: Path) -> None:
    assert set(names(listing.read_text())) == {e.run for e in expectations(listing)}


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_has_its_three_fixtures(rule: str) -> None:
    own = {e.outcome for e in expectations(HERE / f"{rule}.md") if e.rule == rule}
    assert own == set(OUTCOMES)


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_that_finds_nothing_is_noticed(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutation check: if the rule reports no findings, its violating fixtures must fail."""
    whole = RULES[rule]

    def blind(facts):  # type: ignore[no-untyped-def]
        return (OK if isinstance(o, Finding) else o for o in whole.instances(facts))

    monkeypatch.setitem(RULES, rule, replace(whole, instances=blind))
    listing = HERE / f"{rule}.md"
    wanted = {e for e in expectations(listing) if e.rule == rule and e.outcome == "violated"}
    found = {
        e for run, expect in {(e.run, e.expect) for e in wanted} for e in said(listing, run, expect)
    }
    assert wanted
    assert not wanted & found


HEADINGS = [
    "What it checks",
    "Why it matters",
    "When it applies",
    "Evidence columns",
    "Example",
    "Not a violation when",
    "How to investigate",
    "Sources",
]


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_explains_itself_under_the_fixed_headings(rule: str) -> None:
    doc = RULES[rule].doc
    assert re.findall(r"^## (.*)$", doc, re.M) == HEADINGS
    assert RULES[rule].title.endswith(".")
    assert RULES[rule].source
