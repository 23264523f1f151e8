"""A row of each table as a line of the log."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from shstk.log.arguments import failure
from shstk.replay import decode
from shstk.replay.decode import size
from shstk.schemas.argument_types import FLAGS
from shstk.schemas.syscalls import name_of

Row = dict[str, Any]


def _hex(value: int | None) -> str:
    return "-" if value is None else hex(value)


def syscall(row: Row, arguments: Mapping[str, str], after: str) -> str:
    """arguments: in words, by name. after: words that follow the result."""
    text = f"{name_of(row['nr'])}({', '.join(arguments.values())})"
    if row["outcome"] in ("returned", "loader"):
        text += f" = {decode.result(row['ret'], row['nr'])}{failure(row)}{after}"
    else:
        text += f" = ? ({row['outcome'].replace('_', ' ')})"
    before, after = row["ssp_entry"], row["ssp_exit"]
    if before is not None and after is not None and before != after:
        text += f"  ssp {before:#x} -> {after:#x}"
    if row["outcome"] == "loader":
        text += "  (by the loader)"
    return text


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


TELLERS: Final[dict[str, Callable[[Row], str]]] = {
    "clones": _clone,
    "task_events": _task_event,
    "mappings": _mapping,
    "signals": _signal,
    "faults": _fault,
    "cfi": _cfi,
    "output": _output,
    "modules": _module,
}
