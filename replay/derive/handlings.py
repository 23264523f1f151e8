"""Signal deliveries and sigreturns, each with its frame and its outcome."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from shstk.replay.derive.clock import with_clock
from shstk.replay.derive.history import History, State, Task
from shstk.replay.derive.rows import Rows, Signal, Transfer
from shstk.replay.derive.sigframe import Frame
from shstk.schemas.seq import STEPS
from shstk.schemas.uapi import SI_KERNEL, SIGNALS

if TYPE_CHECKING:
    from shstk.replay.run import Run

_SIGSEGV: Final = SIGNALS["SIGSEGV"]
_LARGEST: Final = 2**20  # bytes of a frame; RISC-V's longest vectors take a quarter of it


@dataclass(frozen=True)
class Handling:
    """A delivery with the frame that the kernel wrote, or a sigreturn with the frame that it read.

    tokens: the kernel's stores and swaps outside the frame. next: the task's next row of signals.
    idle: the task runs no instruction before that row. Other tasks may run, if it was preempted or
    stopped for a debugger.
    """

    row: Signal
    task: Task | None
    state: State
    frame: Frame
    tokens: tuple[Transfer, ...]
    next: Signal | None
    idle: bool

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
    def followed_by(self) -> Signal | None:
        """The task's next row of signals, if the task runs no instruction before it."""
        return self.next if self.idle else None

    @property
    def refused(self) -> bool:
        """Whether the kernel forced a SIGSEGV directly afterwards."""
        then = self.followed_by
        return then is not None and (then.signo, then.code) == (_SIGSEGV, SI_KERNEL)


def handlings(
    run: Run, signals: Rows[Signal], transfers: Rows[Transfer], history: History
) -> list[Handling]:
    """Every delivery and sigreturn, in seq order. Deaths by signal are only in `next`."""
    found, places = [], _places(run)
    for row in signals:
        if row.kind == "fatal":
            continue
        clock, next_call = places[row.seq]
        task = history.task(row.tid, row.seq)
        after = next(signals.since(row.tid, row.seq + 1), None)
        if after and task and task.exit_seq is not None and after.seq > task.exit_seq:
            after = None
        # Its transfers come before the task's next signal and call, and belong to no other event.
        ends = (after and after.seq - 1, next_call, task and task.exit_seq, 2**64 - 1)
        until = min(end for end in ends if end)
        own = (None, row.seq, row.sigreturn_seq)
        rows = [t for t in transfers.of(row.tid, row.seq, until) if t.during in own]
        found.append(
            Handling(
                row=row,
                task=task,
                state=history.state(row.tid, row.seq),
                frame=_frame(row, rows),
                tokens=tuple(t for t in rows if t.op != "read" and not _in_frame(row, t)),
                next=after,
                idle=after is not None and places[after.seq][0] == clock,
            )
        )
    return found


def _places(run: Run) -> dict[int, tuple[int, int | None]]:
    """Of each row of signals, by seq: its task's own clock, and the seq of its task's next call."""
    rows = with_clock(run, run.scan("signals").select("seq", "tid").sort("seq"))
    calls = run.scan("syscalls").select("tid", call="seq").sort("call")
    held = rows.join_asof(
        calls,
        left_on="seq",
        right_on="call",
        by="tid",
        strategy="forward",
        allow_exact_matches=False,
        check_sortedness=False,
    )
    found = held.select("seq", "clock", "call").collect()
    return {seq: (clock, call) for seq, clock, call in found.iter_rows()}


def _frame(row: Signal, rows: Iterable[Transfer]) -> Frame:
    op = "write" if row.kind == "delivery" else "read"
    pieces = [(t.addr, t.bytes) for t in rows if t.op == op and _in_frame(row, t)]
    return Frame(row.frame or 0, pieces)


def _in_frame(row: Signal, transfer: Transfer) -> bool:
    if row.frame is None or transfer.op == "swap" or transfer.addr == row.token_addr:
        return False
    return 0 <= transfer.addr - row.frame < _LARGEST
