"""The events that plugins receive one by one, built from rows as they are recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

from shstk.tracer.plugins.interface import Fault, Module, Syscall

if TYPE_CHECKING:
    from shstk.tracer.kernel.task import InCall

Row = Mapping[str, Any]
Event = Syscall | Fault | Module


def entered(call: InCall) -> Syscall:
    """The event for the entry of a call, which has no row yet."""
    return Syscall(
        call.seq, call.tid, call.mm, call.nr, call.name, call.args, call.pc, call.sp, call.ssp
    )


def _returned(row: Row, _file: bytes) -> Syscall | None:
    if row["outcome"] == "loader":
        return None  # the program never made that call
    return Syscall(
        seq=row["seq"],
        tid=row["tid"],
        mm=row["mm"],
        nr=row["nr"],
        name=row["name"],
        args=(row["a0"], row["a1"], row["a2"], row["a3"], row["a4"], row["a5"]),
        pc=row["pc"],
        sp=row["sp"],
        ssp=row["ssp_entry"],
        seq_end=row["seq_end"],
        outcome=row["outcome"],
        ret=row["ret"],
    )


def _fault(row: Row, _file: bytes) -> Fault:
    return Fault(**row)


def _module(row: Row, file: bytes) -> Module:
    given = {f.name: row[f.name] for f in fields(Module) if f.name != "data"}
    return Module(**given, data=file)


# Table -> the method to call for each of its rows, and the function that builds its argument from
# the row and the bytes of the row's file; None: no call.
EVENTS: Final[dict[str, tuple[str, Callable[[Row, bytes], Event | None]]]] = {
    "syscalls": ("on_return", _returned),
    "faults": ("on_fault", _fault),
    "modules": ("on_module", _module),
}
