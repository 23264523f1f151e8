"""A trace becomes a run: whose trace it is, what it could see, and the run directory."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

from shstk.schemas.errors import BadRecording, UsageError
from shstk.schemas.revisions import DEFAULT_REVISION
from shstk.schemas.syscalls import SYSCALLS
from shstk.schemas.uapi import RLIM_INFINITY
from shstk.tracer.importers.ftrace.event import Event
from shstk.tracer.importers.ftrace.read import DROPS, Story
from shstk.tracer.importers.ftrace.source import opened
from shstk.tracer.importers.revision import expected
from shstk.tracer.importers.seal import About, observed, seal

_PRCTL: Final = SYSCALLS["prctl"].number
_SETS: Final = (72, 75)  # PR_SET_SHADOW_STACK_STATUS, under both numbers
_MARK: Final = re.compile(r"shstk: (\w+) (.*)")
_MOST: Final = 20  # programs that an error lists
_UNSEEN: Final = {
    "task_events": ("pc",),
    "clones": ("set_tid",),
    "syscalls": ("pc", "sp", "ssp_entry", "ssp_exit", "state_hash"),
    "mappings": ("input",),
    "signals": ("si_addr", "sender", "frame", "token_addr", "token_value", "ssp_before",
                "ssp_after", "alt_stack"),
    "sched": ("state_hash",),
}  # fmt: skip
# What the recorder can see, and the events without which a trace does not show it: one of each
# group must occur.
_SEEN: Final = {
    "task_events[lifetimes]": (("sched_process_exit", "ss_exit"),),
    "task_events[mm_dropped]": ((*DROPS, "ss_release"),),
    "clones": (("ss_clone", "ss_alloc"),),
    "mms": (),
    "syscalls": (("sys_enter",), ("sys_exit",)),
    "mappings[shadow_stack]": (
        ("ss_map", "ss_own_map"),
        ("ss_map_ret", "ss_own_map_ret"),
        ("ss_unmap", "ss_own_unmap"),
    ),
    "signals": (("signal_deliver",),),
    "sched": (("sched_switch",),),
}
# The same of a column.
_COLUMNS: Final = {
    "task_events.ssp": ("ss_switch",),
    "task_events.value": ("ss_mmput",),
    "task_events.addr": ("ss_wake",),
    "mappings.prot": ("ss_map",),
    "mappings.flags": ("ss_map",),
    "mappings.offset": ("ss_map",),
}


@dataclass(frozen=True)
class Imported:
    path: Path
    pid: int
    program: str
    kernel: str
    calls: int
    warnings: tuple[str, ...]


@dataclass
class _Program:
    """An exec. at: index of the event that begins it. enables: it asks for a shadow stack."""

    pid: int
    path: str
    at: int
    enables: bool = False


@dataclass
class _Survey:
    """What a first reading of a trace tells. harts: of each, its first event's index."""

    programs: list[_Program] = field(default_factory=list)
    known: set[str] = field(default_factory=set)
    harts: dict[int, int] = field(default_factory=dict)
    marks: dict[str, str] = field(default_factory=dict)

    def read(self, events: Iterable[Event]) -> None:
        current: dict[int, _Program] = {}
        begun: dict[int, int] = {}
        for at, event in enumerate(events):
            name = event.name
            self.harts.setdefault(event.cpu, at)
            self.known.add(name)
            if name == "ss_exec":
                begun[event.pid] = at
            elif name == "sched_process_exec":
                pid = event.number("pid") or event.pid
                made = _Program(pid, event.text("filename"), begun.pop(event.pid, at))
                current[pid] = made
                self.programs.append(made)
            elif name == "sys_enter" and event.number("id") == _PRCTL:
                if event.pid in current and _enables(event.args):
                    current[event.pid].enables = True
            elif found := _MARK.match(event.text("text")):
                self.marks[found[1]] = found[2].strip()


def _enables(args: tuple[int, ...]) -> bool:
    return len(args) > 1 and args[0] in _SETS and args[1] == 1


