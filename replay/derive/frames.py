"""Calls and their returns, by the blocks that ran, or else by pushes and pops.

A frame opens when its function is entered and ends when the code after its call resumes. A return
that goes to where an earlier call of an outer frame returned to is a longjmp: the frames above that
frame are unwound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from shstk.replay.derive.branches import blocks
from shstk.replay.derive.clock import clocked, slices
from shstk.replay.derive.lives import with_life
from shstk.replay.derive.pieces import pieces
from shstk.replay.derive.sigframe import PC, SC_REGS, UCONTEXT
from shstk.schemas.links import CALL, RETURN
from shstk.schemas.uapi import CLONE_VFORK, CLONE_VM

if TYPE_CHECKING:
    from shstk.replay.run import Run

COLUMNS: Final = {
    "tid": "UInt32",
    "mm": "UInt32",
    "depth": "UInt32",
    "kind": "String",
    "call_seq": "UInt64",
    "return_seq": "UInt64",
    "ended": "String",
    "caller_pc": "UInt64",
    "return_to": "UInt64",
    "callee": "UInt64",
    "slot": "UInt64",
    "source": "String",
}
_WORD: Final = 8


@dataclass(eq=False, slots=True)
class Frame:
    """A call that has not returned. slot: where its return address was pushed, if that is known.
    returned: where the calls that it made returned to."""

    kind: str  # call or signal
    mm: int | None
    depth: int
    call_seq: int
    caller_pc: int | None
    return_to: int | None
    callee: int | None
    slot: int | None = None
    returned: set[int] | None = None

    def has_slot(self, mm: int | None, low: int, high: int) -> bool:
        return self.slot is not None and self.mm == mm and low <= self.slot < high


def frames(run: Run) -> pl.DataFrame:
    """Every call of a run, in the order of their starts, with the columns of COLUMNS."""
    rows: list[tuple[Any, ...]] = []
    by_flow = has_flow(run)

    def ended(tid: int, f: Frame, seq: int | None, how: str) -> None:
        row = (tid, f.mm, f.depth, f.kind, f.call_seq, seq, how, f.caller_pc, f.return_to)
        rows.append((*row, f.callee, f.slot, "flow" if by_flow else "cfi"))

    fold = fold_of(run, ended)
    for part in events(run):
        for step in part.iter_rows():
            fold.take(*step)
    for tid, stack in fold.open.items():
        for frame in reversed(stack):
            ended(tid, frame, None, "open")
    schema = {name: getattr(pl, dtype) for name, dtype in COLUMNS.items()}
    made = pl.DataFrame(rows, schema=schema, orient="row").sort("call_seq", "tid", "depth")
    return _with_slots(run, made) if by_flow else made


def fold_of(run: Run, ended: Ended) -> Fold:
    """By the blocks that ran; by pushes and pops if those were not recorded."""
    return _ByFlow(ended) if has_flow(run) else _ByPushes(ended)


def has_flow(run: Run) -> bool:
    return bool(run.scan("flow").select(pl.len()).collect().item())


# Events as rows (seq, tid, mm, what, a, b, c)


def events(run: Run) -> Iterator[pl.DataFrame]:
    """What opens and ends frames, in order, in one part after another."""
    steps = _steps(run).collect().sort("seq", maintain_order=True)
    parts = _flow_events(run) if has_flow(run) else _push_events(run)
    for part, until in parts:
        now = steps.filter(pl.col("seq") <= until)
        steps = steps.filter(pl.col("seq") > until)
        yield pl.concat([part, now]).sort("seq", maintain_order=True)


def _event(what: str, a: Any = None, b: Any = None, c: Any = None) -> list[pl.Expr]:
    operands = [
        pl.lit(None) if x is None else pl.col(x) if isinstance(x, str) else x for x in (a, b, c)
    ]
    return [
        *(pl.col("seq"), pl.col("tid"), pl.col("mm"), pl.lit(what).alias("what")),
        *(x.cast(pl.UInt64).alias(n) for x, n in zip(operands, "abc", strict=True)),
    ]


def _steps(run: Run) -> pl.LazyFrame:
    """Signals, clones, execs and exits."""
    signals = run.scan("signals").with_columns(pl.col("kind").cast(pl.String))
    events = run.scan("task_events").with_columns(pl.col("kind").cast(pl.String))
    clones = run.scan("clones").filter(pl.col("child_tid").is_not_null())
    killed = pl.col("status") & 0x7F
    return pl.concat(
        [
            signals.filter(kind="delivery").select(_event("signal", "handler")),
            signals.filter(kind="sigreturn").select(_event("sigreturn")),
            clones.select(_event("clone", "child_tid", "flags")),
            events.filter(kind="exec_done", status=0).select(_event("exec")),
            events.filter(kind="exit_begin").select(_event("exit", killed)),
        ]
    )


def _flow_events(run: Run) -> Iterator[tuple[pl.DataFrame, int]]:
    """Calls (site, return address, target) and returns (target), at the seq of the next block; in
    parts, each with the seq until which it tells all.

    A block that was interrupted before its end did neither. If a signal arrived right after the
    last instruction, the target is in the signal's frame."""
    ends = blocks(run)
    nothing = {"count": pl.lit(0, pl.UInt32), "ends": pl.lit("other")}
    others = [
        run.scan("faults").select("seq", "tid", "mm", "pc", **nothing),
        _interrupted(run).select("seq", "tid", "mm", "pc", signal=pl.lit(True), **nothing),
    ]
    known = slices(run)
    last = pl.DataFrame()  # of each task, its last row so far: what came of it is yet to be told
    for piece in pieces(run, table="flow"):
        ran = piece.rows.lazy().join(ends.lazy(), on="block", how="left", maintain_order="left")
        parts = [ran.drop("block"), *(piece.span(other) for other in others)]
        path = pl.concat(parts, how="diagonal").sort("seq")
        # A signal's place is that of the instruction before; a block's, that of its first.
        clock = pl.col("clock") + pl.col("signal").fill_null(False).cast(pl.Int64)
        path = with_life(run, clocked(path, known).with_columns(clock=clock))
        path = pl.concat([last.lazy(), path], how="diagonal_relaxed")
        here = path.sort("tid", "life", maintain_order=True).collect()
        same = (pl.struct("tid", "life") == pl.struct("tid", "life").shift(-1)).fill_null(False)
        last = here.filter(~same)
        done = (
            here.lazy()
            .with_columns(
                seq=pl.col("seq").shift(-1),
                target=pl.col("pc").shift(-1),
                took=pl.col("clock").shift(-1) - pl.col("clock"),
                same=same,
            )
            .filter(pl.col("same") & (pl.col("took") >= pl.col("count")))
        )
        calls = done.filter(ends=CALL).select(_event("call", "site", "past", "target"))
        returns = done.filter(ends=RETURN).select(_event("return", "target"))
        yield pl.concat([calls, returns]).collect(), piece.until


