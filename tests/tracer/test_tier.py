"""--tier: native code and the interpreter make the same run, byte for byte."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import random_guest
from tier_runs import TIERS, differing, recorded

from shstk.replay.run import Run
from shstk.rerun.compare import replay
from shstk.schemas.errors import UsageError
from shstk.tracer import _core

FIXTURES = Path(__file__).parents[2] / "fixtures/bin"
OBSTACLE = "the host is a toaster"
# Threads, signals, fork and exec, faults, landing pads, longjmp, pivots between shadow stacks.
PROGRAMS = ("pthread-pads", "signals", "processes", "faulty", "unwinding-longjmp", "green-threads")
PROGRAMS += ("sc4", "sc7", "cuts", "x8", "a10")

native = pytest.mark.skipif(_core.native_obstacle() != "", reason=_core.native_obstacle())
quanta = pytest.mark.parametrize("quantum", [(1, 30), (1000, 2000)])


@native
@quanta
@pytest.mark.parametrize("program", PROGRAMS)
def test_fixtures(tmp_path: Path, program: str, quantum: tuple[int, int]) -> None:
    assert not differing(FIXTURES / f"{program}.elf", tmp_path, TIERS, quantum=quantum)


@native
@quanta
@pytest.mark.parametrize("seed", range(3))
def test_random_programs(tmp_path: Path, seed: int, quantum: tuple[int, int]) -> None:
    guest = tmp_path / "guest"
    guest.write_bytes(random_guest.program(seed))
    assert not differing(guest, tmp_path, quantum=quantum)


@native
def test_a_run_is_executed_again_by_the_other_tier(tmp_path: Path) -> None:
    recorded(FIXTURES / "pthread-off.elf", tmp_path / "x.run", tier="interpreter")
    result = replay(Run.open(tmp_path / "x.run"), tier="native")
    assert result.whole
    assert result.disagreement is None


def test_a_host_without_native_code_interprets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_core, "native_obstacle", lambda: OBSTACLE)
    assert recorded(FIXTURES / "sc1.elf", tmp_path / "x.run", tier="auto")
    with pytest.raises(UsageError, match=OBSTACLE):
        recorded(FIXTURES / "sc1.elf", tmp_path / "y.run", tier="native")


def test_an_unknown_tier(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--tier fast"):
        recorded(FIXTURES / "sc1.elf", tmp_path / "x.run", tier="fast")
