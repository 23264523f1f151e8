"""A block may be cut short after any instruction: no rule reports that, and no call is lost."""

from __future__ import annotations

import struct
from pathlib import Path

import polars as pl
import pytest

from shstk.replay.check import check
from shstk.replay.run import Run
from shstk.replay.views import VIEWS
from shstk.tracer.record import RecordOptions, record

PROGRAM = Path(__file__).parents[2] / "fixtures" / "bin" / "cuts.elf"
WAYS = ("grow", "copy-on-write", "signals", "modify", "file", "calls", "breakpoint")
QUANTA = ((1, 3), (7, 50), (10_000, 50_000))


def cut(how: str, quantum: tuple[int, int], folder: Path) -> Run:
    (folder / "root/etc").mkdir(parents=True)
    (folder / "root/etc/passwd").write_text("root:x:0:0\n")
    (folder / "root/etc/code").write_bytes(struct.pack("<3I", 0x00000017, 0x00100513, 0x00008067))
    out = folder / "cut.run"
    options = RecordOptions(str(PROGRAM), (how,), root=folder / "root", quantum=quantum, out=out)
    record(options)
    return Run.open(out)


@pytest.mark.parametrize("quantum", QUANTA)
@pytest.mark.parametrize("how", WAYS)
def test_no_rule_finds_anything(how: str, quantum: tuple[int, int], tmp_path: Path) -> None:
    run = cut(how, quantum, tmp_path)
    report = check(run)
    assert run.manifest.ending == "exited"
    assert report.violated.select("rule", "note").rows() == []
    judged = {result.rule.id for result in report.of("satisfied")}
    assert {"R1", "R7", "Z9", "Z10", "I1", "I2"} <= judged


@pytest.mark.parametrize(("how", "calls"), [("grow", 201), ("signals", 4)])
def test_every_call_returns(how: str, calls: int, tmp_path: Path) -> None:
    """calls: the number of calls of the recursive function, or a divisor if it is repeated."""
    rows = VIEWS["frames"].build(cut(how, (1, 3), tmp_path))
    assert set(rows["ended"]) == {"return", "exit"} | ({"sigreturn"} if how == "signals" else set())
    deepest = rows.filter(kind="call").sort("depth")["callee"].drop_nulls()[-1]
    returned = rows.filter(
        (pl.col("callee") == deepest) | pl.col("callee").is_null(), kind="call", ended="return"
    )
    assert returned.height
    assert returned.height % calls == 0
