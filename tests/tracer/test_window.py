"""Windows: their rows are those of a whole recording with --trace insn, at any position."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from shstk.replay.run import Run
from shstk.schemas.seq import STEPS
from shstk.tracer.record import RecordOptions, record
from shstk.tracer.rerun import window
from shstk.tracer.rerun.checkpoint_cache import CheckpointCache
from shstk.tracer.rerun.setup import set_up_again
from shstk.tracer.rerun.window import Spacing

FIXTURES = Path(__file__).parents[2] / "fixtures/bin"
PROGRAMS = ("pthread-pads", "processes", "signals", "sc3", "sc11", "sc13", "probe", "longjmp")
EVERYWHERE = Spacing(seconds=0, cost=0)


@pytest.fixture(scope="module", params=PROGRAMS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("runs") / "x.run"
    record(
        RecordOptions(
            str(FIXTURES / f"{request.param}.elf"),
            out=out,
            trace=frozenset({"cfi", "flow", "insn"}),
            max_instructions=200_000,
            quantum=(500, 3000),
        )
    )
    return Run.open(out)


@pytest.fixture(params=["checkpoints everywhere", "checkpoints now and then", "no cache"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[CheckpointCache, Spacing]:
    """The cache of checkpoints, and their spacing."""
    return (
        CheckpointCache(None if request.param == "no cache" else tmp_path, b""),
        EVERYWHERE if request.param == "checkpoints everywhere" else Spacing(),
    )


def batches(
    run: Run, cache: CheckpointCache, spacing: Spacing, first: int, last: int
) -> Iterator[tuple[str, pa.RecordBatch]]:
    assert run.path is not None
    rows = partial(run.table)
    set_up = partial(
        set_up_again, run.path, run.manifest, lambda name: rows(name).iter_rows(named=True)
    )
    return window.rows(
        set_up,
        cache,
        first,
        last,
        tables=("insn", "cfi"),
        until=run.manifest.icount,
        spacing=spacing,
    )


def test_windows_are_parts_of_the_whole(run: Run, kept: tuple[CheckpointCache, Spacing]) -> None:
    rng = random.Random(run.manifest.program)
    end = run.manifest.icount
    windows = [(0, 0, 0), (1, 0, 1), (end, 0, end), (end - 5, 1, end + 1000)]
    windows.append((end // 3, 0, end // 3 + 3000))
    for _ in range(4):
        begin = rng.randrange(end)
        windows.append((begin, rng.choice((0, 0, 1)), begin + rng.choice((0, 30, 3000))))
    seen = 0
    for begin, step, last in windows:
        found: dict[str, list[pa.RecordBatch]] = {"insn": [], "cfi": []}
        for table, batch in batches(run, *kept, begin * STEPS + step, last * STEPS):
            found[table].append(batch)
        for table, parts in found.items():
            whole = run.table(table)
            wanted = whole.filter(pl.col("seq").is_between(begin * STEPS + step, last * STEPS))
            if not parts:
                assert wanted.is_empty()
                continue
            ours = pl.from_arrow(pa.Table.from_batches(parts))
            assert isinstance(ours, pl.DataFrame)
            assert ours.equals(wanted)
            seen += wanted.height
    assert seen > min(3000, end // 2)


def test_the_second_window_begins_at_a_checkpoint(tmp_path: Path) -> None:
    out = tmp_path / "x.run"
    record(RecordOptions(str(FIXTURES / "sc1.elf"), out=out, quantum=(500, 3000)))
    run = Run.open(out)
    cache = CheckpointCache(tmp_path / "cache", b"")
    assert run.path is not None
    ways: list[list[int]] = []
    for _ in range(2):
        way: list[int] = []
        set_up = partial(
            set_up_again, run.path, run.manifest, lambda t: run.table(t).iter_rows(named=True)
        )
        first, last = 150_000 * STEPS, 150_010 * STEPS
        (batch,) = window.rows(
            set_up, cache, first, last, on_progress=way.append, spacing=EVERYWHERE
        )
        assert batch[1].num_rows == 11
        ways.append(way)
    assert min(ways[0]) == 0
    assert min(ways[1]) > 140_000


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path) -> None:
    out = tmp_path / "x.run"
    record(RecordOptions(str(FIXTURES / "sc1.elf"), out=out, quantum=(500, 3000)))
    run = Run.open(out)
    cache = CheckpointCache(tmp_path / "cache", b"")
    args = (run, cache, EVERYWHERE, 150_000 * STEPS, 150_010 * STEPS)
    before = [batch for _, batch in batches(*args)]
    made = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert made
    for path in made:
        data = bytearray(path.read_bytes())
        data[-1] ^= 0x10
        path.write_bytes(data)
    assert [batch for _, batch in batches(*args)] == before
