"""Signal numbers, and siginfo_t as programs see it (128 bytes)."""

from __future__ import annotations

import struct
from typing import Final

from shstk.schemas.uapi import SI_KERNEL, SIGNALS
from shstk.tracer.kernel.task import UID, Siginfo

SIGKILL: Final = SIGNALS["SIGKILL"]
SIGSTOP: Final = SIGNALS["SIGSTOP"]
SIGCONT: Final = SIGNALS["SIGCONT"]
SIGCHLD: Final = SIGNALS["SIGCHLD"]
SIGSEGV: Final = SIGNALS["SIGSEGV"]
SIGTRAP: Final = SIGNALS["SIGTRAP"]
NSIG: Final = 64
SIGRTMIN: Final = 32


def bits(*names: str) -> int:
    """A sigset_t of these signals."""
    return sum(bit(SIGNALS[name]) for name in names)


def bit(signo: int) -> int:
    return 1 << (signo - 1)


SYNCHRONOUS: Final = bits("SIGSEGV", "SIGBUS", "SIGILL", "SIGTRAP", "SIGFPE", "SIGSYS")
CORE_DUMPING: Final = SYNCHRONOUS | bits("SIGQUIT", "SIGABRT", "SIGXCPU", "SIGXFSZ")
STOPS: Final = bits("SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU")
DEFAULT_IGNORED: Final = bits("SIGCONT", "SIGCHLD", "SIGWINCH", "SIGURG")
NEVER_BLOCKED: Final = bits("SIGKILL", "SIGSTOP")

SIZE: Final = 128


def pack(info: Siginfo) -> bytes:
    """siginfo_t: si_signo, si_errno, si_code, padding, the union for its kind, then zeros."""
    head = struct.pack("<iiii", info.signo, 0, info.code, 0)
    return (head + _fields(info)).ljust(SIZE, b"\0")


def _fields(info: Siginfo) -> bytes:
    """The union, by siginfo_layout() of kernel/signal.c."""
    if info.fields is not None:
        return info.fields
    if info.si_addr is not None:
        return struct.pack("<Q", info.si_addr)
    pid = info.sender or 0
    if info.signo == SIGCHLD and 0 < info.code < SI_KERNEL:
        return struct.pack("<iIi", pid, UID, info.value)
    if info.code == SI_KERNEL:
        return b""
    return struct.pack("<iIQ", pid, UID, info.value & 0xFFFF_FFFF_FFFF_FFFF)


def from_user(data: bytes, signo: int, sender: int) -> Siginfo:
    """A siginfo_t passed to rt_sigqueueinfo (128 bytes), for `signo`."""
    code = int(struct.unpack_from("<i", data, 8)[0])
    return Siginfo(signo, code, sender=sender, fields=data[16:])
