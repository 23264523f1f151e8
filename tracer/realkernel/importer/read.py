"""Events, in order, into the rows of a run: the program's start, then each event to its handler."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from shstk.schemas.errors import ShstkError
from shstk.tracer.realkernel.events import (
    Access,
    Call,
    Cfi,
    Ecall,
    End,
    Event,
    Return,
    Switch,
    Trap,
    User,
)
from shstk.tracer.realkernel.importer import calls, instructions, lifetimes, memory, signals
from shstk.tracer.realkernel.importer.state import Files, Story, Task, number, s32, text

_ON_CALL: Final = memory.ON_CALL | instructions.ON_CALL | lifetimes.ON_CALL | signals.ON_CALL
_ON_RETURN: Final = memory.ON_RETURN | lifetimes.ON_RETURN | signals.ON_RETURN
_EXECS: Final = (281, 221)
_COMM: Final = 15  # bytes of a name that the kernel keeps


class NeverStarted(ShstkError):
    """The events don't have the program's start; `what` says how far it came."""


@dataclass(frozen=True)
class Recording:
    """first_tid: of the program's first task, as it began. exit_status: its wait status. name: of
    the program, as the kernel shortens it. whole: the events have an end."""

    story: Story
    first_tid: int
    exit_status: int | None
    name: str
    whole: bool


def read(events: Iterable[Event], program: str | None, files: Files) -> Recording:
    """program: its file's name; None: the first that a task executes. Raises NeverStarted,
    BadRecording."""
    story = Story(files)
    starts = _Starts(program)
    first: Task | None = None
    first_tid, name, slide, whole = 0, "", 0, False
    for e in events:
        if isinstance(e, End):
            slide, whole = e.slide, True
        elif first is None:
            if isinstance(e, User) and (before := starts.entered(e)) is not None:
                first = _start(story, before, e)
                first_tid, name = first.tid, text(e.seen.get("comm"))
            else:
                starts.look(e)
        else:
            _handle(story, e)
    if first is None:
        raise starts.failure(slide, whole)
    for t in story.tasks.values():
        instructions.break_off(story, t)
        lifetimes.end_call(story, t)
        calls.break_off(story, t)
    return Recording(story, first_tid, _exit_status(story, first_tid), name, whole)


def _exit_status(s: Story, tid: int) -> int | None:
    """What its parent got, or would have got."""
    for kind in ("reaped", "exit_begin"):
        for row in reversed(s.rows.of("task_events")):
            if row["tid"] == tid and row["kind"] == kind:
                status: int = row["status"]
                return status
    return None


def _handle(s: Story, e: Event) -> None:
    t = s.tasks.get(e.head.task)
    s.count(e.head, own=t is not None)
    if isinstance(e, Switch):
        lifetimes.switched(s, t, e)
    elif isinstance(e, Call) and e.name == "release_task":
        lifetimes.release_task(s, t, e)
    elif t is not None:
        _handle_of(s, t, e)


def _handle_of(s: Story, t: Task, e: Event) -> None:
    if isinstance(e, Cfi):
        instructions.executed(s, t, e)
    elif isinstance(e, Ecall):
        calls.entered(s, t, e)
    elif isinstance(e, User):
        _identify(t, e)
        calls.returned(s, t, e)
    elif isinstance(e, Access):
        memory.accessed(s, t, e)
    elif isinstance(e, Trap):
        instructions.trapped(s, t, e)
    elif isinstance(e, Call):
        if (on_call := _ON_CALL.get(e.name)) is not None:
            on_call(s, t, e)
        t.open.append(e)
    elif isinstance(e, Return):
        _returned(s, t, e)


def _returned(s: Story, t: Task, e: Return) -> None:
    """Functions that do not record their return end with the one that they were called by."""
    place = next((i for i in reversed(range(len(t.open))) if t.open[i].name == e.name), None)
    if place is None:
        return
    call = t.open[place]
    del t.open[place:]
    if (on_return := _ON_RETURN.get(e.name)) is not None:
        on_return(s, t, call, e)


def _identify(t: Task, e: User) -> None:
    t.open.clear()
    t.tid, t.tgid = number(e.seen.get("pid")) or t.tid, number(e.seen.get("tgid")) or t.tgid


class _Starts:
    """Waits for the program: until then, what each task does since its last execve."""

    def __init__(self, program: str | None) -> None:
        self._program = program
        self._comm = (program or "").encode()[:_COMM].decode("utf-8", "replace")
        self._since: dict[int, list[Event]] = {}
        self._failed: list[int] = []  # results of execs

    def look(self, e: Event) -> None:
        if isinstance(e, Ecall):
            self._since.pop(e.head.task, None)
            if e.nr in _EXECS:
                self._since[e.head.task] = []
        elif e.head.task in self._since:
            self._since[e.head.task].append(e)

    def entered(self, e: User) -> list[Event] | None:
        """What came before this return to user mode, if it is the program's first."""
        before = self._since.pop(e.head.task, None)
        return before if before is not None and self._is_program(before, e) else None

    def _is_program(self, before: list[Event], e: User) -> bool:
        ended = [x for x in before if isinstance(x, Return) and x.name == "bprm_execve"]
        status = s32(ended[-1].a0) if ended else s32(e.a0)
        if status:
            self._failed.append(status)
            return False
        name = text(e.seen.get("comm"))
        return self._program is None or name == self._program.encode()[:_COMM].decode(
            "utf-8", "replace"
        )

    def failure(self, slide: int, whole: bool) -> NeverStarted:
        if slide:
            return NeverStarted(
                f"the kernel ran {slide:#x} above its link address, so nothing was recorded",
                "boot it with nokaslr",
            )
        if self._failed:
            return NeverStarted(
                f"the kernel did not start the program: execve returned {self._failed[-1]}",
                "see `shstk record --help` for what a program needs",
            )
        name = self._program or "a program"
        how = "the machine ended" if whole else "the events break off"
        return NeverStarted(
            f"{how} before {name} was started",
            "look at the console's output; was the kernel's command line right?",
        )


def _start(s: Story, before: list[Event], e: User) -> Task:
    """The rows of a program that is loaded, as if it were the machine's first: from the point on
    where its own address space is in use."""
    t = Task(e.head.task, number(e.seen.get("pid")), number(e.seen.get("tgid")))
    s.tasks[t.pointer] = s.first = t
    s.boot_seq = s.event(t, "created")["seq"]
    s.event(t, "exec_begin")
    loading = False
    for x in before:
        if isinstance(x, Call) and x.name == "bprm_execve":
            t.open.append(x)
        loading = loading or (isinstance(x, Return) and x.name == "begin_new_exec")
        if loading and not isinstance(x, Switch):
            if isinstance(x, Return) and x.name == "begin_new_exec":
                t.open.append(Call(x.head, x.name, (), {}))
            _handle_of(s, t, x)
    s.running = None
    s.put("sched", t, from_tid=None, why="start")
    s.running = t.tid
    s.boot_seq = None
    s.count(e.head, own=False)
    t.born = True
    calls.returned(s, t, e)
    if t.exec_done is not None:
        t.exec_done |= {"pc": e.pc, "ssp": e.ssp}
    return t
