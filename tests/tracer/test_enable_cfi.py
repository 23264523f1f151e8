"""--enable-cfi: what the loader enables, when, and how it is recorded."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

import shstk
from tracer import elf

GOOD = (Path(__file__).parents[2] / "fixtures/bin/sc1.elf").read_bytes()
PHDR, PT_LOAD, PT_GNU_PROPERTY = 64, 1, 0x6474E553


def marked(features: int) -> bytes:
    """GOOD with a property note at its end, in the place of a header that is not PT_LOAD."""
    at = next(
        at
        for at in range(PHDR, PHDR + 56 * 9, 56)
        if struct.unpack_from("<I", GOOD, at)[0] != PT_LOAD
    )
    other = struct.pack("<III4x", 0xC0000001, 4, 7)
    note = struct.pack("<III4s", 4, 32, 5, b"GNU\0") + other
    note += struct.pack("<III4x", 0xC0000000, 4, features)
    data = bytearray(GOOD)
    struct.pack_into("<IIQQQQQQ", data, at, PT_GNU_PROPERTY, 4, len(GOOD), 0, 0, len(note), 0, 8)
    return bytes(data) + note


@pytest.mark.parametrize("features", [0, elf.LANDING_PADS, elf.SHADOW_STACK, 3])
def test_the_property_note(features: int) -> None:
    assert elf.parse(marked(features), "/x").features == features
    assert elf.parse(GOOD, "/x").features == 0


@pytest.mark.parametrize(
    ("mode", "features", "prctls"),
    [
        ("off", 3, []),
        ("auto", 0, []),
        ("auto", elf.SHADOW_STACK, [75]),
        ("auto", 3, [75, 81]),
        ("on", 0, [75, 81]),
    ],
)
def test_the_loader_s_rows(mode: str, features: int, prctls: list[int], tmp_path: Path) -> None:
    program = tmp_path / "prog"
    program.write_bytes(marked(features))
    out = tmp_path / "r.run"
    shstk.record(program, out=out, enable_cfi=mode, max_instructions=1)
    run = shstk.open(out)
    rows = run.table("syscalls").filter(run.table("syscalls")["outcome"].cast(str) == "loader")
    assert rows["a0"].to_list() == prctls
    assert set(rows["ret"].to_list()) <= {0}
    first = run.table("task_events").filter(
        run.table("task_events")["kind"].cast(str) == "first_user"
    )
    assert bool(first["ssp"][0]) == (75 in prctls)
    assert all(seq < first["seq"][0] < 1 << 20 for seq in rows["seq"])
