"""Random instructions that do not jump: for tests that compare what executes them."""

from __future__ import annotations

import random

from guest import ECALL, addi, b_type

from shstk.tracer import _core

OPCODES = [0x03, 0x07, 0x13, 0x17, 0x1B, 0x23, 0x27, 0x2F, 0x33, 0x37, 0x3B, 0x33, 0x3B, 0x13]
OPCODES += [0x43, 0x47, 0x4B, 0x4F, 0x53, 0x53, 0x57, 0x73]
MEMORY = {0x03, 0x07, 0x23, 0x27, 0x2F}
POINTERS = (8, 31)  # one that native code holds in a register of the host, one that it does not
COUNTER = 30
SHADOW = (0xCE104073, 0xCE504073, 0xCDC0C073, 0xCDC2C073, 0xCDC04573, 0x01102573)
# Funct7 values of the extensions of OP and OP-32, which random bits rarely hit.
FUNCT7 = (0, 1, 4, 5, 7, 16, 20, 32, 36, 48, 52)


def instruction(rng: random.Random) -> int:
    """A random instruction that does not jump and leaves the pointers and the counter alone."""
    while True:
        if rng.random() < 0.1:
            return rng.choice(SHADOW)
        word = rng.getrandbits(32) & ~0x7F | rng.choice(OPCODES)
        if word & 0x7F in (0x33, 0x3B, 0x1B) and rng.random() < 0.9:
            word = word & 0x1FFFFFF | rng.choice(FUNCT7) << 25
        if word & 0x7F == 0x53 and rng.random() < 0.5:
            word = word & ~0x7000 | rng.choice([0, 7, 1]) << 12
        if word & 0x7F in MEMORY:
            word = word & ~0xF8000 | rng.choice(POINTERS) << 15
        known = _core.decode(word)
        if known is None or known[0] in ("ecall", "ebreak", "cbo_inval"):
            continue
        if known[0] == "amocas_q" or known[0].startswith("v"):
            continue
        if known[1] in ("B", "J", "END") or (word >> 7) & 31 in (*POINTERS, COUNTER):
            continue
        return word


def loop(rng: random.Random, length: int) -> list[int]:
    """Instructions that are executed as often as the counter says, and an ecall."""
    body = [instruction(rng) for _ in range(length)]
    back = -4 * (length + 1)
    return [*body, addi(COUNTER, COUNTER, -1), b_type(0x1063, COUNTER, 0, back), ECALL]
