"""A short sample of each campaign of this folder; the whole of one is its script."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import bad_calls
import bit_flips
import forged
import fuzz
import pytest

import shstk
from shstk.__main__ import run as shstk_command
from shstk.replay.run import undecodable

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("runs")
    program = shutil.copy(forged.PROGRAMS / "signals.elf", directory)
    return shstk.record(program, out=directory / "p.run", trace=("cfi", "flow")).path


def test_forged_runs(run: Path, tmp_path: Path) -> None:
    assert list(forged.campaign([run], tmp_path, seed=1, cases=iter(range(2)))) == []


def test_a_forged_run_is_judged(run: Path, tmp_path: Path) -> None:
    changed = forged.forge(run, tmp_path / "forged.run", random.Random(0))
    assert shstk_command(["verify", str(tmp_path / "forged.run")]) == 0, changed


@pytest.mark.parametrize("table", ["syscalls", "cfi", "kernel_memory"])
def test_pages_that_cant_be_decoded(
    run: Path, tmp_path: Path, table: str, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "damaged.run"
    shutil.copytree(run, directory)
    forged.replace(directory, f"{table}.parquet", b"PAR1" + bytes(60) + _after(run, table, 64))
    for command in (["verify"], ["query", f"SELECT * FROM {table}"]):
        assert shstk_command([command[0], str(directory), *command[1:]]) == 3, command
        assert f"{table}.parquet" in "".join(capsys.readouterr()), command


def test_an_intact_run_is_not_to_blame(run: Path) -> None:
    opened = shstk.open(run)
    assert undecodable() is None, opened.name


def test_names_that_are_not_utf8(run: Path, tmp_path: Path) -> None:
    directory = tmp_path / "damaged.run"
    shutil.copytree(run, directory)
    named = (run / "syscalls.parquet").read_bytes().replace(b"seq_end", b"s\x97q_end")
    forged.replace(directory, "syscalls.parquet", named)
    assert [shstk_command([c, str(directory)]) for c in ("verify", "check")] == [3, 3]


def test_a_footer_that_contradicts_itself(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A column that may be null has levels; this one has them and may not. pyarrow aborts."""
    directory = tmp_path / "damaged.run"
    shutil.copytree(run, directory)
    nullable, not_nullable = (bytes([0x25, kind, 0x18, 3]) + b"ret" for kind in (2, 0))
    table = (run / "syscalls.parquet").read_bytes()
    assert table.count(nullable) == 1
    forged.replace(directory, "syscalls.parquet", table.replace(nullable, not_nullable))
    assert [shstk_command([c, str(directory)]) for c in ("verify", "check")] == [3, 3]
    assert "syscalls.parquet" in "".join(capsys.readouterr())


def _after(run: Path, table: str, start: int) -> bytes:
    return (run / f"{table}.parquet").read_bytes()[start:]


def test_single_bits(run: Path) -> None:
    assert list(bit_flips.campaign(run, seed=1, flips=40)) == []


def test_bad_calls(tmp_path: Path) -> None:
    host = bad_calls.Host(tmp_path)
    assert list(bad_calls.campaign(host, seed=1, batches=iter(range(0, 90, 22)))) == []


def test_bad_calls_notice_a_change_of_the_host(tmp_path: Path) -> None:
    host = bad_calls.Host(tmp_path)
    (host.host / "canary").write_text("changed\n")
    assert host.wrong(bad_calls.calls(random.Random(0))) == "the host's files have changed"


@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_files_nobody_meant(name: str, tmp_path: Path) -> None:
    directory = fuzz.prepared(tmp_path)
    rng = random.Random(f"1 {name}")
    assert fuzz.at_random(name, directory, rng, range(8), until=time.monotonic() + 600) == 0


@pytest.mark.skipif(shutil.which(os.environ.get("CC", "cc")) is None, reason="no C compiler")
def test_faults() -> None:
    words = [sys.executable, HERE / "faults.py", "--points", "6"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert " points, 0 failures" in done.stdout
