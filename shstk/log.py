"""A run as a log in the style of strace, with clones, mappings, signals and ssp moves too.

Each table has a function from a row to a line. The lines of all tables are merged by seq.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from shstk.replay import decode
from shstk.replay.decode import size
from shstk.schemas import seq as positions
from shstk.schemas.argument_types import FLAGS
from shstk.schemas.errors import UsageError
from shstk.schemas.syscalls import name_of

if TYPE_CHECKING:
    from shstk.replay.run import Run

Row = dict[str, Any]
_SHOWN: Final = 20  # tasks that a hint names


@dataclass(frozen=True)
class Line:
    """arguments: a system call's, by name."""

    seq: int
    tid: int | None
    table: str
    text: str
    arguments: Mapping[str, str] = field(default_factory=dict)

    def __lt__(self, other: Line) -> bool:
        # A clone has the seq of its system call and is listed below it.
        return (self.seq, self.table != "syscalls") < (other.seq, other.table != "syscalls")


def _hex(value: int | None) -> str:
    return "-" if value is None else hex(value)


def _syscall(row: Row, strings: Mapping[int, str]) -> Line:
    args = [row[f"a{i}"] for i in range(6)]
    arguments = decode.arguments(row["nr"], args, strings)
    text = f"{name_of(row['nr'])}({', '.join(arguments.values())})"
    if row["outcome"] in ("returned", "loader"):
        text += f" = {decode.result(row['ret'], row['nr'])}"
    else:
        text += f" = ? ({row['outcome'].replace('_', ' ')})"
    before, after = row["ssp_entry"], row["ssp_exit"]
    if before is not None and after is not None and before != after:
        text += f"  ssp {before:#x} -> {after:#x}"
    if row["outcome"] == "loader":
        text += "  (by the loader)"
    return Line(row["seq"], row["tid"], "syscalls", text, arguments)


def _clone(row: Row) -> str:
    flags = decode.flags(row["flags"], FLAGS["clone"])
    made = "no child" if row["child_tid"] is None else f"child {row['child_tid']}"
    stack = f" stack={row['stack']:#x}" if row["stack"] else ""
    stack += f"+{size(row['stack_size'])}" if row["stack_size"] else ""
    return f"{row['api']} {flags}{stack} -> {made}"


# What the value of an event counts.
_VALUES: Final = {"futex_wake": "woken", "mm_dropped": "users"}


def _task_event(row: Row) -> str:
    kind = row["kind"]
    if kind == "created":
        return f"created by {row['value']}" if row["value"] else "created"
    if kind == "first_user":
        return f"first return to user mode: pc={_hex(row['pc'])} ssp={_hex(row['ssp'])}"
    if kind in ("exit_begin", "reaped") and row["status"] is not None:
        by = f" by {row['value']}" if kind == "reaped" and row["value"] else ""
        return f"{kind}{by}: {decode.wait_status(row['status'])}"
    if kind == "exec_done" and row["status"]:
        return f"exec_done = {decode.result(row['status'])}"
    if kind == "vfork_done" and row["value"] is not None:
        return f"vfork_done: task {row['value']} goes on"
    told = [] if row["addr"] is None else [f"addr={row['addr']:#x}"]
    if row["value"] is not None:
        told.append(f"{_VALUES.get(kind, 'value')}={row['value']}")
    return " ".join([kind, *told])


def _mapping(row: Row) -> str:
    what = row["op"] + (" shadow stack" if row["shadow_stack"] else "")
    where = size(row["length"])
    if row["start"] is not None:
        where = f"{row['start']:#x}+{where}"
    elif row["hint"]:
        where = f"{row['hint']:#x}+{where}"
    if row["op"] == "remap" and row["old_start"] is not None:
        where = f"{row['old_start']:#x} -> {where}"
    prot = "" if row["prot"] is None else " " + decode.flags(row["prot"], FLAGS["prot"])
    failed = "" if row["ret"] >= 0 else f" = {decode.result(row['ret'])}"
    return f"{what} {where}{prot if row['prot'] else ' PROT_NONE' if prot else ''}{failed}"


def _signal(row: Row) -> str:
    if row["kind"] == "sigreturn":
        return (
            f"sigreturn: token {_hex(row['token_value'])} at {_hex(row['token_addr'])},"
            f" ssp {_hex(row['ssp_before'])} -> {_hex(row['ssp_after'])}"
        )
    name = decode.signal_name(row["signo"])
    code = decode.signal_code(row["signo"], row["code"])
    addr = "" if row["si_addr"] is None else f" si_addr={row['si_addr']:#x}"
    sender = "" if row["sender"] is None else f" from {row['sender']}"
    text = f"{name} {{si_code={code}{addr}{sender}}}"
    if row["kind"] == "fatal":
        return f"killed by {text}"
    token = "" if row["token_addr"] is None else f" token at {row['token_addr']:#x}"
    return f"{text} -> handler {_hex(row['handler'])} frame {_hex(row['frame'])}{token}"


def _fault(row: Row) -> str:
    word = "" if row["word"] is None else f" word={row['word']:#x}"
    met = ""
    if row["expected"] is not None or row["found"] is not None:
        met = f" expected={_hex(row['expected'])} found={_hex(row['found'])}"
    signal = decode.signal_name(row["signo"])
    code = decode.signal_code(row["signo"], row["code"])
    return (
        f"fault at pc={row['pc']:#x}{word} cause={row['cause']} tval={row['tval']:#x}{met}"
        f" -> {signal} {code}"
    )


