"""Futexes: waiting, waking, requeueing, timeouts, and owners that die."""

from __future__ import annotations

import pytest
from guest_run import Result, run

THREAD = 0x10F00
WAIT, WAKE, REQUEUE, CMP_REQUEUE, WAKE_OP, WAIT_BITSET, WAKE_BITSET = 0, 1, 3, 4, 5, 9, 10
EAGAIN, EFAULT, EINVAL, ENOSYS, ETIMEDOUT = -11, -14, -22, -38, -110

DATA = """
    .align 16
    .zero 1024
top1: .zero 1024
top2: .zero 1024
top3: .dword 0
word: .dword 0
other: .dword 0
nap: .dword 0, 1000000
past: .dword -1, 0
"""


def returned(result: Result, tid: int) -> list[int | None]:
    rows = result.rows("syscalls")
    return [row["ret"] for row in rows if row["name"] == "futex" and row["tid"] == tid]


def waiters(n: int, wait: str, main: str) -> str:
    """n threads that each run `wait`, then exit. main continues when all of them are blocked."""
    spawn = "".join(f"sys 220, {THREAD}, top{i + 1}, 0, 0, 0\nbeqz a0, child\n" for i in range(n))
    return f"""
        {spawn}
        sys 101, nap, 0
        {main}
        sys 94, 0
    child: {wait}
        sys 93, 0
    {DATA}"""


@pytest.mark.parametrize(
    ("call", "ret"),
    [
        ("sys 98, word, 0, 1, 0", EAGAIN),
        ("sys 98, 8, 0, 0, 0", EFAULT),
        ("sys 98, word+2, 0, 0, 0", EINVAL),
        ("sys 98, word, 0, 0, nap", ETIMEDOUT),
        ("sys 98, word, 0, 0, past", EINVAL),
        ("sys 98, word, 9, 0, nap, 0, 0", EINVAL),  # an empty bitset
        ("sys 98, word, 1, 1", 0),
        ("sys 98, 8, 129, 1", 0),  # a private wake doesn't look at the page
        ("sys 98, word, 4, 1, 1, other, 5", EAGAIN),
        ("sys 98, word, 6, 0, 0", ENOSYS),
    ],
)
def test_answers(call: str, ret: int) -> None:
    result = run(f"{call}\nsys 94, 0\n{DATA}")
    assert returned(result, 100) == [ret]


def test_wake_takes_the_longest_waiting() -> None:
    wait = f"sys 98, word, {WAIT}, 0, 0"
    result = run(waiters(3, wait, f"sys 98, word, {WAKE}, 2\nsys 101, nap, 0"))
    assert returned(result, 100) == [2]
    assert [returned(result, tid) for tid in (101, 102)] == [[0], [0]]
    outcomes = {r["tid"]: r["outcome"] for r in result.rows("syscalls") if r["name"] == "futex"}
    assert outcomes[103] == "killed"


def test_bitsets() -> None:
    wait = f"""
        sys 178
        andi a5, a0, 3
        sys 98, word, {WAIT_BITSET}, 0, 0, 0
    """
    result = run(waiters(2, wait, f"sys 98, word, {WAKE_BITSET}, 9, 0, 0, 2\nsys 101, nap, 0"))
    assert returned(result, 100) == [1]
    woken = [r["tid"] for r in result.rows("syscalls") if r["name"] == "exit"]
    assert woken == [102], "102 & 3 is 2, 101 & 3 is 1"


def test_requeue_moves_without_waking() -> None:
    wait = f"sys 98, word, {WAIT}, 0, 0"
    main = f"""
        sys 98, word, {CMP_REQUEUE}, 1, 5, other, 0
        sys 98, word, {WAKE}, 9
        sys 98, other, {WAKE}, 9
        sys 101, nap, 0
    """
    result = run(waiters(3, wait, main))
    assert returned(result, 100) == [3, 0, 2]


def test_wake_op() -> None:
    """Adds 3 to `other`, and wakes its waiter too, since the old value was 0."""
    wait = f"sys 178\nandi s1, a0, 1\nli a0, word\nbeqz s1, go\nli a0, other\ngo: li a1, {WAIT}\n"
    wait += "li a2, 0\nli a3, 0\nli a7, 98\necall"
    op = 1 << 28 | 0 << 24 | 3 << 12 | 0
    main = f"""
        sys 98, word, {WAKE_OP}, 1, 1, other, {op}
        li t0, other
        lw t1, 0(t0)
        report t1
        sys 101, nap, 0
    """
    result = run(waiters(2, wait, main))
    assert returned(result, 100) == [2]
    assert result.words == [3]


