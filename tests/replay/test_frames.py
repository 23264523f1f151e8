"""Calls and returns, words and areas: what they say of recorded guests, held against the rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from shstk.replay.run import Run
from shstk.replay.symbols import Symbols
from shstk.replay.views import VIEWS
from shstk.schemas.links import ending
from shstk.tracer.record import RecordOptions, record

ROOT = Path(__file__).parents[2]
Recorded = Callable[..., Run]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    folder = tmp_path_factory.mktemp("runs")

    def run(guest: str, *argv: str, **options: object) -> Run:
        out = folder / f"{len(list(folder.iterdir()))}.run"
        path = ROOT / "shstk" / "guests" if guest == "pthread" else ROOT / "fixtures" / "bin"
        program = str(path / f"{guest}.elf")
        record(RecordOptions(program=program, argv=argv, out=out, **options))  # type: ignore[arg-type]
        return Run.open(out)

    return run


def view(run: Run, name: str) -> pl.DataFrame:
    return VIEWS[name].build(run)


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        (0x008000EF, "call"),  # jal ra, 8
        (0x0080006F, "other"),  # j 8
        (0x000302E7, "call"),  # jalr t0, t1
        (0x00008067, "return"),  # ret
        (0x00028067, "return"),  # jr t0
        (0x00030067, "other"),  # jr t1
        (0x9502, "call"),  # c.jalr a0
        (0x8082, "return"),  # c.jr ra
        (0x8502, "other"),  # c.jr a0
        (0x9002, "other"),  # c.ebreak
        (0x00000073, "other"),  # ecall
        (0x8082 + 0x4, "other"),  # c.mv
    ],
)
def test_how_an_instruction_ends_a_block(word: int, kind: str) -> None:
    assert ending(word) == kind


def test_a_longjmp_unwinds(recorded: Recorded) -> None:
    rows = view(recorded("faulty", "longjmp"), "frames").filter(ended="unwound")
    assert rows["symbol"].to_list() == ["jump"] * 4 + ["go_to"]
    assert rows["return_seq"].n_unique() == 1


def test_handlers_end_by_sigreturn(recorded: Recorded) -> None:
    rows = view(recorded("signals"), "frames")
    handlers = rows.filter(kind="signal")
    assert handlers["ended"].to_list() == ["sigreturn"] * 4
    assert handlers.filter(tid=100)["depth"].diff().drop_nulls().gt(1).all()  # nested, with calls
    assert "unwound" not in rows["ended"]


@pytest.mark.parametrize("quantum", [(1, 3), (7, 50), (10_000, 50_000)])
def test_preemption_in_the_middle_of_blocks_changes_no_call(
    quantum: tuple[int, int], recorded: Recorded
) -> None:
    """The computing threads call the same, however often they are interrupted."""
    rows = view(recorded("pthread", quantum=quantum), "frames")
    assert set(rows["ended"]) <= {"return", "exit"}
    assert pushed_calls(rows) == pushed_calls(view(recorded("pthread"), "frames"))


def test_a_signal_right_after_a_call_does_not_hide_the_function(recorded: Recorded) -> None:
    """A timer's signals come wherever the task is: also between a call and its first block."""
    run = recorded("cuts", "signals")
    rows, signals = view(run, "frames"), run.table("signals")
    assert signals.filter(pl.col("kind").cast(pl.String) == "delivery").height == 200
    assert rows["callee"].null_count() == 0
    cut = rows.filter(pl.col("call_seq").is_in(signals["seq"].to_list()), kind="call")
    assert cut.height
    usual = set(rows.join(cut, on="call_seq", how="anti").select("caller_pc", "callee").iter_rows())
    assert set(cut.select("caller_pc", "callee").iter_rows()) <= usual


def pushed_calls(rows: pl.DataFrame) -> Counter[tuple[object, ...]]:
    """The threads' calls of functions that push: the C library's, which may wait, do not."""
    work = rows.filter(pl.col("slot").is_not_null() & (pl.col("tid") > 100))
    assert work.height > 2000
    return Counter(work.select("tid", "depth", "callee", "ended").iter_rows())


