"""Signal deliveries and sigreturns, each with its frame and its outcome."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from shstk.replay.derive.history import History, State
from shstk.replay.derive.rows import Rows, Signal, Transfer
from shstk.replay.derive.sigframe import Frame
from shstk.schemas.seq import STEPS
from shstk.schemas.uapi import SI_KERNEL, SIGNALS

_SIGSEGV: Final = SIGNALS["SIGSEGV"]
_LARGEST: Final = 2**20  # bytes of a frame; RISC-V's longest vectors take a quarter of it


@dataclass(frozen=True)
class Handling:
    """A delivery with the frame that the kernel wrote, or a sigreturn with the frame that it read.

    tokens: the kernel's stores and swaps outside the frame. next: the task's next row of signals.
    """

    row: Signal
    state: State
    frame: Frame
    tokens: tuple[Transfer, ...]
    next: Signal | None

    @property
    def seq(self) -> int:
        return self.row.seq

    @property
    def icount(self) -> int:
        return self.row.seq // STEPS

    @property
    def at_once(self) -> Signal | None:
        """The task's next row of signals, if no instruction comes before it."""
        return self.next if self.next and self.next.seq // STEPS == self.icount else None

    @property
    def refused(self) -> bool:
        """Whether the kernel forced a SIGSEGV directly afterwards."""
        then = self.at_once
        return then is not None and (then.signo, then.code) == (_SIGSEGV, SI_KERNEL)


def handlings(signals: Rows[Signal], transfers: Rows[Transfer], history: History) -> list[Handling]:
    """Every delivery and sigreturn, in seq order. Deaths by signal are only in `next`."""
    found = []
    for row in signals:
        if row.kind == "fatal":
            continue
        later = signals.of(row.tid, row.seq, None)
        after = later[0] if later else None
        # Its transfers are at the same icount, before the task's next signal.
        until = (row.seq // STEPS + 1) * STEPS - 1
        if after:
            until = min(until, after.seq - 1)
        rows = transfers.of(row.tid, row.seq, until)
        found.append(
            Handling(
                row=row,
                state=history.state(row.tid, row.seq),
                frame=_frame(row, rows),
                tokens=tuple(t for t in rows if t.op != "read" and not _in_frame(row, t)),
                next=after,
            )
        )
    return found


def _frame(row: Signal, rows: Iterable[Transfer]) -> Frame:
    op = "write" if row.kind == "delivery" else "read"
    pieces = [(t.addr, t.bytes) for t in rows if t.op == op and _in_frame(row, t)]
    return Frame(row.frame or 0, pieces)


def _in_frame(row: Signal, transfer: Transfer) -> bool:
    if row.frame is None or transfer.op == "swap" or transfer.addr == row.token_addr:
        return False
    return 0 <= transfer.addr - row.frame < _LARGEST
