"""A system call's arguments, with what is behind its pointers where that is known."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from shstk.log import structs
from shstk.log.memory import MOST, Held, Memory
from shstk.log.pointers import pointed
from shstk.replay import decode
from shstk.schemas import sockopts, uapi
from shstk.schemas.syscalls import BY_NUMBER

Row = Mapping[str, Any]
_ELEMENTS: Final = 32  # of an array that are shown
_WHAT: Final = re.compile(r"(<?>?)([\w/]+)(?:\[(\*?)(\w+)\])?")
_OPTION_STRUCTS: Final = {
    "SO_LINGER": "linger",
    "SO_RCVTIMEO": "timeval",
    "SO_SNDTIMEO": "timeval",
    "SO_PEERCRED": "ucred",
}
_SCALARS: Final = ("int", "status", "u32", "u64", "x64", "i32")


def arguments(row: Row, held: Held, limit: int) -> dict[str, str]:
    """The arguments of a row of `syscalls`, by name. limit: bytes of a buffer that are shown."""
    args = [row[f"a{i}"] for i in range(6)]
    nr, seq = row["nr"], row["seq"]

    def string(addr: int) -> str | None:
        data = held.string(seq, addr)
        return None if data is None else structs.quoted(data)

    shown = decode.arguments(nr, args, string)
    if nr in BY_NUMBER and BY_NUMBER[nr].name in ("execve", "execveat"):
        shown |= _exec_strings(row, shown, held)
    behind = followed(row, held, limit)
    return {name: behind.get(name, text) for name, text in shown.items()}


def followed(row: Row, memory: Memory, limit: int) -> dict[str, str]:
    """The arguments whose pointers lead to something that is known."""
    call = BY_NUMBER.get(row["nr"])
    if call is None:
        return {}
    values = {known.name: row[f"a{i}"] for i, known in enumerate(call.arguments)}
    told = {}
    for name, what in pointed(call.name, values.get("option", values.get("cmd"))).items():
        if values[name]:
            text = _behind(what, values[name], _Call(row, values, memory, limit))
            if text is not None:
                told[name] = text
    return told


class _Call(NamedTuple):
    row: Row
    values: dict[str, int | None]
    memory: Memory
    limit: int

    @property
    def failed(self) -> bool:
        return self.row["ret"] is None or self.row["ret"] < 0

    def length(self, name: str, indirect: bool) -> int | None:
        """Of an array: a number, an argument's value, or what it points to; of `ret` the result."""
        if name == "ret":
            return None if self.failed else int(self.row["ret"])
        count = int(name) if name.isdigit() else self.values[name]
        if not indirect or not count:
            return count
        data = self.get(count, 4, reads=False)
        return int.from_bytes(data, "little") if data else None

    def get(self, addr: int, n: int, reads: bool) -> bytes | None:
        at = (self.row["seq"], addr, n)
        return self.memory.read(*at) if reads else self.memory.wrote(*at)

    def updated(self, addr: int, n: int) -> bytes | None:
        """What the kernel read, with what it wrote there."""
        return self.memory.updated(self.row["seq"], addr, n)

    def marked(self, mark: str, addr: int, n: int) -> bytes | None:
        return self.updated(addr, n) if mark == "<>" else self.get(addr, n, mark == "<")

    def array(self, kind: str, addr: int, count: int, mark: str) -> list[bytes] | None:
        """The first elements of an array. mark: see pointers.py."""
        size = structs.size_of(kind)
        data = self.marked(mark, addr, size * min(count, _ELEMENTS))
        return None if data is None else [data[i : i + size] for i in range(0, len(data), size)]


def _behind(what: str, address: int, call: _Call) -> str | None:
    found = _WHAT.fullmatch(what)
    assert found, what
    mark, kind, indirect, length = found.groups()
    count = None if length is None else call.length(length, bool(indirect))
    if length is not None and (count is None or count >> 31):
        return None
    if kind in _KINDS:
        return _KINDS[kind](call, address, count or 0, mark == "<")
    if count is not None:
        items = call.array(kind, address, count, mark) if count else None
        return None if items is None else _listed((structs.shown(kind, i) for i in items), count)
    data = call.marked(mark, address, structs.size_of(kind))
    if data is None:
        return None
    text = structs.shown(kind, data)
    return f"[{text}]" if kind.partition("/")[0] in _SCALARS else text


