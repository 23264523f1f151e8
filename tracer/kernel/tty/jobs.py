"""Job control: signals to process groups, and access to a terminal (drivers/tty/tty_jobctrl.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shstk.schemas.uapi import SI_KERNEL, SIGNALS
from shstk.tracer.kernel.call import Interrupted
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.process.identity import orphaned
from shstk.tracer.kernel.signal import signals

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task


def to_group(k: Kernel, pgid: int, signo: int) -> None:
    """Send a signal from the terminal to each process of a group."""
    for process in [p for p in k.processes.values() if p.pgid == pgid]:
        signals.send(k, process, signo, SI_KERNEL)


def check_foreground(k: Kernel, t: Task, session: int | None, foreground: int, name: str) -> None:
    """__tty_check_change(): a background process that uses the terminal of its session is stopped
    by SIGTTIN or SIGTTOU. Errno EIO: the signal is ignored or blocked, or the group is orphaned."""
    if session != t.process.sid or foreground in (0, t.process.pgid):
        return
    signo = SIGNALS[name]
    if signals.shut_out(t, signo):
        if name == "SIGTTIN":
            raise Errno("EIO")
        return
    if orphaned(k, t.process):
        raise Errno("EIO")
    to_group(k, t.process.pgid, signo)
    raise Interrupted


def new_foreground(k: Kernel, t: Task, addr: int) -> int:
    """tiocspgrp(): the process group at `addr`. Errno EFAULT, EINVAL, ESRCH; EPERM: it is of
    another session."""
    pgid = usermem.get_u32(k, t, addr)
    if pgid >> 31:
        raise Errno("EINVAL")
    members = [p for p in k.all_processes() if p.pgid == pgid]
    if not members and k.find(pgid) is None:
        raise Errno("ESRCH")
    if not any(p.sid == t.process.sid for p in members):
        raise Errno("EPERM")
    return pgid
