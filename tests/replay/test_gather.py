"""A run is judged alike if every row of cfi is told, or plain ones that are alike are counted."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

import shstk.replay.derive.gather as gather
from shstk.replay import _core
from shstk.replay.check import check
from shstk.replay.derive import pieces
from shstk.replay.derive.instructions import NO_PAD, address_due, done, kind, ssp_due
from shstk.replay.run import Run
from shstk.schemas.rows import schema
from shstk.tracer.record import RecordOptions, record

FIXTURES = Path(__file__).parents[2] / "fixtures" / "bin"
GATHERED = ("ST1", "I", "Z", "R1", "R5", "R8", "R11")
WRONG = {
    "tid": [None, 1, 7],
    "mm": [None, 1, 9],
    "pc": [0, 2**64 - 2],
    "kind": ["sspush", "sspopchk", "ssamoswap", "ssrdp", "ssp_write", "lpad"],
    "addr": [None, 0, 8, 12, 2**64 - 8],
    "value": [None, 0, NO_PAD, 2**63],
    "operand": [None, 0, 2**64 - 1],
    "ssp_before": [0, 4, 2**64 - 8],
    "ssp_after": [0, 4, 2**64 - 8],
    "fault": [2, 7, 15, 18],
}


def unabridged(run: Run, page: int, takers: Sequence[gather.Taker]) -> Iterator[gather.Piece]:
    """Every row by itself, as Polars sees them."""
    times = gather.times(run)
    for batch in run.batches("cfi"):
        for taker in takers:
            taker.take(batch)
        rows = gather.rows_of([batch])
        since = pl.lit(times.search_sorted(rows["seq"], side="right"))
        pad, pop = kind() == "lpad", kind() == "sspopchk"
        value, operand = pl.col("value"), pl.col("operand")
        fits = (value != NO_PAD) & ((value == 0) | (value == operand)) & (pl.col("pc") % 4 == 0)
        plain = (
            (pad | pop | (kind() == "sspush"))
            & done()
            & (pl.col("ssp_before") % 8 == 0)
            & (pl.col("ssp_after") == ssp_due())
            & pl.col("addr").eq_missing(address_due())
            & value.is_not_null()
            & (~pop | (value == operand))
            & (~pad | (operand.is_not_null() & fits))
            & pl.col("tid").is_not_null()
            & pl.col("mm").is_not_null()
        )
        follows = pl.all_horizontal(
            now == pl.col(then).shift()
            for now, then in ((pl.col("ssp_before"), "ssp_after"), (pl.col("tid"), "tid"),
                              (pl.col("mm"), "mm"))
        )  # fmt: skip
        yield gather.Piece(
            rows.with_columns(
                count=pl.lit(1, pl.UInt32),
                last="seq",
                lowest="addr",
                highest="addr",
                follows=(follows & (since.diff() == 0)).fill_null(False),
                plain=plain.fill_null(False),
            ),
            rows.lazy(),
        )


@pytest.fixture(scope="module", params=["taking-turns", "longjmp", "pthread-pads", "processes"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("gather") / "a.run"
    program = FIXTURES / f"{request.param}.elf"
    options = RecordOptions(program=str(program), out=out, kernel="v3", trace=("cfi", "flow"))
    record(options)
    return Run.open(out)


def with_cfi(run: Run, rows: pl.DataFrame) -> Run:
    tables = {name: run.arrow(name) for name in run.names}
    tables["cfi"] = pa.Table.from_pylist(rows.to_dicts(), schema("cfi"))
    return Run.from_tables(run.manifest, tables)


def spoilt(rows: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Some values wrong, in a few hundred rows."""
    chance = random.Random(seed)
    told = rows.with_columns(pl.col("kind").cast(pl.String)).head(400).to_dicts()
    for _ in range(chance.randint(1, 30)):
        column = chance.choice(list(WRONG))
        chance.choice(told)[column] = chance.choice(WRONG[column])
    return pl.DataFrame(told, schema={**rows.schema, "kind": pl.String})


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("rows", [7, 1 << 20])
def test_counting_plain_rows_changes_nothing(
    run: Run, seed: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "ROWS", rows)
    told = with_cfi(run, spoilt(run.table("cfi"), seed) if seed else run.table("cfi"))
    brief = check(told, select=GATHERED).findings
    monkeypatch.setattr(gather, "told", unabridged)
    whole = check(told, select=GATHERED).findings
    assert brief.rows() == whole.rows()


def test_calls_in_a_loop_are_told_once() -> None:
    """The first push, the first pop, and the last row of each batch, where a stretch of ssp may
    end."""
    top = 2**63
    call = [
        {"kind": "sspush", "addr": top - 8, "ssp_before": top, "ssp_after": top - 8},
        {"kind": "sspopchk", "addr": top - 8, "ssp_before": top - 8, "ssp_after": top},
    ]
    others = {"tid": 1, "mm": 1, "pc": 4, "value": 5, "operand": 5}
    rows = [others | row | {"seq": number << 20} for number, row in enumerate(call * 500, 1)]
    core = _core.Brief(b"", 12)
    told = [
        memoryview(core.take(batch)[0]).cast("I").tolist()
        for batch in pa.Table.from_pylist(rows, schema("cfi")).to_batches(500)
    ]
    [values, _], *_ = core.end()
    assert told == [[0, 1, 499], [499]]
    assert memoryview(values).cast("I").tolist() == [500, 500, 0, 0]


@pytest.mark.parametrize("fact", [_core.Brief(b"", 12), _core.Words(b""), _core.Trail(1, 1)])
def test_batches_of_another_kind_are_refused(fact: _core.Brief) -> None:
    for columns in ({}, {"seq": pa.array([1], pa.int64())}, {"seq": pa.array(["a"])}):
        batch = pa.RecordBatch.from_pydict(columns)
        with pytest.raises(ValueError, match=r"no column|another type"):
            fact.take(batch)


def test_a_file_tells_which_columns_are_whole(run: Run) -> None:
    assert run.path
    afresh = Run.open(run.path)  # other tests have loaded the tables of `run`
    for table in ("cfi", "flow"):
        whole = {column.name for column in run.table(table) if not column.null_count()}
        assert afresh.complete(table) == whole
        assert {"seq", "tid"} < whole
