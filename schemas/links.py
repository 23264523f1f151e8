"""Instructions that call and return, by their encodings.

The unprivileged manual's return-address-stack hints: ra, and t0 as its alternate, are links.
"""

from __future__ import annotations

from typing import Final

_LINK: Final = (1, 5)
_JAL, _JALR = 0x6F, 0x67
_C_JR, _C_JALR = 0x8002, 0x9002
_C_MASK: Final = 0xF07F

CALL: Final = "call"
RETURN: Final = "return"
OTHER: Final = "other"


def ending(word: int) -> str:
    """call, return or other, by a block's last instruction."""
    rd, rs1, opcode = word >> 7 & 31, word >> 15 & 31, word & 0x7F
    if opcode == _JAL:
        return CALL if rd in _LINK else OTHER
    if opcode == _JALR:
        return CALL if rd in _LINK else RETURN if rs1 in _LINK else OTHER
    compressed = word & _C_MASK if word & 3 == 2 else 0
    if compressed == _C_JALR and rd:
        return CALL
    return RETURN if compressed == _C_JR and rd in _LINK else OTHER


def follows_call(before: bytes) -> bool:
    """Whether a call may stand just before an address. before: the four bytes there."""
    word = int.from_bytes(before, "little")
    return (word & 3 == 3 and ending(word) == CALL) or ending(word >> 16) == CALL
