"""Units: what the values of a column are. The unit alone decides how a value is written.

Text, CSV and JSON write a value in the same way. Positions and addresses are strings in JSON,
because JSON readers round numbers above 2**53.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

from shstk.schemas import seq as positions

Unit = Literal[
    "seq",
    "address",
    "value",
    "bits",
    "size",
    "offset",
    "count",
    "number",
    "pid",
    "result",
    "mode",
    "hash",
    "kind",
    "name",
    "path",
    "text",
    "data",
    "truth",
]

UNITS: Final[dict[Unit, str]] = {
    "seq": "a position in the run, written icount.n",
    "address": "an address in the guest's memory, hex",
    "value": "what a register or a word of memory holds, hex",
    "bits": "flags, a mask or an instruction, hex",
    "size": "bytes of a range of addresses, hex like its start",
    "offset": "bytes from the start of a file, hex",
    "count": "how many",
    "number": "one of several that are numbered: an address space, a block, a signal, a call, …",
    "pid": "a task or a process",
    "result": "what a call returned, or how a task ended: a value, -errno, a wait status",
    "mode": "st_mode, octal",
    "hash": "a hash, hex",
    "kind": "one of a few words",
    "name": "what something is called: a call, a symbol, a rule, a revision",
    "path": "a path in the guest",
    "text": "anything in words",
    "data": "bytes, two hex digits each",
    "truth": "true or false",
}

_NUMBERS: Final[Mapping[Unit | None, Callable[[int], Any]]] = {
    "seq": positions.show,
    "mode": oct,
    **dict.fromkeys(("address", "value", "bits", "size", "offset", "hash"), hex),
}


def show(unit: Unit | None, value: Any) -> Any:
    """A value as it is written: an integer by its unit, bytes in hex unless they are a path."""
    if isinstance(value, int):
        return value if isinstance(value, bool) else _NUMBERS.get(unit, int)(value)
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace") if unit == "path" else value.hex()
    return [show(unit, item) for item in value] if isinstance(value, list | tuple) else value