def _listed(items: Any, count: int) -> str:
    return "[" + ", ".join([*items, *(["..."] if count > _ELEMENTS else [])]) + "]"


def _buffer(call: _Call, address: int, count: int, reads: bool) -> str | None:
    text = _contents(call, address, count, reads)
    if text is None and reads and call.values.get("fd") is not None:
        row = call.row
        data = call.memory.printed(row["tid"], row["seq"], row["seq_end"])
        text = _quoted(call, data, count) if data else None
    return text


def _contents(call: _Call, address: int, count: int, reads: bool) -> str | None:
    data = call.get(address, min(count, MOST), reads) if count else b""
    return None if data is None else _quoted(call, data, count)


def _quoted(call: _Call, data: bytes, count: int) -> str:
    """count: bytes of the whole buffer."""
    text = structs.quoted(data, call.limit)
    cut = count > len(data) and len(data) <= call.limit
    return f"{text}..." if cut else text


def _sockaddr(call: _Call, address: int, count: int, reads: bool) -> str | None:
    data = call.get(address, count, reads) if count else None
    return structs.sockaddr(data) if data else None


def _option(call: _Call, address: int, count: int, reads: bool) -> str | None:
    """Most socket options are an int."""
    which = sockopts.OPTIONS.get(call.values["level"] or 0, {}).get(call.values["optname"] or 0, "")
    if (own := _OPTION_STRUCTS.get(which)) and count >= structs.size_of(own):
        data = call.get(address, structs.size_of(own), reads)
        return None if data is None else structs.shown(own, data)
    if count != 4:
        return _buffer(call, address, count, reads)
    data = call.get(address, count, reads)
    return None if data is None else f"[{structs.shown('int', data)}]"


def _dirents(call: _Call, address: int, _count: int, reads: bool) -> str | None:
    data = None if call.failed else call.get(address, call.row["ret"], reads)
    return structs.dirents(data) if data else None


def _bits(call: _Call, address: int, count: int, reads: bool) -> str | None:
    data = call.get(address, count, reads) if count <= MOST else None
    return None if data is None else structs.members(data)


