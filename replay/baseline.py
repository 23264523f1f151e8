"""A baseline: the findings that are known, so that only new ones fail.

A finding is known by its identity, which is the same in every recording of a program: no address,
icount or tid is in it. A run may have as many findings of an identity as the baseline counts.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Container, Iterable, Mapping
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import polars as pl

from shstk.replay.causes import listed
from shstk.replay.diff.tasks import Cast
from shstk.replay.facts import Facts
from shstk.replay.symbols import Place, Symbols
from shstk.schemas.errors import ShstkError
from shstk.schemas.version import VERSION as MADE_BY

if TYPE_CHECKING:
    from shstk.replay.check import Report
    from shstk.replay.rules.outcome import Finding
    from shstk.replay.run import Run

VERSION: Final = 1
_WITH_PC: Final = ("cfi", "faults", "syscalls", "task_events")
_WITHIN_CALLS: Final = ("mappings", "kernel_memory")


class BadBaseline(ShstkError):
    """A baseline cannot be read; `what` names the file."""


@dataclass(frozen=True, order=True)
class Identity:
    """rule: its id. task: as `shstk diff` names it, main/clone#3. function: in which it happened,
    or the file if that has no symbols. follows_from: the rule of the finding that it follows from.
    """

    rule: str
    task: str
    function: str
    follows_from: str

    @property
    def digest(self) -> str:
        """The same for the same finding in every recording."""
        return hashlib.sha256("\0".join(astuple(self)).encode()).hexdigest()[:32]

    def __str__(self) -> str:
        where = f" in {self.function}" if self.function else ""
        return f"{self.rule} of {self.task}{where}"


class Judged(NamedTuple):
    """What a run's findings are findings of."""

    command: str
    kernel: str
    expect: str


@dataclass(frozen=True)
class Compared:
    """file: of the baseline. known: the ids of the findings that it holds. gone: what it holds
    and the run has not, of the rules that were evaluated, and how often."""

    file: str
    known: frozenset[int]
    gone: tuple[tuple[Identity, int], ...]


Baseline: TypeAlias = Mapping[Judged, Counter[Identity]]
Written: TypeAlias = dict[Judged, Counter[Identity]]


def judged(run: Run, report: Report) -> Judged:
    argv = run.manifest.argv
    command = " ".join([os.path.basename(run.manifest.program), *argv[1:]])
    return Judged(command, report.row.name, report.expect)


def identities(run: Run, report: Report) -> list[tuple[Finding, Identity]]:
    """The identity of every finding, in the order of the results."""
    found = [finding for result in report.results for finding in result.findings]
    if not found:
        return []
    facts = Facts(run, report.row, report.expect)
    cast, symbols, pcs = Cast(facts.history), Symbols(run, facts.regions), _pcs(run, found)
    roots = {id(v.finding): root.rule.id if root else "" for v, root in listed(report.causes)}
    made = []
    for violation in (v for result in report.results for v in result.violations):
        finding = violation.finding
        task = cast.at(finding.tid, finding.seq)
        pc = pcs.get(finding.seq)
        identity = Identity(
            violation.rule.id,
            cast.path(task) if task else "",
            "" if pc is None else symbols.holder(pc[0], pc[1], finding.seq),
            roots[id(finding)],
        )
        made.append((finding, identity))
    return made


def places(run: Run, report: Report) -> dict[int, Place]:
    """Where in the program each finding is, by the id of the finding: only those with a symbol."""
    found = [finding for result in report.results for finding in result.findings]
    symbols, pcs, made = Symbols(run), _pcs(run, found), {}
    for finding in found:
        if pc := pcs.get(finding.seq):
            place = symbols.at(pc[0], pc[1], finding.seq)
            if place and place.symbol:
                made[id(finding)] = place
    return made


def _pcs(run: Run, found: Iterable[Finding]) -> dict[int, tuple[int | None, int]]:
    """Address space and pc of the instruction at each seq, or of the call that it is in."""
    seqs = pl.DataFrame({"seq": sorted({f.seq for f in found})}, schema={"seq": pl.UInt64}).lazy()
    parts = [
        run.scan(table).join(seqs, on="seq", how="semi").select("seq", "mm", "pc")
        for table in _WITH_PC
    ]
    calls = run.scan("syscalls").select("mm", "pc", during="seq")
    parts += [
        run.scan(table)
        .join(seqs, on="seq", how="semi")
        .select("seq", "during")
        .join(calls, on="during")
        .select("seq", "mm", "pc")
        for table in _WITHIN_CALLS
    ]
    rows = pl.concat(parts).drop_nulls("pc").sort("seq", maintain_order=True).collect()
    return {seq: (mm, pc) for seq, mm, pc in reversed(rows.rows())}


def compare(run: Run, report: Report, baseline: Baseline, file: str) -> Compared:
    """Of the findings of an identity, the first ones are the known ones."""
    left = Counter(baseline.get(judged(run, report), {}))
    known = set()
    for finding, identity in identities(run, report):
        if left[identity] > 0:
            left[identity] -= 1
            known.add(id(finding))
    evaluated = {result.rule.id for result in report.results if not result.not_evaluated}
    gone = sorted((one, count) for one, count in (+left).items() if one.rule in evaluated)
    return Compared(file, frozenset(known), tuple(gone))


def add(made: Written, run: Run, report: Report) -> None:
    """Add a run's findings to a baseline. Several runs of one command: as many as the one that has
    most."""
    counts = Counter(identity for _, identity in identities(run, report))
    made[judged(run, report)] = made.get(judged(run, report), Counter()) | counts


def to_json(baseline: Baseline) -> str:
    runs = [
        key._asdict()
        | {"findings": [asdict(one) | {"count": counts[one]} for one in sorted(counts)]}
        for key, counts in sorted(baseline.items())
    ]
    whole = {"version": VERSION, "made_by": f"shstk {MADE_BY}", "runs": runs}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def read(path: Path, rules: Container[str]) -> Baseline:
    """rules: the ids that there are. Raises BadBaseline, and OSError."""
    hint = "--write-baseline writes it anew"
    try:
        whole = json.loads(path.read_text(encoding="utf-8"))
        if whole["version"] != VERSION:
            raise BadBaseline(f"{path}: version {whole['version']} of the format", hint)
        made = {Judged(*(run[n] for n in Judged._fields)): _counts(run) for run in whole["runs"]}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise BadBaseline(f"{path} is not a baseline: {error}", hint) from error
    for counts in made.values():
        if unknown := sorted(one.rule for one in counts if one.rule not in rules):
            raise BadBaseline(f"{path} is stale: there is no rule {unknown[0]}", hint)
    return made


def _counts(run: dict[str, Any]) -> Counter[Identity]:
    made: Counter[Identity] = Counter()
    for row in run["findings"]:
        identity = Identity(**{name: str(row[name]) for name in Identity.__annotations__})
        made[identity] = int(row["count"])
    return made
