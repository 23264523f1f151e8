"""A sample of what mm.py does."""

from __future__ import annotations

import platform
from pathlib import Path

import mm
import pytest

# It moves many areas at once since 6.17.
_RELEASE = platform.release().split(".")[:2]


@pytest.mark.skipif(
    platform.system() != "Linux"
    or not all(part.isdigit() for part in _RELEASE)
    or [*map(int, _RELEASE)] < [6, 17],
    reason="this machine's kernel is older than Linux 6.17",
)
def test_mm_calls_answer_as_here(tmp_path: Path) -> None:
    assert list(mm.campaign(mm.Peers(tmp_path), seed=0, count=150)) == []
