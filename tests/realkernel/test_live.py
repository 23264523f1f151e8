"""A real kernel, booted: ``pytest --live-kernel tests/realkernel/test_live.py`` (half a minute).
Kernel, firmware and QEMU come from Debian (machine.py)."""

from __future__ import annotations

from pathlib import Path

import pytest
from machine import QEMUS, Machine, NotToBeHad, machine
from record_events import record
from recorded import RECORDED

from shstk.replay.check import check
from shstk.replay.run import Run

THREADS = {"A5": 4, "A6": 4, "A7": 4, "A8": 4, "X1": 5, "X5": 5}


@pytest.fixture(params=QEMUS)
def real(request: pytest.FixtureRequest) -> Machine:
    if not request.config.getoption("--live-kernel"):
        pytest.skip("no real kernel was booted: that wants pytest --live-kernel")
    try:
        return machine(request.param)
    except NotToBeHad as why:
        pytest.skip(f"no real kernel was booted: {why}")


def test_the_demo_on_the_stock_kernel_twice(real: Machine, tmp_path: Path) -> None:
    first, second = (record(RECORDED["pthread"], real, tmp_path / f"{n}.run") for n in (1, 2))
    report = check(Run.open(tmp_path / "1.run"))
    checked = {result.rule.id: result.checked for result in report.results}
    assert not report.violated.height
    assert {rule: checked[rule] for rule in THREADS} == THREADS
    assert first.read_bytes() == second.read_bytes()
