"""What the rules must say of a listing's runs: its blocks fenced as ```expect.

A line for each verdict:

    RUN [revision] violated RULE SEQ tTID ADDR      all violations of a run are listed, no others
    RUN [revision] satisfied RULE N
    RUN [revision] not-evaluated RULE why

judged by intent, or by what the code of the run's revision does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from shstk.listing import build_run, names
from shstk.replay.check import check
from shstk.replay.rules import RULES
from shstk.schemas import seq as positions
from shstk.schemas.errors import BadListing

if TYPE_CHECKING:
    import polars as pl

    from shstk.replay.rules.outcome import Rule

OUTCOMES: Final = ("violated", "satisfied", "not-evaluated")
# The headings of a rule's docstring, in this order.
HEADINGS: Final = (
    "What it checks",
    "Why it matters",
    "When it applies",
    "Evidence columns",
    "Example",
    "Not a violation when",
    "How to investigate",
    "Sources",
)


@dataclass(frozen=True, order=True)
class Expected:
    run: str
    expect: str
    outcome: str
    rule: str
    rest: str

    def __str__(self) -> str:
        revision = " revision" if self.expect == "revision" else ""
        return f"{self.run}{revision} {self.outcome} {self.rule} {self.rest}"


def expectations(text: str, where: str = "listing") -> Iterator[Expected]:
    """Raises BadListing for a line that is none."""
    for block in re.finditer(r"^```expect\n(.*?)^```", text, re.M | re.S):
        for line in str(block[1]).splitlines():
            words = [*line.split(), "", "", ""]
            run = words.pop(0)
            expect = "revision" if words[0] == "revision" else "intent"
            outcome, rule, *rest = words[expect == "revision" :]
            if outcome not in OUTCOMES or not rule:
                raise BadListing(f"{where}: {line!r} is not RUN [revision] OUTCOME RULE …")
            yield Expected(run, expect, outcome, rule, " ".join(rest).strip().replace("_", ""))


def said(
    text: str, run: str, expect: str, where: str = "listing", rules: Mapping[str, Rule] = RULES
) -> set[Expected]:
    """The rules' verdicts on a run, in the form of `expect` lines."""
    frame = check(build_run(text, run, where), expect=expect, rules=rules).findings
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


def wrong(wanted: Iterable[Expected], found: set[Expected]) -> Iterator[str]:
    """What differs for one run under one expectation."""
    wanted = set(wanted)
    for one in sorted(wanted - found):
        instead = sorted(other for other in found if other.rule == one.rule)
        yield f"expected: {one}" + "".join(f"\n     found: {other}" for other in instead)
    for one in sorted(found - wanted):
        if one.outcome == "violated":
            yield f"not expected: {one}"


def problems(rule: Rule, listing: Path, rules: Mapping[str, Rule]) -> Iterator[str]:
    """What a rule, or the listing that tests it, lacks."""
    if re.findall(r"^## (.*)$", rule.doc, re.M) != list(HEADINGS):
        yield f"its docstring does not have just the headings {', '.join(HEADINGS)}"
    if not rule.title.endswith("."):
        yield "the first line of its docstring is not a sentence"
    if not listing.is_file():
        yield f"{listing} is missing: the listing that tests it (docs/listing.md)"
        return
    text = listing.read_text(encoding="utf-8")
    wanted = list(expectations(text, str(listing)))
    own = {one.outcome for one in wanted if one.rule == rule.id}
    for outcome in OUTCOMES:
        if outcome not in own:
            yield f"no line of {listing} expects {rule.id} {outcome}"
    cases = dict.fromkeys((one.run, one.expect) for one in wanted)
    for run in names(text, str(listing)):
        if run not in {name for name, _ in cases}:
            yield f"no line of {listing} is about the run {run}"
    for run, expect in cases:
        here = [one for one in wanted if (one.run, one.expect) == (run, expect)]
        yield from wrong(here, said(text, run, expect, str(listing), rules))
