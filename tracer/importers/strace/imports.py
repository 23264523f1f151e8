"""Texts of strace become a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shstk.schemas.errors import BadRecording, UsageError
from shstk.schemas.extensions import CPUS, DEFAULT_CPU
from shstk.schemas.revisions import DEFAULT_REVISION
from shstk.tracer.importers.revision import expected
from shstk.tracer.importers.seal import About, observed
from shstk.tracer.importers.strace.story import Story
from shstk.tracer.importers.strace.survey import Survey
from shstk.tracer.importers.strace.text import Source
from shstk.tracer.importers.stream import Stream

_UNSEEN: Final = {
    "task_events": ("ssp", "pc", "addr"),
    "clones": ("parent_tid", "set_tid"),
    "syscalls": ("pc", "sp", "ssp_entry", "ssp_exit", "state_hash"),
    "mms": ("seq_end",),
}
_SEEN: Final = ("task_events[lifetimes]", "clones", "syscalls", "mms")
_MOST: Final = 5  # names in a warning


@dataclass(frozen=True)
class Imported:
    path: Path
    program: str
    kernel: str
    calls: int
    warnings: tuple[str, ...]


def import_text(
    paths: Sequence[Path],
    out: Path,
    *,
    kernel: str | None = None,
    cpu: str | None = None,
    force: bool = False,
) -> Imported:
    """Raises BadRecording, UsageError, CannotWrite.

    paths: a file, or those that -ff wrote. kernel: the revision whose rules are expected; None:
    that of the release that uname told, or the default. cpu: of CPUS; None: one with both
    extensions, if a call that asked for them succeeded.
    """
    source, survey = Source(tuple(paths)), Survey()
    survey.read(source)
    told = []
    if kernel is None and not survey.banner:
        revision = DEFAULT_REVISION
        told.append(f"nothing in the text says which kernel it is: {revision} is assumed")
    else:
        revision, warnings = expected(kernel, survey.banner)
        told += warnings
    machine = _cpu(cpu, survey)
    with Stream(out, force) as rows:
        story = Story(rows, survey)
        for part in source.parts():
            story.take(part)
        if not story.root:
            raise BadRecording(
                f"{paths[0]}: no system call in it", "record it with `strace -f -o FILE PROGRAM`"
            )
        story.finish()
        told += _warnings(source, story)
        about = About(
            recorder="strace",
            facts={"banner": survey.banner} if survey.banner else {},
            observed=observed(_SEEN, _UNSEEN),
            blind=_blind(story),
            kernel=revision,
            program=story.program,
            argv=story.argv,
            cpu=machine,
            first_tid=story.root,
            ending=_ending(story.exit_status),
            exit_status=story.exit_status,
            warnings=tuple(told),
        )
        sealed = rows.seal(about)
    return Imported(sealed, story.program, revision, rows.counts["syscalls"], about.warnings)


def _cpu(cpu: str | None, survey: Survey) -> str:
    """A kernel that refuses everything may be right: the machine may not have the extension."""
    if cpu is not None:
        if cpu not in CPUS:
            raise UsageError(f"unknown cpu {cpu!r}", f"known: {' '.join(CPUS)}")
        return cpu
    if unknown := sorted(survey.asked - survey.answered):
        names = " and ".join(name.capitalize() for name in unknown)
        raise UsageError(
            f"every call that needs {names} failed: nothing tells whether the machine has it",
            f"say so with --cpu: {' '.join(CPUS)}",
        )
    return DEFAULT_CPU


def _ending(status: int | None) -> str:
    if status is None:
        return "interrupted"
    return "killed" if status & 0x7F else "exited"


def _blind(story: Story) -> dict[str, str]:
    if not story.unclear:
        return {}
    return {"syscalls": f"arguments of {story.unclear} calls that change a task are not printed"}


def _warnings(source: Source, story: Story) -> list[str]:
    told = []
    if story.unknown:
        names = [f"{name} ({count})" for name, count in story.unknown.most_common(_MOST)]
        more = ", …" if len(story.unknown) > _MOST else ""
        told.append(f"calls that are not known here were left out: {', '.join(names)}{more}")
    if source.others:
        told.append(f"{source.others} lines are not strace's and were left out")
    for path in sorted(source.cut):
        told.append(f"{path.name}: the last line is incomplete and was left out")
    return told
