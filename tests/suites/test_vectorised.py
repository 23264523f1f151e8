"""A C program that clang vectorises, shadow stack and landing pads enforced: as natively."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import cfi_programs

SOURCE = Path(__file__).with_name("vectorised.c")
OPTIONS = ("-O3", "-ffp-contract=off", "-fno-sanitize=undefined")


def build(target: Path, *flags: str) -> Path:
    command = (sys.executable, "-m", "ziglang", "cc", *OPTIONS, *flags, str(SOURCE), "-lm")
    subprocess.run((*command, "-o", str(target)), cwd=cfi_programs.ROOT, check=True)
    return target


def vsetvl(text: bytes) -> list[int]:
    """Where vsetvli or vsetivli stands."""
    words = [int.from_bytes(text[at : at + 4], "little") for at in range(0, len(text) - 3, 2)]
    return [w for w in words if w & 0x8000707F == 0x7057 or w & 0xC000707F == 0xC0007057]


@pytest.mark.skipif(not importlib.util.find_spec("ziglang"), reason="needs ziglang")
def test_the_same_as_natively(tmp_path: Path) -> None:
    flags = [f + "+v" if f.startswith("-mcpu=") else f for f in cfi_programs.ENFORCED]
    guest = build(tmp_path / "guest", *flags)
    assert len(vsetvl(guest.read_bytes())) > 10
    native = subprocess.run(build(tmp_path / "native"), capture_output=True, text=True, check=True)
    assert cfi_programs.outcome(guest) == cfi_programs.Outcome("exited with 0", native.stdout)
