"""From a kernel to the plugin's table: where its functions and members are, and what it lacks."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from shstk.tracer.realkernel import image as images
from shstk.tracer.realkernel import table
from shstk.tracer.realkernel.btf import Btf, NoTypes
from shstk.tracer.realkernel.image import BadImage
from shstk.tracer.realkernel.kallsyms import LINK, NoSymbols, symbols
from shstk.tracer.realkernel.options import KernelFiles
from shstk.tracer.realkernel.vmlinux import Vmlinux, system_map
from shstk.tracer.realkernel.watches import USER, WATCHES, Peek, Watch

_EXCEPTIONS: Final = ("__start___ex_table", "__stop___ex_table")
_ENTRY: Final = struct.Struct("<iihh")  # asm/extable.h: the instruction, its fixup, type, data
_MASK: Final = 2**64 - 1
_SIZEOF: Final = "sizeof "


class Types(Protocol):
    def size(self, name: str) -> int | None: ...
    def offset(self, path: str) -> int | None: ...


@dataclass
class Prepared:
    """table: the plugin's. blind: a table or column that can't be observed -> why."""

    image: bytes
    banner: str
    sha256: str
    symbols: frozenset[str]
    table: str = ""
    blind: dict[str, str] = field(default_factory=dict)


def prepare(files: KernelFiles) -> Prepared:
    """Raises BadImage, Damaged."""
    try:
        return _prepare(files)
    except NoTypes as why:
        raise BadImage(
            f"{files.image} does not say how its structs look: {why}", "give its --vmlinux"
        ) from None


def _prepare(files: KernelFiles) -> Prepared:
    """Raises BadImage, Damaged, NoTypes."""
    path = files.image
    image = images.read(path)
    elf = Vmlinux(files.vmlinux) if files.vmlinux else None
    addresses = _symbols(path, image, elf, files.system_map)
    types = _types(image, elf)
    made = Prepared(image, images.banner(image), images.sha256(image), frozenset(addresses))
    lines = [table.HEAD, *_base(path, addresses, types)]
    watches = [w for w in WATCHES if _present(w, addresses, made.blind)]
    numbers = {w.symbol: number for number, w in enumerate(watches)}
    for peek in USER:
        lines += _peek_line(f"user {peek.name}", peek, types, made.blind)
    for w in watches:
        lines.append(_watch_line(w, numbers, addresses[w.symbol]))
        for when, peeks in (("entry", w.entry), ("return", w.result)):
            for peek in peeks:
                name = f"peek {numbers[w.symbol]} {when} {peek.name}"
                lines += _peek_line(name, peek, types, made.blind)
    touching = list(_touching(image, addresses))
    if not touching:
        made.blind["kernel_memory"] = "the kernel's exception table was not found"
    lines += [f"access {at:x}" for at in touching]
    hidden = {table.BLIND + need: why for need, why in made.blind.items()}
    notes = {"banner": made.banner, "image": made.sha256} | hidden
    made.table = table.with_notes("\n".join(lines) + "\n", notes)
    return made


def _symbols(
    path: Path, image: bytes, elf: Vmlinux | None, map_file: Path | None
) -> Mapping[str, int]:
    if map_file:
        return system_map(map_file)
    if elf:
        return elf.symbols()
    try:
        return symbols(image)
    except NoSymbols as why:
        raise BadImage(
            f"{path} has no symbols: {why}", "give its System.map (--system-map) or --vmlinux"
        ) from None


def _types(image: bytes, elf: Vmlinux | None) -> Types:
    """Raises NoTypes, BadImage."""
    try:
        return Btf(image)
    except NoTypes:
        if elf is None:
            raise
        return elf.types()


def _base(path: Path, addresses: Mapping[str, int], types: Types) -> Iterator[str]:
    for name, symbol in (("trap", table.TRAP), ("switch", table.SWITCH)):
        if symbol not in addresses:
            raise BadImage(f"{path} has no symbol {symbol}", "is it a 64-bit riscv kernel?")
        yield f"{name} {addresses[symbol]:x}"
    for name, member in (("mm", "task_struct.mm"), ("state", "task_struct.__state")):
        if (offset := types.offset(member)) is None:
            raise BadImage(f"{path} has no {member}", "is it a Linux of 5.14 or later?")
        yield f"{name} {offset}"


def _present(watch: Watch, addresses: Mapping[str, int], blind: dict[str, str]) -> bool:
    if watch.symbol in addresses:
        return True
    for column in watch.feeds:
        blind.setdefault(column, f"the kernel has no function {watch.symbol}")
    return False


def _watch_line(watch: Watch, numbers: Mapping[str, int], address: int) -> str:
    words = [f"watch {numbers[watch.symbol]} {watch.symbol} {address:x}"]
    words += ["return"] * watch.returns + ["any"] * watch.any_task
    words += [f"new={watch.new_task}"] if watch.new_task else []
    words += [f"within={numbers[watch.within]}"] if watch.within in numbers else []
    return " ".join(words)


def _peek_line(head: str, peek: Peek, types: Types, blind: dict[str, str]) -> Iterable[str]:
    steps = [step if isinstance(step, int) else types.offset(step) for step in peek.steps]
    size = peek.size
    if isinstance(size, str) and size.startswith(_SIZEOF):
        size = types.size(size.removeprefix(_SIZEOF)) or 0
    if None in steps or size == 0:
        what = next((s for s in peek.steps if isinstance(s, str) and types.offset(s) is None), size)
        for column in peek.columns:
            blind.setdefault(column, f"the kernel has no {what}")
        return
    yield " ".join(map(str, (head, peek.base, *steps, size)))


def _touching(image: bytes, addresses: Mapping[str, int]) -> Iterator[int]:
    """The instructions that may fault on user memory, from the exception table."""
    start, stop = (addresses.get(symbol, 0) for symbol in _EXCEPTIONS)
    if not LINK <= start <= stop <= LINK + len(image):
        return
    for at in range(start, stop - _ENTRY.size + 1, _ENTRY.size):
        instruction, *_ = _ENTRY.unpack_from(image, at - LINK)
        yield at + instruction & _MASK
