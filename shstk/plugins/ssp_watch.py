from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import Any, Final

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from shstk.plugin import Fault, Plugin, Rows, Syscall
from shstk.replay.rules import named
from shstk.schemas import seq as positions
from shstk.schemas.causes import LANDING_PAD_FAULT, SHADOW_STACK_FAULT, SOFTWARE_CHECK, STORE_ACCESS
from shstk.schemas.uapi import PR_SET_SHADOW_STACK_STATUS
from shstk.tracer.plugins.accesses import SHADOW_STACK, access_of

_SHOWN: Final = 10  # lines of the summary
_CLONES: Final = ("clone", "clone3", "vfork")
# The rules whose violations it detects.
_POP: Final = named("pop-compares-then-moves").id
_PAD: Final = named("pads-match-their-label").id
_PAGE: Final = named("page-decides-fault").id
_OUTSIDE: Final = named("ssp-moves-by-rule").id
_SHARED: Final = named("one-pusher-a-stack").id


@dataclass(frozen=True)
class _Seen:
    """A violation. rule: the violated rule."""

    seq: int
    tid: int
    mm: int | None
    pc: int
    rule: str
    addr: int | None
    what: str

    def __str__(self) -> str:
        where = f"{positions.show(self.seq)}, task {self.tid}, pc {self.pc:#x}"
        return f"{where}: {self.what} ({self.rule})"


@dataclass
class _Task:
    mm: int | None
    ssp: int | None = None  # None: it has not been seen to use a shadow stack


