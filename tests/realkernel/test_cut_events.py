"""A file of events that breaks off anywhere, or is damaged: no finding that the whole recording
hasn't, and no error but one that names the file."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import polars as pl
import pytest
from recorded import EVENTS, RECORDED

import shstk
from shstk.replay.check import check
from shstk.replay.run import Run
from shstk.schemas.errors import BadRecording, Exit, ShstkError
from shstk.schemas.uapi import CLONE_VM
from shstk.tracer.realkernel.events import Call, Events
from shstk.tracer.realkernel.image import unpacked

# Where something is half told: clone3 has its arguments, a trap is not yet a signal.
HALVES = {"sc6-causes": 567, "sc2": 170, "longjmp": 189, "signals": 450}
_BOOT = 165  # records before a program starts
_SIZES = 24, 32  # of the prologue and of a record's head


def events(name: str) -> bytes:
    path = EVENTS / f"{name}.zst"
    return unpacked(path, path.read_bytes())


def ends(data: bytes) -> list[int]:
    """Where each record ends, from the table's own end on."""
    prologue, head = _SIZES
    found = [prologue + struct.unpack_from("<I", data, 20)[0]]
    while found[-1] < len(data):
        found.append(found[-1] + head + struct.unpack_from("<I", data, found[-1] + 4)[0])
    return found


def imported(name: str, data: bytes, where: Path) -> Run:
    """Raises what import_qemu raises."""
    (where / "events").write_bytes(data)
    out = where / "cut.run"
    run = shstk.import_qemu(where / "events", out, executable=RECORDED[name].path, force=True)
    return Run.open(run.path)


def findings(run: Run) -> set[tuple[str, int, int | None]]:
    return set(check(run).violated.select("rule", "seq", "tid").iter_rows())


@pytest.mark.parametrize("name", HALVES)
def test_cut_anywhere(name: str, tmp_path: Path) -> None:
    data, rng = events(name), random.Random(name)
    whole, places = findings(imported(name, data, tmp_path)), ends(data)
    for record in (HALVES[name], *rng.sample(range(_BOOT, len(places)), 3)):
        run = imported(name, data[: places[record]], tmp_path)
        assert findings(run) <= whole, record
        assert run.manifest.ending == "interrupted" or record == len(places) - 1


def test_clone3_is_an_attempt_once_it_has_read_its_arguments(tmp_path: Path) -> None:
    data = events("sc2")
    places = ends(data)
    runs = [imported("sc2", data[: places[i]], tmp_path) for i in (166, 170)]
    assert [run.table("syscalls")["name"].to_list().count("clone3") for run in runs] == [1, 1]
    before, after = (
        run.table("clones").filter(pl.col("api").cast(pl.String) == "clone3") for run in runs
    )
    assert before.is_empty()
    assert after["flags"].item() & CLONE_VM


@pytest.mark.parametrize("how", ["cut", "changed", "left out", "put in"])
def test_damaged(how: str, tmp_path: Path) -> None:
    """Whatever the bytes are, it is imported or refused."""
    data, rng, errors = events("sc2"), random.Random(how), []
    for _ in range(25):
        at, size = rng.randrange(len(data)), rng.choice((1, 8, 40))
        after = {"cut": len(data), "changed": at + size, "left out": at + size, "put in": at}[how]
        new = rng.choice((rng.randbytes(size), b"\xff" * size))
        middle = new if how in ("changed", "put in") else b""
        try:
            imported("sc2", data[:at] + middle + data[after:], tmp_path)
        except ShstkError as error:
            errors.append(error)
    assert errors
    assert {error.exit for error in errors} == {Exit.INPUT}


def test_a_value_that_fits_no_column_is_damage(tmp_path: Path) -> None:
    """An address space of no users is left by one: -1 remain."""
    data = events("sc2")
    (tmp_path / "events").write_bytes(data)
    left = [e for e in Events(tmp_path / "events") if isinstance(e, Call) and e.name == "mmput"][-1]
    users = len(left.seen["users"]).to_bytes(4, "little") + left.seen["users"]
    at = data.rindex(users, 0, data.rindex(struct.pack("<Q", left.a[0])) + 256)
    none = data[: at + 4] + bytes(len(left.seen["users"])) + data[at + len(users) :]
    with pytest.raises(BadRecording, match=r"is damaged: task_events.value: -1"):
        imported("sc2", none, tmp_path)


@pytest.mark.parametrize("damaged", [b"Linux vzrsion", b"L", b"Linux version x.y"])
def test_a_damaged_banner_is_a_damaged_file(damaged: bytes, tmp_path: Path) -> None:
    """It is no word that the command line lacks."""
    data = events("sc2")
    at = data.index(b"Linux version")
    path = tmp_path / "events"
    path.write_bytes(data[:at] + damaged.ljust(20, b"~") + data[at + 20 :])
    with pytest.raises(BadRecording, match="the kernel's banner is damaged: ") as raised:
        shstk.import_qemu(path, tmp_path / "a.run")
    assert raised.value.exit is Exit.INPUT
    assert shstk.import_qemu(path, tmp_path / "a.run", kernel="7.2").path.exists()