def _interrupted(run: Run) -> pl.LazyFrame:
    """The rows of signals with pc u64: where a delivery's frame says that it interrupted the task;
    null if that is not recorded."""
    at = UCONTEXT + SC_REGS + 8 * PC
    stored = (
        run.scan("kernel_memory")
        .filter((pl.col("op").cast(pl.String) == "write") & (pl.col("bytes").bin.size() >= 8))
        .select("tid", "addr", "bytes", stored="seq")
        .sort("stored")
    )
    entered = pl.when(pl.col("handler").is_not_null()).then(pl.col("frame") + at)
    held = (
        run.scan("signals")
        .select("seq", "tid", "mm", addr=entered)
        .sort("seq")
        .join_asof(
            stored,
            left_on="seq",
            right_on="stored",
            by=["tid", "addr"],
            strategy="forward",
            check_sortedness=False,
        )
    )
    word = pl.col("bytes").bin.slice(0, 8).bin.reinterpret(dtype=pl.UInt64, endianness="little")
    return held.with_columns(pc=word)


def _push_events(run: Run) -> Iterator[tuple[pl.DataFrame, int]]:
    raised = pl.col("ssp_after") > pl.col("ssp_before")
    for piece in pieces(run):
        cfi = (
            piece.rows.lazy()
            .with_columns(pl.col("kind").cast(pl.String))
            .filter(pl.col("fault").is_null())
        )
        parts = [
            cfi.filter(kind="sspush").select(_event("push", "addr", "value", "pc")),
            cfi.filter(kind="sspopchk").select(_event("pop", "addr")),
            cfi.filter(raised, kind="ssp_write").select(_event("raise", "ssp_before", "ssp_after")),
        ]
        yield pl.concat(parts).collect(), piece.until


