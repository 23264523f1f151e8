"""Every column says what its values are, in a unit that its type can have."""

from __future__ import annotations

from typing import get_args

import pytest

from shstk.replay.views import VIEWS
from shstk.schemas.tables import FINDINGS, TABLES, Column
from shstk.schemas.units import UNITS, Unit, show

TYPES = {
    "seq": ("u64", "list[u64]"),
    "address": ("u64",),
    "value": ("u64",),
    "bits": ("u32", "u64"),
    "size": ("u64",),
    "offset": ("u64",),
    "count": ("u8", "u32", "u64"),
    "number": ("u8", "u32", "u64", "i32"),
    "pid": ("u32",),
    "result": ("i32", "i64"),
    "mode": ("u32",),
    "hash": ("u64", "str"),
    "kind": ("kind", "str"),
    "name": ("str",),
    "path": ("str", "bytes"),
    "text": ("str",),
    "data": ("bytes",),
    "truth": ("bool",),
}
COLUMNS = {
    f"{of.name}.{column.name}": column
    for of in (*TABLES.values(), FINDINGS, *VIEWS.values())
    for column in of.columns
}


def test_every_unit_is_described() -> None:
    assert tuple(UNITS) == get_args(Unit) == tuple(TYPES)


@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)
def test_the_unit_fits_the_type(column: Column) -> None:
    assert column.base in TYPES[column.unit]
    # What has a name like a position's or an address's is one.
    if column.name in ("seq", "during") or column.name.endswith("_seq"):
        assert column.unit == "seq"
    if column.name in ("pc", "sp", "ssp", "addr", "address"):
        assert column.unit == "address"


@pytest.mark.parametrize(
    ("unit", "value", "shown"),
    [
        ("seq", 1351 * 2**20 + 1, "1351.1"),
        ("seq", [2**20, 2**21], ["1.0", "2.0"]),
        ("address", 2**64 - 8, "0xfffffffffffffff8"),
        ("bits", 3, "0x3"),
        ("mode", 0o100644, "0o100644"),
        ("count", 2**60, 2**60),
        ("result", -12, -12),
        ("truth", True, True),
        ("path", b"lib/\xff", "lib/\\xff"),
        ("data", b"\x00\xff", "00ff"),
        ("hash", "00ff", "00ff"),
        ("seq", None, None),
        (None, 2**60, 2**60),
    ],
)
def test_how_values_are_written(unit: Unit | None, value: object, shown: object) -> None:
    assert show(unit, value) == shown
