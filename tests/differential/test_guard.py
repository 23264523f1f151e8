"""No rule finds anything in real programs: a sample; guard.py by itself runs them all."""

from __future__ import annotations

from pathlib import Path

import pytest
from guard import GUARDED, findings
from riscv_root import NotToBeHad, riscv_root

SAMPLE = (
    "bash-coproc",
    "bash-jobs-and-signals",
    "bash-recursion",
    "coreutils-split-cat",
    "gdbserver-steps",
    "gdbserver-with-a-wrapper",
    "git-version-control",
    "perl-recursion",
    "sqlite3-file",
    "strace-of-a-pipeline",
)


@pytest.fixture(scope="session")
def root() -> Path:
    try:
        return riscv_root()
    except NotToBeHad as error:
        pytest.skip(f"real programs were not judged: {error}")


@pytest.mark.parametrize("name", SAMPLE)
def test_nothing_is_found(name: str, root: Path, tmp_path: Path) -> None:
    assert findings(GUARDED[name], root, tmp_path) == []
