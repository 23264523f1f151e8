"""Calls and their returns, by the blocks that ran, or else by pushes and pops.

A frame opens when its function is entered and ends when the code after its call resumes. A return
that goes to where an earlier call of an outer frame returned to is a longjmp: the frames above that
frame are unwound.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from shstk.replay.derive.branches import CALL, RETURN, blocks
from shstk.replay.derive.clock import with_clock
from shstk.replay.derive.lives import with_life
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


@dataclass(eq=False, slots=True)
class _Frame:
    kind: str  # call or signal
    mm: int | None
    depth: int
    call_seq: int
    caller_pc: int | None
    return_to: int | None
    callee: int | None
    slot: int | None = None
    returned: set[int] = field(default_factory=set)  # where its calls returned to


def frames(run: Run) -> pl.DataFrame:
    """Every call of a run, in the order of their starts, with the columns of COLUMNS."""
    by_flow = run.scan("flow").select(pl.len()).collect().item() > 0
    fold = _ByFlow() if by_flow else _ByPushes()
    events = (_flow_events if by_flow else _push_events)(run)
    steps = pl.concat([events, _steps(run)]).sort("seq", maintain_order=True)
    for step in steps.collect().iter_rows():
        fold.take(*step)
    schema = {name: getattr(pl, dtype) for name, dtype in COLUMNS.items()}
    made = pl.DataFrame(list(fold.rows()), schema=schema, orient="row")
    made = made.sort("call_seq", "tid", "depth")
    return _with_slots(run, made) if by_flow else made


# Events as rows (seq, tid, mm, what, a, b, c)


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


def _flow_events(run: Run) -> pl.LazyFrame:
    """Calls (site, return address, target) and returns (target), at the seq of the next block.

    A block that was interrupted before its end did neither. If a signal arrived right after the
    last instruction, the target is not known."""
    ends = blocks(run).lazy()
    ran = run.scan("flow").join(ends, on="block", how="left", maintain_order="left")
    nothing = {"count": pl.lit(0, pl.UInt32), "ends": pl.lit("other")}
    others = [
        run.scan("faults").select("seq", "tid", "mm", "pc", **nothing),
        run.scan("signals").select("seq", "tid", "mm", pc=pl.lit(None, pl.UInt64), **nothing),
    ]
    path = pl.concat([ran.drop("block"), *others], how="diagonal").sort("seq")
    # A signal's place is that of the instruction before; a block's, that of its first.
    clock = pl.col("clock") + pl.col("pc").is_null().cast(pl.Int64)
    path = with_life(run, with_clock(run, path).with_columns(clock=clock))
    life = ["tid", "life"]
    path = path.with_columns(
        seq=pl.col("seq").shift(-1).over(life),
        target=pl.col("pc").shift(-1).over(life),
        took=pl.col("clock").shift(-1).over(life) - pl.col("clock"),
    )
    done = path.filter(pl.col("took") >= pl.col("count"))
    return pl.concat(
        [
            done.filter(pl.col("ends") == CALL).select(_event("call", "site", "past", "target")),
            done.filter(pl.col("ends") == RETURN).select(_event("return", "target")),
        ]
    )


def _push_events(run: Run) -> pl.LazyFrame:
    cfi = (
        run.scan("cfi")
        .with_columns(pl.col("kind").cast(pl.String))
        .filter(pl.col("fault").is_null())
    )
    raised = pl.col("ssp_after") > pl.col("ssp_before")
    return pl.concat(
        [
            cfi.filter(kind="sspush").select(_event("push", "addr", "value", "pc")),
            cfi.filter(kind="sspopchk").select(_event("pop", "addr")),
            cfi.filter(raised, kind="ssp_write").select(_event("raise", "ssp_before", "ssp_after")),
        ]
    )


# The folds


class _Fold:
    """The open frames of each task, and the rows of the frames that ended."""

    source = ""

    def __init__(self) -> None:
        self._open: dict[int, list[_Frame]] = {}
        self._rows: list[tuple[Any, ...]] = []

    def take(self, seq: int, tid: int, mm: int | None, what: str, a: int, b: int, c: int) -> None:
        getattr(self, f"_{what}")(seq, tid, mm, a, b, c)

    def rows(self) -> Iterator[tuple[Any, ...]]:
        for tid, stack in self._open.items():
            while stack:
                self._end(tid, stack.pop(), None, "open")
        return iter(self._rows)

    def _end(self, tid: int, frame: _Frame, seq: int | None, how: str) -> None:
        f = frame
        row = (tid, f.mm, f.depth, f.kind, f.call_seq, seq, how, f.caller_pc, f.return_to)
        self._rows.append((*row, f.callee, f.slot, self.source))

    def _end_down_to(self, tid: int, depth: int, seq: int, how: str) -> None:
        """End all frames above this depth."""
        stack = self._open.get(tid, [])
        while stack and stack[-1].depth > depth:
            self._end(tid, stack.pop(), seq, how)

    def _signal(self, seq: int, tid: int, mm: int | None, a: int, b: int, c: int) -> None:
        stack = self._open.setdefault(tid, [])
        stack.append(_Frame("signal", mm, _depth(stack), seq, None, None, a))

    def _sigreturn(self, seq: int, tid: int, mm: int | None, a: int, b: int, c: int) -> None:
        stack = self._open.get(tid, [])
        handler = next((f for f in reversed(stack) if f.kind == "signal"), None)
        if handler:
            self._end_down_to(tid, handler.depth, seq, "unwound")
            self._end(tid, stack.pop(), seq, "sigreturn")

    def _clone(self, seq: int, tid: int, mm: int | None, child: int, flags: int, c: int) -> None:
        """A child that copies the memory, or borrows the stack, has its parent's frames."""
        copies = not flags & CLONE_VM or bool(flags & CLONE_VFORK)
        self._open[child] = list(self._open.get(tid, ())) if copies else []

    def _exec(self, seq: int, tid: int, mm: int | None, a: int, b: int, c: int) -> None:
        self._end_down_to(tid, 0, seq, "exec")

    def _exit(self, seq: int, tid: int, mm: int | None, signal: int, b: int, c: int) -> None:
        self._end_down_to(tid, 0, seq, "killed" if signal else "exit")


