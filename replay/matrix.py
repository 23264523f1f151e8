"""The matrix: each rule's result for each program and revision, from existing reports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from shstk.replay.check import Report
from shstk.replay.ending import Ending
from shstk.replay.rules.outcome import Result, Rule


@dataclass(frozen=True)
class Change:
    """A change of a finding. step: in (from the first kernel on), appears or gone."""

    kernel: str
    step: str

    def __str__(self) -> str:
        return f"{self.step} {self.kernel}"


@dataclass(frozen=True)
class Line:
    """One rule's results for one program. results: by kernel, in the order of the columns."""

    program: str
    rule: Rule
    results: dict[str, Result]

    @property
    def violated(self) -> bool:
        """Whether the rule is violated under some kernel."""
        return any(result.findings for result in self.results.values())

    def changes(self) -> Iterator[Change]:
        """The kernels at which the finding appears and disappears."""
        return _changes({kernel: bool(r.findings) for kernel, r in self.results.items()})

    def words(self) -> list[str]:
        """Rule, slug, a cell for each kernel, changes."""
        cells = map(_cell, self.results.values())
        return [self.rule.id, self.rule.slug, *cells, ", ".join(map(str, self.changes()))]

    def as_json(self) -> dict[str, Any]:
        """The line as JSON values."""
        return {
            "program": self.program,
            "rule": self.rule.id,
            "slug": self.rule.slug,
            "kernels": {
                kernel: {
                    "outcome": result.outcome,
                    "violated": len(result.findings),
                    "checked": result.checked,
                    "why": result.not_evaluated or None,
                    "unseen": result.unseen,
                    "doubtful": result.doubtful,
                }
                for kernel, result in self.results.items()
            },
            "changes": [vars(change) for change in self.changes()],
        }


@dataclass(frozen=True)
class Died:
    """How one program ended, by kernel; None where it exited."""

    program: str
    endings: dict[str, Ending | None]

    def changes(self) -> Iterator[Change]:
        return _changes({kernel: ending is not None for kernel, ending in self.endings.items()})

    def words(self) -> list[str]:
        """As of a Line; `places` has what no cell has room for."""
        cells = [ending.how if ending else "exited" for ending in self.endings.values()]
        return ["-", "died", *cells, ", ".join(map(str, self.changes()))]

    def places(self) -> list[str]:
        """How and where, for each kernel under which it died; kernels that agree together."""
        kernels: dict[str, list[str]] = {}
        for kernel, ending in self.endings.items():
            if ending is not None and ending.seq is not None:
                kernels.setdefault(str(ending), []).append(kernel)
        return [f"{', '.join(names)}: {ending}" for ending, names in kernels.items()]

    def as_json(self) -> dict[str, Any]:
        return {
            "program": self.program,
            "rule": None,
            "slug": "died",
            "kernels": {k: e.as_json() if e else None for k, e in self.endings.items()},
            "changes": [vars(change) for change in self.changes()],
        }


def _changes(found: Mapping[str, bool]) -> Iterator[Change]:
    before: bool | None = None
    for kernel, now in found.items():
        if now and not before:
            yield Change(kernel, "in" if before is None else "appears")
        elif before and not now:
            yield Change(kernel, "gone")
        before = now


def deaths(programs: Mapping[str, Mapping[str, Report]]) -> list[Died]:
    """One for each program that died under some kernel."""
    found = [Died(name, {k: r.ended for k, r in made.items()}) for name, made in programs.items()]
    return [died for died in found if any(died.endings.values())]


def matrix(programs: Mapping[str, Mapping[str, Report]], all_rules: bool = False) -> Iterator[Line]:
    """One line per program and rule that is violated under some kernel, or per rule if all_rules.

    programs: reports by program and kernel; all have the same rules.
    """
    for program, reports in programs.items():
        for results in zip(*(report.results for report in reports.values()), strict=True):
            line = Line(program, results[0].rule, dict(zip(reports, results, strict=True)))
            if line.violated or all_rules:
                yield line


def _cell(result: Result) -> str:
    """The count of violations, `ok (n)`, or `-` for not evaluated; (?) marks doubt, * a rule of
    which the recorder could not see a part."""
    if result.not_evaluated:
        return "-"
    words = str(len(result.findings)) if result.findings else f"ok ({result.checked})"
    words += "*" if result.unseen and not result.findings else ""
    return f"{words} (?)" if result.doubtful else words
