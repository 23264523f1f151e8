"""The campaign that the tests of a process share."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from campaign_files import COMMAND, corpus, rows

MEMORY = Path("/dev/shm")


@pytest.fixture(autouse=True, scope="session")
def scratch_in_memory() -> Iterator[None]:
    """Workers write their runs to the folder for temporary files, and sync each file of a run."""
    if not os.access(MEMORY, os.W_OK):
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(MEMORY))
        yield


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """leak and dies under v6 and 7.2 with 12 seeds, done by a driver that nobody disturbed. Its
    runs with findings are kept."""
    folder = tmp_path_factory.mktemp("undisturbed")
    file = corpus(folder, 'kernels = ["v6", "7.2"]\nseeds = 12', "leak", "dies")
    command = [*COMMAND, "run", file, "-j", "2", "--keep", "findings"]
    subprocess.run(command, check=False, capture_output=True, timeout=300)
    assert len(rows(folder / "CORPUS.store")) == 48
    return folder


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """The sums of what the tests that kill have counted (record_property)."""
    if not config.getoption("--whole"):
        return
    sums, campaigns = Counter[str](), 0
    for report in (*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")):
        if report.user_properties:
            campaigns += 1
            sums.update(dict(report.user_properties))
    if campaigns:
        told = ", ".join(f"{number:,} {name}" for name, number in sums.items())
        terminalreporter.write_line(f"{campaigns} campaigns: {told}")
