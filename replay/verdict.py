"""A report as text for people: what ended the guest, the findings by cause, a summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby

from shstk.replay.causes import Cause, Kind
from shstk.replay.check import Report
from shstk.replay.decode import signal_name
from shstk.replay.explain.model import Death
from shstk.replay.explain.text import ending, short
from shstk.replay.look import PLAIN, Look
from shstk.replay.rules.outcome import Finding, Result, Rule, Violation
from shstk.schemas import seq as positions

_EVIDENCE = 12  # places of a finding that are listed if not all are
_ALIKE = 6  # places of findings that are like the one that is shown
_KINDS = 10  # of a rule
_SPELLED_OUT = 5  # rules of one outcome that are listed without being asked for
_DEVIATIONS = 10


def text(report: Report, look: Look, verbose: bool, full: bool, death: Death | None) -> str:
    """verbose: lists the rules that are satisfied or were not evaluated. full: lists every finding,
    with all its evidence."""
    lines = [f"{report.run}: judged by kernel {report.row.name}, expecting {report.expect}"]
    if death:
        lines += ["", *_death(death, look)]
    for rule, of_rule in groupby(report.kinds, key=lambda kind: kind.rule):
        lines += ["", *_rule(report, rule, list(of_rule), look, full, death)]
    for result in report.results:
        lines += _deviations(result, look, full)
    lines.append("")
    lines += _baseline(report, look)
    lines += _others(report, look, verbose)
    last = look.text(summary(report, death), more=2)
    well = report.clean and report.ended is None
    lines += [look.paint(line, "good" if well else "strong") for line in last]
    return "\n".join(lines) + "\n"


def summary(report: Report, death: Death | None) -> str:
    """One line: how the guest died, or that its recording ended before; how many findings of how
    many causes, and in which rules."""
    found, new = _counting(report), "new " if report.compared else ""
    said = [f"killed by {signal_name(death.signo)}"] if death and death.ended else []
    if report.ended and report.ended.cut_short:
        said.append(f"cut short: {report.ended.how}")
    if found:
        roots = Counter(cause.root.rule.id for kind in report.kinds for cause in kind.causes)
        rules = ", ".join(f"{id} ({count})" for id, count in roots.items())
        causes = _count(len(report.kinds), "cause")
        said.append(f"{_count(found, f'{new}finding')}, {causes}: {rules}")
    else:
        said.append(f"no {new}findings")
    if report.compared:
        said.append(f"{len(report.compared.known)} in the baseline")
    if explained := sum(len(result.deviations) for result in report.results):
        said.append(f"{explained} that the emulator explains")
    satisfied, rest = len(report.of("satisfied")), len(report.of("not evaluated"))
    said.append(f"{_count(satisfied, 'rule')} satisfied, {rest} not evaluated")
    return f"{report.run}: " + "; ".join(said)


def total(reports: Sequence[Report], deaths: Sequence[Death | None]) -> str:
    """The last line about several runs."""
    findings = sum(map(_counting, reports))
    dirty = [r.run for r in reports if not r.clean]
    said = [f"{len(reports)} runs", _count(findings, "finding")]
    if dirty:
        said[-1] += f" in {', '.join(dirty)}"
    if dead := [death.run for death in deaths if death and death.ended]:
        said.append(f"killed: {', '.join(dead)}")
    return "; ".join(said) + "\n"


def _counting(report: Report) -> int:
    return sum(report.counts(f) for result in report.results for f in result.findings)


def _baseline(report: Report, look: Look) -> Iterator[str]:
    """What the baseline holds and the run has not."""
    if report.compared and report.compared.gone:
        yield f"gone, though in the baseline {report.compared.file}:"
        for one, count in report.compared.gone:
            yield from look.text(f"{one}" + (f", {count} times" if count > 1 else ""), 2, 2)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _death(death: Death, look: Look) -> Iterator[str]:
    signal = f"the guest was killed by {signal_name(death.signo)}"
    first = ending(death.explained) if death.explained else signal
    first += "" if death.ended else "; the guest went on"
    for line in look.text(first):
        yield look.paint(line, "error")
    if death.explained:
        yield from short(death.explained, look)


def _rule(
    report: Report, rule: Rule, kinds: list[Kind], look: Look, full: bool, death: Death | None
) -> Iterator[str]:
    roots = sum(len(kind.causes) for kind in kinds)
    found = next(result.findings for result in report.results if result.rule == rule)
    every = sum(map(report.counts, found))
    heading = look.paint(f"{rule.id} {rule.slug}", rule.severity)
    more = f" (and {every - roots} that follow from others)" if every > roots else ""
    yield f"{heading} ({rule.severity}): violated {_count(roots, 'time')}{more}"
    shown = kinds if full else kinds[:_KINDS]
    for kind in shown:
        yield from _whole(kind, look, death) if full else _example(kind, look, death)
    yield from _more(sum(len(kind.causes) for kind in kinds[len(shown) :]))
    yield from look.field("source", rule.source)


def _example(kind: Kind, look: Look, death: Death | None) -> Iterator[str]:
    """The first cause of a kind, where the others are, and what follows from all."""
    root, alike = kind.causes[0].root, [cause.root for cause in kind.causes[1:]]
    yield from finding_lines(root.finding, root.doubtful, look=look)
    if alike:
        places = ", ".join(map(_place, alike[:_ALIKE])) + (", …" if alike[_ALIKE:] else "")
        yield from look.text(f"  {len(alike)} more like it (--all): {places}", more=4)
    label = "leads to"
    for rule, violations in kind.consequences.items():
        first = _place(violations[0])
        times = f", {len(violations)} times, first" if violations[1:] else ""
        yield from look.field(label, f"{rule.id} {rule.slug}{times} at {first}")
        label = ""
    yield from _kills(kind, label, look, death)


def _whole(kind: Kind, look: Look, death: Death | None) -> Iterator[str]:
    """Every cause of a kind, with what follows from it."""
    for cause in kind.causes:
        yield from finding_lines(cause.root.finding, cause.root.doubtful, True, look)
        label = "leads to"
        for violation in cause.consequences:
            yield from look.field(label, f"{violation.rule.id} {violation.rule.slug}")
            label = ""
            lines = finding_lines(violation.finding, violation.doubtful, True, look.narrower(12))
            yield from (" " * 12 + line for line in lines)
        yield from _kills(cause, label, look, death)


def _kills(what: Kind | Cause, label: str, look: Look, death: Death | None) -> list[str]:
    """The guest's death, if it follows from one of these."""
    violation = death and death.violation
    if not (death and death.explained and violation and what.holds(violation.finding)):
        return []
    return look.field(label, ending(death.explained))


