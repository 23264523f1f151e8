"""Diffs of runs written by hand: each known difference is named, and nothing besides."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from listings import LEAK, WELL, threaded

from shstk.replay.diff.compare import Diff, Options, diff
from shstk.replay.diff.events import FIELDS
from shstk.replay.diff.report import summary, to_json
from shstk.replay.diff.wording import lines, where
from shstk.replay.run import Run
from shstk.schemas.errors import UsageError

CLONE = "30  t1 clone(THREAD"
JOIN = "60  t1 sspopchk"
NOT_ITS_OWN = WELL.replace("map S2 ss; t2 created ssp=S2.top", "t2 created").replace(
    "unmap S2; ", ""
)
LATE = WELL.replace("unmap S2; clear_child_tid TID;", "clear_child_tid TID; unmap S2;")
# A clone that fails before the one that succeeds, and a thread more.
FAILS_FIRST = WELL.replace(CLONE, f"25  t1 clone(THREAD) = -ENOMEM\n{CLONE}")
ONE_MORE = WELL.replace(
    CLONE,
    """22  t1 vfork() = 9 seq_end=28.7 { t9 created }
    t9 first_user
28  t9 exit(0) { exit_begin 0; vfork_done; mm_dropped 1 }
"""
    + CLONE,
)


def told(found: Diff) -> list[str]:
    return [
        f"{where(each, found.a, found.b)}: {line}"
        for each in found.differences
        for line in lines(each, found.a, found.b)
    ]


def compared(a: str, b: str, **options: object) -> Diff:
    return diff(threaded(a), threaded(b), Options(**options))  # type: ignore[arg-type]


def test_a_run_does_not_differ_from_itself() -> None:
    found = compared(WELL, WELL)
    assert found.same
    assert summary(found) == "no difference: 2 tasks, 6 events"


def test_a_leak() -> None:
    assert told(compared(WELL, LEAK)) == [
        "the exit of main/clone#1: its shadow stack at exit: released before clear_child_tid in A,"
        " left until the address space goes in B"
    ]


def test_a_release_after_the_joiner_was_woken() -> None:
    assert told(compared(WELL, LATE)) == [
        "the exit of main/clone#1: its shadow stack at exit: released before clear_child_tid in A,"
        " released after clear_child_tid in B"
    ]


def test_a_thread_on_its_parents_stack() -> None:
    found = compared(NOT_ITS_OWN, WELL)
    assert told(found) == [
        "clone #1 of main: shadow stack allocated in B (4M), not in A",
        "the start of main/clone#1: starts at its parent's ssp in A,"
        " at the top of its own stack in B",
        "the exit of main/clone#1: its shadow stack at exit: it has none in A,"
        " released before clear_child_tid in B",
    ]
    assert summary(found) == (
        "2 tasks differ; first at clone #1 of main: shadow stack allocated in B (4M), not in A"
    )


def test_addresses_tids_and_places_are_no_difference() -> None:
    other = WELL.replace("S2", "S3").replace("t2", "t7").replace("= 2 {", "= 7 {")
    for old, new in (("70 ", "790 "), ("60 ", "760 "), ("50 ", "450 "), ("40 ", "140 ")):
        other = other.replace(old, new)
    other = other.replace("41  t7", "141 t7")
    assert compared(WELL, other.replace("S3", "S2")).same
    moved = "S3 = 4M@0x7fff_c000_0000\n"
    b = threaded(other, extra=moved)
    assert diff(threaded(), b, Options()).same


def test_a_clone_that_only_one_run_has_does_not_shift_the_others() -> None:
    found = compared(WELL, FAILS_FIRST)
    assert len(found.differences) == 1
    assert told(found)[0].startswith("clone #1 of main: only in B: clone(…) = -ENOMEM")
    more = compared(WELL, ONE_MORE)
    assert [(pair.path, pair.differences) for pair in more.pairs] == [
        ("main", 1),
        ("main/clone#1 of B", 1),
        ("main/clone#1", 0),
    ]


@pytest.mark.parametrize(
    "word", ["shadow_stacks", "shadow_stacks.released", "task_events", "exit_group"]
)
def test_what_is_ignored(word: str) -> None:
    found = compared(WELL, LEAK, ignored=frozenset({word}))
    assert found.same == (word != "exit_group")


def test_words_that_cannot_be_ignored() -> None:
    with pytest.raises(UsageError, match="--ignore ssp"):
        compared(WELL, LEAK, ignored=frozenset({"ssp"}))


def test_only_one_task() -> None:
    found = compared(NOT_ITS_OWN, WELL, tasks=("main",))
    assert [each.task for each in found.differences] == ["main"]
    by_tid = compared(NOT_ITS_OWN, WELL, tasks=("2",))
    assert {each.task for each in by_tid.differences} == {"main/clone#1"}
    with pytest.raises(UsageError, match="neither run has it"):
        compared(WELL, WELL, tasks=("main/clone#2",))


def test_context() -> None:
    (found,) = compared(WELL, LEAK, context=1).differences
    assert [str(event.what) for event in found.before] == [
        "starts [first ssp the top of its own stack]"
    ]
    assert found.after == ()
    assert compared(WELL, LEAK, context=0).differences[0].before == ()


def threads(count: int, leaked: bool) -> Run:
    body = []
    for n in range(2, count + 2):
        at, area = 100 * n, f"4M@{0x7FF0_0000_0000 + n * 0x1000_0000:#x}"
        gone = "" if leaked else f"unmap {area}; "
        top = f"{0x7FF0_0000_0000 + n * 0x1000_0000 + 0x40_0000:#x}"
        body.append(
            f"{at} t1 clone(THREAD, child_tid_addr=TID) = {n} {{ map {area} ss;"
            f" t{n} created ssp={top} }}\n    t{n} first_user\n"
            f"{at + 50} t{n} exit(0) {{ exit_begin 0; {gone}clear_child_tid TID; mm_dropped 1 }}"
        )
    body.append("9000 t1 exit_group(0) { exit_begin 0; unmap S1; mm_dropped 0 }\n```")
    return threaded("\n".join(body))


def test_differences_of_one_kind_are_folded() -> None:
    found = diff(threads(30, False), threads(30, True), Options())
    (each,) = found.differences
    assert each.count == 30
    assert len(each.places) == 20
    assert each.places[1][0] == "main/clone#2"
    assert summary(found).startswith("30 tasks differ; first at the exit of main/clone#1:")


def test_json_tells_the_same() -> None:
    shown = to_json(compared(WELL, LEAK))
    assert shown["summary"].startswith("1 task differs")
    (each,) = shown["differences"]
    assert each["kind"] == "changed"
    assert each["fields"] == [
        {
            "name": "shadow_stacks.released",
            "a": "released",
            "b": "left until the address space goes",
        }
    ]
    assert each["places"] == [{"task": "main/clone#1", "a": "50.2", "b": "50.2"}]


def test_the_order_of_tasks_only_on_request() -> None:
    sooner = WELL.replace("    t2 first_user\n", "    t1 getpid() = 1\n    t2 first_user\n")
    later = WELL.replace("    t2 first_user\n", "    t2 first_user\n35  t1 getpid() = 1\n")
    assert compared(sooner, later).same
    assert not compared(sooner, later, order=True).same


def test_every_word_that_can_be_ignored_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "diff.md").read_text()
    words = text.partition("## Words for --ignore\n")[2]
    rows = [row for row in words.splitlines() if row.startswith("| `")]
    documented = {
        f"{row.split('`')[1]}.{column}" for row in rows for column in re.findall("`(.+?)`", row)[1:]
    }
    documented |= {f"syscalls.a{i}" for i in range(6)}
    assert documented == set(FIELDS)
