"""What real kernels did, as the QEMU plugin wrote it down: imported and judged.

`python tests/realkernel/record_events.py pthread` records a file of events again.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

import shstk
from shstk.replay.check import check
from shstk.replay.run import Run

EVENTS = Path(__file__).with_name("events")
ROOT = Path(__file__).parents[2]

# The rules that a recording violates, and how often; all others find nothing.
VIOLATED = {
    "kernel-never-released": {"X1": 5},
    "kernel-a-page-off": {"A7": 4},
    "kernel-never-allocated": {"A5": 4, "A7": 4, "X5": 1, "I3": 3},
    "kernel-released-late": {"X1": 4},
    "kernel-wrong-size": {"A6": 4},
    "sc6": {"A10": 5},
    "sc6-causes": {"A10": 15},
    "sc8": {"X5": 1},
}
# Rules that must have had something to judge.
JUDGED = {
    "pthread": {"A5": 4, "A7": 4, "A8": 4, "X1": 5, "X5": 5, "I3": 2212, "Z2": 2212},
    "signals": {"G1": 4, "G2": 4, "G3": 4, "G4": 4},
    "processes": {"A3": 1, "A4": 2, "X3": 1, "X6": 1, "E1": 3, "V5": 2},
}
NAMES = sorted(path.stem for path in EVENTS.glob("*.zst"))


def program(name: str) -> Path:
    if name.startswith("kernel-") or name in ("pthread", "pthread-qemu10", "pthread-smp2"):
        return ROOT / "shstk/guests/pthread.elf"
    return ROOT / f"fixtures/bin/{name}.elf"


def imported(name: str, where: Path) -> Run:
    found = shstk.import_qemu(
        EVENTS / f"{name}.zst", where / f"{name}.run", executable=program(name)
    )
    return Run.open(found.path)


@pytest.mark.parametrize("name", NAMES)
def test_judged(name: str, tmp_path: Path) -> None:
    report = check(imported(name, tmp_path))
    assert Counter(report.violated["rule"]) == VIOLATED.get(name, {})
    checked = {result.rule.id: result.checked for result in report.results}
    assert {rule: checked[rule] for rule in JUDGED.get(name, {})} == JUDGED.get(name, {})


@pytest.mark.parametrize("name", ["pthread", "processes", "signals", "sc1", "sc2"])
def test_the_model_does_the_same(name: str, tmp_path: Path) -> None:
    """The strongest test of the model: what a real kernel did, event for event."""
    model = shstk.record(program(name), out=tmp_path / "model.run").path
    assert shstk.diff(model, imported(name, tmp_path)).same
