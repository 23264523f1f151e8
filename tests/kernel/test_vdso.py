"""The vdso as a C library sees it: found by the auxiliary vector, with symbols to call."""

from __future__ import annotations

import io
import struct

from direct import Direct
from elftools.elf.elffile import ELFFile
from guest_run import run

from shstk.schemas.uapi import PAGE

AT_SYSINFO_EHDR = 33
# The stack of a program without arguments: argc, argv, 0, 0, then the auxiliary vector.
CALL = "ld s0, 40(sp)\nli t0, {at}\nadd t0, t0, s0\njalr t0\nreport a0"


def functions(d: Direct) -> dict[str, int]:
    address = dict(struct.iter_unpack("<QQ", d.mm.auxv))[AT_SYSINFO_EHDR]
    (dynamic,) = (
        segment
        for segment in ELFFile(io.BytesIO(d.get(address, PAGE))).iter_segments()
        if segment["p_type"] == "PT_DYNAMIC"
    )
    return {s.name: s["st_value"] for s in dynamic.iter_symbols() if s.name}


def test_its_functions_have_names() -> None:
    d = Direct()
    found = functions(d)
    assert set(found) == {"__vdso_rt_sigreturn", "__vdso_riscv_hwprobe"}
    code = d.get(d.mm.sigreturn, 8)
    assert d.mm.sigreturn % PAGE == found["__vdso_rt_sigreturn"]
    assert code.hex() == "9308b00873000000"  # li a7, 139; ecall


def test_hwprobe_answers_without_a_call() -> None:
    """As the call does, for all harts and without flags; anything else is left to it."""
    at = functions(Direct())["__vdso_riscv_hwprobe"]
    reports = "".join(f"ld s1, {8 * i}(s2)\nreport s1\n" for i in range(8))
    result = run(f"""
        li a0, pairs
        li a1, 4
        li a2, 0
        li a3, 0
        li a4, 0
        {CALL.format(at=at)}
        li s2, pairs
        {reports}
        sys 258, again, 4, 0, 0, 0
        li s2, again
        {reports}
        li a0, pairs
        li a1, 1
        li a2, 0
        li a3, 0
        li a4, 2
        {CALL.format(at=at)}
        exit 0
        .align 8
    pairs: .dword 4, 0, 999, 5, 11, 7, -3, 1
    again: .dword 4, 0, 999, 5, 11, 7, -3, 1
    """)
    assert result.words[1:9] == result.words[9:17]
    assert result.words[3:][:6] == [2**64 - 1, 0, 11, 0, 2**64 - 1, 0]
    assert (result.words[0], result.words[17]) == (0, 2**64 - 22)
    calls = [row["a4"] for row in result.rows("syscalls") if row["name"] == "riscv_hwprobe"]
    assert calls == [0, 2]
