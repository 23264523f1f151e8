"""One cell executed: recorded, judged, and told as a row."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import shstk
from shstk.corpus.cell import Cell
from shstk.corpus.contents import contents_of, contents_of_image
from shstk.corpus.rows import CELL
from shstk.replay.baseline import identities
from shstk.replay.causes import listed
from shstk.replay.check import Report
from shstk.replay.run import Run
from shstk.schemas.errors import ShstkError
from shstk.schemas.tables import DERIVABLE, MAX_SIZE
from shstk.sweep.seeds import written


@dataclass(frozen=True)
class Job:
    """key: of the cell. kept: its run, if it was recorded before. keep: which runs stay in the
    scratch folder: all, findings or none."""

    cell: Cell
    key: str
    kept: Path | None = None
    keep: str = "none"


def row_of(job: Job, outcome: str, message: str = "") -> dict[str, Any]:
    """A row of a cell that has no results."""
    cell = job.cell
    return dict.fromkeys(CELL.names) | {
        "key": job.key,
        "run": cell.run,
        "program": cell.subject.name,
        "command": cell.subject.command,
        "kernel": cell.kernel,
        "cpu": cell.cpu,
        "seed": cell.seed,
        "quantum": cell.slices,
        "spec": cell.to_json(),
        "outcome": outcome,
        "message": message,
        "host": platform.node(),
        "causes": 0,
        "evaluated": [],
        "findings": [],
    }


def execute(job: Job, scratch: Path) -> dict[str, Any]:
    """The row of a cell, whatever becomes of it. Its run stays in `scratch` if it is to be kept."""
    began = time.monotonic()
    out = scratch / f"{job.cell.run}.run"
    try:
        row = row_of(job, "finished") | _results(job, out)
    except ShstkError as error:
        row = row_of(job, "refused", error.what)
    except MemoryError:
        row = row_of(job, "memory")
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        row = row_of(job, "refused", f"{where}{error.strerror or error}")
    except Exception as error:
        row = row_of(job, "error", f"{type(error).__name__}: {error}")
    wanted = row["outcome"] == "finished" and (
        job.keep == "all" or (job.keep == "findings" and row["causes"])
    )
    for left in scratch.iterdir():
        if left != out or not wanted:
            shutil.rmtree(left, ignore_errors=True)
    return row | {"seconds": time.monotonic() - began, "resident": _resident()}


def _results(job: Job, out: Path) -> dict[str, Any]:
    place = job.kept or _recorded(job.cell, out)
    run = shstk.open(place, verify=job.kept is not None)
    report = job.cell.judging(run)
    schedule = run.manifest.tables.get("sched")
    return {
        "ending": str(report.ended or _exited(run)),
        "icount": run.manifest.icount,
        "schedule": schedule.content_sha256 if schedule else "",
        "output": hashlib.sha256(written(run).encode()).hexdigest(),
        "causes": len({cause.kind for cause in report.causes}),
        "evaluated": [one.rule.id for one in report.results if not one.not_evaluated],
        "bytes": sum(path.stat().st_size for path in place.rglob("*") if path.is_file()),
        "findings": _findings(run, report),
    }


def _recorded(cell: Cell, out: Path) -> Path:
    _unchanged(cell)
    if cell.image is not None:
        return shstk.record_real_kernel(cell.machine(cell.image, out)).path
    return shstk.record(
        cell.subject.program,
        *cell.subject.argv,
        out=out,
        trace=DERIVABLE,  # the rules read them at once
        max_size=MAX_SIZE if cell.disk is None else cell.disk,
        **cell.guest,
    ).path


def _unchanged(cell: Cell) -> None:
    """A program that was built anew since the plan was made is another cell. (A tree is read once
    in a process: what changes in it meanwhile isn't noticed.)"""
    if contents_of(cell.subject) != cell.subject.contents:
        raise ShstkError(f"{cell.subject.command}: a file has changed since the plan was made")
    if cell.image is not None and contents_of_image(cell.image) != cell.image.contents:
        raise ShstkError(f"{cell.image.name}: a file, or QEMU, is not that of the plan")


def _exited(run: Run) -> str:
    status = run.manifest.exit_status
    return f"exited with {status >> 8}" if status is not None else run.manifest.ending


def _findings(run: Run, report: Report) -> list[dict[str, Any]]:
    named = {id(finding): one for finding, one in identities(run, report)}
    kinds = {id(cause.root.finding): cause.kind for cause in report.causes}
    made = []
    for violation, root in listed(report.causes):
        finding, rule = violation.finding, violation.rule
        kind = kinds[id((root or violation).finding)]
        identity = named[id(finding)]
        made.append(
            {
                "rule": rule.id,
                "slug": rule.slug,
                "severity": rule.severity,
                "doubtful": violation.doubtful,
                "seq": finding.seq,
                "tid": finding.tid,
                "mm": finding.mm,
                "addr": finding.addr,
                "expected": finding.expected,
                "actual": finding.actual,
                "note": finding.note,
                "task": identity.task,
                "function": identity.function,
                "root": root is None,
                "cause": hashlib.sha256("\0".join(kind).encode()).hexdigest()[:8],
                "words": f"{kind[0]}: expected {kind[1]}; actual {kind[2]}",
            }
        )
    return made


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