def import_trace(
    path: Path,
    out: Path,
    *,
    pid: int | None = None,
    kernel: str | None = None,
    stack_limit: int | None = None,
    force: bool = False,
) -> Imported:
    """Raises BadRecording, UsageError, CannotWrite.

    pid: of the program to import; None: the first that asks for a shadow stack. kernel: the
    revision whose rules are expected; None: that of the banner in the trace. stack_limit:
    RLIMIT_STACK, bytes; None: as noted in the trace.
    """
    source = opened(path)
    survey = _Survey()
    survey.read(source.events())
    program = _choose(path, survey, pid)
    if source.overwritten and max(survey.harts.values()) > program.at:
        raise BadRecording(
            f"{path}: {source.overwritten} events were overwritten, maybe some of the program",
            "record it again with a larger buffer_size_kb",
        )
    banner = survey.marks.get("banner", source.kernel)
    revision, warnings = _expected(kernel, banner)
    harts = _number(survey.marks.get("harts", "")) or source.harts or len(survey.harts)
    story = Story(program.pid, frozenset(survey.known), harts == 1)
    story.read(islice(source.events(), program.at, None))
    if not story.program:
        raise BadRecording(f"{path}: the trace ends inside the exec of task {program.pid}")
    ending = "interrupted"
    if story.over:
        ending = "killed" if (story.exit_status or 0) & 0x7F else "exited"
    stack = stack_limit or _stack(survey.marks.get("stack", ""))
    told = [*warnings]
    if story.lost:
        count = story.lost.number("count")
        lost = "events were lost" if count is None else f"{count} events were lost"
        told.append(f"{lost}: the run ends there (a larger buffer_size_kb keeps them)")
    others = {p.pid for p in survey.programs if p.enables} - story.tids
    if others and pid is None:
        told.append(f"of several programs, pid {program.pid} was imported ({_list(survey)})")
    about = About(
        recorder="ftrace",
        facts={"banner": banner} if banner else {},
        smp=harts,
        observed=observed(_SEEN, _UNSEEN),
        blind=_blind(survey, story),
        kernel=revision,
        program=program.path,
        argv=(program.path,),
        rlimits={"STACK": (stack, RLIM_INFINITY)} if stack else {},
        first_tid=program.pid,
        ending=ending,
        exit_status=story.exit_status,
        warnings=tuple(told),
    )
    sealed = seal(out, story.rows, about, (), force)
    calls = len(story.rows.of("syscalls"))
    return Imported(sealed, program.pid, program.path, revision, calls, about.warnings)


def _expected(kernel: str | None, banner: str) -> tuple[str, tuple[str, ...]]:
    """The revision whose rules are expected, and what is to be said about it."""
    if kernel is None and not banner:
        assumed = f"nothing in the trace says which kernel it is: {DEFAULT_REVISION} is assumed"
        return DEFAULT_REVISION, (assumed,)
    return expected(kernel, banner)


def _choose(path: Path, survey: _Survey, pid: int | None) -> _Program:
    if not survey.programs:
        found = f"{len(survey.known)} kinds of events" if survey.known else "no event"
        raise BadRecording(
            f"{path}: no program is executed in the trace, which has {found}",
            "shstk ftrace-probes prints how to record one; sched_process_exec must be on",
        )
    own = [p for p in survey.programs if p.pid == pid or pid is None]
    enabling = [p for p in own if p.enables]
    if pid is not None and not own:
        raise UsageError(f"no program of pid {pid} is executed in the trace", _list(survey))
    if enabling:
        return enabling[0]
    if len({p.pid for p in own}) > 1:
        raise UsageError(
            "none of the trace's programs asks for a shadow stack", f"choose one: {_list(survey)}"
        )
    return own[-1]


def _list(survey: _Survey) -> str:
    last = {p.pid: p.path for p in survey.programs if p.enables} or {
        p.pid: p.path for p in survey.programs
    }
    shown = [f"--pid {pid}: {path}" for pid, path in islice(last.items(), _MOST)]
    return ", ".join(shown) + (", …" if len(last) > _MOST else "")


def _blind(survey: _Survey, story: Story) -> dict[str, str]:
    """What this trace lacks, because none of the events that show it occurs in it."""
    found = {}
    for rows, groups in _SEEN.items():
        for group in groups:
            if not survey.known & {*group}:
                found[rows] = f"the trace has no {' or '.join(sorted(group))}"
    for column, group in _COLUMNS.items():
        if not survey.known & {*group}:
            found[column] = f"the trace has no {' or '.join(group)}"
    if story.rings and "sched_wakeup_new" not in survey.known:
        found["mappings[shadow_stack]"] = "what io_uring's workers do: sched_wakeup_new is off"
    if story.unpaired:
        found["clones"] = f"{story.unpaired} clone3 whose arguments the trace does not have"
    elif not story.rows.of("clones"):
        found.pop("clones", None)
    return found


def _number(word: str) -> int:
    return int(word) if re.fullmatch(r"\d{1,4}", word) else 0


def _stack(word: str) -> int:
    """RLIMIT_STACK as `ulimit -s` prints it: KiB, or unlimited."""
    if word == "unlimited":
        return RLIM_INFINITY
    return int(word) << 10 if re.fullmatch(r"\d{1,12}", word) else 0
