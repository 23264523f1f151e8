"""Checkpoints and alarms: a run continues from a checkpoint exactly as it would have without."""

from __future__ import annotations

import random
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shstk.schemas.tables import TRACED
from shstk.schemas.values import Values, by_name
from shstk.tracer.guest import Guest, set_up
from shstk.tracer.kernel import loop
from shstk.tracer.kernel.mm.sysvshm import SEGMENTS
from shstk.tracer.kernel.state import Slot
from shstk.tracer.kernel.time.timers import TIMERS
from shstk.tracer.options import GuestOptions
from shstk.tracer.rerun import checkpoint
from shstk.tracer.rerun.checkpoint_cache import CheckpointCache, Room

FIXTURES = Path(__file__).parents[2] / "fixtures/bin"
ALL = 7  # cfi, flow, insn
MOST = 300_000
# Threads, fork, exec, vfork, signals, ptrace, own stacks, exit in every order.
PROGRAMS = (
    *("pthread-pads", "processes", "signals", "sc3", "sc11", "sc13", "probe"),
    *("longjmp", "green-threads", "taking-turns", "x8", "a10", "cuts file"),
)


class Rows:
    """Keeps every row: the kernel model's by table, the executor's by column."""

    keeps = True

    def __init__(self) -> None:
        self.tables: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.columns: dict[tuple[str, str], bytes] = defaultdict(bytes)
        self.output = b""
        self.inputs: dict[tuple[str, bytes, int], int] = {}
        self.module_of: Callable[[int, int], int | None] = lambda mm, pc: None

    def add(self, table: str, values: Values) -> None:
        self.row(table, **by_name(table, values))

    def row(self, table: str, /, **columns: Any) -> None:
        self.tables[table].append(columns)

    def drain(self, machine: Any) -> None:
        for table in TRACED:
            if machine.pending(table):
                for name, column in machine.drain(table).items():
                    if name != "bytes_offset":  # counts from each drain
                        self.columns[table, name] += bytes(column)

    def tick(self, machine: Any) -> None:
        pass

    def input(self, guest_path: str, data: bytes, mode: int, seq: int) -> int:
        return self.inputs.setdefault((guest_path, bytes(data), mode), len(self.inputs) + 1)

    def file(self, data: bytes) -> str:
        return ""

    def write(self, fd: int, data: bytes) -> None:
        self.output += data

    def after(self, earlier: Rows) -> Rows:
        """The rows before a checkpoint, followed by these."""
        both = Rows()
        for rows in (earlier, self):
            for table, more in rows.tables.items():
                both.tables[table] += more
            for column, data in rows.columns.items():
                both.columns[column] += data
            both.output += rows.output
        return both

    def __eq__(self, other: object) -> bool:
        assert isinstance(other, Rows)
        mine, theirs = (
            {name: rows for name, rows in each.tables.items() if rows} for each in (self, other)
        )
        return (mine, self.columns, self.output) == (theirs, other.columns, other.output)

    __hash__ = None  # type: ignore[assignment]


def guest(program: str, rows: Rows) -> Guest:
    name, *argv = program.split()
    path = str(FIXTURES / f"{name}.elf")
    return set_up(
        GuestOptions(path, tuple(argv), quantum=(500, 3000), on_output=rows.write), rows, ALL
    )


def snapshot(rows: Rows) -> Rows:
    """A copy of the rows so far."""
    copy = Rows().after(rows)
    copy.inputs = dict(rows.inputs)
    return copy


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_run_goes_on_from_a_checkpoint_as_if_it_had_not_stopped(program: str) -> None:
    plain = Rows()
    whole = guest(program, plain)
    ending = loop.run(whole.k, MOST)
    rng = random.Random(program)
    points = sorted(rng.sample(range(1, whole.machine.icount + 1), 12))

    watched, made = Rows(), []
    same = guest(program, watched)

    def ring() -> None:
        watched.drain(same.machine)
        made.append((same.machine.icount, checkpoint.save(same), snapshot(watched)))

    assert loop.run(same.k, MOST, alarms=[(at, ring) for at in points]) == ending
    assert [at for at, _, _ in made] == points
    assert watched == plain

    for at, data, before in made:
        rest = Rows()
        other = guest(program, rest)
        rest.tables.clear()
        rest.inputs = dict(before.inputs)
        checkpoint.restore(other, data)
        assert other.machine.icount == at
        assert loop.run(other.k, MOST) == ending
        assert rest.after(before) == plain
        assert other.k.first.exit_status == whole.k.first.exit_status


