"""A change of the format raises SCHEMA_VERSION, and runs of the versions before are still read."""

import hashlib
import json
import tarfile
from dataclasses import fields
from pathlib import Path

import pytest

import shstk
from shstk.__main__ import run
from shstk.schemas import manifest
from shstk.schemas import seq as positions
from shstk.schemas.errors import BadRun
from shstk.schemas.manifest import READABLE, Manifest
from shstk.schemas.tables import FINDINGS, SCHEMA_VERSION, TABLES, arrow_schema

FINGERPRINTS = {
    1: "679bdbfa9f4511e2",
    2: "c83b7d8c980aa931",
    3: "ba84a58c2d0cda02",
    4: "cd3fb00297f12c15",
    5: "9369af67a6135a64",
}
RUNS = Path(__file__).parent / "runs"


def fingerprint() -> str:
    """Over everything a reader of a run depends on; doc lines and units are free, and findings are
    in no run."""
    parts = [
        (table.name, [(c.name, c.type, c.kinds) for c in table.columns])
        for table in TABLES.values()
    ]
    records = [
        getattr(manifest, name)
        for name in ("Manifest", "TableEntry", "Rlimit", "TreeEntry", "PluginEntry", "Provenance")
    ]
    parts += [(r.__name__, [(f.name, f.type) for f in fields(r)]) for r in records]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def test_a_changed_format_has_a_new_version() -> None:
    assert FINGERPRINTS.get(SCHEMA_VERSION) == fingerprint(), (
        "the format of runs changed: raise SCHEMA_VERSION in schemas/tables.py, say in READABLE of"
        f" schemas/manifest.py how the version before is read, and add the fingerprint"
        f" {fingerprint()} here; never change that of a released version"
    )


def test_every_version_is_read() -> None:
    """runs/ holds one that each recorded: sc2 of the fixtures under 7.2."""
    assert list(READABLE) == list(FINGERPRINTS) == list(range(1, SCHEMA_VERSION + 1))
    assert {f"schema-{version}.tar.xz" for version in READABLE} == {f.name for f in RUNS.iterdir()}


@pytest.fixture(params=READABLE)
def recorded(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    with tarfile.open(RUNS / f"schema-{request.param}.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / f"schema-{request.param}.run"


def test_a_run_of_each_version(recorded: Path, capfd: pytest.CaptureFixture[str]) -> None:
    opened = shstk.open(recorded)
    assert recorded.name == f"schema-{opened.manifest.schema_version}.run"
    assert (opened.manifest.icount, opened.manifest.exit_status) == (48774, 0)
    assert opened.table("clones").height == 1
    report = shstk.check(opened)
    assert report.clean
    judged = dict(report.findings.select("rule", "outcome").iter_rows())
    assert (judged["A5"], judged["X1"]) == ("satisfied", "satisfied")
    sql = "SELECT h.seq, c.flags, h.size FROM handoffs h JOIN clones c ON c.seq = h.seq"
    assert run(["query", str(recorded), sql, "--format", "json"]) == 0
    (row,) = json.loads(capfd.readouterr().out)
    assert row == {"seq": "72.1", "flags": "0x350f00", "size": "0x21000"}


def test_a_run_that_has_its_program_is_executed_again(recorded: Path) -> None:
    """Before 5 up to its read of smaps: the pages of a mapped file counted as resident at once."""
    opened = shstk.open(recorded)
    if opened.manifest.schema_version >= 5:
        assert shstk.replay_run(recorded).disagreement is None
    elif opened.manifest.trees:
        found = shstk.replay_run(recorded).disagreement
        assert found is not None
        assert (found.at.table, positions.show(found.at.seq)) == ("kernel_memory", "12532.2")
    else:
        with pytest.raises(BadRun, match="has no program"):
            shstk.replay_run(recorded)


def test_a_changed_manifest_of_each_version_is_noticed(recorded: Path) -> None:
    text = (recorded / manifest.NAME).read_text()
    assert Manifest.from_json(text, "m").program == "/sc2.elf"
    with pytest.raises(BadRun, match="has been changed"):
        Manifest.from_json(text.replace('"exit_status": 0', '"exit_status": 1'), "m")


@pytest.mark.parametrize("table", [*TABLES.values(), FINDINGS], ids=lambda t: t.name)
def test_docs_and_units_travel_with_the_columns(table) -> None:
    schema = arrow_schema(table)
    assert schema.names == list(table.names)
    for column, field in zip(table.columns, schema, strict=True):
        assert field.metadata[b"doc"].decode() == column.doc != ""
        assert field.metadata[b"unit"].decode() == column.unit
        assert field.nullable == column.nullable
        assert bool(column.kinds) == (column.base == "kind")
        assert len(set(column.kinds)) == len(column.kinds) < 128, "an index is an int8"
