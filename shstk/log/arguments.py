"""A system call's arguments, with what is behind its pointers where the run holds it."""

from __future__ import annotations

import re
from typing import Any, Final

from shstk.log import structs
from shstk.log.memory import Held
from shstk.replay import decode
from shstk.schemas import uapi
from shstk.schemas.syscalls import BY_NUMBER

Row = dict[str, Any]
_MOST: Final = 32  # elements of an array that are shown
_WHAT: Final = re.compile(r"(<?)([\w/]+)(?:\[(\*?)(\w+)\])?")
_EXECS: Final = ("execve", "execveat")


def arguments(row: Row, held: Held, limit: int) -> dict[str, str]:
    """The arguments of a row of `syscalls`, by name. limit: bytes of a buffer that are shown."""
    args = [row[f"a{i}"] for i in range(6)]
    nr, seq = row["nr"], row["seq"]
    strings = {addr: structs.quoted(data) for addr, data in held.strings(seq).items()}
    shown = decode.arguments(nr, args, strings)
    if nr not in BY_NUMBER:
        return shown
    call = BY_NUMBER[nr]
    values = {known.name: value for known, value in zip(call.arguments, args, strict=False)}
    if call.name in _EXECS:
        return shown | _exec_strings(row, values, held)
    command = values.get("option", values.get("cmd"))
    for name, what in structs.pointed(call.name, command).items():
        address = values[name]
        if address:
            text = _behind(what, address, values, row, held, limit)
            shown[name] = text or shown[name]
    return shown


def _behind(
    what: str, address: int, values: dict[str, int | None], row: Row, held: Held, limit: int
) -> str | None:
    found = _WHAT.fullmatch(what)
    assert found, what
    reads, kind, indirect, length = found.groups()
    call, failed = row["seq"], row["ret"] is None or row["ret"] < 0
    read = held.read if reads else held.wrote
    if kind == "dirents":
        data = None if failed else held.wrote(call, address, row["ret"])
        return structs.dirents(data) if data else None
    if length is None:
        data = read(call, address, structs.size_of(kind))
        if data is None:
            return None
        return f"[{structs.shown(kind, data)}]" if _scalar(kind) else structs.shown(kind, data)
    if length == "ret" and failed:
        return None
    count = row["ret"] if length == "ret" else int(length) if length.isdigit() else values[length]
    if indirect and count:
        pointed = held.wrote(call, count, 4)
        count = int.from_bytes(pointed, "little") if pointed else None
    if count is None:
        return None
    if count == 0:
        return '""' if kind == "bytes" else None
    if kind == "bytes":
        return _buffer(values.get("fd"), address, count, bool(reads), row, held, limit)
    if kind == "sockaddr":
        data = read(call, address, count)
        return structs.sockaddr(data) if data else None
    size = structs.size_of(kind)
    data = read(call, address, size * min(count, _MOST))
    if data is None:
        return None
    items = [structs.shown(kind, data[at : at + size]) for at in range(0, len(data), size)]
    return "[" + ", ".join([*items, *(["..."] if count > _MOST else [])]) + "]"


def _scalar(kind: str) -> bool:
    return kind.partition("/")[0] in ("int", "status", "u32", "u64", "x64", "i32")


def _buffer(
    fd: int | None, address: int, count: int, reads: bool, row: Row, held: Held, limit: int
) -> str | None:
    call = row["seq"]
    if not reads:
        data = held.piece(call, address, count)
    else:
        data = held.read(call, address, count)
        if data is None and fd is not None:
            data = held.printed(row["tid"], call, row["seq_end"]) or None
    if data is None:
        return None
    text = structs.quoted(data, limit)
    cut = count > len(data) and len(data) <= limit
    return f"{text}..." if cut else text


def _exec_strings(row: Row, values: dict[str, int | None], held: Held) -> dict[str, str]:
    """argv and the number of variables. The strings are read in order: the path, argv, envp; how
    many of them are argv is the first word of the stack that the call made."""
    texts, stack = held.in_order(row["seq"]), held.initial_stack(row["seq"])
    if row["ret"] not in (0, None) or not texts or stack is None:
        return {}
    argc = int.from_bytes(stack[:8], "little")
    rest = texts[1:]
    if argc > len(rest):
        return {}
    argv = [structs.quoted(text) for text in rest[:argc]]
    variables = len(rest) - argc
    count = f"{variables} var" + ("" if variables == 1 else "s")
    return {
        "argv": "[" + ", ".join(argv) + "]",
        "envp": f"{values['envp'] or 0:#x} /* {count} */",
    }


def failure(row: Row) -> str:
    """The text of the error that a call returned, in parentheses; else nothing."""
    ret = row["ret"]
    if ret is None or not -4096 < ret < 0 or -ret not in uapi.ERRNO_NAMES:
        return ""
    return f" ({decode.error_text(ret)})"
