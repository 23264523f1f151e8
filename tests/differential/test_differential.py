"""Real riscv64 programs do under shstk what they do under qemu-user (commands.toml)."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from both import COMMANDS, QEMU, by_qemu, by_shstk, wrappers
from riscv_root import NotToBeHad, riscv_root


@pytest.fixture(scope="session")
def root() -> Path:
    if QEMU is None:
        _skip("qemu-riscv64 is not installed (Debian: qemu-user)")
    try:
        return riscv_root()
    except NotToBeHad as error:
        _skip(str(error))


@pytest.fixture(scope="session")
def programs(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wrappers(root, tmp_path_factory.mktemp("qemu") / "bin")


def _skip(why: str) -> None:
    message = f"the differential tests are skipped: {why}"
    warnings.warn(message, stacklevel=2)
    pytest.skip(message)


@pytest.mark.sample(16)
@pytest.mark.parametrize("name", COMMANDS)
def test_as_under_qemu(name: str, root: Path, programs: Path, tmp_path: Path) -> None:
    expected = by_qemu(COMMANDS[name], root, tmp_path / "qemu", programs)
    found = by_shstk(COMMANDS[name], root, tmp_path / "shstk")
    assert found == expected, found.stderr.decode(errors="replace")