def test_shared_memory_is_one_futex_in_two_processes() -> None:
    result = run(f"""
        sys 222, 0, 4096, 3, 0x21, -1, 0
        mv s1, a0
        sys 220, 17, 0, 0, 0, 0
        beqz a0, child
        sys 101, nap, 0
        mv a0, s1
        li a1, {WAKE}
        li a2, 1
        li a7, 98
        ecall
        sys 260, -1, 0, 0, 0
        sys 94, 0
    child: mv a0, s1
        li a1, {WAIT}
        li a2, 0
        li a3, 0
        li a7, 98
        ecall
        sys 94, 0
    {DATA}""")
    assert (result.ending, returned(result, 100), returned(result, 101)) == ("exited", [1], [0])


def test_a_dead_owner() -> None:
    """The lock's word is marked and its waiter woken before the mm is dropped."""
    result = run(
        f"""
        sys 220, {THREAD}, top1, 0, 0, 0
        beqz a0, child
        sys 101, nap, 0
        li t0, lock
        lw a2, 0(t0)
        li a3, 0
        sys 98, lock, {WAIT}
        lwu t1, lock(t0)
        sys 94, 0
    child:
        sys 99, head, 24
        sys 178
        li t0, 0x80000000
        or t1, a0, t0
        li t0, lock
        sw t1, 0(t0)
        sys 101, nap2, 0
        sys 93, 0
    head: .dword entry, 8, 0
    entry: .dword head
    lock: .dword 0
    nap2: .dword 0, 9000000
    {DATA}""".replace("lwu t1, lock(t0)\n", "li t0, lock\nlwu t1, 0(t0)\nreport t1\n")
    )
    assert result.words == [0xC0000000]
    assert returned(result, 100) == [0]
    events = {r["kind"]: r["seq"] for r in result.rows("task_events") if r["tid"] == 101}
    (mark,) = (r for r in result.rows("kernel_memory") if r["addr"] == result.labels["lock"])
    assert events["exit_begin"] < mark["seq"] < events["robust_done"] < events["mm_dropped"]
    assert mark["during"] == events["exit_begin"]


def waitv(*entries: str, timeout: str = "0", clock: int = 1) -> str:
    """A guest's call on entries of `value, address, flags`."""
    return f"sys 449, vector, {len(entries)}, 0, {timeout}, {clock}"


def vector(*entries: str) -> str:
    return ".align 8\nvector: .dword " + ", ".join(entries) + "\n"


def test_waitv_tells_which_futex_woke_it() -> None:
    text = waiters(1, waitv("", ""), f"sys 98, other, {WAKE | 128}, 5\nreport a0\nsys 101, nap, 0")
    result = run(text + vector("0, word, 2", "0, other, 130"))
    assert result.words == [1]
    assert [r["ret"] for r in result.rows("syscalls") if r["name"] == "futex_waitv"] == [1]


def test_waitv_follows_a_requeue() -> None:
    move = f"sys 98, word, {REQUEUE}, 0, 1, other\nsys 98, other, {WAKE}, 1\nreport a0"
    text = waiters(1, waitv("", ""), move + "\nsys 101, nap, 0")
    result = run(text + vector("0, word, 2", "0, top3, 2"))
    assert result.words == [1]
    assert [r["ret"] for r in result.rows("syscalls") if r["name"] == "futex_waitv"] == [0]


@pytest.mark.parametrize(
    ("entries", "call", "ret"),
    [
        (("0, word, 2", "1, other, 2"), waitv("", ""), EAGAIN),
        (("0, word, 2", "0, 8, 2"), waitv("", ""), EFAULT),
        (("0, word, 3",), waitv(""), EINVAL),  # FUTEX2_SIZE_U64
        (("0, word, 2",), waitv("", timeout="nap"), ETIMEDOUT),
        (("0, word, 2",), waitv("", timeout="nap", clock=2), EINVAL),
        (("0, word, 2",), "sys 449, vector, 0, 0, 0, 1", EINVAL),
        (("0, word, 2",), "sys 449, vector, 129, 0, 0, 1", EINVAL),
        (("0, word, 2",), "sys 449, vector, 1, 1, 0, 1", EINVAL),
    ],
)
def test_answers_of_waitv(entries: tuple[str, ...], call: str, ret: int) -> None:
    result = run(f"{call}\nsys 94, 0\n{DATA}{vector(*entries)}")
    assert [r["ret"] for r in result.rows("syscalls") if r["name"] == "futex_waitv"] == [ret]
