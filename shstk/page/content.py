"""What the page tells of each run, for page.html.jinja."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from shstk import log
from shstk.page.picture import Picture, Point, draw
from shstk.replay.check import Report
from shstk.replay.decode import wait_status
from shstk.replay.explain import end
from shstk.replay.explain.text import ending, text
from shstk.replay.matrix import Line, matrix
from shstk.replay.rules.outcome import Finding, Result
from shstk.schemas import seq as positions

if TYPE_CHECKING:
    from shstk.replay.run import Run

_SHOWN: Final = 20  # findings of a rule with all they have; the rest are counted
_CONTEXT: Final = 3  # lines of the log around the evidence
_EVIDENCE: Final = 6  # places of it whose surroundings are shown


@dataclass(frozen=True)
class Shown:
    """A finding. id: of its element in the page."""

    id: str
    at: str
    finding: Finding
    evidence: list[str]
    log: list[tuple[str, bool]]  # lines, and whether it is a place of the evidence


@dataclass(frozen=True)
class Violated:
    result: Result
    shown: list[Shown]

    @property
    def more(self) -> int:
        return len(self.result.findings) - len(self.shown)


@dataclass(frozen=True)
class Chapter:
    """One run. facts: name and value. fault: how a fault ended it, and the explanation."""

    id: str
    run: Run
    report: Report
    facts: list[tuple[str, str]]
    violated: list[Violated]
    fault: tuple[str, str] | None
    picture: Picture

    @property
    def verdict(self) -> str:
        findings = sum(len(v.result.findings) for v in self.violated)
        if not findings:
            return "no finding"
        rules = len(self.violated)
        return f"{findings} finding{'s' * (findings > 1)} in {rules} rule{'s' * (rules > 1)}"


def chapters(runs: Sequence[Run], reports: Sequence[Report]) -> list[Chapter]:
    return [
        _chapter(f"r{i}", run, report)
        for i, (run, report) in enumerate(zip(runs, reports, strict=True), 1)
    ]


def table(chapters: Sequence[Chapter]) -> list[Line]:
    """The violated rules by run, if there are several runs."""
    if len(chapters) < 2:
        return []
    return list(matrix({"": {chapter.id: chapter.report for chapter in chapters}}))


def _chapter(id: str, run: Run, report: Report) -> Chapter:
    violated = [_violated(id, run, result) for result in report.of("violated")]
    points = [
        Point(s.finding.seq, s.finding.tid, "finding", f"{v.result.rule.id} at {s.at}", s.id)
        for v in violated
        for s in v.shown
    ]
    explained, fault = end(run), None
    if explained:
        fault = ending(explained), text(explained)
        link = f"{id}-fault"
        where = explained.fault
        points.append(Point(where.seq, where.tid, "fault", ending(explained), link))
    facts = list(_facts(run, report))
    return Chapter(id, run, report, facts, violated, fault, draw(run, points))


def _facts(run: Run, report: Report) -> Iterator[tuple[str, str]]:
    m = run.manifest
    yield "program", " ".join(m.argv) or m.program
    yield (
        "kernel",
        f"{m.row.name}"
        + (f", judged by {report.row.name}" if report.row.name != m.row.name else ""),
    )
    yield "expecting", report.expect
    if m.exit_status is not None:
        yield "ended", wait_status(m.exit_status)
    yield "instructions", f"{m.icount:,}"
    if m.provenance.real:
        yield "recorded by", m.provenance.recorder
        yield from m.provenance.facts.items()
    else:
        yield "seed", str(m.seed)


def _violated(run_id: str, run: Run, result: Result) -> Violated:
    shown = [
        Shown(
            f"{run_id}-{result.rule.id}-{i}",
            positions.show(finding.seq),
            finding,
            [positions.show(seq) for seq in finding.evidence],
            _log(run, finding),
        )
        for i, finding in enumerate(result.findings[:_SHOWN], 1)
    ]
    return Violated(result, shown)


def _log(run: Run, finding: Finding) -> list[tuple[str, bool]]:
    """The lines around the evidence, in order, each once; an empty line where some are skipped."""
    places = list(dict.fromkeys((finding.seq, *finding.evidence)))[:_EVIDENCE]
    lines: dict[tuple[int, str], str] = {}
    for at in places:
        for line in log.tell(run, around=at, context=_CONTEXT):
            lines[line.seq, line.table] = log.text(line)
    return [(text, seq in places) for (seq, _), text in sorted(lines.items())]
