"""System calls, signals and flags in their usual notation."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from shstk.schemas import uapi
from shstk.schemas.argument_types import COMMANDS, ENUMS, FLAGS, READ_WITH, UNREAD
from shstk.schemas.syscalls import BY_NUMBER

# si_code by signal, and those that any signal can have
_CODES: Final = {
    uapi.SIGNALS[signal]: {code: name for name, code in uapi.constants(prefix).items()}
    for signal, prefix in {
        "SIGILL": "ILL_",
        "SIGTRAP": "TRAP_",
        "SIGBUS": "BUS_",
        "SIGFPE": "FPE_",
        "SIGSEGV": "SEGV_",
        "SIGCHLD": "CLD_",
    }.items()
}
_ANY_CODES: Final = {code: name for name, code in uapi.constants("SI_").items()}


def size(length: int) -> str:
    """4194304 -> '4M'; hex if no unit divides it."""
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
    found, left = [], value
    for name, bits in names.items():
        if bits and left & bits == bits:
            found.append(name)
            left &= ~bits
    return "|".join([*found, *([hex(left)] if left else [])]) or "0"


def signal_name(number: int | None) -> str:
    if number is None:
        return "-"
    if number in uapi.SIGNAL_NAMES or number < 32:
        return uapi.SIGNAL_NAMES.get(number, str(number))
    return "SIGRTMIN" if number == 32 else f"SIGRT_{number - 32}"  # as strace: 32 is the kernel's


def signal_code(signo: int | None, code: int | None) -> str:
    if code is None:
        return "-"
    return _CODES.get(signo or 0, {}).get(code) or _ANY_CODES.get(code, str(code))


def wait_status(status: int) -> str:
    """A wait status: 'exit 0' or 'SIGSEGV'."""
    return f"exit {status >> 8 & 0xFF}" if status & 0x7F == 0 else signal_name(status & 0x7F)


def _fd(value: int) -> str:
    return "AT_FDCWD" if signed32(value) == uapi.AT_FDCWD else str(signed32(value))


def _open(value: int) -> str:
    access = "O_RDONLY|" if value & uapi.O_ACCMODE == uapi.O_RDONLY else ""
    text = flags(value, FLAGS["open"])
    return "O_RDONLY" if access and text == "0" else access + text


def _clone(value: int) -> str:
    signo = value & uapi.CSIGNAL
    text = flags(value & ~uapi.CSIGNAL, FLAGS["clone"])
    if not signo:
        return text
    return signal_name(signo) if text == "0" else f"{text}|{signal_name(signo)}"


def _futex(value: int) -> str:
    private = "|FUTEX_PRIVATE_FLAG" if value & uapi.FUTEX_PRIVATE_FLAG else ""
    realtime = "|FUTEX_CLOCK_REALTIME" if value & uapi.FUTEX_CLOCK_REALTIME else ""
    plain = value & ~(uapi.FUTEX_PRIVATE_FLAG | uapi.FUTEX_CLOCK_REALTIME)
    return ENUMS["futex"].get(plain, str(plain)) + private + realtime


def _ipc(value: int) -> str:
    mode = _octal(value & 0o777)
    text = flags(value & ~0o777, FLAGS["ipc"])
    return mode if text == "0" else f"{text}|{mode}"


def _socktype(value: int) -> str:
    extra = value & sum(FLAGS["socket"].values())
    kind = ENUMS["socktype"].get(value & ~extra) or _hex(value & ~extra)
    return f"{kind}|{flags(extra, FLAGS['socket'])}" if extra else kind


def _octal(value: int) -> str:
    return f"0{value:o}" if value else "0"


def _hex(value: int) -> str:
    return hex(value) if value > 9 else str(value)


def _pointer(value: int) -> str:
    return hex(value) if value else "NULL"


_SHOW: Final[dict[str, Callable[[int], str]]] = {
    "fd": _fd,
    "dirfd": _fd,
    "pid": lambda v: str(signed32(v)),
    "int": lambda v: str(signed64(v)),
    "uint": str,
    "size": lambda v: size(v) if v >= uapi.PAGE else str(v),
    "hex": _hex,
    "ptr": _pointer,
    "end": _pointer,
    "str": _pointer,
    "oct": _octal,
    "sig": signal_name,
    "open": _open,
    "clone": _clone,
    "futex": _futex,
    "ipc": _ipc,
    "socktype": _socktype,
    "prot": lambda v: flags(v, FLAGS["prot"]) if v else "PROT_NONE",
    "access": lambda v: flags(v, FLAGS["access"]) if v else "F_OK",
}


def argument(type: str, value: int) -> str:
    if type in _SHOW:
        return _SHOW[type](value)
    if type in FLAGS:
        return flags(value, FLAGS[type])
    names = ENUMS[type]
    return names.get(value) or names.get(signed32(value)) or _hex(value)


def arguments(
    nr: int, args: Sequence[int | None], string: Callable[[int], str | None]
) -> dict[str, str]:
    """The arguments by name that the kernel reads; `?` for one that was not observed. string: the
    one that the kernel read at an address.

    An unknown call gets a0, a1 and so on, up to the last that is not 0.
    """
    if nr not in BY_NUMBER:
        return {f"a{i}": _shown("hex", a) for i, a in enumerate(args) if i == 0 or any(args[i:])}
    return {
        name: (type == "str" and value is not None and string(value)) or _shown(type, value)
        for name, type, value in typed(nr, args)
    }


def typed(nr: int, args: Sequence[int | None]) -> list[tuple[str, str, int | None]]:
    """Name, type and value of each argument of a known call that the kernel reads. Another
    argument's value can decide the type, and whether it is read."""
    call = BY_NUMBER[nr]
    values = dict(zip((a.name for a in call.arguments), args, strict=False))
    types = {a.name: a.type for a in call.arguments}
    if own := COMMANDS.get(call.name):
        command = values[own.argument]
        types |= own.types.get(command & own.mask, {}) if command is not None else {}
    if call.name in READ_WITH:
        argument, needs = READ_WITH[call.name]
        given = values[argument]
        unread = (name for name, bits in needs.items() if given is not None and not given & bits)
        types |= dict.fromkeys(unread, UNREAD)
    return [(name, type, values[name]) for name, type in types.items() if type != UNREAD]


def _shown(type: str, value: int | None) -> str:
    return "?" if value is None else argument(type, value)


def error_text(ret: int) -> str:
    """`No such file or directory`, of a result that is a known error; else nothing."""
    return os.strerror(-ret) if -ret in uapi.ERRNO_NAMES else ""


def result(ret: int | None, nr: int | None = None) -> str:
    """A call's result. nr: its number, to show an address as one."""
    if ret is None:
        return "?"
    if -4096 < ret < 0:
        return f"-{uapi.ERRNO_NAMES.get(-ret, str(-ret))}"
    return hex(ret) if nr in BY_NUMBER and BY_NUMBER[nr].returns == "ptr" else str(ret)
