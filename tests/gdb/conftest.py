from __future__ import annotations

from pathlib import Path

import pytest
from client import recorded


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Recorded guests by name. turns: under v3, where all threads push on one shadow stack."""
    folder = tmp_path_factory.mktemp("runs")
    return {
        "pthread": recorded(folder, "pthread", kernel="v3"),
        "turns": recorded(folder, "taking-turns", kernel="v3"),
        "faulty": recorded(folder, "faulty", "smashed"),
        "processes": recorded(folder, "processes"),
        "signals": recorded(folder, "signals"),
    }
