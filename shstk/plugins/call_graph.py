from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import polars as pl
import pyarrow as pa

from shstk.plugin import Blocks, Module, Plugin, Rows
from shstk.plugins.outputs import write
from shstk.plugins.places import Places
from shstk.tracer._core import decode

# How a block ends, or what the kernel did between two blocks.
_ON: Final = 0
_CALL: Final = 1
_RETURN: Final = 2
_JUMP: Final = 3
_KERNEL: Final = {"delivery": 4, "sigreturn": 5, "created": 6, "exec_done": 7}

_LINKS: Final = (1, 5)  # ra and t0: calls write them, returns read them (the manual's hints)
_HANDLER: Final = -1  # the return address of a signal handler


@dataclass
class _Activation:
    """A function that was called and has not returned."""

    function: int
    edge: tuple[int | None, int]
    back: int | None  # its return address, if it can return
    began: int  # instructions of its task
    outermost: bool  # no activation of the same function is below it


@dataclass
class _Task:
    mm: int | None = None
    stack: list[_Activation] = field(default_factory=list)
    active: Counter[int] = field(default_factory=Counter)  # activations of each function on it
    told: int = 0  # instructions already attributed to a function
    turns: list[int] = field(default_factory=list)  # kernel events before its next block


@dataclass
class _Edge:
    calls: int = 0
    own: int = 0
    inclusive: int = 0


