"""What no kernel is booted for."""

from __future__ import annotations

from pathlib import Path

import pytest

import shstk
from shstk.schemas.errors import Exit, ShstkError
from shstk.tracer.realkernel.options import KernelFiles, RealOptions

GUEST = str(Path(__file__).parents[2] / "fixtures/bin/sc1.elf")


def refused(where: Path, program: str, **options: object) -> ShstkError:
    """By a QEMU that only says its version."""
    qemu = where / "qemu"
    qemu.write_text("#!/bin/sh\necho QEMU emulator version 11.1.3\n")
    qemu.chmod(0o755)
    files = KernelFiles(image=where / "Image")
    given = RealOptions(files=files, program=program, qemu=str(qemu), **options)  # type: ignore[arg-type]
    with pytest.raises(ShstkError) as raised:
        shstk.record_real_kernel(given)
    return raised.value


def test_a_program_of_another_machine(tmp_path: Path) -> None:
    data = bytearray(Path(GUEST).read_bytes())
    data[18] = 62  # e_machine: x86-64
    (tmp_path / "other").write_bytes(data)
    error = refused(tmp_path, str(tmp_path / "other"))
    assert error.what == f"{tmp_path}/other: a 64-bit ELF for EM_X86_64, not RV64"
    assert error.exit is Exit.INPUT


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"smp": 0}, "at least one hart"),
        ({"cpu": "rv32"}, "no such ISA"),
        ({"firmware": Path("/none")}, "no such file"),
        ({"root": Path("/none")}, "not a directory"),
        ({}, "No such file"),  # the Image
    ],
)
def test_wrong_options(options: dict[str, object], said: str, tmp_path: Path) -> None:
    assert said in refused(tmp_path, GUEST, **options).what
