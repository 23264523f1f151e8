"""The files that a dumped process had mapped: which is the program, and where their bytes are.

A core has the first page of a mapped ELF file, and none of its code. The bytes are in --exe, and in
the guest's file tree. A file of another build would give wrong names: it is not used.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from shstk.schemas.errors import BadProgram
from shstk.schemas.uapi import PAGE
from shstk.tracer import elf
from shstk.tracer.importers.core.elfcore import Core
from shstk.tracer.importers.core.notes import Mapped, Notes

VDSO: Final = "[vdso]"
_PT_NOTE: Final = 4
_BUILD_ID: Final = 3
_DELETED: Final = " (deleted)"  # what the kernel appends to the path of a removed file
_LINKS: Final = 40
# e_shoff, and e_shentsize to e_shstrndx: what strip changes in a first page.
_STRIPPED: Final = ((40, 48), (58, 64))


@dataclass
class File:
    """A file of known bytes. number: of its row in inputs, once it has one."""

    path: str
    data: bytes
    image: elf.Image | None
    number: int | None = None


@dataclass
class Files:
    """program: its path in the guest. mapped: which file each area is of. known: by path.
    told: what is to be said about them."""

    program: str = ""
    mapped: list[Mapped] = field(default_factory=list)
    known: dict[str, File] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)

    def at(self, address: int) -> Mapped | None:
        return next((m for m in self.mapped if m.start <= address < m.end), None)

    def read(self, address: int, size: int) -> bytes:
        """The bytes that a file has for an address."""
        mapped = self.at(address)
        file = self.known.get(mapped.path) if mapped else None
        if mapped is None or file is None:
            return b""
        begin = mapped.offset + address - mapped.start
        return file.data[begin : min(begin + size, mapped.offset + mapped.end - mapped.start)]


def find(core: Core, notes: Notes, exe: Path | None, root: Path | None) -> Files:
    """Raises UsageError, BadProgram."""
    found = Files(mapped=list(notes.files))
    given = _given(exe) if exe else None
    found.program = _program(core, notes, given)
    if given and not any(m.path == found.program for m in found.mapped):
        found.mapped += _placed(notes, given, found.program)
    _vdso(core, notes, found)
    if given:
        _take(core, found, found.program, given.data, f"--exe {exe}")
    missing = []
    for path in dict.fromkeys(m.path for m in found.mapped):
        if path in found.known or not path.startswith("/") or (given and path == found.program):
            continue
        file = within(root, path) if root else None
        if file:
            _take(core, found, path, file.read_bytes(), f"{path} below --root")
        elif any(_is_code(core, m) for m in found.mapped if m.path == path):
            missing.append(path)
    if missing:
        option = "--root" if root is None else f"below {root}"
        names = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if missing[3:] else "")
        lacks = "no --root was given" if root is None else f"they are not {option}"
        found.told.append(f"addresses in {names} have no symbols: {lacks}")
    return found


def within(root: Path, path: str) -> Path | None:
    """The regular file that a path of the guest names, below the root; links lead nowhere else."""
    parts = [part for part in reversed(path.removesuffix(_DELETED).split("/")) if part]
    here: list[str] = []
    for _ in range(len(parts) + _LINKS * 20):
        if not parts:
            break
        part = parts.pop()
        if part in ("..", "."):
            here = here[:-1] if part == ".." else here
            continue
        place = root.joinpath(*here, part)
        try:
            target = os.readlink(place)
        except OSError:
            here.append(part)
            continue
        here = [] if target.startswith("/") else here
        parts += [part for part in reversed(target.split("/")) if part]
    file = root.joinpath(*here)
    return file if not parts and file.is_file() else None


def _given(exe: Path) -> File:
    try:
        data = exe.read_bytes()
    except OSError as error:
        raise BadProgram(f"{exe}: {error.strerror}", "give the path of an ELF file") from error
    return File(str(exe), data, elf.parse(data, str(exe)))


def _program(core: Core, notes: Notes, given: File | None) -> str:
    """The file that has the program's entry point; else AT_EXECFN; else what --exe is called."""
    entry = notes.auxv.get(elf.AT_ENTRY)
    for mapped in notes.files:
        if entry is not None and mapped.start <= entry < mapped.end:
            return mapped.path
    name = core.read(notes.auxv.get(elf.AT_EXECFN, 0), 4096).split(b"\0")[0]
    if name.startswith(b"/"):
        return name.decode(errors="backslashreplace")
    own = os.path.basename(given.path) if given else notes.name
    return f"/{own or 'program'}"


