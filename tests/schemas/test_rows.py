"""Rows of Python values become Arrow, or say what is wrong with them."""

import polars as pl
import pyarrow as pa
import pytest

from shstk.schemas.content import ContentHash
from shstk.schemas.rows import BadRow, to_batch
from shstk.schemas.tables import TABLES

EVENT = {"seq": 2**63 + 1, "tid": 1, "mm": None, "kind": "created", "ssp": 2**64 - 8}


def test_values_above_2_63_and_nulls_survive() -> None:
    batch = to_batch(TABLES["task_events"], [EVENT])
    batch.validate(full=True)
    row = pl.DataFrame(batch).row(0, named=True)
    assert {key: row[key] for key in EVENT} == EVENT
    assert row["status"] is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seq": None}, "task_events.seq may not be null"),
        ({"kind": "born"}, "task_events.kind: 'born' is not one of"),
        ({"ssp": 2**64}, "task_events.ssp: 18446744073709551616 is not of type u64"),
        ({"ssp": -1}, "task_events.ssp: -1 is not of type u64"),
        ({"pc": "x"}, "task_events.pc: 'x' is not of type u64"),
    ],
)
def test_a_row_the_table_cannot_hold(change: dict, said: str) -> None:
    with pytest.raises(BadRow, match=said.replace(".", r"\.")):
        to_batch(TABLES["task_events"], [EVENT, {**EVENT, **change}])


def content(table: str, *batches: pa.RecordBatch) -> str:
    hasher = ContentHash(TABLES[table])
    for batch in batches:
        hasher.update(batch)
    return hasher.hexdigest()


def rows(count: int) -> pa.RecordBatch:
    made = [
        {**EVENT, "seq": i, "ssp": i or None, "kind": ("created", "reaped")[i % 2]}
        for i in range(count)
    ]
    return to_batch(TABLES["task_events"], made)


def test_content_hash_is_of_the_values_only() -> None:
    whole = rows(100)
    assert content("task_events", whole) == content(
        "task_events", whole[:7], whole[7:7], whole[7:50], whole[50:]
    )
    # Another library orders the dictionary its own way.
    words = pa.array(["reaped", "created"])
    indices = pa.array([1 - i % 2 for i in range(100)], pa.int8())
    kind = pa.DictionaryArray.from_arrays(indices, words)
    at = whole.schema.names.index("kind")
    other = pa.record_batch(
        [kind if i == at else c for i, c in enumerate(whole.columns)], names=whole.schema.names
    )
    assert content("task_events", whole) == content("task_events", other)


def test_content_hash_sees_every_change() -> None:
    output = TABLES["output"]

    def of(*written: bytes) -> str:
        return content(
            "output", to_batch(output, [{"seq": 1, "fd": 1, "bytes": b} for b in written])
        )

    assert len({of(b"ab", b"c"), of(b"a", b"bc"), of(b"abc"), of(b"abd"), of()}) == 5
    null, zero = ({**EVENT, "ssp": value} for value in (None, 0))
    table = TABLES["task_events"]
    assert content("task_events", to_batch(table, [null])) != content(
        "task_events", to_batch(table, [zero])
    )


def test_content_hash_of_a_column_that_stays_the_same() -> None:
    def of(*ssps: int | None) -> pa.RecordBatch:
        return to_batch(TABLES["task_events"], [{**EVENT, "ssp": ssp} for ssp in ssps])

    columns = ([5] * 6, [5] * 7, [6] * 6, [None] * 6, [0] * 6, [5] * 5 + [None], [5] * 5 + [6])
    hashes = {content("task_events", of(*ssps)) for ssps in columns}
    assert len(hashes) == len(columns)
    for ssps in columns:
        whole = content("task_events", of(*ssps))
        for cut in range(len(ssps) + 1):
            assert content("task_events", of(*ssps[:cut]), of(*ssps[cut:])) == whole
