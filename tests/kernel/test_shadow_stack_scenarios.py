"""SC1 to SC13 of the reference, read from the tables of tiny guests under several revisions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from guest_run import Result, run

PARENT = 100
CHILD = 101
THREAD = 0x350F00  # VM FS FILES SIGHAND THREAD SYSVSEM PARENT_SETTID CHILD_CLEARTID
VM, VFORK, SIGCHLD = 0x100, 0x4000, 17
EINVAL, ENOMEM, EEXIST = -22, -12, -17
M = 1 << 20

FRAME = """
    sys 94, 0
thread:
    {thread}
    sys 93, 0
    .align 16
    .zero 4096
top: .dword 0
ctid: .dword 0
args: .dword {flags}, 0, 0, 0, {exit_signal}, top-4096, {stack_size}, 0, {set_tid}, {tids}, 0
taken: .dword 100
path: .dword 0x7473657567     # "guest"
argv: .dword path, again, 0
again: .dword 0x21
lock: .dword 0
limit: .dword {limit}, -1
"""
JOIN = """
    li s11, ctid
join: lw a2, 0(s11)
    beqz a2, joined
    li a3, 0
    sys 98, ctid, 0
    j join
joined:
"""


def guest(main: str, thread: str = "", **values: int) -> str:
    known = {"flags": 0, "exit_signal": 0, "stack_size": 4096, "set_tid": 0, "tids": 0, "limit": 0}
    values = known | values
    text = FRAME.format(thread=thread, **values)
    if values["tids"]:
        text = text.replace(
            f"{values['stack_size']}, 0, 0, 1", f"{values['stack_size']}, 0, taken, 1"
        )
    return main + text


SPAWN = f"""
    sys 220, {THREAD}, top, ctid, 0, ctid
    beqz a0, thread
    {JOIN}
