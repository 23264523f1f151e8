"""The history of every task: what a thread's exec, a reused tid and lost beginnings make of it."""

from __future__ import annotations

import polars as pl
from listings import threaded

from shstk.replay.check import check
from shstk.replay.facts import Facts
from shstk.replay.run import Run


def history(run: Run):  # type: ignore[no-untyped-def]
    return Facts(run, run.row, "intent").history


FROM_THREAD = """30  t1 clone(THREAD, child_tid_addr=TID) = 2 { map S2 ss; t2 created ssp=S2.top }
    t2 first_user
50  t2 execve(0) = 0 {
        t2 exec_begin
        t1 exit_begin 9
        t1 unmap S1
        t1 mm_dropped 1
        t1 unmap S2
        t1 mm2 new_mm exec mm1
        t1 mm1 mm_dropped 0
        t1 mm2 exec_done ssp=0
    }
60  t1 mm2 exit_group(0) { exit_begin 0; mm_dropped 0 }
```"""


def test_a_thread_that_execs_comes_out_under_its_leaders_tid() -> None:
    run = threaded(FROM_THREAD)
    report = check(run)
    assert report.clean, report.violated.select("rule", "note").rows()
    outcomes = dict(report.findings.select("rule", "outcome").iter_rows())
    assert outcomes["X6"] == outcomes["X8"] == outcomes["X2"] == "satisfied"
    last = history(run).tasks[-1]
    assert (last.tid, last.state.enabled, last.mm) == (1, False, 2)


def test_a_thread_that_execs_and_leaves_its_stack_is_told() -> None:
    report = check(threaded(FROM_THREAD.replace("        t1 unmap S2\n", "")))
    (finding,) = report.violated.iter_rows(named=True)
    assert (finding["rule"], finding["addr"]) == ("X6", 0x7FFF_E000_0000)


def test_a_tid_that_is_used_again_is_another_task() -> None:
    again = """30  t1 clone(THREAD, child_tid_addr=TID) = 2 { map S2 ss; t2 created ssp=S2.top }
    t2 first_user
50  t2 exit(0) { exit_begin 0; unmap S2; clear_child_tid TID; mm_dropped 1 }
60  t1 fork() = 2 { t2 mm2 new_mm fork mm1; t2 mm2 created ssp=S1.top-8 }
    t2 first_user
70  t2 exit(0) { exit_begin 0; unmap S1; mm_dropped 0 }
90  t1 exit_group(0) { exit_begin 0; unmap S1; mm_dropped 0 }
```"""
    run = threaded(again)
    assert check(run).clean
    assert [(t.tid, t.how) for t in history(run).tasks] == [(1, "boot"), (2, "thread"), (2, "fork")]


def test_a_limit_that_is_set_holds_for_the_process_and_its_children() -> None:
    run = threaded(
        """25  t1 prlimit64(0, 3, 0x7000, 0) = 0 { mem_read 0x7000 u64:0x200000 }
30  t1 fork() = 2 { t2 mm2 new_mm fork mm1; t2 mm2 created ssp=S1.top-8 }
    t2 first_user
40  t2 clone(THREAD) = 3 { map 1M@0x7fff_e000_0000 ss; t3 created ssp=0x7fff_e010_0000 }
    t3 first_user
```"""
    )
    findings = check(run, select=("A6",)).findings
    assert findings.select("outcome", "checked").rows() == [("satisfied", 1)]


def test_a_vfork_child_borrows_until_it_execs() -> None:
    run = threaded(
        """30  t1 vfork() = 2 {
        t2 created
        t2 first_user
        t2 prctl(PR_SET_SHADOW_STACK_STATUS, 0) = 0
        t2 prctl(PR_SET_SHADOW_STACK_STATUS, 1) = 0 ssp_exit=S2.top { map S2 ss }
        t2 exit_begin 0
        t2 unmap S2
        t2 vfork_done
        t2 mm_dropped 1
    }
60  t1 sspopchk 0x10234
70  t1 exit_group(0) { exit_begin 0; unmap S1; mm_dropped 0 }
```"""
    )
    report = check(run)
    assert report.clean, report.violated.select("rule", "note").rows()
    counts = dict(report.findings.select("rule", "checked").iter_rows())
    assert counts["P8"] == 2
    assert counts["X1"] == 2  # the child's own one, and its parent's
    assert report.findings.filter(pl.col("rule") == "X3")["outcome"].to_list() == ["not evaluated"]
