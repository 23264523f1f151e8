"""--tier: native code and the interpreter make the same run, byte for byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from shstk.replay.run import Run
from shstk.rerun.compare import replay
from shstk.schemas.errors import UsageError
from shstk.tracer import _core
from shstk.tracer.record import RecordOptions, record

FIXTURES = Path(__file__).parents[2] / "fixtures/bin"
OBSTACLE = "the host is a toaster"
# Threads, signals, forks, faults, landing pads, longjmp, pivots between shadow stacks.
PROGRAMS = ("pthread-pads", "signals", "processes", "faulty", "unwinding-longjmp", "green-threads")
PROGRAMS += ("sc4", "sc7", "cuts")

native = pytest.mark.skipif(_core.native_obstacle() != "", reason=_core.native_obstacle())


def recorded(out: Path, program: str, **options: object) -> dict[str, bytes]:
    record(RecordOptions(str(FIXTURES / f"{program}.elf"), out=out, **options))  # type: ignore[arg-type]
    return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}


@native
@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("quantum", [(1, 30), (1000, 2000)])
def test_both_tiers_make_the_same_run(
    tmp_path: Path, program: str, quantum: tuple[int, int]
) -> None:
    runs = [
        recorded(tmp_path / tier, program, tier=tier, quantum=quantum)
        for tier in ("interpreter", "native", "auto")
    ]
    assert runs[0] == runs[1]
    assert runs[0] == runs[2]


@native
def test_a_run_is_executed_again_by_the_other_tier(tmp_path: Path) -> None:
    recorded(tmp_path / "x.run", "pthread-off", tier="interpreter")
    result = replay(Run.open(tmp_path / "x.run"), tier="native")
    assert result.whole
    assert result.disagreement is None


def test_a_host_without_native_code_interprets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_core, "native_obstacle", lambda: OBSTACLE)
    assert recorded(tmp_path / "x.run", "sc1")
    with pytest.raises(UsageError, match=OBSTACLE):
        recorded(tmp_path / "y.run", "sc1", tier="native")


def test_an_unknown_tier(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--tier fast"):
        recorded(tmp_path / "x.run", "sc1", tier="fast")
