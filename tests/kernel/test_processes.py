"""Tasks and processes: clone's errors, waiting, exits of groups, exec, and how a run ends."""

from __future__ import annotations

import pytest
from guest_run import Result, run

THREAD = 0x10F00
VM, VFORK, SIGCHLD = 0x100, 0x4000, 17
AUTOREAP, NNP, AUTOKILL = 1 << 34, 1 << 35, 1 << 36
ENOENT, E2BIG, ENOEXEC, ECHILD, EAGAIN, EFAULT, EINVAL = -2, -7, -8, -10, -11, -14, -22
CLD_EXITED = 1

DATA = """
    .align 16
    .zero 2048
top: .dword 0
status: .dword 0
word: .dword 0
"""


def returned(result: Result, name: str) -> list[int | None]:
    return [row["ret"] for row in result.rows("syscalls") if row["name"] == name]


def events(result: Result, tid: int) -> list[str]:
    return [row["kind"] for row in result.rows("task_events") if row["tid"] == tid]


def clone3(**fields: int | str) -> str:
    """A guest with one clone3 call. The child exits at once."""
    names = "flags pidfd child_tid parent_tid exit_signal stack stack_size tls set_tid tids cgroup"
    size = fields.pop("size", 88)
    tail = fields.pop("tail", 0)
    words = ", ".join(str(fields.get(name, 0)) for name in names.split())
    return f"""
        sys 435, args, {size}
        beqz a0, child
        sys 94, 0
    child: sys 93, 0
        .align 8
    args: .dword {words}, {tail}, 0
    tid: .dword 5
        .align 16
        .zero 1024
    top: .dword 0
    """


@pytest.mark.parametrize(
    ("fields", "errno"),
    [
        ({"flags": 0x10000}, EINVAL),  # CLONE_THREAD without CLONE_SIGHAND
        ({"flags": 0x800}, EINVAL),  # CLONE_SIGHAND without CLONE_VM
        ({"flags": 0x400000}, EINVAL),  # CLONE_DETACHED
        ({"flags": 1 << 40}, EINVAL),  # an unknown flag
        ({"flags": 0x11}, EINVAL),  # an exit signal among the flags
        ({"flags": THREAD, "exit_signal": SIGCHLD}, EINVAL),
        ({"exit_signal": 65}, EINVAL),
        ({"stack": "top"}, EINVAL),  # a stack without a size
        ({"stack_size": 4096}, EINVAL),  # a size without a stack
        ({"size": 56}, EINVAL),
        ({"size": 96, "tail": 1}, E2BIG),
        ({"size": 5000}, E2BIG),
        ({"set_tid": "tid"}, EINVAL),  # tids without a count
        ({"set_tid": 8, "tids": 1}, EFAULT),
        ({"flags": 0x20000000}, -1),  # CLONE_NEWPID, without the capability
        ({"flags": AUTOREAP, "exit_signal": SIGCHLD}, EINVAL),
        ({"flags": AUTOREAP | 0x8000}, EINVAL),  # with CLONE_PARENT
        ({"flags": THREAD | NNP}, EINVAL),
        ({"flags": AUTOREAP | AUTOKILL}, EINVAL),  # without CLONE_PIDFD
        ({"flags": 1 << 37}, -1),  # CLONE_EMPTY_MNTNS, without the capability
    ],
)
def test_clone3_refusals(fields: dict[str, int | str], errno: int) -> None:
    result = run(clone3(**fields))
    (clone,) = result.rows("clones")
    assert clone["ret"] == errno
    assert clone["child_tid"] is None
    assert clone["seq"] == next(r["seq"] for r in result.rows("syscalls") if r["name"] == "clone3")


@pytest.mark.parametrize(("signal", "errno"), [(64, 0), (65, -22), (255, -22)])
def test_clone_refuses_an_exit_signal_that_is_none(signal: int, errno: int) -> None:
    result = run(f"""
        sys 220, {signal}, 0, 0, 0, 0
        exit 0
    """)
    (clone,) = result.rows("clones")
    assert min(clone["ret"], 0) == errno


