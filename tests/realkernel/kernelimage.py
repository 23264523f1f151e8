"""Images that have all that is read out of a kernel, and nothing else: kallsyms in each of their
layouts, BTF, an exception table."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

LINK = 0xFFFF_FFFF_8000_0000
BANNER = b"Linux version 7.2.0 (somebody@somewhere) #1 SMP PREEMPT"
FUNCTIONS = {"_start": 0, "handle_exception": 0x400, "__switch_to": 0x480, "do_exit": 0x500}
_MANY = 10_001  # a kernel has more symbols than that
_TOKENS = [b"%c" % i if 32 < i < 127 else b"token%d" % i for i in range(256)]

Member = tuple[str, int, int]  # name, type, bit


@dataclass
class Types:
    """BTF, type by type."""

    _data: bytearray = field(default_factory=bytearray)
    _names: bytearray = field(default_factory=lambda: bytearray(1))
    count: int = 0

    def add(self, kind: int, name: str, size: int, members: Iterable[Member] = ()) -> int:
        """The number of the new type."""
        members = list(members)
        self._data += struct.pack("<3I", self._name(name), kind << 24 | len(members), size)
        for member, number, bit in members:
            self._data += struct.pack("<3I", self._name(member), number, bit)
        self.count += 1
        return self.count

    def _name(self, name: str) -> int:
        if not name:
            return 0
        at = len(self._names)
        self._names += name.encode() + b"\0"
        return at

    def section(self) -> bytes:
        while len(self._data) <= 100_000:
            self.add(7, "forward", 0)
        sizes = (0, len(self._data), len(self._data), len(self._names))
        head = struct.pack("<HBBI4I", 0xEB9F, 1, 0, 24, *sizes)
        return head + bytes(self._data) + bytes(self._names)


def task_struct() -> Types:
    """thread_info lies in it, behind a typedef; mm in an unnamed union."""
    types = Types()
    state = types.add(4, "cfi_state", 16, [("ubcfi_en", 0, 0), ("shdw_stk_base", 0, 64)])
    known = types.add(8, "cfi_t", state)
    info = types.add(4, "thread_info", 32, [("user_cfi_state", known, 128)])
    union = types.add(5, "", 8, [("mm", 0, 0), ("other_mm", 0, 0)])
    members = [("thread_info", info, 0), ("__state", 0, 256), ("", union, 320)]
    types.add(4, "task_struct", 64, members)
    return types


def image(
    layout: str = "places",
    functions: Mapping[str, int] = FUNCTIONS,
    types: Types | None = None,
    touching: Iterable[int] = (0x404, 0x484),
) -> bytes:
    """layout: of kallsyms' addresses: places (7.x), base (6.5 and later), or before (earlier)."""
    data = bytearray(0x1000)
    data[0x30:0x38] = b"RISCV\0\0\0"
    data[0x100 : 0x100 + len(BANNER)] = BANNER
    table = len(data)
    for at in touching:
        data += struct.pack("<iihh", at - len(data), 0, 0, 0)
    symbols = {**functions, "__start___ex_table": table, "__stop___ex_table": len(data)}
    if types:
        data += bytes(-len(data) % 8) + types.section()
    data += bytes(8 - len(data) % 8)
    symbols |= {f"filler{i}": 0x600 for i in range(_MANY)}
    _kallsyms(data, symbols, layout)
    return bytes(data) + bytes(256)


def _kallsyms(data: bytearray, symbols: Mapping[str, int], layout: str) -> None:
    offsets = list(symbols.values())
    packed = struct.pack(f"<{len(offsets)}I", *offsets)
    if layout == "before":
        data += packed
        data += bytes(-len(data) % 8) + struct.pack("<Q", LINK)
    data += struct.pack("<I", len(symbols))
    names, markers = bytearray(), []
    for number, name in enumerate(symbols):
        if number % 256 == 0:
            markers.append(len(names))
        names += bytes([1 + len(name)]) + b"T" + name.encode()
    data += names
    data += bytes(-len(data) % 4) + struct.pack(f"<{len(markers)}I", *markers)
    places = [0]
    for token in _TOKENS:
        data += token + b"\0"
        places.append(places[-1] + len(token) + 1)
    data += bytes(-len(data) % 4) + struct.pack("<256H", *places[:-1])
    if layout == "places":
        at = len(data)
        data += struct.pack(f"<{len(offsets)}i", *(o - at - 4 * i for i, o in enumerate(offsets)))
    elif layout == "base":
        data += packed
        data += bytes(-len(data) % 8) + struct.pack("<Q", LINK)
