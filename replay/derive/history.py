"""Every task's shadow-stack state, step by step: what the law requires, and what happened.

derive/fold.py makes it.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field, replace
from functools import cached_property

from shstk.replay.derive.rows import Area, Attempt, Call, Event, Mapping


@dataclass(frozen=True, slots=True)
class State:
    """A task's cfi_status (ST1); `enabled_by` and `locked_by` are the kind of step that set it.

    base and size (bytes) are what the kernel has recorded for the task; 0 if it owns no stack.
    size_due is the size that the law requires; undue means that it requires no stack. With these,
    an error at the allocation is not reported again at the release.
    """

    enabled: bool = False
    locked: bool = False
    base: int = 0
    size: int = 0
    size_due: int | None = None
    undue: bool = False
    lp_enabled: bool = False
    lp_locked: bool = False
    enabled_by: str = "boot"
    locked_by: str = "boot"  # exec: the task was locked before the exec

    @property
    def stack(self) -> Area | None:
        return Area(self.base, self.size) if self.base else None

    def records(self, area: Area) -> bool:
        """Whether an area is the recorded one, with its actual or its required size."""
        return (
            bool(self.base) and area.base == self.base and area.size in (self.size, self.size_due)
        )

    def owning(self, stack: Area | None, size_due: int | None = None, undue: bool = False) -> State:
        """The state with this stack, or none, recorded."""
        base, size = (stack.base, stack.size) if stack else (0, 0)
        return replace(self, base=base, size=size, size_due=size_due, undue=undue)


@dataclass(eq=False, slots=True)
class Task:
    """One life of a tid."""

    tid: int
    pid: int
    born: int  # seq
    how: str  # boot, thread, vfork, fork, worker or unknown
    mm: int | None
    creator: Task | None
    state: State
    first_user: Event | None = None
    execed: bool = False
    borrows: bool = False  # a vfork child on its suspended parent's shadow stack
    exit_seq: int | None = None
    first_change: int | None = None  # seq of its first PR_SET that returned 0, or exec
    made_with: State = field(init=False)

    def __post_init__(self) -> None:
        self.made_with = self.state

    def lives(self, seq: int) -> bool:
        return self.born <= seq and (self.exit_seq is None or seq < self.exit_seq)


@dataclass(frozen=True, slots=True)
class Mapped:
    """The operations on shadow stacks during a step."""

    made: tuple[Mapping, ...]
    refused: tuple[Mapping, ...]
    gone: tuple[Mapping, ...]

    @property
    def stack(self) -> Area | None:
        return self.made[0].area if self.made else None


@dataclass(frozen=True, slots=True)
class Cloned:
    """A clone attempt. `due`: the law requires a stack of `size` bytes (None: unknown).

    known: its flags exist under the law.
    """

    row: Attempt
    parent: Task
    before: State
    kind: str  # thread, vfork, fork
    due: bool
    known: bool
    size: int | None
    mapped: Mapped
    parent_ssp: int | None
    parent_ssp_after: int | None
    child: Task | None
    releases: Area | None = None  # a failed attempt: what the law requires to be unmapped

    @property
    def seq(self) -> int:
        return self.row.seq

    @property
    def failed(self) -> bool:
        return self.row.ret is not None and self.row.ret < 0

    @property
    def refused(self) -> bool:
        """Whether the allocation that was due failed: no memory, or a size of 0."""
        return self.due and (bool(self.mapped.refused) or (self.known and self.size == 0))

    @property
    def first_ssp(self) -> int | None:
        return self.child.first_user.ssp if self.child and self.child.first_user else None


@dataclass(frozen=True, slots=True)
class Prctl:
    """One call of prctl, with the caller's state before and after. Sizes as in Cloned."""

    row: Call
    task: Task
    before: State
    after: State
    mapped: Mapped
    borrowed: bool  # the caller was a vfork child on its parent's shadow stack
    size: int | None
    stored: bytes | None  # what the kernel wrote to the caller's memory

    @property
    def seq(self) -> int:
        return self.row.seq

    @property
    def option(self) -> int:
        return self.row.a0