def test_nobody_waits_for_a_child_with_clone_autoreap() -> None:
    """7.1: the child is gone as it exits, no signal is sent, and wait4 finds no child."""
    text = clone3(flags=AUTOREAP).replace(
        "sys 94, 0\n", "sys 260, -1, 0, 0, 0\nreport a0\nsys 94, 0\n"
    )
    result = run(text)
    assert result.words == [2**64 - 10]  # ECHILD
    assert result.ending == "exited"


def test_clone_nnp_is_the_childs() -> None:
    text = clone3(flags=NNP, exit_signal=SIGCHLD)
    asked = "prctl 39, 0, 0, 0, 0\nreport a0\n"  # PR_GET_NO_NEW_PRIVS
    text = text.replace("child: ", f"child: {asked}").replace(
        "sys 94, 0\n", f"sys 260, -1, 0, 0, 0\n{asked}sys 94, 0\n"
    )
    assert run(text).words == [1, 0]


def test_clone3_accepts_a_zero_tail_and_a_tid() -> None:
    result = run(clone3(size=96, set_tid="tid", tids=1, exit_signal=SIGCHLD))
    (clone,) = result.rows("clones")
    assert (clone["ret"], clone["set_tid"], clone["exit_signal"]) == (5, 5, SIGCHLD)
    assert "reaped" in events(result, 5)


def test_nproc_binds_before_anything_is_made() -> None:
    result = run(clone3(exit_signal=SIGCHLD), rlimits={"NPROC": 1})
    assert returned(result, "clone3") == [EAGAIN]
    assert len(result.rows("mms")) == 1


def test_numbers_run_out() -> None:
    result = run(clone3(exit_signal=SIGCHLD), pid_max=101)
    assert returned(result, "clone3") == [EAGAIN]
    (_, copy) = result.rows("mms")
    assert (copy["tid"], copy["seq_end"] is not None) == (None, True), (
        "the copied mm is dropped again"
    )


FORK = f"sys 220, {SIGCHLD}, 0, 0, 0, 0\nbeqz a0, child"


@pytest.mark.parametrize(
    ("child", "status"),
    [
        ("sys 94, 7", 7 << 8),
        ("sys 93, 300", 44 << 8),
        ("sys 172\nli a1, 9\nli a7, 129\necall", 9),
        ("unimp", 4),
    ],
)
def test_wait_statuses(child: str, status: int) -> None:
    result = run(f"""
        {FORK}
        sys 260, -1, status, 0, 0
        report a0
        li t0, status
        lw t1, 0(t0)
        report t1
        sys 260, -1, status, 0, 0
        sys 94, 0
    child: {child}
    {DATA}""")
    assert result.words == [101, status]
    assert returned(result, "wait4") == [101, ECHILD]
    reaped = next(
        r for r in result.rows("task_events") if r["kind"] == "reaped" and r["tid"] == 101
    )
    assert (reaped["status"], reaped["value"]) == (status, 100)


def test_waitid_leaves_the_child_with_wnowait() -> None:
    result = run(f"""
        {FORK}
        sys 95, 0, 0, info, 0x1000004, 0
        sys 95, 0, 0, info, 4, 0
        li t0, info
        lw t1, 8(t0)
        report t1
        lw t1, 16(t0)
        report t1
        lw t1, 24(t0)
        report t1
        sys 95, 0, 0, info, 5, 0
        sys 94, 0
    child: sys 94, 3
    info: .zero 128
    {DATA}""")
    assert returned(result, "waitid") == [0, 0, ECHILD]
    assert result.words == [CLD_EXITED, 101, 3]


def test_an_orphan_is_reaped_by_init() -> None:
    result = run(f"""
        {FORK}
        sys 94, 0
    child: sys 101, nap, 0
        sys 173
        report a0
        sys 94, 0
    nap: .dword 0, 1000000
    {DATA}""")
    assert result.words == [1]
    assert result.ending == "exited"
    assert events(result, 101)[-1] == "reaped"


