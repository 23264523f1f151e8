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
    parser.addoption("--whole", action="store_true", help="run all of what is otherwise a sample")
    parser.addoption(
        "--native-after",
        type=int,
        metavar="ENTRIES",
        help="every machine of this process makes native code of blocks entered more often",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of the cases of a test that is marked sample(n), n are left. They are spread evenly."""
    if config.getoption("--whole"):
        return
    cases: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("sample"):
            cases.setdefault(item.nodeid.partition("[")[0], []).append(item)
    left_out: set[pytest.Item] = set()
    for all_of_them in cases.values():
        marker = all_of_them[0].get_closest_marker("sample")
        assert marker is not None
        kept = {len(all_of_them) * n // marker.args[0] for n in range(marker.args[0])}
        left_out.update(item for at, item in enumerate(all_of_them) if at not in kept)
    if left_out:
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "sample(n): run n of the cases; all of them with --whole")
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
