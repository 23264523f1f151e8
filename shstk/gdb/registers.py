"""The registers that gdb sees: one row each, in the order of the g packet, and their XML.

cpu, fpu, csr and vector are gdb's features for RISC-V. cfi is our own: ssp, the landing pad that is
expected, and what the kernel keeps for prctl.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import quoteattr

if TYPE_CHECKING:
    from shstk.tracer.kernel.task import Task


def _words(text: str) -> list[str]:
    return text.split()


_X: Final = _words(
    "zero ra sp gp tp t0 t1 t2 fp s1 a0 a1 a2 a3 a4 a5"
    " a6 a7 s2 s3 s4 s5 s6 s7 s8 s9 s10 s11 t3 t4 t5 t6"
)
_F: Final = _words(
    "ft0 ft1 ft2 ft3 ft4 ft5 ft6 ft7 fs0 fs1 fa0 fa1 fa2 fa3 fa4 fa5"
    " fa6 fa7 fs2 fs3 fs4 fs5 fs6 fs7 fs8 fs9 fs10 fs11 ft8 ft9 ft10 ft11"
)
_TYPES: Final = {"ra": "code_ptr", "sp": "data_ptr", "gp": "data_ptr", "tp": "data_ptr"}
_CPU, _FPU = "org.gnu.gdb.riscv.cpu", "org.gnu.gdb.riscv.fpu"
_CSR, _VECTOR = "org.gnu.gdb.riscv.csr", "org.gnu.gdb.riscv.vector"
_CFI: Final = "org.shstk.cfi"

# Definitions that precede a feature's registers.
_DEFINED: Final = {
    _VECTOR: '<vector id="bytes" type="uint8" count="16"/>'
    '<vector id="shorts" type="uint16" count="8"/>'
    '<vector id="words" type="uint32" count="4"/>'
    '<vector id="longs" type="uint64" count="2"/>'
    '<union id="riscv_vector"><field name="b" type="bytes"/><field name="s" type="shorts"/>'
    '<field name="w" type="words"/><field name="l" type="longs"/></union>',
    _CFI: '<flags id="cfi_state" size="8">'
    '<field name="SS" start="0" end="0"/><field name="SS_LOCKED" start="1" end="1"/>'
    '<field name="LP" start="2" end="2"/><field name="LP_LOCKED" start="3" end="3"/></flags>',
}


@dataclass(frozen=True)
class Register:
    name: str
    feature: str
    bits: int
    type: str
    value: Callable[[Task], int]
    group: str = ""

    def bytes(self, task: Task) -> bytes:
        return self.value(task).to_bytes(self.bits // 8, "little")


def _x(i: int) -> Callable[[Task], int]:
    return lambda task: task.hart.x(i)


def _f(i: int) -> Callable[[Task], int]:
    return lambda task: task.hart.f(i)


def _v(i: int) -> Callable[[Task], int]:
    return lambda task: int.from_bytes(task.hart.v(i), "little")


def _cfi_state(task: Task) -> int:
    cfi = task.cfi
    bits = (cfi.ubcfi_en, cfi.ubcfi_locked, cfi.lp_en, cfi.lp_locked)
    return sum(bit << i for i, bit in enumerate(bits))


def _table() -> tuple[Register, ...]:
    x = [Register(name, _CPU, 64, _TYPES.get(name, "int"), _x(i)) for i, name in enumerate(_X)]
    f = [Register(name, _FPU, 64, "ieee_double", _f(i)) for i, name in enumerate(_F)]
    v = [Register(f"v{i}", _VECTOR, 128, "riscv_vector", _v(i), "vector") for i in range(32)]
    csrs: list[tuple[str, Callable[[Task], int]]] = [
        ("vstart", lambda task: task.hart.v_csrs()[0]),
        ("vl", lambda task: task.hart.v_csrs()[1]),
        ("vtype", lambda task: task.hart.v_csrs()[2]),
        ("vcsr", lambda task: task.hart.v_csrs()[3]),
        ("vlenb", lambda task: 16),
    ]
    return (
        *x,
        Register("pc", _CPU, 64, "code_ptr", lambda task: task.hart.pc),
        *f,
        Register("fflags", _FPU, 32, "int", lambda task: task.hart.fcsr & 31, "float"),
        Register("frm", _FPU, 32, "int", lambda task: task.hart.fcsr >> 5 & 7, "float"),
        Register("fcsr", _FPU, 32, "int", lambda task: task.hart.fcsr, "float"),
        *(Register(name, _CSR, 64, "int", value, "system") for name, value in csrs),
        *v,
        Register("ssp", _CFI, 64, "data_ptr", lambda task: task.hart.ssp, "general"),
        Register("elp", _CFI, 32, "int", lambda task: int(task.hart.elp), "general"),
        Register("cfi", _CFI, 64, "cfi_state", _cfi_state, "general"),
    )


REGISTERS: Final = _table()
PC: Final = next(i for i, register in enumerate(REGISTERS) if register.name == "pc")


def registers_of(task: Task) -> bytes:
    """The data of a g packet."""
    return b"".join(register.bytes(task) for register in REGISTERS)


def description() -> str:
    """target.xml."""
    numbered = list(enumerate(REGISTERS))
    features = []
    for feature, rows in groupby(numbered, key=lambda row: row[1].feature):
        lines = "".join(_line(number, register) for number, register in rows)
        features.append(f'<feature name="{feature}">{_DEFINED.get(feature, "")}{lines}</feature>')
    return (
        '<?xml version="1.0"?><!DOCTYPE target SYSTEM "gdb-target.dtd"><target version="1.0">'
        "<architecture>riscv:rv64</architecture><osabi>GNU/Linux</osabi>"
        f"{''.join(features)}</target>"
    )


def _line(number: int, register: Register) -> str:
    group = f" group={quoteattr(register.group)}" if register.group else ""
    return (
        f'<reg name="{register.name}" bitsize="{register.bits}" type="{register.type}"'
        f' regnum="{number}"{group}/>'
    )