def test_exit_group_ends_the_others() -> None:
    result = run(f"""
        sys 220, {THREAD}, top, 0, 0, 0
        beqz a0, child
        sys 98, word, 0, 0, 0         # waits for ever
    child: sys 94, 5
    {DATA}""")
    assert result.status == 5 << 8
    outcomes = {row["name"]: row["outcome"] for row in result.rows("syscalls")}
    assert outcomes["futex"] == "killed"
    assert outcomes["exit_group"] == "no_return"
    for tid in (100, 101):
        (begin,) = (
            r for r in result.rows("task_events") if (r["tid"], r["kind"]) == (tid, "exit_begin")
        )
        assert begin["status"] == 5 << 8


def test_an_exit_group_after_the_leaders_exit_is_what_the_parent_reaps() -> None:
    """1792 on a real 7.2."""
    result = run(f"""
        {FORK}
        sys 260, 101, status, 0, 0
        li t0, status
        lw t1, 0(t0)
        report t1
        sys 94, 0
    child:
        sys 220, {THREAD}, top, 0, 0, 0
        beqz a0, thread
        sys 93, 0
    thread:
        sys 101, nap, 0
        sys 94, 7
    nap: .dword 0, 1000000
    {DATA}""")
    assert result.words == [7 << 8]


def test_the_leader_stays_a_zombie_until_the_last_thread_is_gone() -> None:
    result = run(f"""
        sys 220, {THREAD}, top, 0, 0, 0
        beqz a0, child
        sys 93, 3
    child: sys 101, nap, 0
        sys 172
        report a0
        sys 93, 9
    nap: .dword 0, 1000000
    {DATA}""")
    assert result.words == [100]
    assert result.status == 9 << 8, "the last thread's exit code: synchronize_group_exit()"
    assert [r["tid"] for r in result.rows("task_events") if r["kind"] == "reaped"] == [100]


def test_exec_from_a_thread_becomes_the_leader() -> None:
    result = run(f"""
        ld t0, 0(sp)
        addi t0, t0, -2
        beqz t0, second
        sys 220, {THREAD}, top, 0, 0, 0
        beqz a0, child
        sys 98, word, 0, 0, 0
    child: sys 221, path, argv, 0
    second: sys 178
        report a0
        sys 94, 0
    path: .dword 0x7473657567
    argv: .dword path, path, 0
    {DATA}""")
    assert result.words == [100]
    (done,) = (
        r for r in result.rows("task_events") if r["kind"] == "exec_done" and r["seq"] > 2**20
    )
    assert (done["tid"], done["status"]) == (100, 0)
    assert result.rows("mms")[0]["seq_end"] < done["seq"]


@pytest.mark.parametrize(
    ("call", "errno"),
    [
        ("sys 221, missing, 0, 0", ENOENT),
        ("sys 221, 8, 0, 0", EFAULT),
        ("sys 221, path, 8, 0", EFAULT),
        ("sys 221, null, 0, 0", -13),  # EACCES: not a regular file
    ],
)
def test_a_failed_exec_changes_nothing(call: str, errno: int) -> None:
    result = run(f"""
        enable
        csrr_ssp s0
        {call}
        csrr_ssp s1
        sub s0, s0, s1
        report s0
        sys 94, 0
    path: .dword 0x7473657567
    missing: .dword 0x6f6e
    null: .dword 0x6c756e2f7665642f, 0x6c
    {DATA}""")
    assert result.words == [0]
    assert returned(result, "execve") == [errno]
    done = [r for r in result.rows("task_events") if r["kind"] == "exec_done"][-1]
    assert done["status"] == errno