def _placed(notes: Notes, given: File, path: str) -> Iterator[Mapped]:
    """Where the program's segments lie, if no NT_FILE tells."""
    assert given.image is not None
    entry = notes.auxv.get(elf.AT_ENTRY)
    bias = entry - given.image.entry if entry is not None else 0
    if given.image.pie and entry is None:
        return
    for s in given.image.segments:
        low, high = s.vaddr & -PAGE, -(-(s.vaddr + s.filesz) // PAGE) * PAGE
        if s.filesz:
            yield Mapped(low + bias, high + bias, s.offset & -PAGE, path)


def _vdso(core: Core, notes: Notes, found: Files) -> None:
    """The vdso is an ELF file, and the core has all of it."""
    start = notes.auxv.get(elf.AT_SYSINFO_EHDR, 0)
    segment = core.at(start)
    if segment and segment.start == start and segment.size:
        data = core.part(start, segment.size)
        found.mapped.append(Mapped(start, segment.end, 0, VDSO))
        found.known[VDSO] = File(VDSO, data, _image(data, VDSO))


def _take(core: Core, found: Files, path: str, data: bytes, what: str) -> None:
    """Use a file, unless the core shows that it is not the one that was mapped."""
    image = _image(data, path)
    for mapped in found.mapped:
        if mapped.path == path and mapped.offset == 0 and (why := _differs(core, mapped, data)):
            found.told.append(f"{what} is not used: {why}")
            return
    found.known[path] = File(path, data, image)


def _differs(core: Core, mapped: Mapped, data: bytes) -> str:
    """How a file is another one than what was mapped, by the page of it that the core has."""
    page = bytearray(core.part(mapped.start, PAGE))
    ours, theirs = _build_id(bytes(page)), _build_id(data)
    if ours and theirs:
        same = f"its build id is {theirs}, and that of the core's is {ours}"
        return "" if ours == theirs else same
    file = bytearray(data[:PAGE].ljust(len(page), b"\0"))[: len(page)]
    for begin, end in _STRIPPED:
        page[begin:end] = file[begin:end]
    return "" if page == file else "the core's first page of it differs"


def _build_id(data: bytes) -> str | None:
    """NT_GNU_BUILD_ID, of a file of which maybe only the first page is there."""
    with suppress(struct.error):
        phoff, size, count = (
            *struct.unpack_from("<Q", data, 32),
            *struct.unpack_from("<HH", data, 54),
        )
        for i in range(count if data[:4] == b"\x7fELF" else 0):
            kind, _, at, _, _, length = struct.unpack_from("<IIQQQQ", data, phoff + i * size)
            if kind == _PT_NOTE and (found := _in_notes(data[at : at + length])):
                return found
    return None


def _in_notes(data: bytes) -> str | None:
    while len(data) >= 12:
        owner, length, kind = struct.unpack_from("<III", data)
        begin = 12 + (owner + 3 & -4)
        if kind == _BUILD_ID and data[12 : 12 + owner] == b"GNU\0":
            return data[begin : begin + length].hex() or None
        data = data[begin + (length + 3 & -4) :]
    return None


def _image(data: bytes, path: str) -> elf.Image | None:
    with suppress(BadProgram):
        return elf.parse(data, path)
    return None


def _is_code(core: Core, mapped: Mapped) -> bool:
    segment = core.at(mapped.start)
    return bool(segment and segment.flags & 1)
