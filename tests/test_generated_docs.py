"""The generated pages of docs/ are what the code says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_no_page_is_out_of_date() -> None:
    script = Path(__file__).parents[1] / "tools/generate_docs.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), "run python tools/generate_docs.py"