"""
SPAWN3 = f"sys 435, args, 88\nbeqz a0, thread\n{JOIN}"


@dataclass(frozen=True)
class Facts:
    """Facts from the tables of one run."""

    result: Result

    def stacks(self, op: str, **where: Any) -> list[dict[str, Any]]:
        """Successful operations on shadow-stack areas."""
        return [
            row
            for row in self.result.rows("mappings")
            if row["op"] == op
            and row["shadow_stack"]
            and row["ret"] >= 0
            and all(row[key] == value for key, value in where.items())
        ]

    def event(self, tid: int, kind: str) -> dict[str, Any]:
        (row,) = (
            r for r in self.result.rows("task_events") if r["tid"] == tid and r["kind"] == kind
        )
        return row

    def clone(self, at: int = 0) -> dict[str, Any]:
        return self.result.rows("clones")[at]

    def allocated(self, at: int = 0) -> list[dict[str, Any]]:
        """Mapped by the at-th clone."""
        return self.stacks("map", during=self.clone(at)["seq"])

    def prctls(self, tid: int) -> list[int | None]:
        calls = self.result.rows("syscalls")
        return [row["ret"] for row in calls if row["name"] == "prctl" and row["tid"] == tid]

    def left(self) -> int:
        """Shadow-stack areas mapped and never unmapped, in a run without fork."""
        return len(self.stacks("map")) - len(self.stacks("unmap"))


def facts(text: str, kernel: str, **options: Any) -> Facts:
    result = run(text, kernel, **options)
    assert result.ending == "exited", result
    return Facts(result)


@pytest.mark.parametrize(
    ("kernel", "size"),
    [("v6", 8 * M), ("v12", 8 * M), ("7.0", 8 * M), ("7.2", 4 * M), ("7.3", M)],
)
def test_sc1_a_thread_gets_its_own(kernel: str, size: int) -> None:
    f = facts(guest("enable" + SPAWN), kernel)
    (made,) = f.allocated()
    assert made["length"] == size
    assert f.event(CHILD, "first_user")["ssp"] == made["start"] + size
    assert made["start"] + size <= f.stacks("map")[0]["start"] - 4096, "a free page between them"


@pytest.mark.parametrize("kernel", ["v1", "v3", "v5"])
def test_sc1_the_inverted_gate_shares_the_parents(kernel: str) -> None:
    f = facts(guest("enable" + SPAWN), kernel)
    assert f.allocated() == []
    (call,) = (row for row in f.result.rows("syscalls") if row["name"] == "clone")
    assert f.event(CHILD, "first_user")["ssp"] == call["ssp_entry"]


@pytest.mark.parametrize("kernel", ["v7", "7.0", "7.2", "7.3"])
def test_sc1_release_before_the_joiner_wakes(kernel: str) -> None:
    f = facts(guest("enable" + SPAWN), kernel)
    (made,) = f.allocated()
    (gone,) = f.stacks("unmap", tid=CHILD)
    assert (gone["start"], gone["length"]) == (made["start"], made["length"])
    order = [f.event(CHILD, k)["seq"] for k in ("exit_begin", "robust_done")]
    order += [gone["seq"]]
    order += [f.event(CHILD, k)["seq"] for k in ("clear_child_tid", "futex_wake", "mm_dropped")]
    assert order == sorted(order)
    assert f.event(CHILD, "futex_wake")["value"] == 1


@pytest.mark.parametrize("kernel", ["v6", "7.2,release_hook=exit_thread"])
def test_sc1_exit_thread_comes_too_late(kernel: str) -> None:
    f = facts(guest("enable" + SPAWN), kernel)
    assert len(f.allocated()) == 1
    assert f.stacks("unmap") == []


@pytest.mark.parametrize(("kernel", "size"), [("v6", 0x21000), ("7.2", 0x21000), ("7.3", 0x21000)])
def test_sc2_clone3_gives_the_size(kernel: str, size: int) -> None:
    text = guest("enable\n" + SPAWN3, flags=0x10F00, stack_size=0x20001)
    f = facts(text, kernel)
    assert [row["length"] for row in f.allocated()] == [size]
    assert f.clone()["stack_size"] == 0x20001


@pytest.mark.parametrize("kernel", ["v3", "v6", "7.2"])
def test_sc3_a_vfork_child_owns_nothing(kernel: str) -> None:
    f = facts(
        guest(f"enable\nsys 220, {VM | VFORK | SIGCHLD}, 0, 0, 0, 0\nbeqz a0, thread"), kernel
    )
    assert f.clone()["api"] == "vfork"
    assert f.allocated() == []
    assert f.stacks("unmap", tid=CHILD) == []
    assert (
        f.event(CHILD, "first_user")["ssp"]
        == f.stacks("map")[0]["ret"] + f.stacks("map")[0]["length"]
    )
    done = f.event(CHILD, "vfork_done")
    assert done["value"] == PARENT
    assert done["seq"] < f.event(CHILD, "mm_dropped")["seq"]
    assert f.clone()["seq_end"] > done["seq"]


@pytest.mark.parametrize(("kernel", "released"), [("v3", 0), ("v6", 0), ("v7", 1), ("7.2", 1)])
def test_sc4_a_forks_copy(kernel: str, released: int) -> None:
    f = facts(guest(f"enable\nsys 220, {SIGCHLD}, 0, 0, 0, 0\nbeqz a0, thread"), kernel)
    (parents,) = f.stacks("map")
    gone = f.stacks("unmap", tid=CHILD)
    assert [(g["mm"], g["start"]) for g in gone] == [(2, parents["start"])] * released
    first, second = f.result.rows("mms")
    assert (second["from_mm"], second["cause"], second["tid"]) == (first["mm"], "fork", CHILD)
    assert second["seq_end"] is not None


@pytest.mark.parametrize(
    ("kernel", "made", "set_on", "left"),
    [("v3", 1, EINVAL, 1), ("v6", 0, 0, 1), ("v7", 0, 0, 0), ("7.2", 0, 0, 0)],
)
def test_sc5_a_disabled_parent(kernel: str, made: int, set_on: int, left: int) -> None:
    f = facts(guest(SPAWN, thread="enable"), kernel)
    assert len(f.allocated()) == made
    assert f.prctls(CHILD) == [set_on]
    assert f.left() == left
    if made:
        (area,) = f.allocated()
        assert f.event(CHILD, "first_user")["ssp"] == area["start"] + area["length"]


@pytest.mark.parametrize(
    ("kernel", "children", "unmapped"),
    [("v3", 0, "parent's"), ("v5", 0, "parent's"), ("v6", 1, "child's"), ("7.2", 1, None)],
)
@pytest.mark.parametrize("flags", [0x10F00, VM])
def test_sc6_a_late_failure(kernel: str, children: int, unmapped: str | None, flags: int) -> None:
    text = guest("enable\nsys 435, args, 88", flags=flags, tids=1)
    f = facts(text, kernel)
    assert (f.clone()["ret"], f.clone()["set_tid"], f.clone()["child_tid"]) == (EEXIST, 100, None)
    own = f.stacks("map")[0]
    assert len(f.allocated()) == children
    gone = f.stacks("unmap", during=f.clone()["seq"])
    wanted = {"parent's": [own["start"]], "child's": [a["start"] for a in f.allocated()], None: []}
    assert [g["start"] for g in gone] == wanted[unmapped]


@pytest.mark.parametrize(("kernel", "unmapped"), [("v3", 1), ("v6", 0), ("7.2", 0)])
def test_sc7_a_late_failure_of_a_vfork(kernel: str, unmapped: int) -> None:
    f = facts(guest("enable\nsys 435, args, 88", flags=VM | VFORK, tids=1), kernel)
    assert f.clone()["ret"] == EEXIST
    assert f.allocated() == []
    own = f.stacks("map")[0]
    gone = f.stacks("unmap", during=f.clone()["seq"])
    assert [g["start"] for g in gone] == [own["start"]] * unmapped


LIMITS = [2**64 - 1, 8 * M, 12 << 10, 4 << 10]


@pytest.mark.parametrize(
    ("kernel", "sizes"),
    [
        ("v3", [4096 * M, 8 * M, 12 << 10, 4 << 10]),
        ("7.0", [4096 * M, 8 * M, 12 << 10, 4 << 10]),
        ("7.2", [2048 * M, 4 * M, 8 << 10, 4 << 10]),
        ("7.3", [512 * M, M, 4 << 10, 4 << 10]),
    ],
)
def test_sc9_default_sizes(kernel: str, sizes: list[int]) -> None:
    for limit, size in zip(LIMITS, sizes, strict=True):
        f = facts(guest("sys 164, 3, limit\nenable", limit=limit if limit < 2**63 else -1), kernel)
        assert [row["length"] for row in f.stacks("map")] == [size]


def test_sc9_a_machine_too_small_for_the_default() -> None:
    text = guest("sys 164, 3, limit\nenable", limit=-1)
    f = facts(text, "7.2", memory=512 * M)
    assert f.prctls(PARENT) == [ENOMEM]
    (failed,) = (row for row in f.result.rows("mappings") if row["shadow_stack"])
    assert (failed["start"], failed["length"], failed["ret"]) == (None, 2048 * M, ENOMEM)


@pytest.mark.parametrize(("kernel", "clone"), [("v3", CHILD), ("v6", EINVAL), ("7.2", EINVAL)])
def test_sc9_no_size_at_all(kernel: str, clone: int) -> None:
    off = facts(guest("sys 164, 3, limit\nenable", limit=0), kernel)
    assert off.prctls(PARENT) == [ENOMEM]
    on = facts(guest("enable\nsys 164, 3, limit" + SPAWN, limit=0), kernel)
    assert on.clone()["ret"] == clone
    assert on.allocated() == []


@pytest.mark.parametrize(("kernel", "whose"), [("v3", 0), ("v6", 1), ("7.2", 1)])
def test_sc10_a_thread_disables(kernel: str, whose: int) -> None:
    f = facts(guest("enable" + SPAWN, thread="prctl 75, 0, 0, 0, 0"), kernel)
    assert f.prctls(CHILD) == [0]
    stacks = f.stacks("map")
    (gone,) = f.stacks("unmap", tid=CHILD)
    assert gone["start"] == stacks[whose]["start"]


EXEC = """
    ld t0, 0(sp)          # argc: 2 after exec
    addi t0, t0, -2
    beqz t0, second
    enable
    prctl 76, 0, 0, 0, 0
    sys 221, path, argv, 0