@dataclass(frozen=True, slots=True)
class Exited:
    """One task's exit. `releases`: what the law requires to be unmapped."""

    event: Event
    task: Task
    before: State
    borrowed: bool  # a vfork child on its parent's shadow stack
    releases: Area | None
    mapped: Mapped
    robust_done: Event | None
    cleared: Event | None
    vfork_done: Event | None
    dropped: Event | None
    threads: int  # of the same process, that live on

    @property
    def seq(self) -> int:
        return self.event.seq

    @property
    def complete(self) -> bool:
        """Whether the run includes the point by which a release must have happened."""
        return self.cleared is not None or self.dropped is not None


@dataclass(frozen=True, slots=True)
class Execed:
    """One execve that reached exec_done."""

    begin: Event | None
    done: Event
    task: Task  # the caller
    heir: Task  # the task that continues: the caller, with its leader's tid if it was a thread
    before: State
    old_mm: int | None
    borrowed: bool
    releases: Area | None
    mapped: Mapped
    after: State  # of the heir; the state before if the execve failed

    @property
    def seq(self) -> int:
        return self.done.seq

    @property
    def succeeded(self) -> bool:
        return not self.done.status


@dataclass
class History:
    """Every step of a run, each list in seq order."""

    tasks: list[Task] = field(default_factory=list)
    clones: list[Cloned] = field(default_factory=list)
    prctls: list[Prctl] = field(default_factory=list)
    exits: list[Exited] = field(default_factory=list)
    execs: list[Execed] = field(default_factory=list)
    _by_tid: dict[int | None, list[Task]] = field(default_factory=dict)

    def task(self, tid: int | None, seq: int) -> Task | None:
        """The task with this tid at this seq."""
        lives = self._by_tid.get(tid, [])
        held = bisect_right(lives, seq, key=lambda task: task.born)
        return lives[held - 1] if held else None

    def prctls_of(self, task: Task | None) -> list[Prctl]:
        """A task's calls of prctl."""
        return self._prctls_of.get(task, [])

    @cached_property
    def _prctls_of(self) -> dict[Task | None, list[Prctl]]:
        found: dict[Task | None, list[Prctl]] = {}
        for call in self.prctls:
            found.setdefault(call.task, []).append(call)
        return found

    def execs_of(self, task: Task | None) -> list[Execed]:
        """The calls of execve after which a task continues."""
        return self._execs_of.get(task, [])

    @cached_property
    def _execs_of(self) -> dict[Task | None, list[Execed]]:
        found: dict[Task | None, list[Execed]] = {}
        for step in self.execs:
            found.setdefault(step.heir, []).append(step)
        return found

    @cached_property
    def clone_at(self) -> dict[int, Cloned]:
        """The clone attempts by seq."""
        return {clone.seq: clone for clone in self.clones}

    @cached_property
    def clone_of(self) -> dict[Task, Cloned]:
        """The clone that made each task."""
        return {clone.child: clone for clone in self.clones if clone.child}

    def state(self, tid: int | None, seq: int) -> State:
        """A task's state just after seq; all disabled for an unused tid."""
        task = self.task(tid, seq)
        if task is None:
            return State()
        changes = self.changes(task)
        passed = bisect_right(changes, seq, key=_seq_of)
        return changes[passed - 1][1] if passed else task.made_with

    def changes(self, task: Task) -> list[tuple[int, State]]:
        """When a task's state changed, or it called execve, and its state then; by seq."""
        return self._changes.get(task, [])

    def next_change(self, task: Task, seq: int) -> int | None:
        """When that next happens after seq."""
        changes = self.changes(task)
        passed = bisect_right(changes, seq, key=_seq_of)
        return changes[passed][0] if passed < len(changes) else None

    @cached_property
    def _changes(self) -> dict[Task, list[tuple[int, State]]]:
        changes: dict[Task, list[tuple[int, State]]] = {}
        steps: list[Prctl | Execed] = [p for p in self.prctls if p.before != p.after]
        steps += self.execs
        for step in sorted(steps, key=lambda step: step.seq):
            task = step.task if isinstance(step, Prctl) else step.heir
            changes.setdefault(task, []).append((step.seq, step.after))
        return changes

    def add(self, task: Task) -> None:
        self.tasks.append(task)
        self._by_tid.setdefault(task.tid, []).append(task)


def _seq_of(change: tuple[int, State]) -> int:
    return change[0]
