"""The command of the benchmarks: its parts, its table, and what it draws. Nothing is timed."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

ROOT = Path(__file__).parents[1]
FIGURE = {"row": "sort", "unit": "MIPS", "most": None, "least": None}
RECORDING = [
    ("executed", 448.0),
    ("default", 420.0),
    ("cfi", 295.0),
    ("flow", 96.0),
    ("cfi,flow", 84.0),
]


def benchmarks(*arguments: str | Path) -> str:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def earlier(path: Path) -> Path:
    figures = [{**FIGURE, "column": column, "value": value} for column, value in RECORDING]
    size = {"column": "cfi,flow", "value": 0.124, "unit": "bytes/instruction", "most": 0.02}
    curve = {"title": "check: clones", "across": "clones", "points": [[500, 1.1], [2000, 13.6]]}
    absent = {"spike": "no spike on PATH"}
    part = {"figures": [*figures, {**FIGURE, **size}], "curves": [curve], "absent": absent}
    path.write_text(json.dumps({"parts": {"recording": part}}))
    return path


def test_every_part_loads_and_says_what_it_measures() -> None:
    files = {file.stem for file in (ROOT / "benchmarks/parts").glob("[!_]*.py")}
    assert {line.split()[0] for line in benchmarks("--list").splitlines()} == files


def test_the_readmes_table(tmp_path: Path) -> None:
    table = benchmarks("--markdown", "--from", earlier(tmp_path / "results.json"))
    head, _, row = table.splitlines()
    assert head in (ROOT / "README.md").read_text().splitlines()
    assert row == "| sort | 448 | 420 | 295 | 96 | 84 | 0.124 |"


def test_goals_missed_and_peers_absent_are_told(tmp_path: Path) -> None:
    shown = benchmarks("--from", earlier(tmp_path / "results.json"))
    assert "goal ≤ 0.02  missed" in shown
    assert "without spike: no spike on PATH" in shown


def test_growth_is_drawn(tmp_path: Path) -> None:
    benchmarks("--from", earlier(tmp_path / "results.json"), "--plots", tmp_path / "plots")
    drawn = ET.parse(tmp_path / "plots/check-clones.svg")
    assert "13.6 s" in [text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")]
