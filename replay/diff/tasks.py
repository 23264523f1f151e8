"""Name a run's tasks by the path of their creation, and match them with the tasks of another run.

A path is `main`, `main/clone#3` (created by main's third attempt to create a task) or, for a task
that no call created, `main/worker#1`. The attempts of two runs are aligned in order, so a clone
that only one run has does not shift the names of all that follow it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from shstk.replay.derive.history import Cloned, History, Task
from shstk.replay.diff.align import Run, align

MAIN = "main"


class Cast:
    """The tasks of one run by path. `called` overrides a path with the other run's."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._was = {e.heir: e.task for e in history.execs if e.heir is not e.task}
        self._made_by = {c.child: c for c in history.clones if c.child}
        self.attempts: dict[Task, list[Cloned]] = {}
        for clone in history.clones:
            self.attempts.setdefault(self.root(clone.parent), []).append(clone)
        self.number = {
            clone.seq: at for made in self.attempts.values() for at, clone in enumerate(made, 1)
        }
        self.called: dict[Task, str] = {}
        self._paths: dict[Task, str] = {}
        self._uncalled: Counter[str] = Counter()
        for task in history.tasks:
            if self.root(task) is task:
                self._paths[task] = self._path(task)

    @property
    def tasks(self) -> list[Task]:
        """Each once, in order of creation; a thread that called execve and the leader it became
        are one task."""
        return list(self._paths)

    def root(self, task: Task) -> Task:
        """The task before any execve: a thread that calls it continues under its leader's tid."""
        while task in self._was:
            task = self._was[task]
        return task

    def at(self, tid: int | None, seq: int) -> Task | None:
        task = self._history.task(tid, seq)
        return self.root(task) if task else None

    def path(self, task: Task) -> str:
        root = self.root(task)
        return self.called.get(root) or self._paths[root]

    def maker(self, task: Task) -> Cloned | None:
        return self._made_by.get(task)

    def _path(self, task: Task) -> str:
        clone = self._made_by.get(task)
        if clone is not None:
            return f"{self._paths[self.root(clone.parent)]}/clone#{self.number[clone.seq]}"
        kind = f"{self._paths[self.root(task.creator)]}/worker" if task.creator else MAIN
        self._uncalled[kind] += 1
        number = self._uncalled[kind]
        return MAIN if kind == MAIN and number == 1 else f"{kind}#{number}"


def match(a: Cast, b: Cast) -> list[tuple[Task | None, Task | None]]:
    """Pairs of corresponding tasks; None for a task that the other run lacks.

    Gives b's tasks the paths of their counterparts. Order: by the path of creation, main first.
    """
    todo: list[tuple[Task | None, Task | None]] = []
    roots = [[t for t in cast.tasks if t.creator is None] for cast in (a, b)]
    workers = [[t for t in cast.tasks if t.creator and not cast.maker(t)] for cast in (a, b)]
    taken = {a.path(task) for task in a.tasks}
    todo += _side_by_side(roots[0], roots[1])
    found = []
    while todo:
        left, right = todo.pop(0)
        found.append((left, right))
        if right is not None:
            b.called[right] = a.path(left) if left else _free(b.path(right), taken)
        made = [
            cast.attempts.get(task, []) if task else [] for cast, task in ((a, left), (b, right))
        ]
        todo += [
            (x.child if x else None, y.child if y else None)
            for x, y in _paired(made[0], made[1])
            if (x and x.child) or (y and y.child)
        ]
        own = [
            [w for w in of if task and w.creator and cast.root(w.creator) is task]
            for of, cast, task in zip(workers, (a, b), (left, right), strict=True)
        ]
        todo += _side_by_side(own[0], own[1])
    return found


def _free(path: str, taken: set[str]) -> str:
    """A free name for a task that only b has: its path may clash after its parent was renamed."""
    name = path if path not in taken else f"{path} of B"
    taken.add(name)
    return name


def _side_by_side(a: Sequence[Task], b: Sequence[Task]) -> list[tuple[Task | None, Task | None]]:
    length = max(len(a), len(b))
    return [(a[i] if i < len(a) else None, b[i] if i < len(b) else None) for i in range(length)]


def _paired(a: list[Cloned], b: list[Cloned]) -> list[tuple[Cloned | None, Cloned | None]]:
    """Match attempts with equal arguments, preferring those with the same outcome."""
    pairs: list[tuple[Cloned | None, Cloned | None]] = []
    keys: dict[object, int] = {}

    def numbers(of: list[Cloned], key: Callable[[Cloned], object]) -> list[int]:
        return [keys.setdefault(key(c), len(keys)) for c in of]

    def walk(a: list[Cloned], b: list[Cloned], asked: list[Callable[[Cloned], object]]) -> None:
        if not asked:
            pairs.extend([(x, None) for x in a] + [(None, y) for y in b])
            return
        i = j = 0
        runs = align(numbers(a, asked[0]), numbers(b, asked[0]))
        for run in [*runs, Run(len(a), len(b), 0)]:
            walk(a[i : run.i], b[j : run.j], asked[1:])
            i, j = run.i + run.n, run.j + run.n
            pairs.extend(zip(a[run.i : i], b[run.j : j], strict=True))

    walk(a, b, [_with_outcome, _as_asked])
    return pairs


def _as_asked(clone: Cloned) -> object:
    return clone.row.api, clone.row.flags


def _with_outcome(clone: Cloned) -> object:
    return clone.row.api, clone.row.flags, clone.child is not None
