"""A run is judged alike in one piece and in many."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from listings import threaded

import shstk.replay.derive.pieces as pieces
from shstk.listing import build_run, names
from shstk.replay.check import check

LISTINGS = sorted((Path(__file__).parents[1] / "rules").glob("I*.md"))
INTEGRITY = ("I1", "I2", "I3", "I4", "Z5")


@pytest.mark.parametrize("listing", LISTINGS, ids=lambda path: path.stem)
@pytest.mark.parametrize("rows", [1, 3])
def test_small_pieces_change_nothing(
    listing: Path, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = re.sub(r"```expect\n.*?```", "", listing.read_text(), flags=re.S)
    runs = [build_run(text, name, listing.name) for name in names(text)]
    whole = [check(run, select=INTEGRITY).findings for run in runs]
    monkeypatch.setattr(pieces, "ROWS", rows)
    for run, expected in zip(runs, whole, strict=True):
        assert check(run, select=INTEGRITY).findings.equals(expected)


def test_pieces_cover_all_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    run = threaded()
    (one,) = pieces.pieces(run)
    assert (one.after, one.until) == (-1, 2**64 - 1)
    monkeypatch.setattr(pieces, "ROWS", 3)
    cut = list(pieces.pieces(run))
    assert [p.rows.height for p in cut] == [3, 1]
    assert cut[0].until == cut[1].after == cut[0].rows["seq"][-1]
    back = list(pieces.pieces(run, backwards=True))
    assert [(p.after, p.until) for p in back] == [(p.after, p.until) for p in reversed(cut)]
    assert [p.rows.height for p in back] == [1, 3]
