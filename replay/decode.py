"""System calls, signals and flags as people write them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from shstk.schemas import uapi
from shstk.schemas.signatures import ENUMS, FLAGS, SIGNATURES

_AT_FDCWD: Final = -100
_FUTEX_PRIVATE: Final = 128
_FUTEX_CLOCK_REALTIME: Final = 256
_POINTERS: Final = frozenset({"mmap", "brk", "mremap", "map_shadow_stack"})
_SIGNAL_NAMES: Final = {number: name for name, number in uapi.SIGNALS.items()}
_SEGV_CODES: Final = {1: "SEGV_MAPERR", 2: "SEGV_ACCERR", 10: "SEGV_CPERR"}


def size(length: int) -> str:
    """4194304 -> '4M'; what no unit divides stays hex."""
    for unit, bytes_ in (("G", 2**30), ("M", 2**20), ("K", 2**10)):
        if length and length % bytes_ == 0:
            return f"{length // bytes_}{unit}"
    return hex(length)


def signed32(value: int) -> int:
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


def signed64(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def flags(value: int, names: Mapping[str, int]) -> str:
    """0x10900 -> 'CLONE_VM|CLONE_SIGHAND|CLONE_THREAD'; unknown bits stay hex; 0 is '0'."""
    found = [name for name, bit in names.items() if value & bit == bit]
    left = value
    for name in found:
        left &= ~names[name]
    return "|".join([*found, *([hex(left)] if left else [])]) or "0"


def signal_name(number: int | None) -> str:
    if number is None:
        return "-"
    return _SIGNAL_NAMES.get(number, f"SIGRT{number - 32}" if number >= 32 else str(number))


def signal_code(signo: int | None, code: int | None) -> str:
    if code is None:
        return "-"
    return _SEGV_CODES.get(code, str(code)) if signo == uapi.SIGNALS["SIGSEGV"] else str(code)


def wait_status(status: int) -> str:
    """A wait status: 'exit 0' or 'SIGSEGV'."""
    return f"exit {status >> 8 & 0xFF}" if status & 0x7F == 0 else signal_name(status & 0x7F)


def _fd(value: int) -> str:
    return "AT_FDCWD" if signed32(value) == _AT_FDCWD else str(signed32(value))


def _open(value: int) -> str:
    access = "O_RDONLY|" if value & 3 == 0 else ""
    text = flags(value, FLAGS["open"])
    return "O_RDONLY" if access and text == "0" else access + text


def _clone(value: int) -> str:
    signo = value & 0xFF
    text = flags(value & ~0xFF, FLAGS["clone"])
    if not signo:
        return text
    return signal_name(signo) if text == "0" else f"{text}|{signal_name(signo)}"


def _futex(value: int) -> str:
    private = "|FUTEX_PRIVATE_FLAG" if value & _FUTEX_PRIVATE else ""
    realtime = "|FUTEX_CLOCK_REALTIME" if value & _FUTEX_CLOCK_REALTIME else ""
    plain = value & ~(_FUTEX_PRIVATE | _FUTEX_CLOCK_REALTIME)
    return ENUMS["futex"].get(plain, str(plain)) + private + realtime


def _pointer(value: int) -> str:
    return hex(value) if value else "NULL"


_SHOW: Final[dict[str, Callable[[int], str]]] = {
    "fd": _fd,
    "dirfd": _fd,
    "pid": lambda v: str(signed32(v)),
    "int": lambda v: str(signed64(v)),
    "uint": str,
    "size": lambda v: size(v) if v >= uapi.PAGE else str(v),
    "hex": lambda v: hex(v) if v > 9 else str(v),
    "ptr": _pointer,
    "str": _pointer,
    "oct": lambda v: f"0{v:o}" if v else "0",
    "sig": signal_name,
    "open": _open,
    "clone": _clone,
    "futex": _futex,
}


def argument(word: str, value: int) -> str:
    if word in _SHOW:
        return _SHOW[word](value)
    if word in FLAGS:
        return flags(value, FLAGS[word])
    return ENUMS[word].get(value, hex(value) if value > 9 else str(value))


def call(name: str | None, nr: int, args: Sequence[int], strings: Mapping[int, str]) -> str:
    """'openat(AT_FDCWD, "/etc/passwd", O_RDONLY, 0)'. strings: what the kernel read, by address."""
    if name not in SIGNATURES:
        shown = [_SHOW["hex"](a) for a in args]
        while len(shown) > 1 and shown[-1] == "0":
            shown.pop()
        return f"{name or f'syscall_{nr}'}({', '.join(shown)})"
    words = SIGNATURES[name].split()
    shown = [
        strings.get(a) or argument(w, a) if w == "str" else argument(w, a)
        for w, a in zip(words, args, strict=False)
    ]
    return f"{name}({', '.join(shown)})"


def result(name: str | None, ret: int | None) -> str:
    if ret is None:
        return "?"
    if -4096 < ret < 0:
        return f"-{uapi.ERRNO_NAMES.get(-ret, str(-ret))}"
    return hex(ret) if name in _POINTERS else str(ret)
