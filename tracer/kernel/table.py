"""The system call table: the rows of every module, by number."""

from __future__ import annotations

from typing import Final

from shstk.tracer.kernel import (
    clock,
    clone,
    epoll,
    eventfds,
    exec,
    exit,
    files,
    filestat,
    futex,
    hwprobe,
    identity,
    inotify,
    ioctl,
    limits,
    locks,
    misc,
    mmap,
    opening,
    pathcalls,
    pipes,
    poll,
    prctl,
    processvm,
    ptracecalls,
    schedcalls,
    shstk,
    sigcalls,
    sigframe,
    signalfds,
    sockcalls,
    sockopts,
    sysvshm,
    timers,
    transfer,
    wait,
)
from shstk.tracer.kernel.call import Call

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
    misc,
)


def _merge() -> dict[int, Call]:
    table: dict[int, Call] = {}
    for module in _MODULES:
        for call in module.CALLS:
            if call.nr in table:
                raise ValueError(f"two rows for call {call.nr}: {table[call.nr].name}, {call.name}")
            table[call.nr] = call
    return table


CALLS: Final = _merge()