class _ByFlow(_Fold):
    source = "flow"

    def __init__(self) -> None:
        super().__init__()
        self._outermost: dict[int, set[int]] = {}  # calls from no known frame, by task

    def _exit(self, seq: int, tid: int, mm: int | None, signal: int, b: int, c: int) -> None:
        super()._exit(seq, tid, mm, signal, b, c)
        self._outermost.pop(tid, None)

    def _call(self, seq: int, tid: int, mm: int | None, site: int, past: int, target: int) -> None:
        stack = self._open.setdefault(tid, [])
        stack.append(_Frame("call", mm, _depth(stack), seq, site, past, target))

    def _return(
        self, seq: int, tid: int, mm: int | None, target: int | None, b: int, c: int
    ) -> None:
        stack = self._open.get(tid, [])
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
            if target in frame.returned:
                self._end_down_to(tid, frame.depth, seq, "unwound")
                return
        if target in self._outermost.get(tid, ()):
            self._end_down_to(tid, 0, seq, "unwound")

    def _returned(self, tid: int) -> set[int]:
        stack = self._open.get(tid)
        return stack[-1].returned if stack else self._outermost.setdefault(tid, set())


class _ByPushes(_Fold):
    source = "cfi"

    def _push(self, seq: int, tid: int, mm: int | None, addr: int, value: int, pc: int) -> None:
        self._close(seq, tid, mm, addr, addr + 8, "unwound")
        stack = self._open.setdefault(tid, [])
        stack.append(_Frame("call", mm, _depth(stack), seq, None, value, pc, addr))

    def _pop(self, seq: int, tid: int, mm: int | None, addr: int, b: int, c: int) -> None:
        self._close(seq, tid, mm, addr, addr + 8, "return")

    def _raise(self, seq: int, tid: int, mm: int | None, low: int, high: int, c: int) -> None:
        self._close(seq, tid, mm, low, high, "unwound")

    def _close(self, seq: int, tid: int, mm: int | None, low: int, high: int, how: str) -> None:
        """End the task's frames whose words are there; after a pivot these need not be on top."""
        stack = self._open.get(tid, [])
        ended = [f for f in stack if f.slot is not None and f.mm == mm and low <= f.slot < high]
        for frame in reversed(ended):
            stack.remove(frame)
            self._end(tid, frame, seq, how)


def _depth(stack: list[_Frame]) -> int:
    return stack[-1].depth + 1 if stack else 1


def _with_slots(run: Run, made: pl.DataFrame) -> pl.DataFrame:
    """Adds slot: where the callee pushed its return address, if it did."""
    pushes = run.scan("cfi").filter(
        (pl.col("kind").cast(pl.String) == "sspush") & pl.col("fault").is_null()
    )
    pushed = (
        pushes.select("tid", pl.col("value").alias("return_to"), at="seq", pushed="addr")
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
        .filter(pl.col("call_seq").is_not_null())
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
