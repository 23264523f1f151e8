"""Drivers and workers that are killed at any time: nothing is lost, and nothing is there twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from campaign_files import COMMAND, corpus, rows

from shstk.corpus.rows import OUTCOMES
from shstk.corpus.store import Store, merged

RUN = [*COMMAND, "run", "-j", "2"]


def children(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


@pytest.mark.sample(1)
@pytest.mark.parametrize("seed", range(100))
def test_kill_9_and_resume(
    undisturbed: Path, tmp_path: Path, seed: int, record_property: Callable[[str, int], None]
) -> None:
    """What it counts is told at the end of `pytest --whole` (conftest.py)."""
    dice = random.Random(seed)
    command = [*RUN, undisturbed / "CORPUS.toml", "-o", tmp_path / "store"]
    until = time.monotonic() + 150
    killings, drivers = 0, -1
    while time.monotonic() < until:
        driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        # The first drivers are killed, and two workers of each: a cell that a driver sees die three
        # times is given up, and on a slow machine three shots in a row can meet one cell.
        life = dice.uniform(3, 7) if killings < 4 else 120
        end, left = time.monotonic() + life, 2
        while driver.poll() is None and time.monotonic() < end:
            time.sleep(dice.uniform(0.2, 1.5))
            if left and (workers := children(driver.pid)):
                with suppress(ProcessLookupError):
                    os.kill(dice.choice(workers), signal.SIGKILL)
                killings, left = killings + 1, left - 1
        if driver.poll() is None:
            driver.kill()
        driver.wait()
        drivers += 1
        if driver.returncode == 1:
            break
        assert driver.returncode == -signal.SIGKILL
    assert driver.returncode == 1
    assert killings
    mine, expected = rows(tmp_path / "store"), rows(undisturbed / "CORPUS.store")
    record_property("drivers killed", drivers)
    record_property("workers killed", killings)
    record_property("cells", len(mine))
    record_property("lost", sum(row not in mine for row in expected))
    record_property("there twice", len(mine) - len({row["key"] for row in mine}))
    record_property("executed twice", Store(tmp_path / "store").every().collect().height - 48)
    assert mine == expected


@pytest.mark.parametrize("last", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_keeps_what_is_done(undisturbed: Path, tmp_path: Path, last: signal.Signals) -> None:
    """The terminal sends SIGINT to all processes. It ends the driver; a worker goes on until then,
    whatever it does at that moment. A batch system sends SIGTERM."""
    command = [*RUN, undisturbed / "CORPUS.toml", "-o", tmp_path / "store"]
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's & has it ignored
    driver = subprocess.Popen(
        command, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    signal.signal(signal.SIGINT, before)
    while not (tmp_path / "store/cells").exists():
        time.sleep(0.01)
        for worker in children(driver.pid):
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGINT)
    os.killpg(driver.pid, last)
    out, err = driver.communicate(timeout=30)
    assert (driver.returncode, out, err.split()) == (130, b"", [b"interrupted"])
    done = rows(tmp_path / "store")
    assert 0 < len(done) < 48
    assert [row for row in rows(undisturbed / "CORPUS.store") if row in done] == done


def test_two_drivers_on_one_store(tmp_path: Path) -> None:
    file = corpus(tmp_path, 'kernels = ["v6"]\nseeds = 8', "leak")
    command = [*COMMAND, "run", file, "-j", "1", "--keep", "all"]
    drivers = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(2)
    ]
    for driver in drivers:
        out, _ = driver.communicate(timeout=120)
        assert (driver.returncode, "8 of 8 cells done" in out) == (1, True), out
    mine = rows(tmp_path / "CORPUS.store")
    kept = {path.name for path in (tmp_path / "CORPUS.store/kept").iterdir()}
    assert len(mine) == 8
    assert kept == {f"{row['run']}.run" for row in mine}


def test_a_cell_that_was_executed_twice_is_there_once(undisturbed: Path, tmp_path: Path) -> None:
    """Another driver's batch holds the same cells under another name; one of them had failed."""
    whole = Store(undisturbed / "CORPUS.store")
    twice = Store(tmp_path / "store")
    assert merged([whole], twice) == 48
    some = whole.cells.collect().head(5).to_dicts()
    twice.commit([row | {"outcome": "died", "findings": [], "causes": 0} for row in some])
    twice.commit(some[:3])
    assert twice.every().collect().height == 56
    assert rows(tmp_path / "store") == rows(undisturbed / "CORPUS.store")
    assert set(whole.done().values()) <= set(OUTCOMES)


def test_parts_of_two_machines_are_merged(undisturbed: Path, tmp_path: Path) -> None:
    corpus(tmp_path, 'kernels = ["v6", "7.2"]', "leak", "dies")
    for part in (1, 2):
        command = [*RUN, tmp_path / "CORPUS.toml", "-o", tmp_path / str(part)]
        subprocess.run([*command, "--shard", f"{part}/2"], check=False, capture_output=True)
        assert len(rows(tmp_path / str(part))) == 2
    assert merged([Store(tmp_path / "1"), Store(tmp_path / "2")], Store(tmp_path / "whole")) == 4
    theirs = {row["key"]: row for row in rows(undisturbed / "CORPUS.store")}
    for row in rows(tmp_path / "whole"):  # a spec holds the host's paths
        assert row | {"spec": ""} == theirs[row["key"]] | {"spec": ""}


def test_a_store_that_is_no_directory(undisturbed: Path) -> None:
    """A file system in memory, as pyarrow has for its own tests."""
    store = Store("mock:///campaign")
    assert merged([Store(undisturbed / "CORPUS.store")], store) == 48
    told = store.cells.drop("seconds", "resident", "host", "bytes").collect()
    assert told.sort("key").to_dicts() == rows(undisturbed / "CORPUS.store")