def _place(violation: Violation) -> str:
    finding = violation.finding
    task = f" task {finding.tid}" if finding.tid is not None else ""
    return f"{positions.show(finding.seq)}{task}"


def finding_lines(
    finding: Finding, doubtful: bool, full: bool = False, look: Look = PLAIN
) -> Iterator[str]:
    """One violation: place, task, expected, actual, note, evidence. full: all of the evidence."""
    task = f" task {finding.tid}" if finding.tid is not None else ""
    mm = f" mm {finding.mm}" if finding.mm is not None else ""
    addr = f" at {finding.addr:#x}" if finding.addr is not None else ""
    doubt = " (?)" if doubtful else ""
    yield f"  {look.paint(positions.show(finding.seq), 'place')}{task}{mm}{addr}{doubt}"
    yield from look.field("expected", finding.expected)
    yield from look.field("actual", finding.actual)
    yield from look.text(finding.note, 4)
    if finding.evidence:
        shown = finding.evidence if full else finding.evidence[:_EVIDENCE]
        more = len(finding.evidence) - len(shown)
        told = " ".join(map(positions.show, shown)) + (f" … {more} more" if more else "")
        yield from look.field("evidence", told)


def _deviations(result: Result, look: Look, full: bool) -> Iterator[str]:
    """The findings that the emulator explains."""
    if not result.deviations:
        return
    yield ""
    yield (
        f"{result.rule.id} {result.rule.slug}: not the kernel's, {len(result.deviations)} that the"
        " emulator explains"
    )
    shown = result.deviations if full else result.deviations[:_DEVIATIONS]
    for finding, why in shown:
        yield from finding_lines(finding, result.doubtful, full, look)
        yield from look.text(why, 4)
    yield from _more(len(result.deviations) - len(shown))


def _more(count: int) -> Iterator[str]:
    if count:
        yield f"  … {count} more; --all lists them"


def _others(report: Report, look: Look, verbose: bool) -> Iterator[str]:
    """The rules that are satisfied or were not evaluated, as far as they are listed."""
    satisfied, rest = report.of("satisfied"), report.of("not evaluated")
    if satisfied and (verbose or len(satisfied) <= _SPELLED_OUT):
        yield "satisfied:"
        yield from _listed(
            look, [(r.rule, f"{r.checked}" + "*" * bool(r.unseen)) for r in satisfied]
        )
    in_part = [r for r in satisfied if r.unseen]
    if in_part and verbose:
        yield "* in part:"
        yield from _listed(look, [(r.rule, " and ".join(r.unseen)) for r in in_part])
    elif in_part:
        ids = ", ".join(r.rule.id for r in in_part)
        yield from look.text(
            f"satisfied as far as the recorder could see (-v tells what it could not): {ids}",
            more=2,
        )
    if rest and (verbose or len(rest) <= _SPELLED_OUT):
        yield "not evaluated:"
        yield from _listed(look, [(r.rule, r.not_evaluated) for r in rest])
    doubts = [f"{name}={report.row.settings[name]}" for name in report.row.unconfirmed]
    if doubts:
        yield from look.text(
            f"no source confirms for {report.row.name}: {', '.join(doubts)}", more=2
        )


def _listed(look: Look, rows: Sequence[tuple[Rule, str]]) -> Iterator[str]:
    names = [f"{rule.id} {rule.slug}" for rule, _ in rows]
    column = max(map(len, names)) + 2
    for name, (_, words) in zip(names, rows, strict=True):
        yield from look.field(name, words, 2, column)
