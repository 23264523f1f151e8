"""seq: the total order of all events of a run.

seq = icount * 2**20 + n (u64). icount is the index of the last attempted instruction, counted over
the whole run from 1 (0 is the loader); n = 0 is the instruction itself, n >= 1 are the kernel's
steps after it and before the next. Shown and typed as `icount.n`.
"""

from __future__ import annotations

STEPS = 2**20  # kernel steps that fit at one icount


def pack(icount: int, n: int) -> int:
    if not 0 <= n < STEPS:
        raise OverflowError(f"more than {STEPS} kernel steps at icount {icount}")
    return icount * STEPS + n


def show(seq: int | None) -> str:
    return "-" if seq is None else f"{seq // STEPS}.{seq % STEPS}"


def parse(text: str) -> int:
    """`icount.n`, `icount` (n = 0) or a plain 0x… seq. Raises ValueError."""
    if text.lower().startswith("0x"):
        return int(text, 16)
    icount, _, n = text.partition(".")
    if not icount.isascii() or not icount.isdigit() or (n and not (n.isascii() and n.isdigit())):
        raise ValueError(f"not a seq: {text!r} (expected icount.n, such as 1042.3)")
    if int(n or 0) >= STEPS or int(icount) >= 2**64 // STEPS:
        raise ValueError(f"not a seq: {text!r} (icount is below 2^44, n below 2^20)")
    return pack(int(icount), int(n or 0))
