"""The model's answers, line by line, against those of real kernels."""

from __future__ import annotations

from pathlib import Path

import pytest
from answers import Line, from_kernel, from_model, normalised, without_distances
from excused import EXCUSES, STOCK, Excuse, named

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


def excuse(lines: list[Line], excuses: dict[tuple[str, str], Excuse]) -> list[Line]:
    """The lines, the excused ones replaced by what is expected in their place."""
    kept = []
    for line in lines:
        known = excuses.get(named(line))
        expected = line if known is None else known.expected
        if expected is not None:
            kept.append(expected)
    return kept


def drop(lines: list[Line], excuses: dict[tuple[str, str], Excuse]) -> list[Line]:
    return [
        line
        for line in lines
        if (known := excuses.get(named(line))) is None or known.expected is not None
    ]


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("answers", KERNELS)
def test_line_by_line(answers: str, scenario: str, tmp_path: Path) -> None:
    theirs = normalised(from_kernel(answers)[scenario])
    ours = normalised(from_model(scenario, KERNELS[answers], tmp_path / "probe.run"))
    assert drop(ours, EXCUSES) == excuse(theirs, EXCUSES)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_stock_kernel_with_huge_pages(scenario: str, tmp_path: Path) -> None:
    excuses = EXCUSES | STOCK
    theirs = normalised(from_kernel("linux-7.2.13.jsonl")[scenario])
    ours = normalised(from_model(scenario, "7.2", tmp_path / "probe.run"))
    assert without_distances(drop(ours, excuses)) == without_distances(excuse(theirs, excuses))


def test_every_excuse_is_needed(tmp_path: Path) -> None:
    """An excuse for a line that agrees would hide a later difference."""
    lines = from_kernel("linux-7.2.13-tiny.jsonl")
    for (scenario, name), known in EXCUSES.items():
        theirs = [line for line in normalised(lines[scenario]) if named(line)[1] == name]
        assert len(theirs) == 1, name
        assert theirs[0] != known.expected, name
