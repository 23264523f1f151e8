"""System V semaphores: sets on which several operations are one (ipc/sem.c).

A sleeping call is not tried again when it wakes: who changes a set makes the operations of the
sleepers that can go on.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from shstk.schemas.uapi import (
    GETALL,
    GETNCNT,
    GETPID,
    GETVAL,
    GETZCNT,
    IPC_INFO,
    IPC_NOWAIT,
    IPC_RMID,
    IPC_SET,
    IPC_STAT,
    SEM_INFO,
    SEM_STAT,
    SEM_STAT_ANY,
    SEM_UNDO,
    SETALL,
    SETVAL,
)
from shstk.tracer.kernel.call import Args, Call, Outcome, Wait, i32
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.ipc.ids import IPC_OBJECTS_MAX, READ, WRITE, Ids, Object, asleep, now
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.state import Slot
from shstk.tracer.kernel.time.clock import timeout_at

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

SET_MAX: Final = 32000  # SEMMSL
ALL_MAX: Final = IPC_OBJECTS_MAX * SET_MAX  # SEMMNS
OPERATIONS_MAX: Final = 500  # SEMOPM
_VALUE_MAX: Final = 32767  # SEMVMX
_SEMBUF: Final = struct.Struct("<Hhh")
_TIMES: Final = struct.Struct("<qqQ16x")  # of struct semid64_ds: otime, ctime, nsems
_INFO: Final = struct.Struct("<10i")  # struct seminfo


class Operation(NamedTuple):
    number: int
    change: int
    flags: int


@dataclass(eq=False)
class UndoList:
    """What SEM_UNDO has to give back, by the number of the set; CLONE_SYSVSEM shares it."""

    sets: dict[int, list[int]] = field(default_factory=dict)


@dataclass(eq=False)
class _Sleeper:
    task: Task
    operations: list[Operation]
    undo: UndoList
    blocking: Operation
    done: bool = False
    error: str | None = None

    @property
    def alters(self) -> bool:
        return any(operation.change for operation in self.operations)


@dataclass(eq=False)
class SemSet(Object):
    values: list[int] = field(default_factory=list)
    pids: list[int] = field(default_factory=list)
    operated_at: int = 0  # s since 1970
    sleepers: list[_Sleeper] = field(default_factory=list)


class Semaphores:
    def __init__(self) -> None:
        self.sets: Ids[SemSet] = Ids()
        self.undos: dict[Task, UndoList] = {}  # of the tasks that have one


SEMAPHORES: Final = Slot(Semaphores)


# SEM_UNDO over the lives of tasks.


def cloned(k: Kernel, t: Task, child: Task) -> None:
    """CLONE_SYSVSEM."""
    undos = SEMAPHORES.of(k).undos
    undos[child] = undos.setdefault(t, UndoList())


def left(k: Kernel, t: Task) -> None:
    """exit_sem(): the last task of a list gives back what its operations took."""
    state = SEMAPHORES.of(k)
    undo = state.undos.pop(t, None)
    if undo is None or undo in state.undos.values():
        return
    for number, adjustments in undo.sets.items():
        semaphores = state.sets.by_number.get(number)
        if semaphores is None:
            continue
        for i, adjustment in enumerate(adjustments):
            if adjustment:
                value = semaphores.values[i] + adjustment
                semaphores.values[i] = min(max(value, 0), _VALUE_MAX)
                semaphores.pids[i] = t.pid
        _wake_those_who_can(k, semaphores)


# Operations.


def _perform(s: SemSet, operations: list[Operation], undo: UndoList, pid: int) -> Operation | None:
    """perform_atomic_semop(): make all the operations, or none. Returns the one that has to wait.

    Errno: ERANGE; EAGAIN for one that must not wait.
    """
    values, adjustments = list(s.values), list(undo.sets.get(s.number, [0] * len(s.values)))
    for operation in operations:
        i, change, flags = operation
        value = values[i] + change
        if value < 0 or (not change and value):
            if flags & IPC_NOWAIT:
                raise Errno("EAGAIN")
            return operation
        if flags & SEM_UNDO:
            adjustments[i] -= change
        if value > _VALUE_MAX or not -_VALUE_MAX - 1 <= adjustments[i] <= _VALUE_MAX:
            raise Errno("ERANGE")
        values[i] = value
    s.values = values
    if any(flags & SEM_UNDO for _, _, flags in operations):
        undo.sets[s.number] = adjustments
    for operation in operations:
        s.pids[operation.number] = pid
    return None


def _wake_those_who_can(k: Kernel, s: SemSet) -> None:
    """do_smart_update(): who waits for zero first, then in the order of arrival; from the start
    again after each change."""
    s.sleepers = [sleeper for sleeper in s.sleepers if asleep(sleeper.task, sleeper)]
    changed = True
    while changed:
        changed = False
        for sleeper in sorted(s.sleepers, key=lambda sleeper: sleeper.alters):
            try:
                blocking = _perform(s, sleeper.operations, sleeper.undo, sleeper.task.pid)
            except Errno as error:
                _finish(k, s, sleeper, error.name)
                continue
            if blocking is not None:
                sleeper.blocking = blocking
                continue
            s.operated_at = now(k)
            _finish(k, s, sleeper)
            if sleeper.alters:
                changed = True
                break


def _finish(k: Kernel, s: SemSet, sleeper: _Sleeper, error: str | None = None) -> None:
    s.sleepers.remove(sleeper)
    sleeper.done, sleeper.error = True, error
    k.wake(sleeper.task)


def sys_semop(k: Kernel, t: Task, a: Args) -> Outcome:
    return _operate(k, t, a[0], a[1], a[2] & 0xFFFF_FFFF, timeout=0)


def sys_semtimedop(k: Kernel, t: Task, a: Args) -> Outcome:
    return _operate(k, t, a[0], a[1], a[2] & 0xFFFF_FFFF, timeout=a[3])


def _operate(k: Kernel, t: Task, number: int, addr: int, count: int, timeout: int) -> Outcome:
    assert t.blocked is not None
    if isinstance(t.blocked.state, _Sleeper):
        return _woken(k, t, t.blocked.state, number)
    if count > OPERATIONS_MAX:
        raise Errno("E2BIG")
    deadline = timeout_at(k, t, timeout)
    data = usermem.get(k, t, addr, _SEMBUF.size * count)
    if not count or number & 0x8000_0000:
        raise Errno("EINVAL")
    operations = [Operation(*fields) for fields in _SEMBUF.iter_unpack(data)]
    s = SEMAPHORES.of(k).sets.find(number)
    if any(operation.number >= len(s.values) for operation in operations):
        raise Errno("EFBIG")
    s.permit(WRITE if any(operation.change for operation in operations) else READ)
    undos = SEMAPHORES.of(k).undos
    undo = undos.get(t, UndoList())
    if any(operation.flags & SEM_UNDO for operation in operations):
        undos[t] = undo
    blocking = _perform(s, operations, undo, t.pid)
    if blocking is None:
        s.operated_at = now(k)
        _wake_those_who_can(k, s)
        return 0
    sleeper = _Sleeper(t, operations, undo, blocking)
    t.blocked.state = sleeper
    s.sleepers.append(sleeper)
    return Wait("semop", None, deadline)


def _woken(k: Kernel, t: Task, sleeper: _Sleeper, number: int) -> Outcome:
    """A call that a signal interrupts is never restarted."""
    assert t.blocked is not None
    if not sleeper.done:
        SEMAPHORES.of(k).sets.find(number).sleepers.remove(sleeper)
        raise Errno("EAGAIN" if t.blocked.woken == "deadline" else "EINTR")
    if sleeper.error is not None:
        raise Errno(sleeper.error)
    return 0


def sys_semget(k: Kernel, t: Task, a: Args) -> int:
    key, count, flags = i32(a[0]), a[1] & 0xFFFF_FFFF, a[2] & 0xFFFF_FFFF
    sets = SEMAPHORES.of(k).sets
    if count > SET_MAX:
        raise Errno("EINVAL")

    def suits(s: SemSet) -> None:
        if count > len(s.values):
            raise Errno("EINVAL")

    def make(number: int) -> SemSet:
        if not count:
            raise Errno("EINVAL")
        if count + sum(len(s.values) for s in sets.by_number.values()) > ALL_MAX:
            raise Errno("ENOSPC")
        return SemSet(number, key, flags & 0o777, now(k), values=[0] * count, pids=[0] * count)

    return sets.get(key, flags, suits, make)


# semctl.


def sys_semctl(k: Kernel, t: Task, a: Args) -> int:
    number, i, command, arg = a[0] & 0xFFFF_FFFF, a[1] & 0xFFFF_FFFF, a[2] & 0xFFFF_FFFF, a[3]
    sets = SEMAPHORES.of(k).sets
    if number >> 31:
        raise Errno("EINVAL")
    if command in (IPC_INFO, SEM_INFO):
        usermem.put(k, t, arg, _limits(sets, command))
        return sets.highest
    if command in _ON_SET:
        return _ON_SET[command](k, t, sets.find(number), arg)
    if command not in _ON_ONE:
        raise Errno("EINVAL")
    s = sets.find(number)
    s.permit(WRITE if command == SETVAL else READ)
    if i >= len(s.values):
        raise Errno("EINVAL")
    return _ON_ONE[command](k, t, s, i, arg & 0xFFFF_FFFF)


def _limits(sets: Ids[SemSet], command: int) -> bytes:
    """struct seminfo: semmap, semmni, semmns, semmnu, semmsl, semopm, semume, semusz, semvmx,
    semaem. SEM_INFO: semusz is the number of sets, semaem of semaphores."""
    size, most = 20, _VALUE_MAX
    if command == SEM_INFO:
        size = len(sets.by_number)
        most = sum(len(s.values) for s in sets.by_number.values())
    counts = (ALL_MAX, IPC_OBJECTS_MAX, ALL_MAX, ALL_MAX, SET_MAX, OPERATIONS_MAX, OPERATIONS_MAX)
    return _INFO.pack(*counts, size, _VALUE_MAX, most)


def _stat(k: Kernel, t: Task, s: SemSet, addr: int) -> int:
    s.permit(READ)
    _stat_any(k, t, s, addr)
    return 0


def _stat_any(k: Kernel, t: Task, s: SemSet, addr: int) -> int:
    times = _TIMES.pack(s.operated_at, s.changed_at, len(s.values))
    usermem.put(k, t, addr, s.perm() + times)
    return s.number


def _stat_by_index(k: Kernel, t: Task, s: SemSet, addr: int) -> int:
    s.permit(READ)
    return _stat_any(k, t, s, addr)


def _set(k: Kernel, t: Task, s: SemSet, addr: int) -> int:
    s.set_perm(k, t, addr)
    return 0


def _remove(k: Kernel, t: Task, s: SemSet, addr: int) -> int:
    state = SEMAPHORES.of(k)
    state.sets.remove(s)
    for undo in state.undos.values():
        undo.sets.pop(s.number, None)
    for sleeper in list(s.sleepers):
        _finish(k, s, sleeper, "EIDRM")
    return 0


def _get_all(k: Kernel, t: Task, s: SemSet, addr: int) -> int:
    s.permit(READ)
    usermem.put(k, t, addr, struct.pack(f"<{len(s.values)}H", *s.values))
    return 0


def _set_all(k: Kernel, t: Task, s: SemSet, addr: int) -> int:
    s.permit(WRITE)
    count = len(s.values)
    values = struct.unpack(f"<{count}H", usermem.get(k, t, addr, 2 * count))
    if any(value > _VALUE_MAX for value in values):
        raise Errno("ERANGE")
    for i, value in enumerate(values):
        _put(k, t, s, i, value)
    _wake_those_who_can(k, s)
    return 0


def _put(k: Kernel, t: Task, s: SemSet, i: int, value: int) -> None:
    """A value that is set is nobody's to undo."""
    s.values[i], s.pids[i], s.changed_at = value, t.pid, now(k)
    for undo in SEMAPHORES.of(k).undos.values():
        if s.number in undo.sets:
            undo.sets[s.number][i] = 0


