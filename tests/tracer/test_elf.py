"""The loader: the files it accepts and rejects, its messages, and the initial stack."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from shstk.schemas.errors import BadProgram
from shstk.tracer import elf

GOOD = (Path(__file__).parents[2] / "fixtures/bin/sc1.elf").read_bytes()
PIE = (Path(__file__).parents[2] / "fixtures/bin/pthread-pie.elf").read_bytes()


def patched(*changes: tuple[int, str, int]) -> bytes:
    """GOOD with fields overwritten: (offset, struct format, value)."""
    data = bytearray(GOOD)
    for offset, form, value in changes:
        struct.pack_into(form, data, offset, value)
    return bytes(data)


PHDR = 64
LOAD = next(
    PHDR + 56 * i for i in range(8) if struct.unpack_from("<I", GOOD, PHDR + 56 * i)[0] == 1
)


def test_static_and_static_pie() -> None:
    image = elf.parse(GOOD, "/sc1")
    assert not image.pie
    assert image.interpreter is None
    assert any(s.prot == 5 for s in image.segments)
    assert elf.parse(PIE, "/pie").pie


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "not a valid ELF"),
        (b"#!/bin/sh\n", "not a valid ELF"),
        (GOOD[:60], "not a valid ELF"),
        (GOOD[:100], "truncated"),
        (GOOD[: len(GOOD) // 2], "truncated"),
        (patched((4, "<B", 1)), "ELF"),
        (patched((18, "<H", 62)), "EM_X86_64"),
        (patched((16, "<H", 1)), "ET_REL"),
        (patched((56, "<H", 0)), "0 program headers"),
        (patched((32, "<Q", 2**63)), "valid|truncated"),
        (patched((LOAD + 16, "<Q", 2**63)), "47-bit"),
        (patched((LOAD + 32, "<Q", 2**62), (LOAD + 40, "<Q", 2**62)), "truncated"),
        (patched((LOAD + 8, "<Q", 1)), "offset"),
    ],
)
def test_bad_programs(data: bytes, what: str) -> None:
    with pytest.raises(BadProgram, match=what) as error:
        elf.parse(data, "/bad")
    assert error.value.what.startswith("/bad: ")
    assert error.value.hint


def test_section_headers_do_not_matter() -> None:
    """The kernel reads none: a program may have none, or wrong ones."""
    assert elf.parse(patched((40, "<Q", 2**63)), "/x") == elf.parse(GOOD, "/x")


def test_the_build_id() -> None:
    """Of the first NT_GNU_BUILD_ID; a note before it is skipped, a damaged one ends the search."""
    other = struct.pack("<III4s3sx", 4, 3, 1, b"GNU\0", b"abc")
    ours = struct.pack("<III4s", 4, 3, 3, b"GNU\0") + b"\x12\x34\x56"
    header = next(PHDR + 56 * i for i in range(8) if PHDR + 56 * i != LOAD)
    for note, found in ((other + ours, "123456"), (other, None), ((other + ours)[:-1], None)):
        at, size = (header + 8, "<Q", len(GOOD)), (header + 32, "<Q", len(note))
        assert elf.parse(patched((header, "<I", 4), at, size) + note, "/x").build_id == found


def test_the_libraries_of_a_program() -> None:
    """DT_RUNPATH counts before DT_RPATH, and the tags end at DT_NULL."""
    strings = b"\0libc.so\0/a:/b\0/c\0"
    table = len(GOOD)
    load = (LOAD + 8, "<Q", table), (LOAD + 32, "<Q", len(strings)), (LOAD + 40, "<Q", 4096)
    header = next(PHDR + 56 * i for i in range(8) if PHDR + 56 * i != LOAD)
    address = struct.unpack_from("<Q", GOOD, LOAD + 16)[0]
    pairs = ((1, 1), (15, 15), (29, 9), (5, address), (0, 1), (1, 9))
    tags = b"".join(struct.pack("<qQ", *pair) for pair in pairs)
    at = (header + 8, "<Q", table + len(strings)), (header + 32, "<Q", len(tags))
    data = patched((header, "<I", 2), *at, *load) + strings + tags
    assert elf.dynamic(data) == (["libc.so"], ["/a", "/b"])
    assert elf.dynamic(GOOD) == elf.dynamic(b"") == ([], [])


def test_a_dynamic_program_names_its_interpreter() -> None:
    interp = len(GOOD)
    name = b"/lib/ld-musl-riscv64.so.1\0"
    note = next(PHDR + 56 * i for i in range(8) if PHDR + 56 * i != LOAD)
    data = patched((note, "<I", 3), (note + 8, "<Q", interp), (note + 32, "<Q", len(name))) + name
    assert elf.parse(data, "/dyn").interpreter == "/lib/ld-musl-riscv64.so.1"


def test_the_initial_stack() -> None:
    top = 0x800000000000
    stack = elf.build_stack(top, (b"prog", b"x y"), (b"A=1",), b"/prog", [(6, 4096)], b"R" * 16)
    assert stack.sp % 16 == 0
    assert stack.sp + len(stack.data) == top

    def word(i: int) -> int:
        return int(struct.unpack_from("<Q", stack.data, 8 * i)[0])

    def string(at: int) -> bytes:
        return stack.data[at - stack.sp :].split(b"\0")[0]

    assert word(0) == 2
    assert [string(word(1)), string(word(2)), word(3)] == [b"prog", b"x y", 0]
    assert [string(word(4)), word(5)] == [b"A=1", 0]
    vector = dict(stack.auxv)
    assert vector[6] == 4096
    assert string(vector[elf.AT_EXECFN]) == b"/prog"
    random = vector[elf.AT_RANDOM] - stack.sp
    assert stack.data[random : random + 16] == b"R" * 16
    assert stack.data[stack.args[0] - stack.sp : stack.args[1] - stack.sp] == b"prog\0x y\0"
    assert stack.data[stack.envs[0] - stack.sp : stack.envs[1] - stack.sp] == b"A=1\0"
