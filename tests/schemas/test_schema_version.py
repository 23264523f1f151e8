"""A change of the format must raise SCHEMA_VERSION."""

import hashlib
from dataclasses import fields

import pytest

from shstk.schemas import manifest
from shstk.schemas.tables import FINDINGS, SCHEMA_VERSION, TABLES, arrow_schema

FINGERPRINTS = {1: "679bdbfa9f4511e2", 2: "c83b7d8c980aa931"}


def fingerprint() -> str:
    """Over everything a reader of a run depends on; doc lines are free, and no run has findings."""
    parts = [
        (table.name, [(c.name, c.type, c.kinds) for c in table.columns])
        for table in TABLES.values()
    ]
    records = [
        getattr(manifest, name)
        for name in ("Manifest", "TableEntry", "Rlimit", "TreeEntry", "PluginEntry")
    ]
    parts += [(r.__name__, [(f.name, f.type) for f in fields(r)]) for r in records]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def test_a_changed_format_has_a_new_version() -> None:
    assert FINGERPRINTS.get(SCHEMA_VERSION) == fingerprint(), (
        "the format of runs changed: raise SCHEMA_VERSION in schemas/tables.py"
        f" and add its fingerprint {fingerprint()} here; never change that of a released version"
    )


@pytest.mark.parametrize("table", [*TABLES.values(), FINDINGS], ids=lambda t: t.name)
def test_docs_and_units_travel_with_the_columns(table) -> None:
    schema = arrow_schema(table)
    assert schema.names == list(table.names)
    for column, field in zip(table.columns, schema, strict=True):
        assert field.metadata[b"doc"].decode() == column.doc != ""
        assert field.nullable == column.nullable
        assert bool(column.kinds) == (column.base == "kind")
        assert len(set(column.kinds)) == len(column.kinds) < 128, "an index is an int8"
