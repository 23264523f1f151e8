"""The parts of a text, in order, become rows."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from shstk.schemas.errors import BadRecording
from shstk.schemas.syscalls import BY_NUMBER
from shstk.schemas.uapi import CLONE_THREAD, CLONE_VM, PR_GET_CFI, PR_SET_CFI
from shstk.tracer.importers.strace.calls import (
    CLONES,
    arguments,
    attempt,
    foreign,
    name_of,
    number_of,
)
from shstk.tracer.importers.strace.survey import Survey
from shstk.tracer.importers.strace.text import Part
from shstk.tracer.importers.strace.values import members, number, result, signal, split
from shstk.tracer.importers.stream import Stream

_EXECS: Final = ("execve", "execveat")
_ENDS: Final = ("exit", "exit_group")
_RESTART: Final = re.compile(r"\? ERESTART")
_CORE: Final = 0x80
# The options of prctl that set or tell the state of a task, and that of map_shadow_stack: a row of
# theirs has all of its arguments.
_STATE: Final = (71, 72, 73, 74, 75, 76, PR_GET_CFI, PR_SET_CFI)
_NEEDED: Final = {"prctl": 5, "map_shadow_stack": 3}
_NOT_BEGUN: Final = (
    "trace the program from its exec on, with -f, and with execve and clone among the calls"
    " (-e trace=%process,prctl,map_shadow_stack)"
)


_NONE: Final = (None, None, None)


@dataclass
class Call:
    """One that has begun. tid, mm: then; a thread's execve changes both. seq: 0 for one that gets
    no row. attempt: of a clone that ended, or whose child is there."""

    name: str
    text: str
    seq: int
    tid: int
    mm: int
    attempt: dict[str, Any] | None = None
    child: int | None = None


_MIXED: Final = "lines are missing, or those of several traces are mixed"


@dataclass
class Task:
    tid: int
    pid: int  # its process
    mm: int
    call: Call | None = None
    ran: bool = False
    siginfo: tuple[int | None, int | None, int | None] = _NONE  # of the last signal


@dataclass
class Story:
    """rows: receives them. unknown: calls without a row, for their number is not known, by name.
    unclear: calls of prctl or map_shadow_stack without all of their arguments, and clones without
    their flags that made a task."""

    rows: Stream
    survey: Survey
    unknown: Counter[str] = field(default_factory=Counter)
    unclear: int = 0
    program: str = ""
    argv: tuple[str, ...] = ()
    exit_status: int | None = None
    root: int = 0

    def __post_init__(self) -> None:
        self._tasks: dict[int, Task] = {}
        self._early: set[str] = set()  # the results of clones whose child is there already
        self._spaces = 0

    def take(self, part: Part) -> None:
        """Raises BadRecording."""
        task = self._task(part)
        if part.kind in ("exited", "killed"):
            self._ended(task, part)
            return
        if not task.ran and part.kind != "superseded":
            task.ran = True
            if task.tid != self.root:
                self._event(task, "first_user")
        if part.kind == "signal":
            self._signal(task, part)
        elif part.kind == "superseded":
            self._superseded(task, part)
        else:
            if part.kind != "end":
                self._begin(task, part)
            if part.kind != "begin":
                self._end(task, part)

    def finish(self) -> None:
        """The text ends: what has begun goes on. Raises BadRecording."""
        if not self.program:
            raise BadRecording("no program is executed in the text", _NOT_BEGUN)
        for task in self._tasks.values():
            if task.call:
                self._row(task, task.call, "run_ended", None, ended=False)

    # Tasks

    def _task(self, part: Part) -> Task:
        if not self._tasks:
            return self._first(part)
        if part.pid is None:
            if len(self._tasks) != 1:
                raise BadRecording(
                    f"{part.where}: of which of {len(self._tasks)} tasks is it?",
                    "record with -f -o FILE, so that each line names its task",
                )
            return next(iter(self._tasks.values()))
        return self._tasks.get(part.pid) or self._appeared(part, part.pid)

    def _first(self, part: Part) -> Task:
        if part.name not in _EXECS or part.kind == "end":
            raise BadRecording(f"{part.where}: the text does not begin with an exec", _NOT_BEGUN)
        tid = part.pid if part.pid is not None else self.survey.first or 1
        self.root = tid
        self.rows.instruction()
        task = self._tasks[tid] = Task(tid, tid, self._space(tid, "exec", None), ran=True)
        self._event(task, "created")
        return task

    def _appeared(self, part: Part, tid: int) -> Task:
        """A task whose first line comes before its clone's result."""
        results = self.survey.children.get(tid)
        caller = self._tasks.get(results[0][1] or 0) if results else None
        cloning = [t for t in self._tasks.values() if t.call and t.call.name in CLONES]
        if caller not in cloning and len(cloning) == 1:
            (caller,) = cloning
        if caller is None or caller.call is None:
            raise BadRecording(f"{part.where}: nothing created task {tid}", _NOT_BEGUN)
        asked = attempt(caller.call.name, caller.call.text)
        if asked is None:
            raise BadRecording(
                f"{part.where}: the flags of the clone that made task {tid} are not known"
            )
        if results:
            self._early.add(results.popleft()[0])
        caller.call.attempt, caller.call.child = asked, tid
        return self._create(caller, tid, asked)

    def _create(self, parent: Task, tid: int, asked: dict[str, Any]) -> Task:
        flags = asked["flags"]
        pid = parent.pid if flags & CLONE_THREAD else tid
        child = self._tasks[tid] = Task(tid, pid, parent.mm)
        if not flags & CLONE_VM:
            child.mm = self._space(tid, "fork", parent.mm)
        self._event(child, "created", value=parent.tid)
        return child

    def _space(self, tid: int, cause: str, old: int | None) -> int:
        self._spaces += 1
        self.rows.put(
            "mms",
            seq=self.rows.step(),
            tid=tid,
            mm=self._spaces,
            from_mm=old,
            cause=cause,
            seq_end=None,
        )
        return self._spaces

    def _event(self, task: Task, kind: str, **columns: Any) -> None:
        place = {"seq": self.rows.step(), "tid": task.tid, "mm": task.mm}
        self.rows.put("task_events", **place, kind=kind, **columns)

    def _superseded(self, task: Task, part: Part) -> None:
        """A thread's execve: it goes on with its leader's tid."""
        caller = self._tasks.pop(int(part.number), None)
        if caller is None or caller.call is None or caller.call.name not in _EXECS:
            raise BadRecording(f"{part.where}: task {part.number} is in no execve")
        self._tasks[task.tid] = Task(task.tid, task.pid, caller.mm, caller.call, ran=True)

    def _ended(self, task: Task, part: Part) -> None:
        if part.kind == "exited":
            status = (int(part.number) & 0xFF) << 8
        else:
            signo = signal(part.number)
            if signo is None:
                raise BadRecording(f"{part.where}: an unknown signal: {part.number}")
            last, code, address = task.siginfo
            if last != signo:
                code = address = None
            place = {"seq": self.rows.step(), "tid": task.tid, "mm": task.mm}
            self.rows.put("signals", **place, kind="fatal", signo=signo, code=code, si_addr=address)
            status = signo | (_CORE if part.text else 0)
        self._event(task, "exit_begin", status=status)
        if task.call:
            outcome = "no_return" if task.call.name in _ENDS else "killed"
            self._row(task, task.call, outcome, None)
        del self._tasks[task.tid]
        if task.tid == self.root:
            self.exit_status = status

    def _signal(self, task: Task, part: Part) -> None:
        told = members(part.text)
        address = number(told.get("si_addr", ""))
        code = number(told.get("si_code", ""))
        if code is not None and code >= 2**63:
            code -= 2**64
        task.siginfo = signal(part.number), code, address

    # Calls

    def _begin(self, task: Task, part: Part) -> None:
        if foreign(part.name):
            raise BadRecording(
                f"{part.where}: {part.name} is no system call of riscv64",
                "the program ran on another machine",
            )
        if task.call:
            raise BadRecording(
                f"{part.where}: task {task.tid} calls {part.name} within {task.call.name}", _MIXED
            )
        if not self.program:  # the run begins in its exec
            task.call = Call(part.name, part.text, 0, task.tid, task.mm)
        elif number_of(part.name) is None:
            self.unknown[part.name] += 1
            task.call = Call(part.name, part.text, 0, task.tid, task.mm)
        else:
            self.rows.instruction()
            task.call = Call(part.name, part.text, self.rows.step(), task.tid, task.mm)

    def _end(self, task: Task, part: Part) -> None:
        call = task.call
        if call is None or part.name != call.name:
            raise BadRecording(
                f"{part.where}: task {task.tid} resumes {part.name}, which it had not begun",
                _MIXED,
            )
        if part.kind == "end":
            call.text += part.text
        name, returned = name_of(call.name), result(part.result)
        if name in CLONES:
            self._cloned(task, call, part.where, returned)
        if name in _EXECS and returned == 0:
            self._executed(task, call)
        if returned is not None:
            self._row(task, call, "returned", returned)
        elif name in _ENDS:
            return  # its end is the task's
        elif _RESTART.match(part.result):
            self._row(task, call, "restarted", None)
        elif part.result.startswith("?"):
            return  # the task is killed in it
        else:
            raise BadRecording(f"{part.where}: an unknown result: {part.result[:60]!r}")
        task.call = None

    def _row(
        self, task: Task, call: Call, outcome: str, returned: int | None, ended: bool = True
    ) -> None:
        if not call.seq:
            return
        end = self.rows.step() if ended else None
        place = {"seq": call.seq, "tid": call.tid, "mm": call.mm, "seq_end": end}
        if call.attempt is not None:
            child = returned if returned and returned > 0 else call.child
            self.rows.put("clones", **place, **call.attempt, child_tid=child, ret=returned)
        nr = number_of(call.name)
        assert nr is not None
        name, known = name_of(call.name), BY_NUMBER.get(nr)
        values = arguments(name, call.text)
        needed = _NEEDED.get(name, 0)
        if name == "prctl" and not _sets_state(call.text, values["a0"]):
            needed = 0
        self.unclear += None in [values[f"a{i}"] for i in range(needed)]
        columns = {"nr": nr, "name": known.name if known else None, **values}
        self.rows.put("syscalls", **place, **columns, ret=returned, outcome=outcome)

    def _cloned(self, task: Task, call: Call, where: str, returned: int | None) -> None:
        asked = attempt(call.name, call.text)
        if asked is None:
            self.unclear += bool(returned and returned > 0)
            return
        if returned is not None:
            call.attempt = asked
        if where in self._early:
            self._early.remove(where)
        elif returned and returned > 0:
            self.survey.children[returned].popleft()
            self._create(task, returned, asked)

    def _executed(self, task: Task, call: Call) -> None:
        if self.program:
            self._event(Task(call.tid, task.pid, task.mm), "exec_begin")
            task.mm = self._space(task.tid, "exec", task.mm)
            self._event(task, "exec_done", status=0)
            return
        path, argv = [*split(call.text), "", "", ""][
            slice(0, 2) if call.name == "execve" else slice(1, 3)
        ]
        words = [word for word in split(argv.strip("[]")) if word.startswith('"')]
        self.program = _text(path) or "/unknown"
        self.argv = tuple(map(_text, words)) or (self.program,)
        self._event(task, "exec_done", status=0)
        self._event(task, "first_user")


def _sets_state(text: str, option: int | None) -> bool:
    """Whether a prctl may be one that sets or tells a task's state; a name that is not known here
    is that of none."""
    return option in _STATE if option is not None else not text.startswith("PR_")


def _text(word: str) -> str:
    """A string, without its quotes; strace cuts off long ones."""
    return word.removesuffix("...").strip('"') if word.startswith('"') else ""
