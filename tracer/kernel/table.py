"""The system call table: the rows of every module, by number."""

from __future__ import annotations

from typing import Final

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


def _merge() -> dict[int, Call]:
    table: dict[int, Call] = {}
    for module in _MODULES:
        for call in module.CALLS:
            if call.nr in table:
                raise ValueError(f"two rows for call {call.nr}: {table[call.nr].name}, {call.name}")
            table[call.nr] = call
    return table


CALLS: Final = _merge()