def _set_value(k: Kernel, t: Task, s: SemSet, i: int, value: int) -> int:
    if value > _VALUE_MAX:
        raise Errno("ERANGE")
    _put(k, t, s, i, value)
    _wake_those_who_can(k, s)
    return 0


def _count(s: SemSet, i: int, zero: bool) -> int:
    """How many wait for semaphore i to become zero, or to grow."""
    waited = [x.blocking for x in s.sleepers if asleep(x.task, x) and x.blocking.number == i]
    return sum((operation.change == 0) == zero for operation in waited)


_ON_SET: Final[dict[int, Callable[[Kernel, Task, SemSet, int], int]]] = {
    IPC_STAT: _stat,
    SEM_STAT: _stat_by_index,
    SEM_STAT_ANY: _stat_any,
    IPC_SET: _set,
    IPC_RMID: _remove,
    GETALL: _get_all,
    SETALL: _set_all,
}
_ON_ONE: Final[dict[int, Callable[[Kernel, Task, SemSet, int, int], int]]] = {
    GETVAL: lambda k, t, s, i, value: s.values[i],
    GETPID: lambda k, t, s, i, value: s.pids[i],
    GETNCNT: lambda k, t, s, i, value: _count(s, i, zero=False),
    GETZCNT: lambda k, t, s, i, value: _count(s, i, zero=True),
    SETVAL: _set_value,
}

CALLS: Final = (
    Call("semget", sys_semget),
    Call("semctl", sys_semctl),
    Call("semtimedop", sys_semtimedop),
    Call("semop", sys_semop),
)
