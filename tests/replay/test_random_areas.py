"""Shadow-stack areas cut, moved, protected and given away at random, in the executor: what replay
derives from the rows is what the guest sees, and no rule finds anything.

``python tests/replay/test_random_areas.py 2000`` tries as many.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from shstk.replay.check import check
from shstk.replay.explain import explain
from shstk.replay.run import Run
from shstk.replay.stacks import stacks
from shstk.replay.views import VIEWS
from shstk.schemas import uapi
from shstk.tracer.record import RecordOptions, record

GUEST = Path(__file__).parents[2] / "fixtures" / "bin" / "areas.elf"
PAGE, FIRST = 4096, 0x4000_0000
ADVICE = (
    *("MADV_DONTNEED", "MADV_DONTFORK", "MADV_DOFORK", "MADV_WIPEONFORK", "MADV_KEEPONFORK"),
    *("MADV_GUARD_INSTALL", "MADV_GUARD_REMOVE", "MADV_POPULATE_READ", "MADV_POPULATE_WRITE"),
)

PLACE, COUNT, FLAG = st.integers(0, 11), st.integers(1, 5), st.integers(0, 1)
NONE = st.just(0)
STEPS = st.one_of(
    st.tuples(st.just("s"), PLACE, COUNT, NONE, NONE, FLAG),
    st.tuples(st.just("m"), PLACE, COUNT, NONE, NONE, st.integers(0, 7)),
    st.tuples(st.just("u"), PLACE, COUNT, NONE, NONE, NONE),
    st.tuples(st.just("p"), PLACE, COUNT, NONE, NONE, st.integers(0, 7)),
    st.tuples(st.just("g"), PLACE, COUNT, COUNT, NONE, FLAG),
    st.tuples(st.just("r"), PLACE, COUNT, COUNT, PLACE, NONE),
    st.tuples(
        st.just("a"), PLACE, COUNT, NONE, NONE, st.sampled_from([getattr(uapi, a) for a in ADVICE])
    ),
    st.tuples(st.just("v"), PLACE, COUNT, NONE, NONE, FLAG),
    st.tuples(st.just("w"), PLACE, NONE, NONE, NONE, NONE),
)
Step = tuple[str, int, int, int, int, int]


def script(steps: Iterable[Step]) -> bytes:
    return b"".join(bytes([ord(what), *numbers, 0, 0]) for what, *numbers in steps)


def recorded(steps: Iterable[Step], out: Path) -> tuple[Run, str]:
    """The run, and what the guest said of its areas."""
    stdin = script([("s", 0, 9, 0, 0, 1), *steps])
    record(RecordOptions(program=str(GUEST), stdin=stdin, out=out))
    run = Run.open(out)
    return run, b"".join(run.table("output")["bytes"]).decode()


def seen(said: str) -> dict[int, tuple[bool, str]]:
    """Page by page, whether it is shadow stack and with which permissions."""
    pages = {}
    for line in said.splitlines():
        start, end, shadow_stack, perm = line.split()
        for at in range(int(start, 16), int(end, 16), PAGE):
            pages[at] = (shadow_stack == "1", perm[:3])
    return pages


def told(areas: pl.DataFrame) -> dict[int, tuple[bool, str]]:
    """The same of the view."""
    pages = {}
    for row in areas.filter(pl.col("start") >= FIRST).iter_rows(named=True):
        perm = "".join(c if row["prot"] >> i & 1 else "-" for i, c in enumerate("rwx"))
        for at in range(row["start"], row["start"] + row["length"], PAGE):
            pages[at] = (row["shadow_stack"], perm)
    return pages


def standing(rows: pl.DataFrame, mm: int) -> list[int]:
    """The pages of the address space's stacks, as `stacks --at` lists them."""
    areas = rows.filter(mm=mm).select("base", "top").iter_rows()
    return sorted(at for base, top in areas for at in range(base, top, PAGE))


def hold(steps: list[Step], out: Path) -> None:
    run, said = recorded(steps, out)
    areas = VIEWS["areas"].build(run)
    (mm,) = run.table("task_events").filter(pl.col("tid") == 100)["mm"].drop_nulls().unique()
    own = areas.filter(mm=mm)
    if run.manifest.exit_status == 0:
        output = run.table("output")["seq"][0]
        now = (pl.col("from_seq") <= output) & (pl.col("to_seq").fill_null(2**64 - 1) > output)
        mine = {at: page for at, page in told(own.filter(now)).items() if at < 2**46}
        assert mine == {at: page for at, page in seen(said).items() if at < 2**46}
    times = run.table("mappings")["seq"].to_list()
    for at in times[-1 :: -max(len(times) // 4, 1)]:
        now = (pl.col("from_seq") <= at) & (pl.col("to_seq").fill_null(2**64 - 1) > at)
        shadow = own.filter(now & pl.col("shadow_stack")).select("start", "length").iter_rows()
        pages = sorted(p for start, n in shadow for p in range(start, start + n, PAGE))
        assert standing(stacks(run, at=at), mm) == pages
    found = check(run).violated.select("rule", "seq", "expected", "actual", "note").rows()
    assert found == []
    assert all(e.verdict.sentence for e in explain(run, every=True))
    for name in ("slots", "ssp_path", "shadow_stacks", "frames"):
        VIEWS[name].build(run)


EXAMPLES = int(sys.argv[1]) if __name__ == "__main__" else 15


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(STEPS, min_size=4, max_size=14))
def test_areas_at_random(steps: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as work:
        hold(steps, Path(work) / "areas.run")


if __name__ == "__main__":
    test_areas_at_random()
