"""Rows of the kernel model become columns as they are added, with the values that they had."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shstk.schemas.rows import INTEGERS, to_batch
from shstk.schemas.tables import TABLES, TRACED, Column
from shstk.schemas.values import in_order
from shstk.tracer.recording.kernelrows import drained_batch, row_buffer

KERNEL = sorted(TABLES.keys() - {*TRACED})


def values_of(column: Column) -> st.SearchStrategy[Any]:
    if column.kinds:
        some: st.SearchStrategy[Any] = st.sampled_from(column.kinds)
    elif column.base in INTEGERS:
        some = st.integers(*INTEGERS[column.base])
    else:
        some = {"bool": st.booleans(), "str": st.text(), "bytes": st.binary()}[column.base]
    return st.none() | some if column.nullable else some


@pytest.mark.parametrize("name", KERNEL)
@settings(max_examples=10)
@given(st.data())
def test_the_batch_of_added_rows_is_that_of_whole_rows(name: str, data: st.DataObject) -> None:
    row = st.fixed_dictionaries({c.name: values_of(c) for c in TABLES[name].columns})
    buffer = row_buffer(name)
    for _ in range(2):  # the buffer is used again
        rows = data.draw(st.lists(row, min_size=1, max_size=20))
        for one in rows:
            buffer.add(in_order(name, one))
        assert buffer.rows == len(rows)
        batch = drained_batch(name, buffer.rows, buffer.drain())
        batch.validate(full=True)
        assert batch.equals(to_batch(TABLES[name], rows))
        assert buffer.rows == 0
    assert buffer.last >= max(one["seq"] for one in rows)


def added(*rows: tuple[object, ...]) -> pa.RecordBatch:
    buffer = row_buffer("output")
    for row in rows:
        buffer.add(row)
    return drained_batch("output", buffer.rows, buffer.drain())


@pytest.mark.parametrize(
    "bad",
    [
        (None, 1, 1, 1, b""),
        (2**64, 1, 1, 1, b""),
        (-1, 1, 1, 1, b""),
        (1, 2**32, 1, 1, b""),
        (1, None, 1, 2**31, b""),
        (1, None, 1, -(2**31) - 1, b""),
        (1, None, 1, 1, "text"),
        (1, None, 1, 1, None),
        (1, 1, 1, 1),
    ],
)
def test_a_row_that_does_not_fit_leaves_the_others_as_they_were(bad: tuple[object, ...]) -> None:
    first, second = (1, None, 2, 3, b"abc"), (2, 4, None, -1, b"")
    buffer = row_buffer("output")
    buffer.add(first)
    with pytest.raises(ValueError, match=r"does not fit|a value a column"):
        buffer.add(bad)
    buffer.add(second)
    assert drained_batch("output", buffer.rows, buffer.drain()).equals(added(first, second))
