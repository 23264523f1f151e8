"""What the page tells of each run, for page.html.jinja."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from shstk import log
from shstk.page.picture import Picture, Point, draw
from shstk.replay.causes import Kind
from shstk.replay.check import Report
from shstk.replay.decode import wait_status
from shstk.replay.ending import Ending
from shstk.replay.ending import ending as how_it_ended
from shstk.replay.explain import death
from shstk.replay.explain.model import Death
from shstk.replay.explain.text import ending, text
from shstk.replay.matrix import Line, matrix
from shstk.replay.rules.outcome import Finding, Rule, Violation
from shstk.schemas import seq as positions

if TYPE_CHECKING:
    from shstk.replay.run import Run

_SHOWN: Final = 20  # causes that are alike, with all they have; the rest are counted
_CONTEXT: Final = 3  # lines of the log around the evidence
_EVIDENCE: Final = 6  # places of it whose surroundings are shown


@dataclass(frozen=True)
class Shown:
    """A finding. id: of its element in the page. leads_to: the findings that follow from it."""

    id: str
    at: str
    rule: Rule
    finding: Finding
    doubtful: bool
    evidence: list[str]
    log: list[tuple[str, bool]]  # lines, and whether it is a place of the evidence
    leads_to: list[Shown]


@dataclass(frozen=True)
class Caused:
    """Causes that are alike. kills: whether the guest's death follows from one."""

    kind: Kind
    shown: list[Shown]
    kills: bool

    @property
    def more(self) -> int:
        return len(self.kind.causes) - len(self.shown)


@dataclass(frozen=True)
class Chapter:
    """One run. facts: name and value. ended: if its program did not exit. fault: how a fault ended
    it, and the explanation."""

    id: str
    run: Run
    report: Report
    facts: list[tuple[str, str]]
    causes: list[Caused]
    ended: Ending | None
    fault: tuple[str, str] | None
    picture: Picture

    @property
    def verdict(self) -> str:
        results = self.report.of("violated")
        findings, causes = sum(len(result.findings) for result in results), len(self.causes)
        said = "no finding"
        if findings:
            said = f"{findings} finding{'s' * (findings > 1)}, {causes} cause{'s' * (causes > 1)}"
        return f"{self.ended.how}, {said}" if self.ended else said

    @property
    def good(self) -> bool:
        return not self.causes and self.ended is None


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
    dead = death(run)
    causes = [_caused(id, run, report, kind, dead) for kind in report.kinds]
    points = [
        Point(s.finding.seq, s.finding.tid, "finding", f"{s.rule.id} at {s.at}", s.id)
        for caused in causes
        for cause in caused.shown
        for s in (cause, *cause.leads_to)
    ]
    explained, fault = dead.explained if dead else None, None
    if explained:
        fault = ending(explained), text(explained)
        link = f"{id}-fault"
        where = explained.fault
        points.append(Point(where.seq, where.tid, "fault", ending(explained), link))
    ended = how_it_ended(run)
    facts = list(_facts(run, report, ended))
    return Chapter(id, run, report, facts, causes, ended, fault, draw(run, points))


def _facts(run: Run, report: Report, ended: Ending | None) -> Iterator[tuple[str, str]]:
    m = run.manifest
    yield "program", " ".join(m.argv) or m.program
    yield (
        "kernel",
        f"{m.row.name}"
        + (f", judged by {report.row.name}" if report.row.name != m.row.name else ""),
    )
    yield "expecting", report.expect
    if ended:
        yield "ended", str(ended)
    elif m.exit_status is not None:
        yield "ended", wait_status(m.exit_status)
    yield "instructions", f"{m.icount:,}"
    if m.provenance.real:
        yield "recorded by", m.provenance.recorder
        yield from m.provenance.facts.items()
    else:
        yield "seed", str(m.seed)


def _caused(chapter: str, run: Run, report: Report, kind: Kind, dead: Death | None) -> Caused:
    # Of each finding, which one of its rule's it is.
    numbers = {id(f): n for result in report.results for n, f in enumerate(result.findings, 1)}

    def shown(violation: Violation, leads_to: Sequence[Violation] = ()) -> Shown:
        rule, finding = violation.rule, violation.finding
        return Shown(
            f"{chapter}-{rule.id}-{numbers[id(finding)]}",
            positions.show(finding.seq),
            rule,
            finding,
            violation.doubtful,
            [positions.show(seq) for seq in finding.evidence],
            _log(run, finding),
            [shown(one) for one in leads_to[:_SHOWN]],
        )

    causes = [shown(cause.root, cause.consequences) for cause in kind.causes[:_SHOWN]]
    violation = dead.violation if dead else None
    return Caused(kind, causes, violation is not None and kind.holds(violation.finding))


def _log(run: Run, finding: Finding) -> list[tuple[str, bool]]:
    """The lines around the evidence, in order, each once; an empty line where some are skipped."""
    places = list(dict.fromkeys((finding.seq, *finding.evidence)))[:_EVIDENCE]
    lines: dict[tuple[int, str], str] = {}
    for at in places:
        for line in log.tell(run, log.Wanted(around=at, context=_CONTEXT)):
            lines[line.seq, line.table] = log.text(line)
    return [(text, seq in places) for (seq, _), text in sorted(lines.items())]
