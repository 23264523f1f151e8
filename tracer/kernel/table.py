"""The system call table by number. Each folder lists its rows in its calls.py."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from shstk.schemas.syscalls import SYSCALLS
from shstk.tracer.kernel import refused
from shstk.tracer.kernel.arch import calls as arch
from shstk.tracer.kernel.call import Call
from shstk.tracer.kernel.fs import calls as fs
from shstk.tracer.kernel.ipc import calls as ipc
from shstk.tracer.kernel.mm import calls as mm
from shstk.tracer.kernel.net import calls as net
from shstk.tracer.kernel.process import calls as process
from shstk.tracer.kernel.signal import calls as signal
from shstk.tracer.kernel.time import calls as time

_FOLDERS: Final = (arch, fs, ipc, mm, net, process, signal, time, refused)


def gather(calls: Iterable[Call]) -> dict[int, Call]:
    """Calls by number. ValueError: schemas has no call of that name, or two rows have one name."""
    table: dict[int, Call] = {}
    for call in calls:
        if call.name not in SYSCALLS:
            raise ValueError(f"schemas/syscalls.py has no call {call.name!r}")
        number = SYSCALLS[call.name].number
        if number in table:
            raise ValueError(f"two rows for call {call.name!r}")
        table[number] = call
    return table


CALLS: Final = gather(call for folder in _FOLDERS for call in folder.CALLS)
