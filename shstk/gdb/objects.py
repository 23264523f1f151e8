"""What gdb reads by qXfer: the target description, threads, the auxiliary vector, siginfo."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape, quoteattr

from shstk.gdb.packets import escaped
from shstk.gdb.registers import description
from shstk.schemas.syscalls import name_of
from shstk.tracer.kernel.signal.siginfo import pack
from shstk.tracer.kernel.task import Siginfo, Task

if TYPE_CHECKING:
    from shstk.gdb.target import Target


def answer(target: Target, tid: int, request: bytes) -> bytes:
    """The reply to qXfer:REQUEST, for the chosen thread; empty for what is not supported.
    Raises ValueError."""
    name, operation, *rest = request.decode("ascii", "replace").split(":")
    if operation == "write":
        return b"E.a recording is read-only"
    annex, place = rest
    offset, length = (int(word, 16) for word in place.split(","))
    if name not in OBJECTS or operation != "read":
        return b""
    data = OBJECTS[name](target, tid, annex)
    if data is None:
        return b"E02"
    piece = data[offset : offset + length]
    more = offset + length < len(data)
    return (b"m" if more else b"l") + escaped(piece)


def _features(target: Target, tid: int, annex: str) -> bytes | None:
    return description().encode() if annex == "target.xml" else None


def _threads(target: Target, tid: int, annex: str) -> bytes:
    lines = (
        f'<thread id="p{task.pid:x}.{task.tid:x}" name={quoteattr(task.comm)}>'
        f"{escape(told(target, task))}</thread>"
        for task in target.tasks()
    )
    return f'<?xml version="1.0"?><threads>{"".join(lines)}</threads>'.encode()


def told(target: Target, task: Task) -> str:
    """A thread in a few words, for `info threads`."""
    following = target.guest.next_task
    if following is not None and following.tid == task.tid:
        doing = "runs next"
    elif task.call is not None:
        doing = f"in {name_of(task.call.nr)}"
    else:
        doing = task.state
    return f"{doing}, ssp {task.hart.ssp:#x}" if task.cfi.ubcfi_en else f"{doing}, no shadow stack"


def _auxv(target: Target, tid: int, annex: str) -> bytes | None:
    task = target.task(tid)
    return task.mm.auxv if task is not None and task.mm is not None else None


def _exec_file(target: Target, tid: int, annex: str) -> bytes | None:
    """annex: the pid in hex, or empty."""
    pid = int(annex, 16) if annex else target.record.pid(tid)
    process = target.guest.k.processes.get(pid)
    return process.exe.encode() if process is not None else None


def _siginfo(target: Target, tid: int, annex: str) -> bytes | None:
    """Of the signal that the thread is about to take."""
    row = target.record.signal(target.place, tid) or target.record.fault(target.place, tid)
    if row is None or row["signo"] is None:
        return None
    return pack(Siginfo(row["signo"], row["code"] or 0, row.get("sender"), row["si_addr"]))


OBJECTS: Final[dict[str, Callable[[Target, int, str], bytes | None]]] = {
    "features": _features,
    "threads": _threads,
    "auxv": _auxv,
    "exec-file": _exec_file,
    "siginfo": _siginfo,
}