# The folds


# Told of each frame that ends: the task, the frame, when, and how (as in the view).
Ended = Callable[[int, Frame, int | None, str], None]


class Fold:
    """The open frames of each task, outermost first."""

    def __init__(self, ended: Ended) -> None:
        self.open: dict[int, list[Frame]] = {}
        self._ended = ended

    def take(self, seq: int, tid: int, mm: int | None, what: str, a: int, b: int, c: int) -> None:
        getattr(self, f"_{what}")(seq, tid, mm, a, b, c)

    def _end(self, tid: int, frame: Frame, seq: int, how: str) -> None:
        self._ended(tid, frame, seq, how)

    def _end_down_to(self, tid: int, depth: int, seq: int, how: str) -> None:
        """End all frames above this depth."""
        stack = self.open.get(tid, [])
        while stack and stack[-1].depth > depth:
            self._end(tid, stack.pop(), seq, how)

    def _signal(self, seq: int, tid: int, mm: int | None, a: int, b: int, c: int) -> None:
        stack = self.open.setdefault(tid, [])
        stack.append(Frame("signal", mm, _depth(stack), seq, None, None, a))

    def _sigreturn(self, seq: int, tid: int, mm: int | None, a: int, b: int, c: int) -> None:
        stack = self.open.get(tid, [])
        handler = next((f for f in reversed(stack) if f.kind == "signal"), None)
        if handler:
            self._end_down_to(tid, handler.depth, seq, "unwound")
            self._end(tid, stack.pop(), seq, "sigreturn")

    def _clone(self, seq: int, tid: int, mm: int | None, child: int, flags: int, c: int) -> None:
        """A child that copies the memory, or borrows the stack, has its parent's frames."""
        copies = not flags & CLONE_VM or bool(flags & CLONE_VFORK)
        self.open[child] = list(self.open.get(tid, ())) if copies else []

    def _exec(self, seq: int, tid: int, mm: int | None, a: int, b: int, c: int) -> None:
        self._end_down_to(tid, 0, seq, "exec")

    def _exit(self, seq: int, tid: int, mm: int | None, signal: int, b: int, c: int) -> None:
        self._end_down_to(tid, 0, seq, "killed" if signal else "exit")


class _ByFlow(Fold):
    def __init__(self, ended: Ended) -> None:
        super().__init__(ended)
        self._outermost: dict[int, set[int]] = {}  # calls from no known frame, by task

    def _exit(self, seq: int, tid: int, mm: int | None, signal: int, b: int, c: int) -> None:
        super()._exit(seq, tid, mm, signal, b, c)
        self._outermost.pop(tid, None)

    def _call(self, seq: int, tid: int, mm: int | None, site: int, past: int, target: int) -> None:
        stack = self.open.setdefault(tid, [])
        stack.append(Frame("call", mm, _depth(stack), seq, site, past, target))

    def _return(
        self, seq: int, tid: int, mm: int | None, target: int | None, b: int, c: int
    ) -> None:
        stack = self.open.get(tid, [])
        if target is None:  # a signal's handler came first
            target = stack[-1].return_to if stack else None
        if target is None:
            return
        for frame in reversed(stack):
            if frame.return_to == target:
                self._end_down_to(tid, frame.depth, seq, "unwound")
                self._end(tid, stack.pop(), seq, "return")
                self._returned(tid).add(target)
                return
        for frame in reversed(stack):
            if frame.returned and target in frame.returned:
                self._end_down_to(tid, frame.depth, seq, "unwound")
                return
        if target in self._outermost.get(tid, ()):
            self._end_down_to(tid, 0, seq, "unwound")

    def _returned(self, tid: int) -> set[int]:
        stack = self.open.get(tid)
        if not stack:
            return self._outermost.setdefault(tid, set())
        if stack[-1].returned is None:
            stack[-1].returned = set()
        return stack[-1].returned


