"""A rule's verdict on one instance, and its result over all instances."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from shstk.replay.facts import Facts


@dataclass(frozen=True)
class Finding:
    """A violation: place, task, expected and actual values. `evidence`: seqs that show it."""

    seq: int
    tid: int | None
    mm: int | None
    addr: int | None
    expected: str
    actual: str
    note: str
    evidence: tuple[int, ...] = ()


@dataclass(frozen=True)
class Satisfied:
    """Instances that satisfy the rule."""

    count: int = 1


@dataclass(frozen=True)
class Unknown:
    """An instance for which the run lacks data."""

    why: str


Outcome: TypeAlias = Finding | Satisfied | Unknown
OK = Satisfied()


@dataclass(frozen=True)
class Result:
    """A rule's result for a run.

    checked: the number of instances judged, including violations. not_evaluated: why none was.
    doubtful: it depends on the value of a switch that no source confirms.
    """

    rule: Rule
    checked: int
    findings: tuple[Finding, ...]
    not_evaluated: str
    doubtful: bool

    @property
    def outcome(self) -> str:
        """A word of schemas.vocabulary.OUTCOMES."""
        if self.findings:
            return "violated"
        return "not evaluated" if self.not_evaluated else "satisfied"


@dataclass(frozen=True)
class Rule:
    """One rule.

    doc: what `explain` prints. needs: the tables and columns that it cannot do without
    (replay/needs.py). rests_on: the switches of a revision on whose values its findings depend.
    """

    id: str
    slug: str
    severity: str
    doc: str
    source: str
    needs: tuple[str, ...]
    applies: str  # what an instance is; printed if there is none
    rests_on: tuple[str, ...]
    instances: Callable[[Facts], Iterator[Outcome]]

    @property
    def title(self) -> str:
        return self.doc.partition("\n")[0]

    @property
    def family(self) -> str:
        """The letters of its id."""
        return self.id.rstrip("0123456789")

    def check(self, facts: Facts) -> Result:
        doubtful = any(switch in facts.row.unconfirmed for switch in self.rests_on)
        return Result(self, *self._judge(facts), doubtful)

    def _judge(self, facts: Facts) -> tuple[int, tuple[Finding, ...], str]:
        """The number checked, the findings, and why none was checked."""
        missing = dict.fromkeys(why for name in self.needs if (why := facts.missing(name)))
        if missing:
            return 0, (), " and ".join(missing)
        count, findings, unknown = 0, [], []
        for outcome in self.instances(facts):
            if isinstance(outcome, Satisfied):
                count += outcome.count
            elif isinstance(outcome, Finding):
                findings.append(outcome)
            else:
                unknown.append(outcome.why)
        if findings or count:
            findings.sort(key=lambda f: (f.seq, f.tid or 0, f.addr or 0))
            return count + len(findings), tuple(findings), ""
        if unknown:
            return 0, (), unknown[0]
        truncated = facts.truncated
        return 0, (), f"no {self.applies}" + (f" ({truncated})" if truncated else "")