def test_by_pushes_alone_the_same_returns(recorded: Recorded) -> None:
    both = view(recorded("signals"), "frames").filter(pl.col("slot").is_not_null(), ended="return")
    alone = view(recorded("signals", trace=frozenset({"cfi"})), "frames").filter(ended="return")
    assert set(alone["source"]) == {"cfi"}
    handlers = pl.col("caller") == "__vdso_rt_sigreturn"  # by blocks they end by sigreturn
    assert alone.filter(handlers).height == 4
    alone = alone.filter(~handlers)
    key = ["tid", "slot", "return_to"]
    assert sorted(both.select(key).rows()) == sorted(alone.select(key).rows())


def test_a_program_without_shadow_stack_has_frames_too(recorded: Recorded) -> None:
    rows = view(recorded("pthread-off"), "frames")
    assert rows["slot"].null_count() == rows.height
    assert rows["ended"].to_list().count("return") > 2000


def test_a_fork_child_returns_through_its_parents_calls(recorded: Recorded) -> None:
    rows = view(recorded("sc4"), "frames")
    parent, child = (rows.filter(tid=tid) for tid in (100, 101))
    shared = child.filter(pl.col("call_seq").is_in(parent["call_seq"].to_list()))
    assert shared.height
    assert "unwound" not in rows["ended"]


def test_calls_by_line(recorded: Recorded) -> None:
    rows = view(recorded("faulty", "longjmp"), "calls")
    (inner,) = rows.filter(caller="jump", symbol="jump").rows(named=True)
    source = (ROOT / "fixtures" / "programs" / "faulty.c").read_text().splitlines()
    assert source[inner["line"] - 1].strip() == "jump(n - 1);"
    assert (inner["calls"], inner["returned"], inner["tasks"]) == (3, 0, 1)


@pytest.mark.parametrize("guest", ["signals", "processes", "green-threads", "taking-turns"])
def test_every_pop_took_the_word_that_stood_there(guest: str, recorded: Recorded) -> None:
    run = recorded(guest)
    slots = view(run, "slots")
    done = pl.col("fault").is_null()
    pops = run.table("cfi").with_columns(pl.col("kind").cast(pl.String)).filter(done)
    pops = pops.filter(kind="sspopchk").select("mm", "addr", "seq", popped="value")
    held = pops.join(slots, on=["mm", "addr"], nulls_equal=True).filter(
        (pl.col("from_seq") < pl.col("seq"))
        & (pl.col("to_seq").is_null() | (pl.col("to_seq") > pl.col("seq")))
    )
    assert held.height == pops.height
    assert (held["value"] == held["popped"]).all()


@pytest.mark.parametrize("guest", ["signals", "processes", "x7", "a6"])
def test_areas_do_not_overlap_and_hold_the_shadow_stacks(guest: str, recorded: Recorded) -> None:
    run = recorded(guest)
    areas = view(run, "areas").with_columns(end=pl.col("start") + pl.col("length"))
    for _, here in areas.group_by("mm"):
        for seq in here["from_seq"].unique():
            standing = here.filter(
                (pl.col("from_seq") <= seq)
                & (pl.col("to_seq").is_null() | (pl.col("to_seq") > seq))
            ).sort("start")
            assert (standing["end"].shift() <= standing["start"]).drop_nulls().all()
    regions = Symbols(run).regions
    pushes = run.table("cfi").with_columns(pl.col("kind").cast(pl.String))
    pushes = pushes.filter(pl.col("fault").is_null(), kind="sspush")
    for mm, addr, seq in pushes.select("mm", "addr", "seq").iter_rows():
        region = regions.at(mm, addr, seq)
        assert region is not None
        assert region.shadow_stack


def test_every_motion_of_ssp_has_a_reason(recorded: Recorded) -> None:
    reasons = {
        guest: set(view(recorded(guest), "ssp_path")["reason"].drop_nulls())
        for guest in ("signals", "green-threads", "unwinding-longjmp", "processes")
    }
    assert reasons["signals"] == {"prctl", "push", "pop", "signal", "sigreturn", "handoff"}
    assert reasons["green-threads"] == {"prctl", "push", "pop", "pivot"}
    assert "longjmp" in reasons["unwinding-longjmp"]
    assert {"exec", "handoff"} <= reasons["processes"]
    assert not any("call" in found for found in reasons.values())
