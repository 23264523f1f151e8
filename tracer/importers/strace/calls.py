"""A call's columns from its text: number, arguments, and the attempt to create a task."""

from __future__ import annotations

import re
from typing import Any, Final

from shstk.schemas.syscalls import BY_NUMBER, SYSCALLS
from shstk.schemas.uapi import CLONED_AS, CSIGNAL
from shstk.tracer.importers.strace.values import members, number, split

CLONES: Final = ("clone", "clone3")
# Calls that 64-bit RISC-V never had; their numbers are other calls' there.
_ELSEWHERE: Final = """
access alarm arch_prctl chmod chown creat dup2 epoll_create epoll_wait eventfd fork futimesat
getdents getpgrp inotify_init iopl ioperm lchown link lstat mkdir mknod modify_ldt open pause pipe
poll readlink rename rmdir select set_thread_area get_thread_area signalfd stat symlink time uselib
ustat utime utimes vfork _llseek fstat64 stat64 mmap2 fcntl64 socketcall ipc unlink
""".strip()
_FOREIGN: Final = frozenset(_ELSEWHERE.split())
_UNNAMED: Final = re.compile(r"syscall_(0x[0-9a-f]{1,8})")
_STRUCTURE: Final = re.compile(r"\{(.*?)\}", re.DOTALL)  # of clone3, that no other is in


def foreign(name: str) -> bool:
    """Whether only another architecture has the call."""
    return name in _FOREIGN


def number_of(name: str) -> int | None:
    """A call's number on riscv64; None: it is none that is known here."""
    if name in SYSCALLS:
        return SYSCALLS[name].number
    found = _UNNAMED.fullmatch(name)
    return int(found[1], 16) if found else None


def name_of(name: str) -> str:
    """strace's name, or the one of a call that it does not know."""
    known = BY_NUMBER.get(number_of(name) or 0) if _UNNAMED.fullmatch(name) else None
    return known.name if known else name


def arguments(name: str, text: str) -> dict[str, int | None]:
    """a0 to a5, as far as they are printed."""
    values: tuple[int | None, ...]
    if name == "clone":
        given = _members(text)
        flags, stack = given.get("flags"), given.get("child_stack")
        child = given.get("child_tidptr")
        values = (flags, stack, given.get("parent_tidptr"), given.get("tls"), child)
    elif name == "clone3":
        values = tuple(number(part) for part in split(text)[:2])
    elif "resuming interrupted" in text:
        values = ()
    else:
        values = tuple(number(part) for part in split(text)[:6])
    return {f"a{i}": values[i] if i < len(values) else None for i in range(6)}


def _members(text: str) -> dict[str, int | None]:
    return {name: number(value) for name, value in members(text).items()}


def attempt(name: str, text: str) -> dict[str, Any] | None:
    """What a clone was asked for, as columns of clones; an address that is not printed is 0. None:
    its flags are not printed."""
    found = _STRUCTURE.match(text) if name == "clone3" else None
    if name == "clone3" and found is None:
        return None
    given = _members(found[1] if found else text)
    word = given.get("flags")
    if word is None:
        return None
    flags = word if found else word & ~CSIGNAL
    api = name if found else CLONED_AS.get(flags & 0xFFFF_FFFF, "clone")
    signal = given.get("exit_signal") if found else word & CSIGNAL
    return {
        "api": api,
        "flags": flags,
        "stack": given.get("stack" if found else "child_stack") or 0,
        "stack_size": given.get("stack_size") or 0,
        "tls": given.get("tls") or 0,
        "parent_tid": 0,
        "child_tid_addr": given.get("child_tid" if found else "child_tidptr") or 0,
        "exit_signal": signal or 0,
    }
