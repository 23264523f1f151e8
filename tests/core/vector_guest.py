"""A vector instruction on known registers, and the result expected by formulas in Python."""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from guest import ECALL, Guest

from shstk.tracer import _core

VLENB = 16
WIDTHS = (8, 16, 32, 64)
LMULS = (-3, -2, -1, 0, 1, 2, 3)  # log2
SETTINGS = [(sew, lmul) for sew in WIDTHS for lmul in LMULS if sew <= 64 >> max(-lmul, 0)]


def op_v(funct6: int, funct3: int, vd: int, vs2: int, vs1: int, masked: bool = False) -> int:
    return 0x57 | vd << 7 | funct3 << 12 | vs1 << 15 | vs2 << 20 | (not masked) << 25 | funct6 << 26


def vtype(sew: int, lmul: int) -> int:
    return (sew.bit_length() - 4) << 3 | lmul & 7


def vlmax(sew: int, lmul: int) -> int:
    return int(8 * VLENB // sew * 2.0**lmul)


@dataclass
class State:
    """The registers before an instruction: v as 512 bytes, the others by number."""

    v: bytes
    sew: int = 64
    lmul: int = 0
    vl: int = 1 << 20
    vstart: int = 0
    vcsr: int = 0
    fcsr: int = 0
    x: dict[int, int] | None = None
    f: dict[int, int] | None = None

    def elements(self, reg: int, width: int | None = None) -> list[int]:
        """All elements from `reg` to the end of the registers, so that groups need no length."""
        size = (width or self.sew) // 8
        data = self.v[reg * VLENB :]
        return [int.from_bytes(data[i : i + size], "little") for i in range(0, len(data), size)]

    def bit(self, reg: int, i: int) -> bool:
        return bool(self.v[reg * VLENB + i // 8] >> i % 8 & 1)

    @property
    def length(self) -> int:
        return min(self.vl, vlmax(self.sew, self.lmul))

    def with_elements(self, reg: int, width: int, values: Iterable[tuple[int, int]]) -> bytes:
        """v with each (index, value) stored; the rest is undisturbed."""
        after, size = bytearray(self.v), width // 8
        for i, value in values:
            at = reg * VLENB + i * size
            after[at : at + size] = (value & (1 << width) - 1).to_bytes(size, "little")
        return bytes(after)

    def with_bits(self, reg: int, values: Iterable[tuple[int, bool]]) -> bytes:
        after = bytearray(self.v)
        for i, value in values:
            at, bit = reg * VLENB + i // 8, 1 << i % 8
            after[at] = after[at] | bit if value else after[at] & ~bit
        return bytes(after)

    def active(self, masked: bool) -> list[int]:
        return [i for i in range(self.vstart, self.length) if not masked or self.bit(0, i)]


def guest_with(state: State, words: Sequence[int]) -> Guest:
    guest = Guest([*words, ECALL], x=state.x or {})
    for i in range(32):
        guest.hart.set_v(i, state.v[i * VLENB : (i + 1) * VLENB])
    for i, bits in (state.f or {}).items():
        guest.hart.set_f(i, bits)
    guest.hart.fcsr = state.fcsr
    guest.hart.set_v_csrs(state.vstart, state.vl, vtype(state.sew, state.lmul), state.vcsr)
    return guest


def registers(guest: Guest) -> bytes:
    return b"".join(guest.hart.v(i) for i in range(32))


def execute(state: State, word: int) -> Guest:
    """The guest after a legal instruction; vstart must be 0."""
    guest = guest_with(state, [word]).run_to_ecall()
    assert guest.hart.v_csrs()[0] == 0
    return guest


def is_illegal(state: State, word: int) -> bool:
    guest = guest_with(state, [word])
    if guest.run() == _core.STOP_ECALL:
        return False
    assert guest.hart.fault()[:3] == (2, word, word)
    assert (registers(guest), guest.hart.v_csrs()[0]) == (state.v, state.vstart)
    return True


def floats(values: Iterable[float], width: int) -> list[int]:
    kind, bits = ("<f", "<I") if width == 32 else ("<d", "<Q")
    return [int(struct.unpack(bits, struct.pack(kind, value))[0]) for value in values]
