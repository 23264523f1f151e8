"""io_uring's worker: made with a ring, ended with it, and what it takes along (SC8)."""

from __future__ import annotations

import pytest
from direct import Direct
from guest_run import Result, run

SQPOLL, NO_MMAP = 1 << 1, 1 << 14
ROOM = """
    .align 4096
rings: .zero 4096
sqes: .zero 4096
    .align 8
params: .zero 120
"""
SETUP = f"""
    li s0, params
    li s1, {SQPOLL | NO_MMAP}
    sw s1, 8(s0)
    li s1, sqes
    sd s1, 72(s0)
    li s1, rings
    sd s1, 112(s0)
    sys 425, 4, params
    mv s5, a0
"""


def guest(after: str, kernel: str = "7.2") -> Result:
    result = run(f"enable\n{SETUP}{after}\n{ROOM}", kernel)
    assert result.ending == "exited"
    return result


def unmapped(result: Result) -> list[int]:
    """Who unmapped shadow stacks."""
    rows = (row for row in result.rows("mappings") if row["op"] == "unmap")
    return [row["tid"] for row in rows if row["shadow_stack"]]


def test_the_worker_takes_its_creators_stack_along() -> None:
    result = guest("mv a0, s5\nsys 57\nsys 94, 0")
    created = [row for row in result.rows("task_events") if row["kind"] == "created"]
    assert [(row["tid"], row["value"]) for row in created[1:]] == [(101, 100)]
    assert result.rows("clones") == []
    assert unmapped(result) == [101]


def test_it_does_not_before_v7() -> None:
    assert unmapped(guest("mv a0, s5\nsys 57\nsys 94, 0", "v6")) == []


@pytest.mark.parametrize("end", ["sys 94, 3", "exit 3"])
def test_a_worker_ends_with_its_process(end: str) -> None:
    result = guest(end)
    assert result.status == 3 << 8
    ended = {row["tid"] for row in result.rows("task_events") if row["kind"] == "exit_begin"}
    assert ended == {100, 101}


def test_no_requests() -> None:
    """The ring's head says how large it is, and that the worker sleeps."""
    result = guest("""
        mv a0, s5
        li a1, 0
        li a2, 0
        li a3, 0
        sys 426
        report a0
        mv a0, s5
        li a1, 1
        sys 426
        report a0
        li s0, rings
        lw s1, 264(s0)
        report s1
        lw s1, 276(s0)
        report s1
        sys 94, 0
    """)
    assert result.words == [0, 2**64 - 22, 4, 1]
    assert result.warnings == ["io_uring_enter met a limit of the model: no requests"]


def test_other_rings_are_refused_by_name() -> None:
    d = Direct()
    assert d.call("io_uring_setup", 4, bytes(120)) == "ENOSYS"
    assert d.k.warnings == ["io_uring_setup met a limit of the model: SQPOLL with NO_MMAP only"]
    assert d.call("io_uring_enter", 0, 0, 0, 0) == "EOPNOTSUPP"