class CallGraph(Plugin):
    """Who called whom how often, and how many instructions it took.

    Arguments: out=FILE: write it as a callgrind file too (KCachegrind, gprof2dot); top=10: lines of
    the summary.

    Calls and returns are identified by the RISC-V manual's hints: jumps that write ra or t0 are
    calls, jumps to their values are returns. A jump to the start of another function is a tail
    call: that function replaces the one that jumped. longjmp and unwinding end the activations that
    they skip; interrupted code calls its signal handler. The first function of a thread or program
    has no caller.

    Table plugin_call_graph, one row for each edge, most inclusive first: caller str or null, callee
    str, module str (the callee's file), address u64 (the callee's), calls i64, exclusive i64
    (instructions of the callee itself), inclusive i64 (including all its callees; recursive
    activations are not counted, so the sum over a function's callers is the function's total). A
    function without a symbol is named by its address.
    """

    wants = (Rows("code"), Rows("signals"), Rows("task_events"), Blocks())

    def __init__(self, out: Path | None = None, top: int = 10) -> None:
        self._out, self._top = out, top
        self._places = Places()
        # (file, symbol, address) -> number; without symbols any block may start a function
        self._functions: dict[tuple[str, str | None, int], int] = {}
        self._blocks: list[tuple[int, int, int, bool]] = []  # of _KNOWN, block n + 1 at n
        self._kernel: list[tuple[int, int, int, int | None, int]] = []  # seq, tid, what, mm, value
        self._carried: pl.DataFrame | None = None  # each task's last block
        self._tasks: defaultdict[int, _Task] = defaultdict(_Task)
        self._edges: defaultdict[tuple[int | None, int], _Edge] = defaultdict(_Edge)
        self._table: pl.DataFrame | None = None

    def on_module(self, module: Module) -> None:
        self._places.add(module)

    def on_rows(self, table: str, batch: pa.RecordBatch) -> None:
        if table == "code":
            self._blocks += map(self._block, batch.to_pylist())
            return
        for row in batch.to_pylist():
            if row["kind"] in _KERNEL and not row.get("status"):  # skip a failed exec
                what, value = _KERNEL[row["kind"]], row.get("value") or 0
                self._kernel.append((row["seq"], row["tid"], what, row["mm"], value))

    def _block(self, code: dict[str, Any]) -> tuple[int, int, int, bool]:
        """How it ends, the address after it, its function, and whether the function starts with it
        (according to the symbols)."""
        function = self._places.function(code["module"], code["pc"])
        first = function[1] is not None and function[2] == code["pc"]
        number = self._functions.setdefault(function, len(self._functions))
        after = code["pc"] + code["length"]
        return _end(code["bytes"]), after, number, first

    def on_blocks(self, batch: pa.RecordBatch) -> None:
        """Process only the few blocks before which a task may have changed its function."""
        known = pl.DataFrame(
            self._blocks,
            schema={"end": pl.UInt8, "after": pl.UInt64, "function": pl.Int64, "first": pl.Boolean},
            orient="row",
        )
        rows = pl.DataFrame(batch).select(
            "seq", "tid", "mm", "pc", "block", done=pl.col("ran").cast(pl.Int64),
            whole=pl.col("ran") == pl.col("instructions"),
        )  # fmt: skip
        rows = rows.hstack(known[rows["block"] - 1]).with_columns(
            carried=pl.lit(False),
            end=pl.when("whole").then("end").otherwise(pl.lit(_ON, pl.UInt8)),
        )
        if self._carried is not None:
            rows = pl.concat([self._carried, rows])
        kernel = pl.DataFrame(
            self._kernel,
            schema={"seq": pl.UInt64, "tid": pl.UInt32, "what": pl.UInt8, "mm": pl.UInt32,
                    "value": pl.UInt64},
            orient="row",
        ).sort("seq")  # fmt: skip
        self._kernel = []
        behind = kernel.join_asof(
            rows.select("tid", block_seq="seq"),
            left_on="seq", right_on="block_seq", by="tid", strategy="forward",
            check_sortedness=False,
        )["block_seq"]  # fmt: skip
        last = pl.col("end", "after", "function", "carried").shift(1).over("tid")
        tail = (pl.col("end_last") == _JUMP) & pl.col("first")
        tail &= pl.col("function") != pl.col("function_last")
        steps = (
            rows.with_columns(last.name.suffix("_last"))
            .with_columns(before=pl.col("done").cum_sum().over("tid") - pl.col("done"))
            .filter(~pl.col("carried"))
            .filter(
                pl.col("end_last").is_null()
                | pl.col("end_last").is_in([_CALL, _RETURN])
                | tail
                | pl.col("carried_last")
                | pl.col("seq").is_in(behind.drop_nulls().implode())
            )
            .select(
                "seq", "tid", "mm",
                what=pl.when((pl.col("end_last") == _JUMP) & ~tail).then(_ON)
                .otherwise(pl.col("end_last").fill_null(_ON)).cast(pl.UInt8),
                value="pc", before="before", after="after_last", function="function",
            )
        )  # fmt: skip
        for step in pl.concat([steps, kernel], how="diagonal").sort("seq").iter_rows():
            self._step(*step)
        ends = rows.group_by("tid", maintain_order=True).agg(
            pl.exclude("done").last(), pl.col("done").sum()
        )
        self._carried = ends.with_columns(carried=pl.lit(True)).select(rows.columns)

    def _step(
        self,
        _seq: int,
        tid: int,
        mm: int | None,
        what: int,
        value: int,
        before: int | None,
        after: int | None,
        function: int | None,
    ) -> None:
        """what: how the block before ended (value: this one's pc), or what the kernel did."""
        task = self._tasks[tid]
        if function is None or before is None:
            self._by_kernel(task, what, value, mm)
            return
        task.mm = mm
        self._give(task, before)
        if task.turns:
            for turn in task.turns:
                self._turn(task, turn, function, before)
            task.turns = []
        elif what == _CALL:
            self._enter(task, function, after, before)
        elif what == _RETURN:
            self._leave(task, _returning(task.stack, value, function), before)
        elif what == _JUMP:
            back = task.stack[-1].back
            self._leave(task, len(task.stack) - 1, before)
            self._enter(task, function, back, before)
        if not task.stack:
            self._enter(task, function, None, before)

    def _by_kernel(self, task: _Task, what: int, value: int, mm: int | None) -> None:
        if what != _KERNEL["created"]:
            task.turns.append(what)
        elif value in self._tasks and self._tasks[value].mm != mm:  # a fork
            task.stack = [replace(a, began=0) for a in self._tasks[value].stack]
            task.active = self._tasks[value].active.copy()

    def _turn(self, task: _Task, what: int, function: int, now: int) -> None:
        """Apply a kernel event before a block of that function."""
        if what == _KERNEL["delivery"]:
            self._enter(task, function, _HANDLER, now)
        elif what == _KERNEL["sigreturn"]:
            handlers = [i for i, a in enumerate(task.stack) if a.back == _HANDLER]
            self._leave(task, handlers[-1] if handlers else len(task.stack), now)
        else:
            self._leave(task, 0, now)

    def _give(self, task: _Task, now: int) -> None:
        """Attribute what ran since the last step to the innermost function."""
        if task.stack:
            self._edges[task.stack[-1].edge].own += now - task.told
        task.told = now

    def _enter(self, task: _Task, function: int, back: int | None, now: int) -> None:
        edge = (task.stack[-1].function if task.stack else None, function)
        task.stack.append(_Activation(function, edge, back, now, not task.active[function]))
        task.active[function] += 1
        self._edges[edge].calls += 1

    def _leave(self, task: _Task, left: int, now: int) -> None:
        """End all activations except the outermost `left`."""
        while len(task.stack) > left:
            ended = task.stack.pop()
            task.active[ended.function] -= 1
            if ended.outermost:
                self._edges[ended.edge].inclusive += now - ended.began

    def finish(self) -> pa.Table:
        if self._carried is not None:
            for tid, done in self._carried.select("tid", "done").iter_rows():
                self._give(self._tasks[tid], done)
                self._leave(self._tasks[tid], 0, done)
        names = [(file, name or hex(address), address) for file, name, address in self._functions]
        rows = [
            (None if caller is None else names[caller][1], names[callee][1], names[callee][0],
             names[callee][2], edge.calls, edge.own, edge.inclusive)
            for (caller, callee), edge in self._edges.items()
        ]  # fmt: skip
        schema: dict[str, type[pl.DataType]] = {
            "caller": pl.String,
            "callee": pl.String,
            "module": pl.String,
            "address": pl.UInt64,
            "calls": pl.Int64,
            "exclusive": pl.Int64,
            "inclusive": pl.Int64,
        }
        rows.sort(key=lambda r: (-r[6], r[1], r[3], r[0] or ""))
        self._table = pl.DataFrame(rows, schema=schema, orient="row")
        if self._out:
            write(self._out, self._callgrind(names).encode())
        return self._table.to_arrow()

    def summary(self) -> str:
        assert self._table is not None
        functions = (
            self._table.group_by("module", "callee", "address")
            .agg(pl.col("calls", "exclusive", "inclusive").sum())
            .sort("inclusive", "address", descending=[True, False])
        )
        lines = [f"{functions.height} functions, {functions['calls'].sum()} calls"]
        for row in functions.head(self._top).rows(named=True):
            lines.append(
                f"  {row['inclusive']:>12} inclusive {row['exclusive']:>12} exclusive "
                f"{row['calls']:>9} calls  {row['callee']}"
            )
        return "\n".join([*lines, *([f"  written: {self._out}"] if self._out else [])])

    def _callgrind(self, names: list[tuple[str, str, int]]) -> str:
        """https://valgrind.org/docs/manual/cl-format.html, addresses as positions."""
        own: defaultdict[int, int] = defaultdict(int)
        calls: defaultdict[int, list[tuple[int, _Edge]]] = defaultdict(list)
        for (caller, callee), edge in self._edges.items():
            own[callee] += edge.own
            if caller is not None:
                calls[caller].append((callee, edge))
        lines = ["# callgrind format", "version: 1", "positions: instr", "events: Instructions", ""]
        for function, (file, name, address) in enumerate(names):
            if function not in own:
                continue
            lines += [f"ob={file}", f"fn={name}", f"{address:#x} {own[function]}"]
            for callee, edge in calls[function]:
                its_file, its_name, its_address = names[callee]
                lines += [f"cob={its_file}", f"cfn={its_name}"]
                lines += [f"calls={edge.calls} {its_address:#x}", f"{address:#x} {edge.inclusive}"]
            lines.append("")
        return "\n".join(lines)


def _returning(stack: list[_Activation], pc: int, function: int) -> int:
    """How many activations are left when a return, or a longjmp, goes to pc."""
    for i in range(len(stack) - 1, -1, -1):
        if stack[i].back == pc:
            return i
    for i in range(len(stack) - 1, -1, -1):
        if stack[i].function == function:
            return i + 1
    return len(stack)


def _end(text: bytes) -> int:
    """How a block ends, from its last instruction."""
    at = last = 0
    while at < len(text):
        last = at
        at += 4 if text[at] & 3 == 3 else 2
    decoded = decode(int.from_bytes(text[last:], "little"))
    if decoded is None or decoded[0] not in ("jal", "jalr"):
        return _ON
    name, _, rd, rs1, *_ = decoded
    if rd in _LINKS:
        return _CALL
    return _RETURN if name == "jalr" and rs1 in _LINKS else _JUMP
