"""Kernels that are broken on purpose: a few bytes of Debian's 7.2.13 changed.

Each row says where (symbol and offset), what is there, and what is put there. A kernel with other
bytes there is refused.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from shstk.tracer.realkernel.kallsyms import LINK, symbols

_T1 = 6


@dataclass(frozen=True)
class Patch:
    symbol: str
    offset: int
    old: str  # hex
    new: (
        str | tuple[str, str, int]
    )  # hex, or a kind of jump, the symbol and the offset that it goes to


@dataclass(frozen=True)
class Mutant:
    name: str
    doc: str
    patches: tuple[Patch, ...]


_ALLOC = "shstk_alloc_thread_stack"
_UNUSED = "sysrq_handle_crash"  # room for more code
_BODY = 8  # ftrace writes its own nops before every function's body, at boot

MUTANTS = {
    m.name: m
    for m in (
        Mutant(
            "never-released",
            "shstk_release returns at once",
            (Patch("shstk_release", _BODY, "0111", "8280"),),
        ),
        Mutant(
            "never-allocated",
            "shstk_alloc_thread_stack returns 0",
            (Patch(_ALLOC, _BODY, "797122f0", "01458280"),),
        ),
        Mutant(
            "wrong-size",
            "the default size is a quarter of RLIMIT_STACK, not a half",
            (Patch(_ALLOC, 0x50, "8581", "8981"),),
        ),
        Mutant(
            "a-page-off",
            "a thread's ssp is a page below the top of its stack",
            (
                # the size is loaded, and it and the base are stored; then a page is taken off it
                Patch(_ALLOC, 0x76, "833584fda8ecacf0", ("auipc", _UNUSED, _BODY)),
                Patch(_UNUSED, _BODY, "", "833584fda8ecacf0" + "be95"),  # add a1,a1,a5: -PAGE
                Patch(_UNUSED, _BODY + 10, "", ("auipc", _ALLOC, 0x7E)),
            ),
        ),
        Mutant(
            "released-late",
            "mm_release calls shstk_release after it has woken who joins the thread",
            (
                Patch("mm_release", 0x2A, "268597f0feffe78040de", "0100" * 5),
                # clear_child_tid = NULL, behind the wake
                Patch("mm_release", 0x4A, "8567a69723b40784", ("auipc", _UNUSED, _BODY)),
                Patch(_UNUSED, _BODY, "", "2685"),  # mv a0,s1
                Patch(_UNUSED, _BODY + 2, "", ("call", "shstk_release", 0)),
                Patch(_UNUSED, _BODY + 10, "", "8567a69723b40784"),
                Patch(_UNUSED, _BODY + 18, "", ("auipc", "mm_release", 0x52)),
            ),
        ),
    )
}


def broken(image: bytes, mutant: Mutant) -> bytes:
    """The Image with its bytes changed. ValueError: it is another kernel."""
    where = symbols(image)
    patched = bytearray(image)
    for patch in mutant.patches:
        at = where[patch.symbol] + patch.offset
        old, new = bytes.fromhex(patch.old), _bytes(patch, at, where)
        place = at - LINK
        if patch.old and bytes(patched[place : place + len(old)]) != old:
            found = patched[place : place + len(old)].hex()
            raise ValueError(f"{patch.symbol}+{patch.offset:#x} is {found}, not {patch.old}")
        patched[place : place + len(new)] = new
    return bytes(patched)


def _bytes(patch: Patch, at: int, where: dict[str, int]) -> bytes:
    if isinstance(patch.new, str):
        return bytes.fromhex(patch.new)
    kind, symbol, offset = patch.new
    distance = where[symbol] + offset - at
    low = (distance & 0xFFF) - (0x1000 if distance & 0x800 else 0)
    high = (distance - low) & 0xFFFF_F000
    link, scratch = (1, 1) if kind == "call" else (0, _T1)
    auipc = high | scratch << 7 | 0x17
    jalr = (low & 0xFFF) << 20 | scratch << 15 | link << 7 | 0x67
    return struct.pack("<II", auipc, jalr)