def _cfi(row: Row) -> str:
    parts = [f"{row['kind']} at pc={row['pc']:#x}"]
    for name in ("addr", "value", "operand"):
        if row[name] is not None:
            parts.append(f"{name}={row[name]:#x}")
    if row["ssp_before"] != row["ssp_after"]:
        parts.append(f"ssp {row['ssp_before']:#x} -> {row['ssp_after']:#x}")
    if row["fault"] is not None:
        parts.append(f"FAULT {row['fault']}")
    return " ".join(parts)


def _output(row: Row) -> str:
    return f"fd {row['fd']} << {row['bytes'].decode(errors='backslashreplace')!r}"


def _module(row: Row) -> str:
    return f"code of {row['path']} (bias {row['bias']:#x})"


_TELLERS: Final[dict[str, Callable[[Row], str]]] = {
    "clones": _clone,
    "task_events": _task_event,
    "mappings": _mapping,
    "signals": _signal,
    "faults": _fault,
    "cfi": _cfi,
    "output": _output,
    "modules": _module,
}


def _strings(run: Run) -> dict[int, dict[int, str]]:
    """Per syscall seq: the strings that the kernel read for it, by address."""
    found: dict[int, dict[int, str]] = {}
    rows = (
        run.scan("kernel_memory").filter(pl.col("op") == "read").select("during", "addr", "bytes")
    )
    for during, addr, data in rows.collect().iter_rows():
        if during is not None:
            text = data.decode(errors="backslashreplace")
            found.setdefault(during, {})[addr] = '"' + text.replace('"', '\\"') + '"'
    return found


def _lines(
    run: Run, table: str, tid: int | None, low: int | None, high: int | None
) -> Iterator[Line]:
    rows = run.scan(table)
    if tid is not None:
        rows = rows.filter(pl.col("tid") == tid)
    if low is not None:
        rows = rows.filter(pl.col("seq") >= low)
    if high is not None:
        rows = rows.filter(pl.col("seq") <= high)
    strings = _strings(run) if table == "syscalls" else {}
    for row in rows.collect().iter_rows(named=True):
        if table == "clones" and row["api"] != "clone3":
            continue  # the call's own arguments show all of it
        if table == "syscalls":
            yield _syscall(row, strings.get(row["seq"], {}))
        else:
            yield Line(row["seq"], row["tid"], table, _TELLERS[table](row))


def tell(
    run: Run,
    *,
    tid: int | None = None,
    around: int | None = None,
    context: int = 10,
    calls: bool = False,
    cfi: bool = False,
) -> Iterable[Line]:
    """The lines of a run, merged by seq.

    tid: only this task's. around, context: only `context` lines before and after that seq.
    calls: only system calls. cfi: only shadow-stack and landing-pad events (omitted otherwise).

    Raises UsageError: the run has no such task, or ends before that seq.
    """
    _check(run, tid, around)
    if calls or cfi:
        chosen = ["syscalls"] * calls + ["cfi"] * cfi
    else:
        chosen = ["syscalls", *(t for t in _TELLERS if t != "cfi")]
    if around is None:
        return heapq.merge(*(_lines(run, table, tid, None, None) for table in chosen))
    low, high = _window(run, chosen, tid, around, context)
    return heapq.merge(*(_lines(run, table, tid, low, high) for table in chosen))


def _check(run: Run, tid: int | None, around: int | None) -> None:
    if around is not None:
        run.must_reach(around, f"--around {positions.show(around)}")
    if tid is None:
        return
    known: set[int | None] = set()
    for table in ("task_events", "syscalls", *_TELLERS):  # the first knows a recorded run's tasks
        known |= set(run.scan(table).select(pl.col("tid").unique()).collect()["tid"])
        if tid in known:
            return
    tids = [str(t) for t in sorted(t for t in known if t is not None)]
    some = " ".join(tids[:_SHOWN]) + " …" * (len(tids) > _SHOWN)
    raise UsageError(f"--tid {tid}: the run has no such task", f"tasks: {some}")


def _window(
    run: Run, tables: list[str], tid: int | None, around: int, context: int
) -> tuple[int, int]:
    """The seqs of the first and last of `context` events on either side of a seq."""
    frames = []
    for table in tables:
        rows = run.scan(table).select("seq", "tid")
        frames.append(rows if tid is None else rows.filter(pl.col("tid") == tid))
    seqs = pl.concat(frames).select("seq")
    low = seqs.filter(pl.col("seq") < around).top_k(context, by="seq").collect()["seq"]
    high = seqs.filter(pl.col("seq") > around).bottom_k(context, by="seq").collect()["seq"]
    return (
        int(low.min()) if len(low) else around,  # type: ignore[arg-type]
        int(high.max()) if len(high) else around,  # type: ignore[arg-type]
    )


def text(line: Line, seq_width: int = 14) -> str:
    tid = "-" if line.tid is None else str(line.tid)
    indent = "" if line.table == "syscalls" else "  "
    return f"{positions.show(line.seq):<{seq_width}} {tid:>6}  {indent}{line.text}"
