"""What stands in the words of the shadow stacks at any time, against a model of the memory."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_slots import STEPS, Machine

import shstk.replay.derive.standing as standing
from shstk.replay.derive.regions import Regions
from shstk.replay.derive.rows import Rows
from shstk.replay.derive.standing import Standing
from shstk.schemas.rows import schema


class Tables:
    """As much of a run as a walk over cfi reads."""

    def __init__(self, cfi: pl.DataFrame) -> None:
        self._cfi = cfi

    def scan(self, name: str) -> pl.LazyFrame:
        assert name == "cfi"
        return self._cfi.lazy()

    def rows(self, name: str) -> int:
        assert name == "cfi"
        return self._cfi.height


def tables(machine: Machine) -> Tables:
    rows = [
        {
            "seq": seq,
            "tid": tid,
            "mm": mm,
            "addr": addr,
            "value": word,
            "kind": "sspopchk" if load else "sspush",
        }
        for seq, tid, mm, addr, word, load, _ in machine.rows
    ]
    empty = pl.from_arrow(schema("cfi").empty_table())
    assert isinstance(empty, pl.DataFrame)
    dtypes = {**empty.schema, "kind": pl.String}
    return Tables(pl.DataFrame(rows, schema=dtypes).with_columns(pc=pl.lit(4, pl.UInt64)))


@pytest.fixture(params=[1, 512], ids=lambda many: f"folded-from-{many}")
def folded(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows are taken one by one, of many only the last of each word."""
    monkeypatch.setattr(standing, "MANY", request.param)
    monkeypatch.setattr(standing, "ROWS", 7)


MANY_STEPS = st.lists(STEPS, max_size=40)
QUIET = (HealthCheck.function_scoped_fixture,)


@settings(max_examples=100, deadline=None, suppress_health_check=QUIET)
@given(MANY_STEPS, st.lists(st.integers(0, 40), max_size=6))
def test_words_are_those_of_the_memory(
    folded: None, steps: list[tuple[Any, ...]], asked: list[int]
) -> None:
    """Asked forwards, backwards and again; only what was written is told, not what is zero."""
    machine, was = Machine(), {}
    for i, step in enumerate(steps):
        was[100 + i] = {mm: dict(words) for mm, words in machine.words.items()}
        if step[0] != "pop" or step[-1] is None:  # a lie is no write
            machine.step(100 + i, step)
    regions = Regions(Rows(machine.mappings), Rows(machine.forks), {})
    walk = Standing(tables(machine), regions.changes, ())  # type: ignore[arg-type]
    for seq in [*was, *(100 + at for at in asked)]:
        for mm, words in was.get(seq, {}).items():
            told = {word.addr: word.value for word in walk.words(mm, 0, 2**64, seq)}
            assert told == {addr: word for addr, word in words.items() if addr in told}
            missing = {word for addr, word in words.items() if addr not in told}
            assert missing <= {0, None, 7}  # 7: what the machine reads where nothing is mapped


def test_pops(folded: None) -> None:
    machine = Machine()
    page = ("write", 1, 0, 0, 2**64 - 1), ("pop", 1, 0, 0, None), ("write", 1, 0, 0, 2**64 - 2)
    for i, step in enumerate(page):
        machine.step(100 + i, step)
    walk = Standing(tables(machine), (), ())  # type: ignore[arg-type]
    (first,), addr = walk.words(1, 0, 2**64, 102), machine.rows[0][3]
    assert walk.popped(1, first, 102) == walk.last_pop(1, 102) == (101, 4, addr)
    (second,) = walk.words(1, 0, 2**64, 103)
    assert walk.popped(1, second, 103) is None
