"""System V semaphores."""

from __future__ import annotations

import struct

import pytest
from direct import Direct
from guest_run import run

from shstk.tracer.kernel.call import Wait
from shstk.tracer.kernel.task import Task

CREAT, EXCL, NOWAIT, UNDO = 0o1000, 0o2000, 0o4000, 0o10000
RMID, SET, STAT, INFO = range(4)
GETPID, GETVAL, GETALL, GETNCNT, GETZCNT, SETVAL, SETALL, SEM_STAT, SEM_INFO = range(11, 20)
VM, SIGCHLD = 0x100, 17  # a child that sees the bytes that the tests put


@pytest.fixture
def d() -> Direct:
    return Direct()


def ops(*operations: tuple[int, ...]) -> bytes:
    """(number, change) or (number, change, flags)."""
    return b"".join(struct.pack("<Hhh", *(*op, 0)[:3]) for op in operations)


def semop(d: Direct, number: int, *operations: tuple[int, ...], task: Task | None = None) -> object:
    return d.call("semop", number, ops(*operations), len(operations), task=task)


def values(d: Direct, number: int, count: int) -> list[int]:
    room = d.room(2 * count)
    assert d.call("semctl", number, 0, GETALL, room) == 0
    return list(struct.unpack(f"<{count}H", d.get(room, 2 * count)))


def test_a_set_is_found_by_its_key(d: Direct) -> None:
    number = d.call("semget", 7, 3, CREAT | 0o600)
    assert d.call("semget", 7, 0, 0) == number
    assert d.call("semget", 7, 4, 0) == "EINVAL"
    assert d.call("semget", 7, 3, CREAT | EXCL) == "EEXIST"
    assert d.call("semget", 8, 3, 0) == "ENOENT"
    assert d.call("semget", 8, 0, CREAT) == "EINVAL"
    assert d.call("semget", 0, 32001, CREAT) == "EINVAL"
    assert d.call("semget", 0, 1, 0) != d.call("semget", 0, 1, 0)
    assert d.call("semctl", number, 0, RMID, 0) == 0
    assert d.call("semctl", number, 0, GETVAL, 0) == "EINVAL"
    assert d.call("semget", 7, 3, 0) == "ENOENT"


def test_operations_are_all_made_or_none(d: Direct) -> None:
    number = d.call("semget", 0, 2, 0o600)
    assert semop(d, number, (0, 3), (1, 1)) == 0
    assert semop(d, number, (0, -1), (1, -2, NOWAIT)) == "EAGAIN"
    assert values(d, number, 2) == [3, 1]
    assert semop(d, number, (0, -3), (0, 0), (0, 1)) == 0
    assert values(d, number, 2) == [1, 1]
    assert semop(d, number, (1, 0, NOWAIT)) == "EAGAIN"
    assert semop(d, number, (0, 32767)) == "ERANGE"
    assert semop(d, number, (2, 1)) == "EFBIG"
    assert d.call("semop", number, ops(), 0) == "EINVAL"
    assert d.call("semop", number, 0, 501) == "E2BIG"
    assert d.call("semop", 99, ops((0, 1)), 1) == "EINVAL"
    assert d.call("semctl", number, 0, GETPID, 0) == d.t.pid


def test_values_are_set_and_told(d: Direct) -> None:
    number = d.call("semget", 0, 3, 0o600)
    assert d.call("semctl", number, 0, SETALL, struct.pack("<3H", 1, 2, 3)) == 0
    assert d.call("semctl", number, 1, SETVAL, 9) == 0
    assert [d.call("semctl", number, i, GETVAL, 0) for i in range(3)] == [1, 9, 3]
    assert d.call("semctl", number, 0, SETVAL, 32768) == "ERANGE"
    assert d.call("semctl", number, 0, SETALL, b"\xff" * 6) == "ERANGE"
    assert d.call("semctl", number, 3, GETVAL, 0) == "EINVAL"
    assert d.call("semctl", number, 0, 99, 0) == "EINVAL"
    room = d.room(88)
    assert d.call("semctl", number, 0, STAT, room) == 0
    assert struct.unpack_from("<i5I", d.get(room, 24)) == (0, *(1000,) * 4, 0o600)
    assert struct.unpack_from("<Q", d.get(room + 64, 8)) == (3,)
    assert d.call("semctl", number, 0, SEM_STAT, room) == number
    info = d.room(40)
    assert d.call("semctl", 0, 0, SEM_INFO, info) == number
    assert struct.unpack("<10i", d.get(info, 40))[7::2] == (1, 3), "one set of three"


def test_proc_lists_the_sets(d: Direct) -> None:
    d.call("semget", 7, 3, CREAT | 0o600)
    head, row = d.text("/proc/sysvipc/sem").decode().splitlines()
    assert head.split()[:4] == ["key", "semid", "perms", "nsems"]
    assert [*map(int, row.split()[:8])] == [7, 0, 600, 3, *(1000,) * 4]


