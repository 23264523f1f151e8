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

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("runs")
    program = shutil.copy(forged.PROGRAMS / "signals.elf", directory)
    return shstk.record(program, out=directory / "p.run", trace=("cfi", "flow")).path


def test_forged_runs(run: Path, tmp_path: Path) -> None:
    assert list(forged.campaign([run], tmp_path, seed=1, cases=iter(range(6)))) == []


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
