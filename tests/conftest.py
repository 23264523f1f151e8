"""What all tests share: text snapshots, reviewed as diffs; campaigns with native code and with real
kernels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from shstk.tracer import _core

# A test says nothing about how busy the machine is.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-snapshots",
        action="store_true",
        help="write the snapshots anew instead of comparing",
    )
    parser.addoption(
        "--live-kernel",
        action="store_true",
        help="boot real kernels in QEMU, fetched from Debian's packages",
    )
    parser.addoption(
        "--native-after",
        type=int,
        metavar="ENTRIES",
        help="every machine of this process makes native code of blocks entered more often",
    )


def pytest_configure(config: pytest.Config) -> None:
    after = config.getoption("--native-after")
    if after is None:
        return

    class Native(_core.Machine):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options | {"native_after": after})

    _core.Machine = Native  # type: ignore[misc]


@pytest.fixture
def snapshot(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """snapshot(name, text): text must be what snapshots/<name>.txt beside the test holds."""
    folder = Path(request.node.path).parent / "snapshots"

    def compare(name: str, text: str) -> None:
        path = folder / f"{name}.txt"
        if request.config.getoption("--update-snapshots"):
            folder.mkdir(exist_ok=True)
            path.write_text(text)
        assert path.exists(), f"{path} is missing: run pytest --update-snapshots and review it"
        assert text == path.read_text()

    return compare
