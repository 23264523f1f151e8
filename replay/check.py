"""check: a run against the rules, under a revision and an expectation, as a frame of findings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from shstk.replay.facts import Facts
from shstk.replay.intent import RESTS_ON
from shstk.replay.rules import RULES
from shstk.replay.rules.outcome import Result, Rule
from shstk.schemas.errors import UsageError
from shstk.schemas.revisions import Revision, resolve
from shstk.schemas.tables import FINDINGS, arrow_schema

if TYPE_CHECKING:
    import polars as pl

    from shstk.replay.run import Run


@dataclass(frozen=True)
class Report:
    """What the rules say of one run.

    findings: the columns of schemas.tables.FINDINGS; one row a violation, and one row for each rule
    that was satisfied (note: how many instances) or not evaluated (note: why).
    """

    run: str
    row: Revision
    expect: str
    findings: pl.DataFrame

    @property
    def violated(self) -> pl.DataFrame:
        """The violations only."""
        import polars as pl

        return self.findings.filter(pl.col("outcome").cast(pl.String) == "violated")

    @property
    def clean(self) -> bool:
        return self.violated.is_empty()


def check(
    run: Run,
    *,
    expect: str = "intent",
    as_: str | None = None,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
) -> Report:
    """Judge a run by the rules of `select` (ids or slugs; all if empty) without those of `ignore`.

    as_: a revision, with switches, to judge by instead of the recorded one. Raises UsageError.
    """
    import polars as pl

    _hold(run)
    row = resolve(as_) if as_ is not None else run.row
    facts = Facts(run, row, expect)
    rows = [
        line
        for rule in chosen(select, ignore)
        for line in _lines(rule, rule.check(facts), _kernel(row, rule.id))
    ]
    columns = {name: [line[name] for line in rows] for name in FINDINGS.names}
    empty = pl.from_arrow(arrow_schema(FINDINGS).empty_table())
    assert isinstance(empty, pl.DataFrame)
    return Report(run.name, row, expect, pl.DataFrame(columns, schema=empty.schema))


# Rows of a table that is held in memory as it is judged: a dozen rules read cfi, and unpacking it
# costs more than any of them. Longer ones are read in parts, anew for each rule.
_HELD: Final = 12_000_000


def _hold(run: Run) -> None:
    for name in ("cfi", "flow"):
        if name in run.manifest.tables and run.manifest.tables[name].rows <= _HELD:
            run.table(name)


def chosen(select: Iterable[str], ignore: Iterable[str]) -> list[Rule]:
    """The rules by id or slug, in the catalogue's order. Raises UsageError for an unknown name."""
    names = {name.lower(): rule for rule in RULES.values() for name in (rule.id, rule.slug)}

    def ids(words: Iterable[str]) -> set[str]:
        found = set()
        for word in words:
            if word.lower() not in names:
                raise UsageError(f"no rule {word!r}", "`shstk rules` lists them")
            found.add(names[word.lower()].id)
        return found

    wanted, unwanted = ids(select), ids(ignore)
    return [r for r in RULES.values() if (not wanted or r.id in wanted) and r.id not in unwanted]


def _kernel(row: Revision, rule: str) -> str:
    """The revision's name, with (?) if what the rule rests on is confirmed by no source."""
    doubtful = any(rule in RESTS_ON.get(switch, ()) for switch in row.unconfirmed)
    return f"{row.name} (?)" if doubtful else row.name


def _lines(rule: Rule, result: Result, kernel: str) -> Iterator[dict[str, Any]]:
    """The findings rows of one rule."""
    about: dict[str, Any] = dict.fromkeys(FINDINGS.names) | {
        "rule": rule.id,
        "slug": rule.slug,
        "severity": rule.severity,
        "kernel": kernel,
        "source": rule.source,
        "evidence": [],
    }
    for f in result.findings:
        yield about | {
            "outcome": "violated",
            "seq": f.seq,
            "tid": f.tid,
            "mm": f.mm,
            "addr": f.addr,
            "expected": f.expected,
            "actual": f.actual,
            "note": f.note,
            "evidence": list(f.evidence),
        }
    if result.not_evaluated:
        yield about | {"outcome": "not evaluated", "note": result.not_evaluated}
    elif not result.findings:
        yield about | {"outcome": "satisfied", "note": f"{result.checked} checked"}
