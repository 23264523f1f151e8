"""Tids are used again, and that changes no verdict: the same runs, with few tids and with many."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from shstk.replay.check import check
from shstk.replay.run import Run
from shstk.replay.views import VIEWS
from shstk.schemas.tables import DERIVABLE
from shstk.tracer.kernel.kernel import FIRST_PID, Kernel
from shstk.tracer.record import RecordOptions, record

PROGRAMS = Path(__file__).parents[2] / "fixtures" / "bin"
FEWEST = {"a6": 2, "a9": 2, "probe": 3, "sc9": 2, "x3": 2}  # tids with which it ends as with many


@pytest.mark.sample(6)
@pytest.mark.parametrize("kernel", ["v3", "7.2"])
@pytest.mark.parametrize("program", FEWEST)
def test_verdicts_are_the_same(
    program: str, kernel: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def recorded(name: str) -> Run:
        out = tmp_path / name
        elf = str(PROGRAMS / f"{program}.elf")
        most, traced = 1_500_000, frozenset(DERIVABLE)
        record(RecordOptions(elf, kernel=kernel, max_instructions=most, trace=traced, out=out))
        return Run.open(out)

    many = recorded("many.run")
    monkeypatch.setitem(Kernel.__init__.__kwdefaults__, "pid_max", FIRST_PID + FEWEST[program] + 1)
    few = recorded("few.run")
    made = [run.table("clones")["child_tid"].drop_nulls() for run in (many, few)]
    assert len(made[0]) == len(made[1])
    for expect in ("intent", "revision"):
        reports = [check(run, expect=expect) for run in (many, few)]
        judged = [
            [(r.rule.id, r.checked, [(f.seq, f.addr) for f in r.findings]) for r in report.results]
            for report in reports
        ]
        assert judged[0] == judged[1]
    for name in ("frames", "ssp_path"):
        views = [VIEWS[name].build(run).drop("tid") for run in (many, few)]
        assert Counter(views[0].iter_rows()) == Counter(views[1].iter_rows())
