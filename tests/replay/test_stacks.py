"""`shstk stacks` in the cases where an area, a task or a user of a stack is easily mistaken."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from listings import HEAD

from shstk.listing import build_run
from shstk.replay.check import check
from shstk.replay.run import Run
from shstk.replay.stacks import stacks
from shstk.replay.views import VIEWS
from shstk.schemas.seq import STEPS

S1, S2, M = 0x7FFF_F000_0000, 0x7FFF_E000_0000, 0x7FFF_D000_0000
TOP1, K = S1 + (4 << 20), 1024


def listed(body: str, kernel: str = "7.2") -> Run:
    return build_run(HEAD.format(kernel=kernel, extra="M = 16K@0x7fff_d000_0000") + body + "```")


def rows(run: Run, at: float | None = None, addr: int | None = None) -> list[dict[str, Any]]:
    seq = None if at is None else int(at) * STEPS + round(at % 1 * 10)
    return stacks(run, at=seq, addr=addr).rows(named=True)


CUT = """30 t1 map_shadow_stack(0, 16K, 0) = M.base { map M ss }
31 t1 munmap(M.base, 4K) = 0 { unmap 4K@0x7fff_d000_0000 }
32 t1 mremap(M.base, 8K, 16K, 1) = 0x7fff_c000_0000 {
     remap 8K@0x7fff_d000_2000 16K@0x7fff_c000_0000 }
40 t1 ssp_write 0x7fff_c000_4000
41 t1 sspush 0x10300
50 t1 exit_group(0) { exit_begin 0; unmap S1; mm_dropped 0 }
"""


def test_each_part_of_a_stack_that_was_cut_and_moved_has_its_own_fate() -> None:
    run = listed(CUT)
    told = [
        (r["base"], r["size"], r["how"], r["released_how"], r["released_by"], r["released_seq"])
        for r in rows(run)[1:]
    ]
    dropped = ("mm dropped", None, 50 * STEPS + 4)
    assert told == [
        (M, 4 * K, "map_shadow_stack", "munmap", 1, 31 * STEPS + 2),
        (M + 4 * K, 4 * K, "map_shadow_stack", *dropped),
        (M + 8 * K, 8 * K, "map_shadow_stack", "mremap", 1, 32 * STEPS + 2),
        (0x7FFF_C000_0000, 16 * K, "mremap", *dropped),
    ]
    moved = rows(run, addr=0x7FFF_C000_3000)[0]
    assert (moved["ssp"], moved["high_water"], moved["others"]) == (0x7FFF_C000_3FF8, 8, "1 pivots")


def test_the_views_agree_with_stacks_about_what_was_moved() -> None:
    run = listed(CUT)
    areas = VIEWS["areas"].build(run).filter("shadow_stack", pl.col("to_seq") == 50 * STEPS + 4)
    standing = {(r["base"], r["size"]) for r in rows(run) if r["released_how"] == "mm dropped"}
    assert set(areas.select("start", "length").iter_rows()) == standing
    (word,) = VIEWS["slots"].build(run).filter(value=0x10300).rows(named=True)
    assert word["addr"] == 0x7FFF_C000_3FF8
    reasons = VIEWS["ssp_path"].build(run).drop_nulls("reason")["reason"].to_list()
    assert reasons == ["prctl", "push", "pivot", "push"]


def test_at_a_time_nothing_later_is_told_and_ssp_is_where_it_is() -> None:
    run = listed(CUT)
    whole = rows(run, at=30.3)
    assert [(r["base"], r["size"], r["ssp"]) for r in whole] == [
        (S1, 4 << 20, TOP1 - 8),
        (M, 16 * K, None),
    ]
    own, rest, moved = rows(run, at=45)
    assert (own["base"], own["ssp"]) == (S1, None)
    assert (rest["base"], rest["size"]) == (M + 4 * K, 4 * K)
    assert (moved["how"], moved["ssp"]) == ("mremap", 0x7FFF_C000_3FF8)
    for row in (*whole, own, rest, moved):
        assert row["released_how"] is row["released_seq"] is row["should"] is None


def test_a_call_that_has_not_returned_has_not_moved_ssp() -> None:
    assert rows(listed(""), at=10.2)[0]["ssp"] is None
    assert rows(listed(""), at=10.3)[0]["ssp"] == TOP1


def test_shrinking_and_growing_in_place_keep_the_stack() -> None:
    run = listed(
        """30 t1 map_shadow_stack(0, 16K, 0) = M.base { map M ss }
31 t1 mremap(M.base, 16K, 8K, 0) = M.base { remap M 8K@0x7fff_d000_0000 }
32 t1 mremap(M.base, 8K, 12K, 0) = M.base { remap 8K@0x7fff_d000_0000 12K@0x7fff_d000_0000 }
"""
    )
    told = [(r["base"], r["size"], r["how"], r["released_how"]) for r in rows(run)[1:]]
    assert told == [
        (M, 12 * K, "map_shadow_stack", None),
        (M + 8 * K, 8 * K, "map_shadow_stack", "mremap"),
    ]


EXEC = """30 t1 clone(THREAD, child_tid_addr=TID) = 2 { map S2 ss; t2 created ssp=S2.top }
   t2 first_user
