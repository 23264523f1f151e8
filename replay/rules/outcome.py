"""A rule's verdict on one instance, and its result over all instances."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from shstk.replay.deviations import DEVIATIONS
from shstk.replay.needs import joined, unobservable
from shstk.schemas.seq import show

if TYPE_CHECKING:
    from shstk.replay.derive.gather import Gather
    from shstk.replay.facts import Facts


@dataclass(frozen=True)
class Finding:
    """A violation: place, task, expected and actual values. `evidence`: seqs that show it.

    deviation: the emulator's, of replay/deviations.py, that would explain it.
    """

    seq: int
    tid: int | None
    mm: int | None
    addr: int | None
    expected: str
    actual: str
    note: str
    evidence: tuple[int, ...] = ()
    deviation: str = ""


@dataclass(frozen=True)
class Violation:
    """A finding, and its rule."""

    rule: Rule
    finding: Finding
    doubtful: bool

    def __str__(self) -> str:
        return f"{self.rule.id} is violated at {show(self.finding.seq)}: {self.finding.note}"


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
    unseen: why parts of the rule were judged for none, because the recorder cannot see them.
    deviations: findings that the emulator explains, and how; they are no violations.
    doubtful: it depends on the value of a switch that no source confirms.
    """

    rule: Rule
    checked: int
    findings: tuple[Finding, ...]
    not_evaluated: str
    doubtful: bool
    unseen: tuple[str, ...] = ()
    deviations: tuple[tuple[Finding, str], ...] = ()

    @property
    def violations(self) -> Iterator[Violation]:
        return (Violation(self.rule, finding, self.doubtful) for finding in self.findings)

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
    (replay/needs.py). also: those that it reads where the recorder can see them. rests_on: the
    switches of a revision on whose values its findings depend. gathers: what it asks
    Facts.gathered for.
    """

    id: str
    slug: str
    severity: str
    doc: str
    source: str
    needs: tuple[str, ...]
    also: tuple[str, ...]
    applies: str  # what an instance is; printed if there is none
    rests_on: tuple[str, ...]
    instances: Callable[[Facts], Iterator[Outcome]]
    gathers: tuple[Callable[[Facts], Gather[Any]], ...] = ()

    @property
    def title(self) -> str:
        return self.doc.partition("\n")[0]

    @property
    def family(self) -> str:
        """The letters of its id."""
        return self.id.rstrip("0123456789")

    def check(self, facts: Facts) -> Result:
        doubtful = any(switch in facts.row.unconfirmed for switch in self.rests_on)
        if missing := joined(facts.missing(name) for name in self.needs):
            return Result(self, 0, (), " and ".join(missing), doubtful)
        seen = facts.run.manifest.provenance
        known = DEVIATIONS.get(seen.recorder, {})
        count, found, deviating, unknown = 0, [], [], []
        for outcome in self.instances(facts):
            if isinstance(outcome, Satisfied):
                count += outcome.count
            elif isinstance(outcome, Unknown):
                unknown.append(outcome.why)
            elif outcome.deviation in known:
                deviating.append((outcome, known[outcome.deviation]))
            else:
                found.append(outcome)
        found.sort(key=_place)
        deviating.sort(key=lambda one: _place(one[0]))
        why = ""
        if not (found or count):
            why = unknown[0] if unknown else self._nothing(facts, bool(deviating))
        unseen = joined(unobservable(seen, name) for name in self.also)
        return Result(
            rule=self,
            checked=count + len(found),
            findings=tuple(found),
            not_evaluated=why,
            doubtful=doubtful,
            unseen=() if why else unseen,
            deviations=tuple(deviating),
        )

    def _nothing(self, facts: Facts, deviating: bool) -> str:
        """Why there was no instance."""
        if deviating:
            return f"no {self.applies} but where the emulator deviates from the ISA"
        truncated = facts.truncated
        return f"no {self.applies}" + (f" ({truncated})" if truncated else "")


def _place(finding: Finding) -> tuple[int, int, int]:
    return finding.seq, finding.tid or 0, finding.addr or 0
