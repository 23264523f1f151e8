"""A worker writes only to its own folder; here a rule of the user's tries more."""

from __future__ import annotations

import ctypes
import os
import subprocess
from pathlib import Path

import pytest
from campaign_files import COMMAND, corpus, rows

RULE = Path(__file__).parents[1] / "rules/own/stacks_are_small.py"
TRIES = """
import os, pathlib, tempfile
tempfile.TemporaryFile().write(b"in the worker's own folder")
try:
    with open({canary!r}, "a") as file:
        file.write(f"{{os.getpid()}}\\n")
except PermissionError:
    pass
"""


@pytest.mark.skipif(ctypes.CDLL(None).syscall(444, None, 0, 1) < 2, reason="no Landlock 2")
@pytest.mark.parametrize("confined", [True, False])
def test_a_worker_writes_only_to_its_folder(tmp_path: Path, confined: bool) -> None:
    head = 'kernels = ["7.2"]\njudge = { rules-from = ["own.py"] }\n'
    file = corpus(tmp_path, head, "good", "leak")
    canary = tmp_path / "canary"
    text = RULE.read_text().replace("from __future__ import annotations\n", "")
    (tmp_path / "own.py").write_text(text + TRIES.format(canary=str(canary)))
    driver = subprocess.Popen(
        [*COMMAND, "run", str(file), "-j", "2"],
        cwd=tmp_path,
        env=os.environ | {"SHSTK_UNCONFINED": "" if confined else "1"},
        stdout=subprocess.DEVNULL,
    )
    driver.wait()
    assert {row["outcome"] for row in rows(tmp_path / "CORPUS.store")} == {"finished"}
    wrote = set(canary.read_text().split()) if canary.exists() else set()
    assert bool(wrote - {str(driver.pid)}) is not confined