class _ByPushes(Fold):
    def __init__(self, ended: Ended) -> None:
        super().__init__(ended)
        self._words: dict[int, set[tuple[int | None, int | None]]] = {}  # of the open frames

    def _push(self, seq: int, tid: int, mm: int | None, addr: int, value: int, pc: int) -> None:
        self._close(seq, tid, mm, addr, addr + _WORD, "unwound")
        stack = self.open.setdefault(tid, [])
        stack.append(Frame("call", mm, _depth(stack), seq, None, value, pc, addr))
        self._words.setdefault(tid, set()).add((mm, addr))

    def _pop(self, seq: int, tid: int, mm: int | None, addr: int, b: int, c: int) -> None:
        self._close(seq, tid, mm, addr, addr + _WORD, "return")

    def _raise(self, seq: int, tid: int, mm: int | None, low: int, high: int, c: int) -> None:
        self._close(seq, tid, mm, low, high, "unwound")

    def _close(self, seq: int, tid: int, mm: int | None, low: int, high: int, how: str) -> None:
        """End the task's frames whose words are there; after a pivot these need not be on top."""
        stack = self.open.get(tid, [])
        while stack and stack[-1].has_slot(mm, low, high):
            self._end(tid, stack.pop(), seq, how)
        if high - low == _WORD and (mm, low) not in self._words.get(tid, ()):
            return
        for frame in [f for f in reversed(stack) if f.has_slot(mm, low, high)]:
            stack.remove(frame)
            self._end(tid, frame, seq, how)

    def _end(self, tid: int, frame: Frame, seq: int, how: str) -> None:
        super()._end(tid, frame, seq, how)
        self._words.setdefault(tid, set()).discard((frame.mm, frame.slot))

    def _clone(self, seq: int, tid: int, mm: int | None, child: int, flags: int, c: int) -> None:
        super()._clone(seq, tid, mm, child, flags, c)
        self._words[child] = {(f.mm, f.slot) for f in self.open[child]}


def _depth(stack: list[Frame]) -> int:
    return stack[-1].depth + 1 if stack else 1


def _with_slots(run: Run, made: pl.DataFrame) -> pl.DataFrame:
    """Adds slot: where the callee pushed its return address, if it did."""
    pushes = run.scan("cfi").filter(
        (pl.col("kind").cast(pl.String) == "sspush") & pl.col("fault").is_null()
    )
    pushed = (
        with_life(run, pushes.sort("seq"))
        .select("tid", "life", pl.col("value").alias("return_to"), at="seq", pushed="addr")
        .sort("at")
        .join_asof(
            made.lazy()
            .filter(kind="call")
            .select("tid", "return_to", "depth", "call_seq")
            .sort("call_seq"),
            left_on="at",
            right_on="call_seq",
            by=["tid", "return_to"],
            check_sortedness=False,
        )
        .filter(pl.col("call_seq") >= pl.col("life").fill_null(0))
        .unique(["tid", "call_seq", "depth"], keep="first", maintain_order=True)
        .select("tid", "call_seq", "depth", "pushed")
    )
    return (
        made.lazy()
        .join(pushed, on=["tid", "call_seq", "depth"], how="left", maintain_order="left")
        .with_columns(slot=pl.col("pushed"))
        .drop("pushed")
        .collect()
    )
