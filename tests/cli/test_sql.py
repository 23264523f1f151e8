"""What is rewritten in a query, what is left alone, and how its answer is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import shstk
from shstk.__main__ import run
from shstk.schemas.seq import pack
from shstk.sql import rewrite

SEQ = pack(1042, 3)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT 0x10084", "SELECT 65668"),
        ("WHERE pc = 0xFFFF_FFFF_FFFF_F000", f"WHERE pc = {2**64 - 4096}"),
        ("WHERE seq >= 1042.3", f"WHERE seq >= {SEQ}"),
        ("WHERE 1042.3 < seq", f"WHERE {SEQ} < seq"),
        ("WHERE m.seq_end = 1042.3", f"WHERE m.seq_end = {SEQ}"),
        ('WHERE "during" IN (1042.3, 1.0)', f'WHERE "during" IN ({SEQ}, {pack(1, 0)})'),
        ("WHERE seq BETWEEN 1.0 AND 1042.3", f"WHERE seq BETWEEN {pack(1, 0)} AND {SEQ}"),
        # Not positions: numbers compared with anything else.
        ("WHERE share > 0.5 AND tid = 1", "WHERE share > 0.5 AND tid = 1"),
        ("SELECT high_water * 1.5 FROM t", "SELECT high_water * 1.5 FROM t"),
        # Not numbers at all.
        ("WHERE kind = '0x10' -- 0x20", "WHERE kind = '0x10' -- 0x20"),
        ("WHERE mode = 0o100755", f"WHERE mode = {0o100755}"),
        ('/* 0x10 */ SELECT "0x10"', '/* 0x10 */ SELECT "0x10"'),
        ("WHERE seq > 1.5.3", "WHERE seq > 1.5.3"),
    ],
)
def test_rewrite(sql: str, expected: str) -> None:
    assert rewrite(sql, {"seq", "seq_end", "during"}) == expected


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = Path(__file__).parents[2] / "fixtures/bin/sc1.elf"
    return shstk.record(program, out=tmp_path_factory.mktemp("sql") / "sc1.run").path


@pytest.mark.parametrize(
    ("sql", "answer"),
    [
        # By the unit of the column, whatever its width and whatever it is called here.
        ("SELECT seq, tid, mm FROM modules", {"seq": "0.7", "tid": 100, "mm": 1}),
        ("SELECT seq AS at, bias FROM modules", {"at": "0.7", "bias": "0x0"}),
        ('SELECT MIN(m.seq) AS "First" FROM modules m', {"First": "0.7"}),
        ("SELECT a7 AS seq FROM (SELECT nr AS a7 FROM syscalls WHERE nr = 93)", {"seq": 93}),
        ("SELECT prot, shadow_stack FROM mappings WHERE shadow_stack AND op = 'map' LIMIT 1",
         {"prot": "0x3", "shadow_stack": True}),
        ("SELECT mode, size FROM inputs WHERE mode = 0o100755", {"mode": "0o100755", "size": 4064}),
        # What is computed has no unit.
        ("SELECT COUNT(seq) AS seqs, COUNT(seq) FROM modules", {"seqs": 1, "seq": 1}),
        ("SELECT AVG(length) AS length FROM mappings WHERE op = 'none'", {"length": None}),
        ("SELECT bias + 4096 AS x FROM modules", {"x": "0x1000"}),
        # A position may be compared with a seq under any name.
        ("WITH c AS (SELECT seq AS at FROM syscalls) SELECT COUNT(*) AS n FROM c WHERE at < 0.5",
         {"n": 0}),
    ],
)  # fmt: skip
def test_how_the_answer_is_written(
    sql: str, answer: dict[str, object], recorded: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["query", str(recorded), sql, "--format", "json"]) == 0
    assert json.loads(capfd.readouterr().out) == [answer]


READS = ["read_csv('/etc/passwd')", "READ_JSON ('x')", "\"read_parquet\"('http://127.0.0.1/x')"]


@pytest.mark.parametrize("read", READS)
def test_files_of_the_host_are_read_only_when_allowed(
    read: str, recorded: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["query", str(recorded), f"SELECT * FROM {read}"]) == 2
    assert "reads files of this machine\n  hint: --allow-files" in capfd.readouterr().err


def test_a_file_that_may_be_read(
    recorded: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own.csv").write_text("tid,name\n100,main\n")
    sql = f"SELECT DISTINCT name FROM cfi JOIN read_csv('{tmp_path}/own.csv') o ON cfi.tid = o.tid"
    assert run(["query", str(recorded), "--allow-files", sql]) == 0
    assert capfd.readouterr().out.split() == ["name", "main"]


@pytest.mark.parametrize("literal", ["1.99999999999", "99999999999999999999.0", "0x_"])
def test_numbers_that_are_no_position(
    literal: str, recorded: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["query", str(recorded), f"SELECT seq FROM cfi WHERE seq > {literal}"]) == 2
    assert "query refused" in capfd.readouterr().err
