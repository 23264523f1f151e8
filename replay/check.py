"""check: judges a run by the rules, under a revision and an expectation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import polars as pl

from shstk.replay.causes import Cause, Kind, causes, kinds
from shstk.replay.ending import Ending, ending
from shstk.replay.facts import Facts
from shstk.replay.rules import RULES
from shstk.replay.rules.outcome import Finding, Result, Rule
from shstk.replay.uncollected import uncollected
from shstk.schemas.errors import UsageError
from shstk.schemas.nearest import did_you_mean
from shstk.schemas.revisions import Revision, resolve
from shstk.schemas.selections import table_of
from shstk.schemas.tables import FINDINGS, arrow_schema

if TYPE_CHECKING:
    from shstk.replay.baseline import Compared, Identity
    from shstk.replay.run import Run
    from shstk.replay.symbols import Place


@dataclass(frozen=True)
class Report:
    """The rules' results for one run. results: one per rule, in the catalogue's order. causes: the
    findings of all of them, by cause. ended: how, if the program did not exit. compared: with a
    baseline; identities, places: of the findings, by the id of each, if they are wanted (all
    three: replay/baseline.py).
    """

    run: str
    row: Revision
    expect: str
    results: tuple[Result, ...]
    causes: tuple[Cause, ...]
    ended: Ending | None = None
    compared: Compared | None = None
    identities: Mapping[int, Identity] = field(default_factory=dict)
    places: Mapping[int, Place] = field(default_factory=dict)

    @cached_property
    def findings(self) -> pl.DataFrame:
        """The results with the columns of schemas.tables.FINDINGS.

        One row for each violation and each deviation of the emulator, and one for each rule that is
        satisfied or was not evaluated.
        """
        rows = [row for result in self.results for row in _rows(result, self.row.name)]
        columns = {name: [row[name] for row in rows] for name in FINDINGS.names}
        empty = pl.from_arrow(arrow_schema(FINDINGS).empty_table())
        assert isinstance(empty, pl.DataFrame)
        return pl.DataFrame(columns, schema=empty.schema)

    @property
    def violated(self) -> pl.DataFrame:
        """The rows of `findings` that are violations."""
        return self.findings.filter(pl.col("outcome").cast(pl.String) == "violated")

    @cached_property
    def kinds(self) -> list[Kind]:
        """The causes that count, those that are alike together."""
        return kinds([cause for cause in self.causes if any(map(self.counts, cause.findings))])

    def counts(self, finding: Finding) -> bool:
        """Whether a finding is not in the baseline, if there is one."""
        return self.compared is None or id(finding) not in self.compared.known

    @property
    def clean(self) -> bool:
        """Whether no finding counts."""
        return not any(self.counts(f) for result in self.results for f in result.findings)

    def of(self, outcome: str) -> list[Result]:
        """The results with this outcome."""
        return [result for result in self.results if result.outcome == outcome]


@uncollected()
def check(
    run: Run,
    *,
    expect: str = "intent",
    as_: str | None = None,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    rules: Mapping[str, Rule] = RULES,
) -> Report:
    """Judge a run by the rules in `select` (all if empty) except those in `ignore`: ids, slugs or
    families.

    as_: a revision, with switches, to judge by instead of the recorded one. rules: to choose from,
    by id. Raises UsageError.
    """
    wanted = chosen(select, ignore, rules)
    _prepare(run, wanted)
    row = resolve(as_) if as_ is not None else run.row
    facts = Facts(run, row, expect, wanted)
    results = tuple(rule.check(facts) for rule in wanted)
    return Report(run.name, row, expect, results, causes(facts, results), ending(run))


def _prepare(run: Run, rules: Sequence[Rule]) -> None:
    needs = (need for rule in rules for need in (*rule.needs, *rule.also))
    run.prepare({table_of(need.partition(".")[0]) for need in needs})


def chosen(
    select: Iterable[str], ignore: Iterable[str], rules: Mapping[str, Rule] = RULES
) -> list[Rule]:
    """The rules by id, slug or family (the letters of their ids), in the catalogue's order. Raises
    UsageError for an unknown name."""
    names: dict[str, set[str]] = {}
    for rule in rules.values():
        for name in (rule.id, rule.slug, rule.family):
            names.setdefault(name.lower(), set()).add(rule.id)

    def ids(words: Iterable[str]) -> set[str]:
        found = set()
        for word in words:
            if word.lower() not in names:
                raise UsageError(f"no rule {word!r}", unknown(word, rules))
            found |= names[word.lower()]
        return found

    wanted, unwanted = ids(select), ids(ignore)
    return [r for r in rules.values() if (not wanted or r.id in wanted) and r.id not in unwanted]


def unknown(word: str, rules: Mapping[str, Rule]) -> str:
    """What may have been meant by a word that names no rule."""
    known = [name for rule in rules.values() for name in (rule.id, rule.slug, rule.family)]
    near = did_you_mean(word, known)
    return f"{near} `shstk rules` lists them" if near else "`shstk rules` lists them"


def _rows(result: Result, kernel: str) -> Iterator[dict[str, Any]]:
    """The findings rows of one rule."""
    rule = result.rule
    about: dict[str, Any] = dict.fromkeys(FINDINGS.names) | {
        "rule": rule.id,
        "slug": rule.slug,
        "severity": rule.severity,
        "outcome": result.outcome,
        "kernel": kernel,
        "doubtful": result.doubtful,
        "checked": result.checked or None,
        "why": result.not_evaluated or " and ".join(result.unseen) or None,
        "evidence": (),
        "source": rule.source,
    }
    for finding in result.findings:
        yield about | vars(finding)
    for finding, why in result.deviations:
        yield about | vars(finding) | {"outcome": "deviation", "why": why}
    if not result.findings:
        yield about