40 t2 sspush 0x10300
50 t2 execve(0) = 0 {
     t2 exec_begin
     t1 exit_begin 9
     t1 unmap S1
     t1 mm_dropped 1
     t1 unmap S2
     t1 mm2 new_mm exec mm1
     t1 mm1 mm_dropped 0
     t1 mm2 exec_done ssp=0
   }
60 t1 mm2 exit_group(0) { exit_begin 0; mm_dropped 0 }
"""


def test_a_thread_that_execs_frees_its_own_stack() -> None:
    leader, thread = rows(listed(EXEC))
    assert (leader["released_how"], leader["released_by"]) == ("exit", 1)
    assert (thread["owner"], thread["released_how"], thread["released_by"]) == (2, "exec", 2)
    assert thread["should"] is thread["others"] is None


USERS = """30 t1 clone(THREAD, child_tid_addr=TID) = 2 { t2 created ssp=S1.top-8 }
   t2 first_user
40 t2 sspush 0x10300
50 t1 vfork() = 3 {
     t3 created
     t3 first_user
     t3 exit_begin 0
     t3 vfork_done
     t3 mm_dropped 2
   }
60 t1 map_shadow_stack(0, 16K, 0) = M.base { map M ss }
61 t1 ssp_write M.top
"""


def test_sharers_borrowers_and_pivots_are_named() -> None:
    own, mapped = rows(listed(USERS, kernel="v3"))
    assert own["others"] == "2 shares; 3 borrows"
    assert (mapped["owner"], mapped["others"], mapped["ssp"]) == (None, "1 pivots", M + 16 * K)
    assert own["ssp"] == TOP1 - 16  # the owner left; task 2 is on it


def test_a_task_stays_on_a_stack_until_it_moves_or_exits() -> None:
    stays = VIEWS["stays"].build(listed(CUT)).select("tid", "base", "from_seq", "to_seq").rows()
    s1 = rows(listed(CUT))[0]["base"]
    assert stays[0][:2] == (1, s1)
    assert stays[0][3] == 40 * STEPS  # ssp_write takes it to the other
    assert stays[1] == (1, 0x7FFF_C000_0000, 40 * STEPS, 50 * STEPS + 2)  # exit_begin


def test_sharers_and_borrowers_stay_on_anothers_stack() -> None:
    stays = VIEWS["stays"].build(listed(USERS, kernel="v3"))
    by_stack = {
        base: sorted(stays.filter(base=base)["tid"])
        for base in stays["base"].unique(maintain_order=True)
    }
    own, mapped = rows(listed(USERS, kernel="v3"))
    assert by_stack == {own["base"]: [1, 2, 3], mapped["base"]: [1]}


@pytest.mark.parametrize(
    ("at", "others"),
    [(20, None), (45, "2 shares"), (50.3, "2 shares; 3 borrows"), (55, "2 shares")],
)
def test_others_at_a_time_are_those_on_it_then(at: float, others: str | None) -> None:
    assert rows(listed(USERS, kernel="v3"), at=at)[0]["others"] == others


def test_between_two_neighbours_ssp_is_on_the_empty_one() -> None:
    """Its top is the other's base."""
    run = listed(
        """30 t1 map_shadow_stack(0, 16K, 0) = M.base { map M ss }
31 t1 map_shadow_stack(M.top, 16K, 0) = M.top { map 16K@0x7fff_d000_4000 ss }
40 t1 ssp_write M.top
"""
    )
    lower, upper = rows(run)[1:]
    assert (lower["ssp"], lower["others"]) == (M + 16 * K, "1 pivots")
    assert (upper["ssp"], upper["others"]) == (None, None)
    assert [r["base"] for r in rows(run, addr=M + 16 * K)] == [M + 16 * K]


def test_a_childs_copy_is_the_childs() -> None:
    run = listed(
        """30 t1 fork() = 2 { t2 mm2 new_mm fork mm1; t2 mm2 created ssp=S1.top-8 }
   t2 first_user
40 t2 sspush 0x10300
"""
    )
    own, copy = rows(run)
    assert (own["mm"], own["owner"], own["others"], own["high_water"]) == (1, 1, None, 8)
    assert (copy["mm"], copy["owner"], copy["how"], copy["high_water"]) == (2, 2, "fork copy", 16)


def test_a_late_use_is_told_with_all_that_its_munmap_took() -> None:
    body = """30 t1 mprotect(S1.base, 4K, PROT_READ) = 0 { protect 4K@S1.base PROT_READ }
31 t1 munmap(S1.base, 8K) = 0 { unmap 8K@S1.base }
32 t1 munmap(S1.base+8K, 4K) = 0 { unmap 4K@S1.base+8K }
40 t1 ssp_write S1.base+4K
41 t1 sspush 0x10300
50 t1 exit_group(0) { exit_begin 0; unmap S1; mm_dropped 0 }
"""
    (result,) = check(listed(body), select=["I4"]).results
    assert [finding.expected for finding in result.findings] == [
        f"no access to {S1:#x}+0x2000 after task 1's munmap"
    ]
