"""The system call table: the rows of every module, by number."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from shstk.schemas.syscalls import SYSCALLS
from shstk.tracer.kernel import refused
from shstk.tracer.kernel.arch import hwprobe, shstk, sigframe
from shstk.tracer.kernel.call import Call
from shstk.tracer.kernel.fs import (
    devices,
    epoll,
    eventfds,
    files,
    filestat,
    inotify,
    ioctl,
    locks,
    opening,
    pathcalls,
    pipes,
    poll,
    signalfds,
    transfer,
)
from shstk.tracer.kernel.mm import mmap, processvm, sysvshm
from shstk.tracer.kernel.net import sockcalls, sockopts
from shstk.tracer.kernel.process import (
    clone,
    exec,
    exit,
    futex,
    identity,
    limits,
    prctl,
    ptracecalls,
    schedcalls,
    wait,
)
from shstk.tracer.kernel.signal import sigcalls
from shstk.tracer.kernel.time import clock, timers

_MODULES: Final = (
    clone,
    exec,
    exit,
    wait,
    futex,
    mmap,
    sysvshm,
    shstk,
    prctl,
    limits,
    identity,
    schedcalls,
    sigcalls,
    sigframe,
    ptracecalls,
    processvm,
    clock,
    timers,
    files,
    locks,
    opening,
    filestat,
    pathcalls,
    pipes,
    poll,
    epoll,
    eventfds,
    signalfds,
    inotify,
    sockcalls,
    sockopts,
    transfer,
    ioctl,
    hwprobe,
    devices,
    refused,
)


def gather(calls: Iterable[Call]) -> dict[int, Call]:
    """Calls by number. ValueError: schemas has no call of that name, or two rows bear one name."""
    table: dict[int, Call] = {}
    for call in calls:
        if call.name not in SYSCALLS:
            raise ValueError(f"schemas/syscalls.py has no call {call.name!r}")
        if SYSCALLS[call.name] in table:
            raise ValueError(f"two rows for call {call.name!r}")
        table[SYSCALLS[call.name]] = call
    return table


CALLS: Final = gather(call for module in _MODULES for call in module.CALLS)
