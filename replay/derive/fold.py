"""The history of every task: a fold in seq order over clones, prctl calls, execs and exits.

At each step the law says what should happen, and the tables say what did. The fold continues from
what did happen, so a deviation is found only where it happened and not in later steps that depend
on it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from shstk.replay.derive.history import (
    Cloned,
    Execed,
    Exited,
    History,
    Mapped,
    Prctl,
    State,
    Task,
)
from shstk.replay.derive.law import Law
from shstk.replay.derive.rows import Area, Attempt, Call, Event, Mapping, Rows, Thread, Transfer
from shstk.schemas.uapi import (
    CLONE_THREAD,
    CLONE_VFORK,
    CLONE_VM,
    ERRNO,
    PR_SET_CFI,
    PR_SHADOW_STACK_ENABLE,
    RLIMITS,
)

RLIMIT_STACK: Final = RLIMITS.index("STACK")


@dataclass
class Fold:
    """The inputs of a history, and the fold over them."""

    law: Law
    supported: bool
    stack_limit: int | None  # the first process's RLIMIT_STACK, bytes
    events: Rows[Event]
    attempts: Rows[Attempt]
    calls: Rows[Call]  # prctl, and the calls that set limits
    # of the calls that create tasks, by seq: ssp at the entry and the exit
    clone_ssps: dict[int, tuple[int | None, int | None]]
    mappings: Rows[Mapping]  # those that created or changed shadow stacks, and every unmap
    transfers: Rows[Transfer]
    dumped: Rows[Thread]
    pid: int  # of the dumped threads

    def run(self) -> History:
        self.history = History()
        self._now: dict[int, Task] = {}
        self._threads: Counter[int] = Counter()  # alive, by pid
        self._limits: dict[int, int | None] = {}
        self._exec_begins: dict[int, Event] = {}
        self._dropped: dict[int | None, int] = {}  # when the last task of each tid dropped its mm
        self._drops = {e.seq for e in self.events if e.kind == "mm_dropped"}
        for thread in self.dumped:
            born = Task(thread.tid, self.pid, thread.seq, "unknown", thread.mm, None, State())
            self._born(born)
        handlers: dict[str, Callable[[Event], None]] = {
            "created": self._created,
            "exec_begin": self._exec_begin,
            "exec_done": self._exec_done,
            "exit_begin": self._exit,
        }
        for row in self._in_order():
            if isinstance(row, Event):
                if row.kind in handlers and row.tid is not None:
                    handlers[row.kind](row)
            elif isinstance(row, Attempt):
                self._clone(row)
            elif row.name == "prctl":
                self._prctl(row)
            else:
                self._set_limit(row)
        return self.history

    def _in_order(self) -> Iterator[Event | Attempt | Call]:
        rows: list[Event | Attempt | Call] = [*self.attempts, *self.calls, *self.events]
        return iter(sorted(rows, key=lambda row: row.seq))

    # Tasks

    def _task(self, tid: int | None, row: Event | Attempt | Call) -> Task | None:
        """The task with this tid now. If the run begins during its life, it is born here."""
        if tid is None:
            return None
        if tid not in self._now:
            self._born(Task(tid, tid, row.seq, "boot", row.mm, None, State()))
            self._limits.setdefault(tid, self.stack_limit)
        return self._now[tid]

    def _born(self, task: Task) -> None:
        life = self._until_exit(task.tid, task.born)
        task.first_user = next((e for e in life if e.kind == "first_user"), None)
        self._now[task.tid] = task
        self._threads[task.pid] += 1
        self.history.add(task)

    def _until_exit(self, tid: int | None, seq: int) -> Iterator[Event]:
        """A task's events from seq on: the next ones may be those of another with the same tid."""
        for event in self.events.since(tid, seq):
            yield event
            if event.kind == "exit_begin":
                return

    def _end(self, row: Attempt | Call) -> int | None:
        """When a call ended: one that never did ended with its task."""
        if row.seq_end is not None:
            return row.seq_end
        exits = (e.seq for e in self._until_exit(row.tid, row.seq) if e.kind == "exit_begin")
        return next(exits, None)

    def _created(self, event: Event) -> None:
        """The first task, or one without a clone: a user worker of the kernel if it never runs."""
        assert event.tid is not None
        held = self._now.get(event.tid)
        if held and held.exit_seq is None and held.born <= event.seq:
            return  # its clone was an earlier step
        creator = self._now.get(event.value) if event.value is not None else None
        if creator is None:
            self._born(Task(event.tid, event.tid, event.seq, "boot", event.mm, None, State()))
            self._limits[event.tid] = self.stack_limit
            return
        state = creator.state
        if self.law.user_worker == "owns nothing":
            state = state.owning(None)
        worker = Task(
            event.tid, creator.pid, event.seq, "worker", event.mm, creator, _inherited(state)
        )
        self._born(worker)
        if worker.first_user:
            worker.how = "unknown"  # it was cloned, but the clone is not recorded

    def _clone(self, row: Attempt) -> None:
        parent = self._task(row.tid, row)
        if parent is None:
            return
        before, ssps = parent.state, self.clone_ssps.get(row.seq, (None, None))
        kind = kind_of(row.flags)
        opens = self.supported and self.law.opens(before.enabled)
        due = opens and kind == "thread"
        mapped = self._mapped(row.tid, row.seq, self._end(row))
        size = self.law.size(row.stack_size, self._limits[parent.pid]) if due else None
        state = before
        if mapped.stack or (opens and (kind != "fork" or not self.law.fork_owns)):
            state = before.owning(mapped.stack, size, undue=mapped.stack is not None and not due)
        child = None
        if row.child is not None:
            child = self._child(row, parent, kind, state)
        failed = row.ret is not None and row.ret < 0
        self.history.clones.append(
            Cloned(
                row=row,
                parent=parent,
                before=before,
                kind=kind,
                due=due,
                known=self.law.knows(row.api, row.flags),
                size=size,
                mapped=mapped,
                parent_ssp=ssps[0],
                parent_ssp_after=ssps[1],
                child=child,
                releases=self._failed_clone_releases(row, state, mapped) if failed else None,
            )
        )

    def _child(self, row: Attempt, parent: Task, kind: str, state: State) -> Task:
        assert row.child is not None
        thread = bool(row.flags & CLONE_THREAD)
        mm = parent.mm
        if not row.flags & CLONE_VM:
            first = next(self.events.since(row.child, row.seq), None)
            mm = first.mm if first else None
        child = Task(
            tid=row.child,
            pid=parent.pid if thread else row.child,
            born=row.seq,
            how=kind,
            mm=mm,
            creator=parent,
            state=_inherited(state),
            borrows=(kind == "vfork" or (kind == "fork" and not self.law.fork_owns))
            and state.enabled,
        )
        self._born(child)
        if not thread:
            self._limits[child.pid] = self._limits[parent.pid]
        return child

    def _failed_clone_releases(self, row: Attempt, state: State, mapped: Mapped) -> Area | None:
        """The stack that a failed clone unmaps; only a child that shares the mm can free there."""
        if not row.flags & CLONE_VM or not state.enabled:
            return None
        if self.law.failed_clone == "child's stack":
            return mapped.stack
        return state.stack if self.law.failed_clone == "recorded base" else None

    # prctl and limits

    def _prctl(self, row: Call) -> None:
        task = self._task(row.tid, row)
        if task is None:
            return
        before = task.state
        mapped = self._mapped(row.tid, row.seq, self._end(row))
        size = self.law.size(0, self._limits[task.pid])
        option, after = row.a0 - self.law.first_prctl, before
        if row.ret == 0 and option == 1 and not row.a1 >> 1:
            after = _set(before, bool(row.a1 & PR_SHADOW_STACK_ENABLE), mapped.stack, size)
            task.first_change = task.first_change or row.seq
        elif row.ret == 0 and option == 2:
            after = replace(before, locked=True, locked_by="prctl")
        elif row.ret == 0 and row.a0 == PR_SET_CFI:
            on = bool(row.a2 & 1)
            after = replace(before, lp_enabled=on, lp_locked=on and bool(row.a2 & 4))
        if option == 1 and not row.a1 >> 1 and before.locked_by == "exec":
            # the first PR_SET after an exec shows whether the lock outlived it
            after = replace(after, locked=row.ret == -ERRNO["EINVAL"], locked_by="prctl")
        task.state = after
        borrowed = task.borrows and not before.base
        self.history.prctls.append(
            Prctl(
                row=row,
                task=task,
                before=before,
                after=after,
                mapped=mapped,
                borrowed=borrowed,
                size=size,
                stored=self._stored(row),
            )
        )

    def _stored(self, row: Call) -> bytes | None:
        written = [
            t for t in self.transfers.of(row.tid, row.seq, self._end(row)) if t.op == "write"
        ]
        return written[0].bytes if written else None

    def _set_limit(self, row: Call) -> None:
        """RLIMIT_STACK of a process; the new value is in the kernel's read from the caller."""
        new, resource, pid = (
            (row.a2, row.a1, row.a0) if row.name == "prlimit64" else (row.a1, row.a0, 0)
        )
        task = self._task(row.tid, row)
        if task is None or resource != RLIMIT_STACK or not new or row.ret != 0:
            return
        read = [
            t.bytes
            for t in self.transfers.of(row.tid, row.seq - 1, self._end(row))
            if t.op == "read" and t.addr == new
        ]
        target = self._now.get(pid, task) if pid else task
        self._limits[target.pid] = int.from_bytes(read[0][:8], "little") if read else None

    # exec and exit

    def _exec_begin(self, event: Event) -> None:
        assert event.tid is not None
        self._exec_begins[event.tid] = event

    def _exec_done(self, event: Event) -> None:
        caller = self._exec_caller(event)
        task, begin = caller, self._exec_begins.pop(caller.tid, None)
        before, borrowed = task.state, task.borrows and not task.state.base
        old_mm = task.mm if begin is None or begin.mm is None else begin.mm
        since = begin.seq if begin else event.seq
        if caller.tid != event.tid:
            task = self._take_leaders_tid(caller, event)
            since = max(since, self._dropped.get(event.tid, since))
        mapped = self._mapped(event.tid, since, event.seq)
        gone = mapped.gone
        if caller.tid != event.tid and begin:
            gone = (*self._mapped(caller.tid, begin.seq, event.seq).gone, *gone)
        gone = tuple(m for m in gone if m.mm == old_mm)
        succeeded = not event.status
        releases = None
        if succeeded and self.law.exec == "release" and before.enabled:
            releases = before.stack
        if succeeded:
            kept = before.locked and self.law.exec_lock == "kept"
            by = "exec" if before.locked else "boot"
            task.state = State(locked=kept, enabled_by="exec", locked_by=by)
            task.mm, task.execed, task.borrows = event.mm, True, False
            task.first_change = task.first_change or event.seq
        self.history.execs.append(
            Execed(
                begin=begin,
                done=event,
                task=caller,
                heir=task,
                before=before,
                old_mm=old_mm,
                borrowed=borrowed,
                releases=releases,
                mapped=replace(mapped, gone=gone),
                after=task.state,
            )
        )

    def _exec_caller(self, event: Event) -> Task:
        """The caller of execve; if a thread, it has its leader's tid afterwards."""
        if event.tid not in self._exec_begins:
            for tid in self._exec_begins:
                caller = self._now.get(tid)
                if caller and caller.pid == event.tid and caller.exit_seq is None:
                    return caller
        task = self._task(event.tid, event)
        assert task is not None
        return task

    def _take_leaders_tid(self, caller: Task, event: Event) -> Task:
        """The calling thread as it continues: with its leader's tid and its own state."""
        assert event.tid is not None
        caller.exit_seq = event.seq
        self._threads[caller.pid] -= 1
        task = replace(caller, tid=event.tid, born=event.seq, exit_seq=None, first_user=None)
        self._born(task)
        return task

    def _exit(self, event: Event) -> None:
        task = self._task(event.tid, event)
        assert task is not None
        before = task.state
        steps: dict[str, Event] = {}
        for step in self.events.since(event.tid, event.seq + 1):
            if step.kind in ("created", "exec_done"):
                break  # the tid was reused
            steps.setdefault(step.kind, step)
        dropped = steps.get("mm_dropped")
        end = dropped.seq if dropped else None
        mapped = self._mapped(event.tid, event.seq, end)
        task.exit_seq = event.seq
        self._exec_begins.pop(task.tid, None)
        self._threads[task.pid] -= 1
        if dropped:
            self._dropped[task.tid] = dropped.seq
        self.history.exits.append(
            Exited(
                event=event,
                task=task,
                before=before,
                borrowed=task.borrows and not before.base,
                releases=before.stack if before.enabled and self.law.exit == "release" else None,
                mapped=mapped,
                robust_done=steps.get("robust_done"),
                cleared=steps.get("clear_child_tid"),
                vfork_done=steps.get("vfork_done"),
                dropped=dropped,
                threads=self._threads[task.pid],
            )
        )

    def _mapped(self, tid: int | None, begin: int, end: int | None) -> Mapped:
        """An unmap that results from mm_dropped is not a release and is skipped."""
        rows = [m for m in self.mappings.of(tid, begin, end) if m.during not in self._drops]
        return Mapped(
            made=tuple(m for m in rows if m.op == "map" and m.shadow_stack and m.done),
            refused=tuple(m for m in rows if m.op == "map" and m.shadow_stack and not m.done),
            gone=tuple(m for m in rows if m.op == "unmap" and m.done),
        )


def kind_of(flags: int) -> str:
    """A clone's case in the seed patch: CLONE_VFORK is tested first, then CLONE_VM."""
    if flags & CLONE_VFORK:
        return "vfork"
    return "thread" if flags & CLONE_VM else "fork"


def _inherited(state: State) -> State:
    """The child's copy of a state."""
    return replace(state, enabled_by="clone", locked_by="clone")


def _set(before: State, enable: bool, stack: Area | None, size: int | None) -> State:
    """The state after a PR_SET that returned 0."""
    if enable and before.enabled:
        return before
    state = replace(before, enabled=enable, enabled_by="prctl")
    if enable:
        return state.owning(stack, size)
    return state.owning(None) if before.enabled else state