def _fds(call: _Call, address: int, count: int, reads: bool) -> str | None:
    """The kernel reads an fd_set in whole words."""
    data = call.get(address, (count + 63) // 64 * 8, reads) if count <= 8 * MOST else None
    if data is None:
        return None
    bits = int.from_bytes(data, "little") & ((1 << count) - 1)
    return structs.members(bits.to_bytes(len(data), "little"))


def _sigset_arg(call: _Call, address: int, _count: int, reads: bool) -> str | None:
    """Where the mask is, and how long."""
    data = call.get(address, 16, reads)
    if data is None:
        return None
    at, size = (int.from_bytes(data[i : i + 8], "little") for i in (0, 8))
    mask = call.get(at, 8, reads) if at else None
    text = "NULL" if not at else hex(at) if mask is None else structs.shown("set", mask)
    return f"{{sigmask={text}, sigsetsize={size}}}"


def _iovs(call: _Call, address: int, count: int, reads: bool) -> str | None:
    items = call.array("iovec", address, count, "<") if count else None
    if items is None:
        return None
    left = MOST if reads else call.row["ret"] or 0
    told = []
    for item in items:
        base, length = (int.from_bytes(item[i : i + 8], "little") for i in (0, 8))
        filled = length if reads else max(0, min(length, left))
        text = _contents(call, base, filled, reads) if base and filled >> 31 == 0 else None
        if not reads:
            left -= filled
        shown = ("NULL" if not base else hex(base)) if text is None else text
        told.append(f"{{iov_base={shown}, iov_len={length}}}")
    return _listed(told, count)


def _msghdr(call: _Call, address: int, _count: int, reads: bool) -> str | None:
    head = call.updated(address, structs.size_of("msghdr"))
    if head is None:
        return None
    name, namelen, iov, iovlen, control, controllen = struct.unpack_from("<Qi4xQQQQ", head)
    behind = {
        "msg_name": _sockaddr(call, name, namelen, reads) if name and 0 < namelen <= MOST else None,
        "msg_iov": _iovs(call, iov, iovlen, reads) if iov and not iovlen >> 31 else None,
        "msg_control": _control(call, control, controllen, reads),
    }
    shown = structs.fields("msghdr", head) | {k: v for k, v in behind.items() if v is not None}
    return "{" + ", ".join(f"{k}={v}" for k, v in shown.items()) + "}"


def _control(call: _Call, address: int, length: int, reads: bool) -> str | None:
    data = call.get(address, length, reads) if address and 0 < length <= MOST else None
    return None if data is None else structs.control(data)


def _mmsghdrs(call: _Call, address: int, count: int, reads: bool) -> str | None:
    told = []
    for i in range(min(count, _ELEMENTS)):
        at = address + 64 * i
        head = _msghdr(call, at, 0, reads)
        sent = call.get(at + 56, 4, reads=False)
        if head is None:
            return None
        length = "" if sent is None else f", msg_len={structs.shown('u32', sent)}"
        told.append(f"{{msg_hdr={head}{length}}}")
    return _listed(told, count)


def _string(call: _Call, address: int, _count: int, _reads: bool) -> str | None:
    data = call.memory.string(call.row["seq"], address)
    return None if data is None else structs.quoted(data)


def _words(call: _Call, address: int, most: int) -> list[int] | None:
    """Pointers up to NULL, at most so many."""
    found: list[int] = []
    while len(found) < most:
        data = call.get(address + 8 * len(found), 8, reads=True)
        if data is None:
            return None
        if not any(data):
            break
        found.append(int.from_bytes(data, "little"))
    return found


def _strings(call: _Call, address: int, _count: int, _reads: bool) -> str | None:
    pointers = _words(call, address, _ELEMENTS + 1)
    if pointers is None:
        return None
    texts = [_string(call, at, 0, True) or hex(at) for at in pointers[:_ELEMENTS]]
    return _listed(texts, len(pointers))


def _environ(call: _Call, address: int, _count: int, _reads: bool) -> str | None:
    pointers = _words(call, address, MOST)
    return None if pointers is None else _variables(address, len(pointers))


def _variables(address: int, count: int) -> str:
    return f"{address:#x} /* {count} var{'' if count == 1 else 's'} */"


_Kind = Callable[[_Call, int, int, bool], str | None]
_KINDS: Final[Mapping[str, _Kind]] = {
    "bytes": _buffer,
    "sockaddr": _sockaddr,
    "option": _option,
    "dirents": _dirents,
    "cpus": _bits,
    "fds": _fds,
    "sigset_arg": _sigset_arg,
    "iov": _iovs,
    "msghdr": _msghdr,
    "mmsghdr": _mmsghdrs,
    "string": _string,
    "strings": _strings,
    "environ": _environ,
}


def _exec_strings(row: Row, shown: Mapping[str, str], held: Held) -> dict[str, str]:
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
    envp = int(shown["envp"], 16) if shown["envp"].startswith("0x") else 0
    return {"argv": "[" + ", ".join(argv) + "]", "envp": _variables(envp, len(rest) - argc)}


def failure(row: Row) -> str:
    """The text of the error that a call returned, in parentheses; else nothing."""
    ret = row["ret"]
    if ret is None or not -4096 < ret < 0 or -ret not in uapi.ERRNO_NAMES:
        return ""
    return f" ({decode.error_text(ret)})"


def written_back(row: Row, held: Held) -> str:
    """What pselect6 wrote over the sets and the time that it had read, as strace shows it."""
    call = BY_NUMBER.get(row["nr"])
    if call is None or call.name != "pselect6" or (row["ret"] or 0) <= 0:
        return ""
    values = {known.name: row[f"a{i}"] for i, known in enumerate(call.arguments)}
    found = _Call(row, values, held, 0)
    told = []
    for name, label in (("inp", "in"), ("outp", "out"), ("exp", "except")):
        members = values[name] and _fds(found, values[name], values["n"] or 0, reads=False)
        if members and members != "[]":
            told.append(f"{label} {members}")
    left = values["tsp"] and found.get(values["tsp"], structs.size_of("timespec"), reads=False)
    if left:
        told.append(f"left {structs.shown('timespec', left)}")
    return f" ({', '.join(told)})" if told else ""
