"""`shstk replay --trace insn --window`, as a user sees it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

import shstk
from shstk.__main__ import run
from shstk.schemas.seq import STEPS

ROOT = Path(__file__).parents[2]
GUEST = ROOT / "shstk" / "guests" / "pthread.elf"
CUTS = ROOT / "fixtures" / "bin" / "cuts.elf"


@pytest.fixture(autouse=True)
def recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """x.run in the current folder; checkpoints go to a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    shstk.record(GUEST, out="x.run", force=True)
    capsys.readouterr()


def replay(arguments: str, code: int = 0) -> None:
    assert run(["replay", *arguments.split(" ")]) == code


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("window-insn", "x.run --trace insn --window 1343..+20"),
        ("window-cfi", "x.run --trace cfi --window 3280..+100"),
        ("window-csv", "x.run --window 1.0..+3 --format csv"),
        ("window-kernel", "x.run --trace cfi --window 1300..+2000 --kernel v3"),
    ],
)
def test_text(
    name: str,
    arguments: str,
    snapshot: Callable[[str, str], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    replay(arguments)
    snapshot(name, capsys.readouterr().out)


def test_all_formats_hold_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    whole = shstk.window("x.run", "10", "30.5")
    assert whole.height == 21
    replay("x.run --window 10..30.5 -o rows.arrow")
    assert pl.read_ipc("rows.arrow").equals(whole)
    replay("x.run --window 10..30.5 --format json")
    told = json.loads(capsys.readouterr().out)
    assert [row["instruction"] for row in told] == whole["instruction"].to_list()
    replay("x.run --window 10..30.5 -o rows.csv")
    assert pl.read_csv("rows.csv")["place"].to_list() == whole["place"].to_list()


def test_a_window_without_rows_has_its_columns() -> None:
    replay("x.run --trace cfi --window 1..1 -o rows.arrow")
    assert pl.read_ipc("rows.arrow").columns == [
        *("seq", "tid", "mm", "pc", "place", "kind", "addr", "value", "operand"),
        *("ssp_before", "ssp_after", "fault"),
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("x.run --window 5..4", "'5..4' ends before it begins"),
        ("x.run --window 5", "'5' is not A..B"),
        ("x.run --window 5..+", "'5..+' is not A..B"),
        ("x.run --window 100000..100001", "the run ends at"),
        ("x.run --window 1..2 --until 5", "--until and --plugin"),
        ("x.run --window 1..2 --format arrow", "needs a file"),
        ("x.run --format csv", "needs --trace"),
    ],
)
def test_wrong_usage(arguments: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    replay(arguments, 2)
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "how", ["grow", "copy-on-write", "signals", "step", "breakpoint", "modify"]
)
def test_windows_of_blocks_that_were_cut(how: str) -> None:
    """A window begins and ends anywhere, in the middle of blocks too: it has the recorded rows."""
    made = shstk.record(CUTS, how, out="cuts.run", force=True, trace=("insn", "flow"))
    opened = shstk.open(made.path)
    insn, cut = opened.table("insn"), opened.table("mappings").filter(pl.col("during").is_null())
    ends = [cut["seq"], opened.table("signals")["seq"], opened.table("sched")["seq"]]
    icounts = [at for at in (pl.concat(ends) // STEPS).unique().sort() if at > 1]
    for icount in icounts[:: max(len(icounts) // 6, 1)]:
        first, last = (icount - 1) * STEPS, (icount + 2) * STEPS
        rows = shstk.window(opened, str(icount - 1), str(icount + 2))
        assert rows.select(insn.columns).equals(insn.filter(pl.col("seq").is_between(first, last)))


def test_a_file_is_not_overwritten(capsys: pytest.CaptureFixture[str]) -> None:
    Path("rows.csv").write_text("mine")
    replay("x.run --window 1..2 -o rows.csv", 2)
    assert "already exists" in capsys.readouterr().err
    assert Path("rows.csv").read_text() == "mine"
    replay("x.run --window 1..2 -o rows.csv --force")
    assert Path("rows.csv").read_text().startswith("seq,")