def test_a_killed_vfork_parent() -> None:
    """SIGKILL kills it while it waits. The child runs on."""
    result = run(f"""
        sys 220, {SIGCHLD}, 0, 0, 0, 0
        bnez a0, grandparent
        sys 220, {VM | VFORK | SIGCHLD}, 0, 0, 0, 0
        bnez a0, never
        sys 173
        mv s1, a0
        li a1, 9
        li a7, 129
        ecall
        sys 101, nap, 0
        li s0, 77
        report s0
        sys 94, 0
    never: report a0
    grandparent: sys 260, -1, status, 0, 0
        sys 94, 0
    nap: .dword 0, 1000000
    {DATA}""")
    assert result.words == [77]
    (vfork,) = (r for r in result.rows("clones") if r["api"] == "vfork")
    assert (vfork["child_tid"], vfork["ret"], vfork["seq_end"]) == (102, None, None)
    assert "vfork_done" not in events(result, 102)


def test_api_is_the_shape_of_the_flags() -> None:
    flags = [SIGCHLD, VM | VFORK | SIGCHLD, VFORK | SIGCHLD, 0x1200000 | SIGCHLD]
    calls = "\n".join(
        f"sys 220, {f}, 0, 0, 0, 0\nbeqz a0, child\nsys 260, -1, 0, 0, 0" for f in flags
    )
    result = run(f"{calls}\nsys 94, 0\nchild: sys 93, 0\n{DATA}")
    assert [row["api"] for row in result.rows("clones")] == ["fork", "vfork", "clone", "clone"]
    assert [row["flags"] for row in result.rows("clones")] == [f & ~0xFF for f in flags]
    assert {row["exit_signal"] for row in result.rows("clones")} == {SIGCHLD}


def test_an_unknown_call_warns_once() -> None:
    result = run("sys 999\nsys 999\nsys 94, 0")
    assert [(r["nr"], r["name"], r["ret"]) for r in result.rows("syscalls")][:2] == [
        (999, None, -38)
    ] * 2
    assert result.warnings == ["system call 999 is unknown: -ENOSYS"]


# How a run ends.


def test_deadlock() -> None:
    result = run(f"sys 98, word, 0, 0, 0\n{DATA}")
    assert result.ending == "deadlock"
    (call,) = result.rows("syscalls")
    assert (call["outcome"], call["ret"], call["seq_end"]) == ("run_ended", None, None)
    assert result.rows("mms")[0]["seq_end"] is None


def test_the_limit_is_exact() -> None:
    result = run("again: j again", max_instructions=12_345)
    assert result.ending == "limit"


def test_sleeping_costs_no_instructions() -> None:
    result = run("sys 101, nap, 0\nreport a0\nsys 94, 0\nnap: .dword 3600, 0")
    assert result.words == [0]


def test_rows_depend_on_nothing_but_the_seed() -> None:
    racing = f"""
        sys 220, {THREAD}, top, 0, 0, 0
        beqz a0, child
        li t0, 200000
    spin: addi t0, t0, -1
        bnez t0, spin
        sys 94, 0
    child: j child
    {DATA}"""
    first, again, other = run(racing), run(racing), run(racing, seed=1)
    assert first.tables == again.tables
    assert first.rows("sched") != other.rows("sched")
    assert {row["why"] for row in first.rows("sched")} == {"start", "preempted"}


def test_a_lone_task_is_never_switched() -> None:
    result = run("li t0, 400000\nspin: addi t0, t0, -1\nbnez t0, spin\nsys 94, 0")
    assert [row["why"] for row in result.rows("sched")] == ["start"]


def test_a_yield_with_nobody_else_to_run_has_no_effect_later() -> None:
    result = run("""
        sys 124
        sys 220, 17, 0, 0, 0, 0
        beqz a0, child
        sys 178
        sys 260, -1, status, 0, 0
        sys 94, 0
    child: sys 93, 0
        .align 8
    status: .dword 0
    """)
    assert result.status == 0
    assert [row["why"] for row in result.rows("sched")] == ["start", "blocked", "exited"]
