"""What a rule says of one instance, and what becomes of all its instances together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from shstk.replay.facts import Facts


@dataclass(frozen=True)
class Finding:
    """A violation: where, whose, and what should have been. `evidence`: seqs that show it."""

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
    """Instances that are as they should be."""

    count: int = 1


@dataclass(frozen=True)
class Unknown:
    """An instance that the run does not tell enough of."""

    why: str


Outcome: TypeAlias = Finding | Satisfied | Unknown
OK = Satisfied()


@dataclass(frozen=True)
class Result:
    """A rule's verdict on a run: findings, or the count of the satisfied, or why neither."""

    checked: int
    findings: tuple[Finding, ...]
    not_evaluated: str = ""


@dataclass(frozen=True)
class Rule:
    """One rule. `doc` is what `explain` prints; `needs` the tables without which it is blind."""

    id: str
    slug: str
    severity: str
    doc: str
    source: str
    needs: tuple[str, ...]
    applies: str  # what an instance is; said when there is none
    instances: Callable[[Facts], Iterator[Outcome]]

    @property
    def title(self) -> str:
        return self.doc.partition("\n")[0]

    def check(self, facts: Facts) -> Result:
        missing = [why for name in self.needs if (why := facts.missing(name))]
        if missing:
            return Result(0, (), " and ".join(missing))
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
            return Result(count + len(findings), tuple(findings))
        if unknown:
            return Result(0, (), unknown[0])
        truncated = facts.truncated
        return Result(0, (), f"no {self.applies}" + (f" ({truncated})" if truncated else ""))