second:
    prctl 75, 1, 0, 0, 0
"""


@pytest.mark.parametrize(
    ("kernel", "enable", "explicit"),
    [("v3", EINVAL, 0), ("v6", EINVAL, 0), ("v7", EINVAL, 1), ("7.0", 0, 1), ("7.2", 0, 1)],
)
def test_sc11_exec(kernel: str, enable: int, explicit: int) -> None:
    f = facts(guest(EXEC), kernel)
    assert f.prctls(PARENT) == [0, 0, enable]
    old = f.stacks("map")[0]
    gone = f.stacks("unmap", mm=old["mm"])
    assert [g["start"] for g in gone] == [old["start"]] * explicit
    began, done = (
        [r for r in f.result.rows("task_events") if r["kind"] == kind][-1]
        for kind in ("exec_begin", "exec_done")
    )
    assert all(began["seq"] < g["seq"] < done["seq"] for g in gone)
    assert (done["ssp"], done["status"]) == (0, 0)
    assert [row["cause"] for row in f.result.rows("mms")] == ["exec", "exec"]


@pytest.mark.parametrize(("kernel", "offset"), [("v26", 0xFF8), ("7.0-rc1", 0), ("7.2", 0)])
def test_sc12_what_a_token_mapping_returns(kernel: str, offset: int) -> None:
    f = facts(guest("sys 453, 0, 0x1000, 1\nreport a0"), kernel)
    (made,) = f.stacks("map")
    assert f.result.words == [made["start"] + offset]
    (token,) = (r for r in f.result.rows("kernel_memory") if r["addr"] == made["start"] + 0xFF8)
    assert token["bytes"] == (made["start"] + 0x1000).to_bytes(8, "little")


@pytest.mark.parametrize(
    ("kernel", "unmapped"), [("v3", ["parent's"]), ("v6", []), ("7.2", ["own"])]
)
def test_sc13_a_vfork_child_turns_it_off_and_on(kernel: str, unmapped: list[str]) -> None:
    main = f"enable\nsys 220, {VM | VFORK | SIGCHLD}, 0, 0, 0, 0\nbeqz a0, thread"
    f = facts(guest(main, thread="prctl 75, 0, 0, 0, 0\nenable"), kernel)
    assert f.prctls(CHILD) == [0, 0]
    parents, own = f.stacks("map")
    names = {parents["seq"]: "parent's", own["seq"]: "own"}
    gone = [
        names[
            max(
                m["seq"] for m in (parents, own) if m["start"] == g["start"] and m["seq"] < g["seq"]
            )
        ]
        for g in f.stacks("unmap", tid=CHILD)
    ]
    assert gone[: len(unmapped)] == unmapped


def test_x7_release_is_blind() -> None:
    """An ordinary mapping at the address of a thread's shadow stack is unmapped at its exit."""
    thread = """
        csrr_ssp s0
        li t0, -0x400000
        add a0, s0, t0
        mv s1, a0
        li a1, 0x400000
        li a7, 215
        ecall
        mv a0, s1
        li a1, 0x400000
        li a2, 3
        li a3, 0x32
        li a4, -1
        li a5, 0
        li a7, 222
        ecall
    """
    f = facts(guest("enable" + SPAWN, thread=thread), "7.2")
    (made,) = f.allocated()
    last = [row for row in f.result.rows("mappings") if row["tid"] == CHILD][-1]
    assert (last["op"], last["start"], last["shadow_stack"]) == ("unmap", made["start"], False)


@pytest.mark.parametrize("kernel", ["v3", "v6", "7.2"])
def test_x4_a_failed_fork_touches_nothing(kernel: str) -> None:
    f = facts(guest("enable\nsys 435, fork, 88\n", tids=1) + FORK3, kernel)
    assert f.clone()["ret"] == EEXIST
    assert f.stacks("unmap", during=f.clone()["seq"]) == []


FORK3 = "fork: .dword 0, 0, 0, 0, 17, 0, 0, 0, taken, 1, 0\n"