def test_a_guest_keeps_the_memory_it_may_use() -> None:
    first, second = guest("processes", Rows()), guest("processes", Rows())
    loop.advance(first.k, 5000)
    checkpoint.restore(second, checkpoint.save(first))
    assert second.machine.frames == first.machine.frames


def test_what_modules_own_is_in_a_checkpoint() -> None:
    kernel = [m for name, m in sys.modules.items() if name.startswith("shstk.tracer.kernel.")]
    slots = {owned for m in kernel for owned in vars(m).values() if isinstance(owned, Slot)}
    assert {SEGMENTS, TIMERS} < slots
    saved, restored = guest("processes", Rows()), guest("processes", Rows())
    for slot in slots:
        slot.of(saved.k)
    SEGMENTS.of(saved.k).made = 7
    SEGMENTS.of(restored.k).made = 8
    checkpoint.restore(restored, checkpoint.save(saved))
    assert SEGMENTS.of(restored.k).made == 7
    assert restored.k.state.keys() == saved.k.state.keys()


def test_what_is_no_checkpoint_changes_nothing() -> None:
    rows = Rows()
    here = guest("sc1", rows)
    good = checkpoint.save(here)
    loop.advance(here.k, 1000)
    before = checkpoint.save(here)
    changed = bytearray(good)
    changed[len(changed) // 2] ^= 1
    for data in (b"", b"shstkpt1", good[:-1], good + b"x", bytes(changed), b"\x80\x04." * 50):
        with pytest.raises(checkpoint.NoCheckpoint):
            checkpoint.restore(here, data)
    assert checkpoint.save(here) == before


def test_another_build_has_made_no_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    here = guest("sc1", Rows())
    data = checkpoint.save(here)
    monkeypatch.setattr(checkpoint, "build", lambda: b"another")
    with pytest.raises(checkpoint.NoCheckpoint):
        checkpoint.restore(here, data)


# The cache.


def test_the_latest_before_comes_first(tmp_path: Path) -> None:
    cache = CheckpointCache(tmp_path / "all", b"manifest")
    for icount in (5, 300, 20):
        assert not cache.add(icount, str(icount).encode())
    assert list(cache.before(299)) == [b"20", b"5"]
    assert list(CheckpointCache(tmp_path / "all", b"manifest").before(300)) == [b"300", b"20", b"5"]
    assert list(CheckpointCache(tmp_path / "all", b"another run").before(300)) == []
    assert list(CheckpointCache(tmp_path / "all", b"manifest", "v6").before(300)) == []


def test_too_many_are_thinned_out(tmp_path: Path) -> None:
    cache = CheckpointCache(tmp_path, b"", room=Room(checkpoints=4))
    assert [cache.add(icount, b"%d" % icount) for icount in range(1, 6)] == [False] * 4 + [True]
    assert list(cache.before(9)) == [b"4", b"2"]


def test_runs_that_were_not_looked_at_for_long_go(tmp_path: Path) -> None:
    CheckpointCache(tmp_path, b"old", room=Room(all_bytes=1)).add(1, b"12")
    CheckpointCache(tmp_path, b"new", room=Room(all_bytes=1)).add(1, b"34")
    assert list(CheckpointCache(tmp_path, b"old").before(1)) == []
    assert list(CheckpointCache(tmp_path, b"new").before(1)) == [b"34"]


def test_a_cache_that_cannot_be_is_empty(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for directory in (tmp_path / "file" / "below", None):
        cache = CheckpointCache(directory, b"")
        assert not cache.add(1, b"x")
        assert list(cache.before(1)) == []
