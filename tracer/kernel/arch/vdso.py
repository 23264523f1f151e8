"""The vdso: an ELF image that the kernel maps into every process.

Of a real one's functions it has the return from a signal handler, and riscv_hwprobe, which the C
library calls as a program starts. For a clock, getcpu and flush_icache programs make the system
call, since they don't find them here: so a recording shows when they read a clock.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import MAP_ANONYMOUS, MAP_PRIVATE, PAGE, PROT_EXEC, PROT_READ
from shstk.schemas.vdso import FUNCTIONS, HWPROBE, RT_SIGRETURN
from shstk.tracer.elf import AT_SYSINFO_EHDR
from shstk.tracer.kernel.arch import hwprobe

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.mm.mm import Mm

_TABLE: Final = 0xA00  # for riscv_hwprobe: the number of keys, then the value of each
_EHDR: Final = struct.Struct("<16sHHIQQQIHHHHHH")
_PHDR: Final = struct.Struct("<IIQQQQQQ")
_SYM: Final = struct.Struct("<IBBHQQ")
_SONAME: Final = "linux-vdso.so.1"
_IDENT: Final = b"\x7fELF\2\1\1"
_ET_DYN, _EM_RISCV, _PT_LOAD, _PT_DYNAMIC, _R, _RX = 3, 243, 1, 2, 4, 5
_DT_HASH, _DT_STRTAB, _DT_SYMTAB, _DT_STRSZ, _DT_SYMENT, _DT_SONAME = 4, 5, 6, 10, 11, 14
_GLOBAL_FUNCTION: Final = 0x12

# Handlers return to it by `ret`, so it needs no lpad.
_SIGRETURN: Final = (
    0x08B0_0893,  # li a7, 139
    0x0000_0073,  # ecall
)
# All harts are alike: a question about some of them, or with flags, is left to the call.
_HWPROBE: Final = (
    0x0000_0017,  # auipc zero, 0
    0x00D6_62B3,  # or t0, a2, a3
    0x00E2_E2B3,  # or t0, t0, a4
    0x0402_9863,  # bnez t0, call
    0x0000_0297,  # auipc t0, 0
    0x1E02_8293,  # addi t0, t0, 480
    0x0002_B383,  # ld t2, 0(t0)
    0x0205_8C63,  # next: beqz a1, done
    0x0005_3303,  # ld t1, 0(a0)
    0x0073_6A63,  # bltu t1, t2, known
    0xFFF0_0E13,  # li t3, -1
    0x01C5_3023,  # sd t3, 0(a0)
    0x0005_3423,  # sd zero, 8(a0)
    0x0140_006F,  # j step
    0x0033_1313,  # known: slli t1, t1, 3
    0x0053_0333,  # add t1, t1, t0
    0x0083_3303,  # ld t1, 8(t1)
    0x0065_3423,  # sd t1, 8(a0)
    0x0105_0513,  # step: addi a0, a0, 16
    0xFFF5_8593,  # addi a1, a1, -1
    0xFCDF_F06F,  # j next
    0x0000_0513,  # done: li a0, 0
    0x0000_8067,  # ret
    0x1020_0893,  # call: li a7, 258
    0x0000_0073,  # ecall
    0x0000_8067,  # ret
)
_CODE: Final = {RT_SIGRETURN: _SIGRETURN, HWPROBE: _HWPROBE}


def place(k: Kernel, mm: Mm) -> list[tuple[int, int]]:
    """Map it. Returns what it adds to the auxiliary vector."""
    flags, special = MAP_PRIVATE | MAP_ANONYMOUS, frozenset({"de"})
    at = mm.map(k, 0, PAGE, PROT_READ | PROT_EXEC, flags, name="[vdso]", special=special)
    if k.bare_vdso:
        mm.sigreturn = at
        mm.space.write(at, _packed(_SIGRETURN), force=True)
        return []
    mm.sigreturn = at + FUNCTIONS[RT_SIGRETURN][0]
    mm.space.write(at, _image(k), force=True)
    return [(AT_SYSINFO_EHDR, at)]


def _packed(words: tuple[int, ...]) -> bytes:
    return struct.pack(f"<{len(words)}I", *words)


def _image(k: Kernel) -> bytes:
    """The page: headers, a symbol table, the functions, and the values of riscv_hwprobe."""
    names = "\0".join(("", _SONAME, *FUNCTIONS, "")).encode()
    symbols = bytes(_SYM.size)
    for name, (offset, size) in FUNCTIONS.items():
        symbols += _SYM.pack(names.index(name.encode()), _GLOBAL_FUNCTION, 0, 1, offset, size)
    count = 1 + len(FUNCTIONS)
    chain = (0, *range(2, count), 0)  # one bucket has every symbol
    table = struct.pack(f"<{3 + count}I", 1, count, 1, *chain)
    symbols_at = _EHDR.size + 2 * _PHDR.size
    hash_at = symbols_at + len(symbols)
    names_at = hash_at + len(table)
    dynamic_at = (names_at + len(names) + 7) & -8
    tags = (
        *((_DT_HASH, hash_at), (_DT_STRTAB, names_at), (_DT_SYMTAB, symbols_at)),
        *((_DT_STRSZ, len(names)), (_DT_SYMENT, _SYM.size)),
        *((_DT_SONAME, names.index(_SONAME.encode())), (0, 0)),
    )
    dynamic = b"".join(struct.pack("<QQ", *tag) for tag in tags)
    header = _EHDR.pack(
        *(_IDENT, _ET_DYN, _EM_RISCV, 1, 0, _EHDR.size, 0, 0),
        *(_EHDR.size, _PHDR.size, 2, 0, 0, 0),
    )
    load = _PHDR.pack(_PT_LOAD, _RX, 0, 0, 0, PAGE, PAGE, PAGE)
    size = len(dynamic)
    header += load + _PHDR.pack(_PT_DYNAMIC, _R, dynamic_at, dynamic_at, dynamic_at, size, size, 8)
    page = bytearray((header + symbols + table + names).ljust(dynamic_at, b"\0") + dynamic)
    page = page.ljust(PAGE, b"\0")
    for name, (offset, _) in FUNCTIONS.items():
        _put(page, offset, _packed(_CODE[name]))
    known = hwprobe.values(k)
    keys = range(max(known) + 1)
    _put(page, _TABLE, struct.pack(f"<{1 + len(keys)}Q", len(keys), *(known[n] for n in keys)))
    return bytes(page)


def _put(page: bytearray, at: int, data: bytes) -> None:
    page[at : at + len(data)] = data
