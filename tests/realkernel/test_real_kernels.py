"""Compares the model's lines with those of real kernels."""

from __future__ import annotations

from pathlib import Path

import pytest
from answers import Line, from_kernel, from_model, normalised, without_distances
from excused import EXCUSES, LEFT_OUT_OF_MINIMAL, LEFT_OUT_OF_STOCK, named

SEED_HUNKS = "7.2,release_hook=exit_thread,clone_gate=inverted,default_size=1:4G"
KERNELS = {
    "linux-7.2.13-tiny.jsonl": "7.2",
    "release-in-exit_thread.jsonl": "7.2,release_hook=exit_thread",
    "v3-hunks.jsonl": SEED_HUNKS,
}
SCENARIOS = (
    *("env", "prctl", "call", "rlimit", "threads", "vfork", "fork", "clone3", "map"),
    *("faults", "cfi_prctl", "signal", "gup", "exec"),
)


def excused(lines: list[Line]) -> list[Line]:
    """The real kernel's lines, with the excused ones replaced by the model's."""
    return [
        known.expected if (known := EXCUSES.get(named(line))) is not None else line
        for line in lines
    ]


def comparable_to_minimal(lines: list[Line]) -> list[Line]:
    return [line for line in lines if named(line) not in LEFT_OUT_OF_MINIMAL]


def comparable_to_stock(lines: list[Line]) -> list[Line]:
    return without_distances(line for line in lines if named(line) not in LEFT_OUT_OF_STOCK)


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("answers", KERNELS)
def test_line_by_line(answers: str, scenario: str, tmp_path: Path) -> None:
    theirs = normalised(from_kernel(answers)[scenario])
    ours = normalised(from_model(scenario, KERNELS[answers], tmp_path / "probe.run"))
    assert comparable_to_minimal(ours) == comparable_to_minimal(excused(theirs))


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_stock_kernel_with_huge_pages(scenario: str, tmp_path: Path) -> None:
    theirs = normalised(from_kernel("linux-7.2.13.jsonl")[scenario])
    ours = normalised(from_model(scenario, "7.2", tmp_path / "probe.run"))
    assert comparable_to_stock(ours) == comparable_to_stock(excused(theirs))


def test_every_excuse_is_needed() -> None:
    """An excuse for a line that agrees would hide a later difference."""
    lines = from_kernel("linux-7.2.13-tiny.jsonl")
    for (scenario, name), known in EXCUSES.items():
        theirs = [line for line in normalised(lines[scenario]) if named(line)[1] == name]
        assert len(theirs) == 1, name
        assert theirs[0] != known.expected, name