def test_a_mode_forbids(d: Direct) -> None:
    number = d.call("semget", 5, 1, CREAT | 0o400)
    assert d.call("semget", 5, 1, 0o200) == "EACCES"
    assert semop(d, number, (0, 1)) == "EACCES"
    assert semop(d, number, (0, 0)) == 0
    assert d.call("semctl", number, 0, SETVAL, 1) == "EACCES"
    perm = struct.pack("<i5I", 0, 1000, 1000, 0, 0, 0o600).ljust(88, b"\0")
    assert d.call("semctl", number, 0, SET, perm) == 0
    assert d.call("semctl", number, 0, SETVAL, 1) == 0


class Sleeper:
    """A child whose operations have to wait."""

    def __init__(self, d: Direct, number: int, *operations: tuple[int, ...]) -> None:
        self.d, self.task = d, d.clone(VM | SIGCHLD)
        assert isinstance(semop(d, number, *operations, task=self.task), Wait)
        self.call = d.pending

    def answer(self, woken: str = "key") -> object:
        self.d.pending = self.call
        return self.d.retry(woken)


def test_who_changes_a_set_makes_the_operations_of_sleepers(d: Direct) -> None:
    """In the order of arrival: the second needs less, but the first one's turn comes earlier."""
    number = d.call("semget", 0, 1, 0o600)
    first, second = Sleeper(d, number, (0, -2)), Sleeper(d, number, (0, -1))
    assert d.call("semctl", number, 0, GETNCNT, 0) == 2
    assert semop(d, number, (0, 2)) == 0
    assert values(d, number, 1) == [0]
    assert first.answer() == 0
    assert d.call("semctl", number, 0, GETNCNT, 0) == 1
    assert second.answer("deadline") == "EAGAIN"
    assert d.call("semctl", number, 0, GETNCNT, 0) == 0


def test_waiting_for_zero(d: Direct) -> None:
    number = d.call("semget", 0, 1, 0o600)
    semop(d, number, (0, 2))
    zero, taker = Sleeper(d, number, (0, 0)), Sleeper(d, number, (0, -3))
    assert d.call("semctl", number, 0, GETZCNT, 0) == 1
    assert d.call("semctl", number, 0, GETNCNT, 0) == 1
    semop(d, number, (0, 1))
    assert (zero.answer(), taker.answer()) == (0, 0)


def test_a_signal_and_a_removal_end_the_wait(d: Direct) -> None:
    number = d.call("semget", 0, 1, 0o600)
    interrupted, orphan = Sleeper(d, number, (0, -1)), Sleeper(d, number, (0, -1))
    assert interrupted.answer("signal") == "EINTR"
    assert d.call("semctl", number, 0, RMID, 0) == 0
    assert orphan.answer() == "EIDRM"


def test_the_end_of_a_process_undoes(d: Direct) -> None:
    number = d.call("semget", 0, 2, 0o600)
    d.call("semctl", number, 0, SETVAL, 5)
    child = d.clone(VM | SIGCHLD)
    assert semop(d, number, (0, -2, UNDO), (1, 3, UNDO), task=child) == 0
    assert values(d, number, 2) == [3, 3]
    assert semop(d, number, (1, -1)) == 0
    d.call("exit_group", 0, task=child)
    assert values(d, number, 2) == [5, 0], "not below zero"


def test_a_value_that_was_set_is_not_undone(d: Direct) -> None:
    number = d.call("semget", 0, 1, 0o600)
    child = d.clone(VM | SIGCHLD)
    semop(d, number, (0, 1, UNDO), task=child)
    d.call("semctl", number, 0, SETVAL, 7)
    d.call("exit_group", 0, task=child)
    assert values(d, number, 1) == [7]


def test_threads_share_what_is_to_be_undone(d: Direct) -> None:
    number = d.call("semget", 0, 1, 0o600)
    thread = d.clone(0x50F00, d.room(64))  # with CLONE_SYSVSEM
    semop(d, number, (0, 1, UNDO), task=thread)
    d.call("exit", 0, task=thread)
    assert values(d, number, 1) == [1]
    other = d.clone(0x10F00, d.room(64))
    semop(d, number, (0, 1, UNDO), task=other)
    d.call("exit", 0, task=other)
    assert values(d, number, 1) == [1]


def test_two_processes_take_turns() -> None:
    result = run(
        """
        sys 190, 0, 2, 0x180
        mv s5, a0
        sys 220, 17, 0, 0, 0, 0
        beqz a0, child
        li s4, 3
    loop:
        mv a0, s5
        li a1, give
        li a2, 1
        sys 193
        mv a0, s5
        li a1, take
        li a2, 1
        sys 193
        report s4
        addi s4, s4, -1
        bnez s4, loop
        mv a0, s5
        li a1, timed
        li a2, 1
        li a3, nap
        sys 192
        report a0
        exit 0
    child:
        li s4, 3
    again:
        mv a0, s5
        li a1, echo
        li a2, 2
        sys 193
        addi s4, s4, -1
        bnez s4, again
        exit 0
        .align 8
    nap: .dword 0, 1000
    give: .dword 0x10000
    take: .dword 0xffff0001
    timed: .dword 0xffff0000
    echo: .dword 0x0001_0000_ffff_0000, 0x1
    """.replace("_", "")
    )
    assert (result.ending, result.words) == ("exited", [3, 2, 1, 2**64 - 11])