class SspWatch(Plugin):
    """Watches the shadow stacks and stops the run at the first violation.

    Arguments: go_on=yes: collect all violations without stopping; every=65536: instructions between
    two checks of pushes. A fault ends the run at once, before its signal is delivered; a violation
    by a push ends it at the next check.

    It detects, with the violated rule (`shstk explain I3`): a pop that finds a different word (Z2),
    ssp outside any shadow stack (I2), a push onto the stack that another task is using (I3), a
    missing landing pad (Z6), a shadow-stack instruction on a page that is not a shadow stack, and
    an ordinary store to a shadow stack (Z8).

    Table plugin_ssp_watch, one row for each violation: seq u64, tid u32, mm u32, pc u64, rule str,
    addr u64 or null, what str (in words).
    """

    wants = (Rows("mappings"), Rows("task_events"), Rows("cfi"))

    def __init__(self, go_on: bool = False, every: int = 2**16) -> None:
        self.every = every
        self._go_on = go_on
        self._seen: list[_Seen] = []
        self._events: list[tuple[int, str, dict[str, Any]]] = []  # of the kernel, this batch
        self._tasks: dict[int, _Task] = {}
        self._clones: defaultdict[int, list[tuple[int, int | None]]] = defaultdict(list)
        self._areas: defaultdict[int | None, list[tuple[int, int]]] = defaultdict(list)

    def on_fault(self, fault: Fault) -> None:
        shadow = fault.word is not None and access_of(fault.word) & SHADOW_STACK
        if fault.cause == SOFTWARE_CHECK and fault.tval == SHADOW_STACK_FAULT:
            rule, what = _POP, f"a pop finds {fault.expected:#x}, not {fault.found:#x}"
        elif fault.cause == SOFTWARE_CHECK and fault.tval == LANDING_PAD_FAULT:
            rule, what = _PAD, "no landing pad with the expected label"
        elif shadow:
            rule, what = _PAGE, "a shadow-stack instruction on a page that is not a shadow stack"
        elif fault.cause == STORE_ACCESS:
            rule, what = _PAGE, "a store to a shadow stack"
        else:
            return
        self._see(_Seen(fault.seq, fault.tid, fault.mm, fault.pc, rule, fault.address, what))

    def on_syscall(self, call: Syscall) -> None:
        if call.name in _CLONES:
            self._clones[call.tid].append((call.seq, None))

    def on_return(self, call: Syscall) -> None:
        if call.name in _CLONES:
            self._clones[call.tid][-1] = (call.seq, call.seq_end)
        elif (
            call.name == "prctl"
            and call.args[:2] == (PR_SET_SHADOW_STACK_STATUS, 0)
            and call.ret == 0
        ):
            self._task(call.tid, call.mm).ssp = None

    def _suspended(self, tid: int, seq: int) -> bool:
        """Whether it is in a clone call, waiting for its vfork child."""
        calls = self._clones[tid]
        return any(begin <= seq and (end is None or seq <= end) for begin, end in calls)

    def on_rows(self, table: str, batch: pa.RecordBatch) -> None:
        if table != "cfi":
            self._events += [(row["seq"], table, row) for row in batch.to_pylist()]
            return
        if not self._calm(batch):
            for row in batch.to_pylist():
                self._apply_until(row["seq"])
                self._look(row)
        for tid, calls in self._clones.items():
            self._clones[tid] = [call for call in calls if call[1] is None]

    def _calm(self, cfi: pa.RecordBatch) -> bool:
        """Whether each task stays on one stack that no other task uses: no row needs a check."""
        if self._events:
            return False
        spans = _spans(cfi)
        used: list[tuple[int, int | None, tuple[int, int] | None, int]] = [
            (tid, mm, self._area(mm, low), now) for tid, mm, low, _, now in spans
        ]
        for (_, mm, area, _), (_, _, _, high, _) in zip(used, spans, strict=True):
            if area is None or area != self._area(mm, high):
                return False
        seen = {tid for tid, *_ in used}
        for tid, task in self._tasks.items():
            if tid not in seen and task.ssp is not None:
                used.append((tid, task.mm, self._area(task.mm, task.ssp), task.ssp))
        if len({(mm, area) for _, mm, area, _ in used}) < len(used):
            return False
        for tid, mm, _, now in used:
            self._task(tid, mm).ssp = now
        return True

    def _look(self, row: dict[str, Any]) -> None:
        """Check a row of cfi."""
        tid, mm, ssp = row["tid"], row["mm"], row["ssp_after"]
        task = self._task(tid, mm)
        task.ssp = ssp
        if row["fault"] is not None:
            return  # on_fault has seen it
        area = self._area(mm, ssp)
        seen = (row["seq"], tid, mm, row["pc"])
        if area is None:
            what = f"ssp is {ssp:#x}, outside any shadow stack"
            if row["ssp_before"] != ssp:
                self._see(_Seen(*seen, _OUTSIDE, ssp, what))
        elif row["kind"] == "sspush":
            for other, its in self._tasks.items():
                on_it = its.ssp is not None and area[0] < its.ssp < area[1]
                if (
                    other != tid
                    and its.mm == mm
                    and on_it
                    and not self._suspended(other, row["seq"])
                ):
                    what = (
                        f"a push onto the stack that task {other} is using (its ssp: {its.ssp:#x})"
                    )
                    self._see(_Seen(*seen, _SHARED, row["addr"], what))

    def _apply_until(self, seq: int) -> None:
        """Apply the kernel's events before a row of cfi."""
        self._events.sort(key=lambda event: event[0])
        while self._events and self._events[0][0] < seq:
            _, table, row = self._events.pop(0)
            if table == "mappings":
                self._map(row)
            elif row["kind"] == "created" and row["value"] in self._tasks:
                parent = self._tasks[row["value"]]
                if parent.mm != row["mm"]:  # a fork
                    self._areas[row["mm"]] = list(self._areas[parent.mm])
            elif row["kind"] == "first_user":
                self._tasks[row["tid"]] = _Task(row["mm"])
            elif row["kind"] == "exit_begin" or (row["kind"] == "exec_done" and row["status"] == 0):
                self._tasks.pop(row["tid"], None)

    def _map(self, row: dict[str, Any]) -> None:
        if row["ret"] < 0 or row["op"] not in ("map", "unmap", "remap"):
            return
        start, length = row["start"], row["length"]
        gone, gone_length = start, length
        if row["op"] == "remap":
            gone, gone_length = row["old_start"], row["old_length"]
        left = []
        for low, high in self._areas[row["mm"]]:
            if low < min(high, gone):
                left.append((low, min(high, gone)))
            if max(low, gone + gone_length) < high:
                left.append((max(low, gone + gone_length), high))
        if row["shadow_stack"] and row["op"] != "unmap":
            left.append((start, start + length))
        self._areas[row["mm"]] = sorted(set(left))

    def _area(self, mm: int | None, ssp: int) -> tuple[int, int] | None:
        """The shadow stack that ssp is on; ssp at its end means that it is empty."""
        areas = self._areas[mm]
        at = bisect_left(areas, (ssp, 0)) - 1
        return areas[at] if at >= 0 and ssp <= areas[at][1] else None

    def _task(self, tid: int, mm: int | None) -> _Task:
        task = self._tasks.setdefault(tid, _Task(mm))
        task.mm = mm
        return task

    def _see(self, seen: _Seen) -> None:
        if self._seen and not self._go_on:
            return
        self._seen.append(seen)
        if not self._go_on:
            self.stop(str(seen))

    def finish(self) -> pa.Table:
        schema: dict[str, type[pl.DataType]] = {
            "seq": pl.UInt64,
            "tid": pl.UInt32,
            "mm": pl.UInt32,
            "pc": pl.UInt64,
            "rule": pl.String,
            "addr": pl.UInt64,
            "what": pl.String,
        }
        rows = sorted((asdict(seen) for seen in self._seen), key=lambda row: row["seq"])
        return pl.DataFrame(rows, schema=schema).to_arrow()

    def summary(self) -> str:
        if not self._seen:
            return "no violation seen"
        seen = sorted(self._seen, key=lambda seen: seen.seq)
        more = [f"and {len(seen) - _SHOWN} more"] if len(seen) > _SHOWN else []
        return "\n  ".join([*map(str, seen[:_SHOWN]), *more])


def _spans(cfi: pa.RecordBatch) -> list[tuple[int, int, int, int, int]]:
    """tid, mm, and the lowest, highest and last ssp of each task in a batch."""
    tids, mms = pc.min_max(cfi["tid"]).as_py(), pc.min_max(cfi["mm"]).as_py()
    if tids["min"] == tids["max"] and mms["min"] == mms["max"]:  # the common case, much faster
        ssps = pc.min_max(cfi["ssp_after"]).as_py()
        return [(tids["min"], mms["min"], ssps["min"], ssps["max"], cfi["ssp_after"][-1].as_py())]
    ssp = pl.col("ssp_after")
    rows = pl.DataFrame(cfi).group_by("tid", "mm", maintain_order=True)
    return rows.agg(ssp.min().alias("low"), ssp.max().alias("high"), ssp.last()).rows()
