"""What real kernels did, as the QEMU plugin wrote it down: imported, judged, and compared with our
model.

`python tests/realkernel/record_events.py pthread` records a file of events again, and campaign.py
compares all of them with the model.
"""

from __future__ import annotations

import random
import struct
from collections import Counter
from pathlib import Path

import pytest
from campaign import differences, model, real
from differences import EXCUSED, NO_EXCUSE, Excuse
from recorded import ENDLESS, EVENTS, RECORDED

import shstk
from shstk.replay.check import check
from shstk.replay.run import Run
from shstk.schemas.errors import Exit, ShstkError
from shstk.tracer.packed import unpacked

# The rules that a recording violates, and how often; all others find nothing.
VIOLATED = {
    "kernel-never-released": {"X1": 5},
    "kernel-a-page-off": {"A7": 4},
    "kernel-never-allocated": {"A5": 4, "A7": 3, "X5": 1, "I3": 3},  # the fourth never ran
    "kernel-released-late": {"X1": 4},
    "kernel-wrong-size": {"A6": 4},
    "sc6": {"A10": 5},
    "sc6-causes": {"A10": 15},
    "sc7": {},
    "sc8": {"X5": 1},
    "a10": {"A10": 2},
    "faulty-full-overflow": {},
    "faulty-handler": {},
    "probe-from_thread": {},
    "probe-regset": {},
}
# Rules that must have had something to judge.
JUDGED = {
    "pthread": {"A5": 4, "A7": 4, "A8": 4, "X1": 5, "X5": 5, "I3": 2212, "Z2": 2212},
    "pthread-qemu10": {"A5": 4, "A7": 4, "A8": 4, "X1": 5, "X5": 5, "I3": 2212, "Z2": 2212},
    "pthread-smp2": {"A5": 4, "A7": 4, "A8": 4, "X1": 5, "X5": 5, "I3": 2212, "Z2": 2212},
    "signals": {"G1": 4, "G2": 4, "G3": 4, "G4": 4},
    "processes": {"A3": 1, "A4": 2, "X3": 1, "X6": 1, "E1": 3, "V5": 2},
    "a1": {"A1": 1},
}
COMPARED = sorted(name for name, r in RECORDED.items() if not r.kernel)
ALWAYS = ("pthread", "pthread-smp2", "processes", "signals", "faulty-full-overflow", "x3")
SAMPLE = sorted({*ALWAYS, *random.Random(9).sample(COMPARED, 16)})


def test_every_recording_is_there() -> None:
    """And no other, and each that can't be made has its reason."""
    assert {path.stem for path in EVENTS.glob("*.zst")} == {*RECORDED}
    assert not {*ENDLESS} & {*RECORDED}


@pytest.mark.parametrize("name", sorted({*VIOLATED, *JUDGED}))
def test_judged(name: str, tmp_path: Path) -> None:
    report = check(real(RECORDED[name], tmp_path / "real.run"))
    assert Counter(report.violated["rule"]) == VIOLATED.get(name, {})
    checked = {result.rule.id: result.checked for result in report.results}
    assert {rule: checked[rule] for rule in JUDGED.get(name, {})} == JUDGED.get(name, {})


@pytest.mark.parametrize("name", SAMPLE)
def test_the_model_does_the_same(name: str, tmp_path: Path) -> None:
    """The strongest test of the model: what a real kernel did, event for event."""
    r = RECORDED[name]
    runs = model(r, tmp_path / "model.run"), real(r, tmp_path / "real.run")
    assert list(differences(*runs, EXCUSED.get(name, NO_EXCUSE))) == []


@pytest.mark.parametrize("name", ["cuts-modify", "faulty-pop-ordinary", "sc8"])
def test_an_excused_difference_is_there(name: str, tmp_path: Path) -> None:
    """And is of the kinds that its excuse lists."""
    r = RECORDED[name]
    runs = model(r, tmp_path / "model.run"), real(r, tmp_path / "real.run")
    assert list(differences(*runs))
    for word in EXCUSED[name].findings:
        assert any(f.startswith(word) for f in differences(*runs, Excuse("", EXCUSED[name].ignore)))


HEAD, EMPTY = b"shstkqev", b"shstk-qemu-table 1\n"


def bytes_of(name: str) -> bytes:
    path = EVENTS / f"{name}.zst"
    return unpacked(path, path.read_bytes())


def with_table(text: bytes) -> bytes:
    return HEAD + struct.pack("<4I", 1, 7, 1, len(text)) + text


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "has no events of shstk's QEMU plugin"),
        (b"a letter", "has no events of shstk's QEMU plugin"),
        (HEAD + struct.pack("<4I", 9, 7, 1, 0), "has version 9 of the events, this shstk reads 1"),
        (with_table(b"\xff"), "its table is damaged"),
        (with_table(EMPTY + b"watch\n"), "a line is not understood: 'watch'"),
        (with_table(EMPTY) + struct.pack("<BBHI3Q", 99, *[0] * 6), "no record 99"),
        (with_table(EMPTY) + struct.pack("<BBHI3Q", 1, *[0] * 6), "at byte"),
        (with_table(EMPTY), "break off before a program was started"),
        (b"\x28\xb5\x2f\xfd" + bytes(99), "is damaged"),
    ],
)  # fmt: skip
def test_what_are_no_events_is_refused(data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "events").write_bytes(data)
    with pytest.raises(ShstkError, match=message) as raised:
        shstk.import_qemu(tmp_path / "events", tmp_path / "a.run")
    assert raised.value.exit is Exit.INPUT


@pytest.mark.parametrize("seed", range(30))
def test_damaged_events_make_runs_or_errors(seed: int, tmp_path: Path) -> None:
    source = random.Random(seed)
    data = bytearray(bytes_of(source.choice(["processes", "signals", "sc6-causes"])))
    del data[source.randrange(len(data)) if seed % 3 == 0 else len(data) :]
    for _ in range(source.choice((1, 30))):
        data[source.randrange(len(data))] = source.choice((0, 0xFF, source.randrange(256)))
    (tmp_path / "events").write_bytes(data)
    try:
        check(Run.open(shstk.import_qemu(tmp_path / "events", tmp_path / "a.run").path))
    except ShstkError as error:
        assert error.exit is Exit.INPUT  # noqa: PT017


@pytest.mark.parametrize("seed", range(6))
def test_events_cut_off_anywhere_are_no_finding(seed: int, tmp_path: Path) -> None:
    data = bytes_of("processes")
    at = random.Random(seed).randrange(len(data) // 2, len(data))
    (tmp_path / "events").write_bytes(data[:at])
    found = shstk.import_qemu(tmp_path / "events", tmp_path / "a.run")
    assert found.ending == "interrupted"
    assert not check(Run.open(found.path)).violated.height
