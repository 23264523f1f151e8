"""What a pop should find, against a model that keeps every word of every address space."""

from __future__ import annotations

import polars as pl
import pyarrow as pa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shstk.replay.derive.regions import Regions
from shstk.replay.derive.rows import Copied, Mapping, Rows
from shstk.replay.derive.slots import LOADER, Judge
from shstk.schemas.rows import schema

SCHEMA = {
    "seq": pl.UInt64,
    "tid": pl.UInt32,
    "mm": pl.UInt32,
    "addr": pl.UInt64,
    "word": pl.UInt64,
    "load": LOADER,
    "found": pl.UInt64,
}
PAGE = 4096
BASE = 2**64 - 4 * PAGE  # the last pages but one: addresses past 2**63 must not overflow
MMS = st.integers(1, 3)
PAGES = st.integers(0, 2)
SLOTS = st.integers(0, 1)
STEPS = st.one_of(
    st.tuples(st.just("write"), MMS, PAGES, SLOTS, st.integers(2**64 - 3, 2**64 - 1)),
    st.tuples(st.just("pop"), MMS, PAGES, SLOTS, st.one_of(st.none(), st.just(7))),
    st.tuples(st.sampled_from(["map", "unmap", "discard"]), MMS, PAGES),
    st.tuples(st.just("remap"), MMS, PAGES, PAGES),
    st.tuples(st.just("fork"), MMS, MMS),
)


def mapping(seq: int, mm: int, op: str, start: int, old: int | None = None) -> Mapping:
    return Mapping(seq, 1, mm, op, None, 0, start, PAGE, old, old and PAGE, None, True, 0)


def slot(page: int, word: int) -> int:
    return BASE + page * PAGE + word * 8


class Machine:
    """The memory as it really is, and the rows that a recorder would write of it."""

    def __init__(self) -> None:
        # None: not mapped, so that nothing is known of what is found there
        self.words: dict[int, dict[int, int | None]] = {1: {}, 2: {}, 3: {}}
        self.born = {1: 0}
        self.rows: list[tuple[int | str | None, ...]] = []
        self.mappings = [mapping(1 + page, 1, "map", slot(page, 0)) for page in range(3)]
        self.forks: list[Copied] = []
        self.wrong: list[tuple[int, int]] = []

    def step(self, seq: int, step: tuple) -> None:  # type: ignore[type-arg]
        op, mm, *rest = step
        if mm not in self.born:
            return
        words = self.words[mm]
        if op == "write":
            page, word, value = rest
            words[slot(page, word)] = value
            self.rows.append((seq, 1, mm, slot(page, word), value, None, None))
        elif op == "pop":
            page, word, lie = rest
            addr = slot(page, word)
            due = words.get(addr, 0)
            value = due if lie is None else lie
            value = 7 if value is None else value
            if value != due and due is not None:
                self.wrong.append((seq, due))
            words[addr] = value  # from here on what was found is believed
            self.rows.append((seq, 1, mm, addr, value, "sspopchk", value))
        elif op == "fork":
            (child,) = rest
            if child not in self.born:
                self.born[child] = seq
                self.words[child] = dict(words)
                self.forks.append(Copied(seq, 1, child, mm))
        elif op == "remap":
            old, new = (slot(page, 0) for page in rest)
            if old == new:
                return
            self.mappings.append(mapping(seq, mm, "remap", new, old))
            for word in (0, 8):
                words[new + word] = words.get(old + word, 0)
                words[old + word] = None
        else:
            start = slot(rest[0], 0)
            self.mappings.append(mapping(seq, mm, op, start))
            for word in (0, 8):
                words[start + word] = None if op == "unmap" else 0


# Pushes and pops alone, on few words: calls within calls.
VALUES = st.integers(1, 2)
CALLS = st.one_of(
    st.tuples(st.just("write"), st.just(1), st.just(0), st.integers(0, 3), VALUES),
    st.tuples(
        st.just("pop"), st.just(1), st.just(0), st.integers(0, 3), st.one_of(st.none(), VALUES)
    ),
)


def as_cfi(rows: pl.DataFrame) -> pa.Table:
    """Pushes, and pops of which nobody knows with what they were compared."""
    kind = pl.when(pl.col("load").is_null()).then(pl.lit("sspush")).otherwise(pl.lit("sspopchk"))
    told = rows.with_columns(kind=kind, value="word").to_dicts()
    others = dict.fromkeys(("pc", "ssp_before", "ssp_after"), 0)
    return pa.Table.from_pylist([row | others for row in told], schema("cfi"))


PUSHED_TWICE = [("write", 1, 0, 0, 1), ("write", 1, 0, 0, 2), ("pop", 1, 0, 0, None)]


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.lists(STEPS, max_size=30), st.lists(CALLS, max_size=30)))
@example([*PUSHED_TWICE, ("pop", 1, 0, 0, 1)])
@example([("write", 1, 0, 1, 1), *PUSHED_TWICE, ("pop", 1, 0, 0, 1), ("pop", 1, 0, 1, None)])
def test_wrong_loads_are_those_of_the_model(steps: list) -> None:  # type: ignore[type-arg]
    machine = Machine()
    for i, step in enumerate(steps):
        machine.step(100 + i, step)
    rows = pl.DataFrame(machine.rows, schema=SCHEMA, orient="row")
    regions = Regions(Rows(machine.mappings), Rows(machine.forks), {})
    for height, kernels in ((1, 2), (4, 2), (100, 10**6), (100, 1)):
        of_kernel = pl.col("seq") % kernels == 0
        read = pl.when(pl.col("load").is_not_null()).then(pl.lit("read", LOADER)).alias("load")
        judge = Judge(regions.changes, rows.filter(of_kernel).with_columns(read))
        for batch in as_cfi(rows.filter(~of_kernel)).to_batches(height):
            judge.take(batch)
        found = judge.end()
        assert found.wrong.select("seq", "due").rows() == machine.wrong
        assert sum(found.right.values()) == rows["load"].count() - len(machine.wrong)
