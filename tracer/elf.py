"""ELF files: the data that the kernel's loader uses, and the initial stack of a program.

Executables and shared libraries of RV64. Like the kernel, this reads no section headers.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from shstk.schemas.errors import BadProgram
from shstk.schemas.extensions import EXTENSIONS
from shstk.schemas.uapi import (
    GNU_PROPERTY_RISCV_FEATURE_1_AND,
    MINSIGSTKSZ,
    PAGE,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
)

_EHDR: Final = struct.Struct("<4sBBxxxxxxxxxxHHIQQQIHHHHHH")
_PHDR: Final = struct.Struct("<IIQQQQQQ")
_PHDR_SIZE: Final = _PHDR.size
_NHDR: Final = struct.Struct("<III")
_DYN: Final = struct.Struct("<qQ")
ET_EXEC, ET_DYN, EM_RISCV = 2, 3, 243
PT_LOAD, PT_DYNAMIC, PT_INTERP, PT_NOTE = 1, 2, 3, 4
PT_GNU_STACK, PT_GNU_PROPERTY = 0x6474E551, 0x6474E553
NT_GNU_BUILD_ID: Final = 3
DT_NULL, DT_NEEDED, DT_STRTAB, DT_RPATH, DT_RUNPATH = 0, 1, 5, 15, 29
_MAX_PHDRS: Final = 65536 // _PHDR_SIZE
_WINDOW: Final = 1 << 47
ET_DYN_BASE: Final = _WINDOW // 3 * 2 & -PAGE  # ELF_ET_DYN_BASE, without randomisation

AT_PHDR, AT_PHENT, AT_PHNUM, AT_PAGESZ, AT_BASE, AT_FLAGS, AT_ENTRY = 3, 4, 5, 6, 7, 8, 9
AT_UID, AT_EUID, AT_GID, AT_EGID, AT_HWCAP, AT_CLKTCK, AT_SECURE = 11, 12, 13, 14, 16, 17, 23
AT_RANDOM, AT_EXECFN, AT_SYSINFO_EHDR, AT_MINSIGSTKSZ = 25, 31, 33, 51

_LINUX_NOTE: Final = struct.pack("<III8s", 6, 4, 0, b"Linux")
_HWCAP: Final = sum(1 << ord(name) - ord("a") for name in EXTENSIONS if len(name) == 1)


class Segment(NamedTuple):
    """A PT_LOAD."""

    vaddr: int
    memsz: int
    offset: int
    filesz: int
    prot: int


class Image(NamedTuple):
    """An executable. Addresses are those in the file; a PIE is loaded with a bias."""

    pie: bool
    entry: int
    segments: tuple[Segment, ...]
    phdr: int  # address of the program headers, 0 if no segment contains them
    phnum: int
    align: int
    interpreter: str | None
    build_id: str | None
    exec_stack: bool = False
    features: int = 0  # LANDING_PADS, SHADOW_STACK

    @property
    def low(self) -> int:
        return min(s.vaddr for s in self.segments) & -PAGE

    @property
    def high(self) -> int:
        return max(s.vaddr + s.memsz for s in self.segments)

    @property
    def code(self) -> tuple[Segment, ...]:
        return tuple(s for s in self.segments if s.prot & PROT_EXEC)


class _Ehdr(NamedTuple):
    """Elf64_Ehdr, of a 64-bit little-endian file."""

    e_magic: bytes
    e_class: int
    e_data: int
    e_type: int
    e_machine: int
    e_version: int
    e_entry: int
    e_phoff: int
    e_shoff: int
    e_flags: int
    e_ehsize: int
    e_phentsize: int
    e_phnum: int
    e_shentsize: int
    e_shnum: int
    e_shstrndx: int


class _Phdr(NamedTuple):
    """Elf64_Phdr."""

    p_type: int
    p_flags: int
    p_offset: int
    p_vaddr: int
    p_paddr: int
    p_filesz: int
    p_memsz: int
    p_align: int


def parse(data: bytes, path: str) -> Image:
    """Raises BadProgram, naming `path`."""
    try:
        return _image(data)
    except _Bad as error:
        raise BadProgram(f"{path}: {error}", error.hint) from None


class _Bad(Exception):
    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.hint = hint or _HINT


_HINT: Final = "give an RV64 Linux executable"


def _image(data: bytes) -> Image:
    header = _header(data)
    headers = _program_headers(header, data)
    loads = tuple(_segment(h, data) for h in headers if h.p_type == PT_LOAD and h.p_memsz)
    if not loads:
        raise _Bad("nothing to load: no PT_LOAD segment")
    pie = header.e_type == ET_DYN
    if not pie and min(s.vaddr for s in loads) < PAGE:
        raise _Bad("a segment in page 0, which Linux does not map")
    return Image(
        pie=pie,
        entry=header.e_entry,
        segments=loads,
        phdr=_phdr_address(header, loads),
        phnum=header.e_phnum,
        align=max(h.p_align for h in headers if h.p_type == PT_LOAD),
        interpreter=_interpreter(headers, data),
        build_id=_build_id(headers, data),
        features=_features(headers, data),
        exec_stack=any(h.p_type == PT_GNU_STACK and h.p_flags & 1 for h in headers),
    )


def _header(data: bytes) -> _Ehdr:
    """The header of an executable or a shared library of RV64."""
    if data[:4] != b"\x7fELF":
        raise _Bad("not a valid ELF file (Magic number does not match)")
    if len(data) < _EHDR.size:
        raise _Bad("not a valid ELF file (it ends in its header)")
    header = _Ehdr._make(_EHDR.unpack_from(data))
    if header.e_class not in _BITS or header.e_data not in (1, 2):
        raise _Bad(f"not a valid ELF file (class {header.e_class}, data {header.e_data})")
    if (header.e_class, header.e_data, header.e_machine) != (2, 1, EM_RISCV):
        machine = int.from_bytes(data[18:20], "little" if header.e_data == 1 else "big")
        raise _Bad(f"a {_BITS[header.e_class]}-bit ELF for {_machine_name(machine)}, not RV64")
    if header.e_type not in (ET_EXEC, ET_DYN):
        name = _OTHER_TYPES.get(header.e_type, f"e_type {header.e_type}")
        raise _Bad(f"{name}: not an executable", "link it")
    return header


_BITS: Final = {1: 32, 2: 64}
_OTHER_TYPES: Final = {0: "ET_NONE", 1: "ET_REL", 4: "ET_CORE"}


def _machine_name(machine: int) -> str:
    from elftools.elf.enums import ENUM_E_MACHINE  # loads slowly

    names = [name for name, number in ENUM_E_MACHINE.items() if number == machine]
    return names[0] if names else f"machine {machine}"


def _program_headers(header: _Ehdr, data: bytes) -> list[_Phdr]:
    count, size = header.e_phnum, header.e_phentsize
    if not 0 < count <= _MAX_PHDRS or size != _PHDR_SIZE:
        raise _Bad(f"{count} program headers of {size} bytes")
    end = header.e_phoff + count * _PHDR_SIZE
    if end > len(data):
        raise _Bad("truncated: the program headers are beyond the end of the file")
    return [_Phdr._make(fields) for fields in _PHDR.iter_unpack(data[header.e_phoff : end])]


def _segment(h: _Phdr, data: bytes) -> Segment:
    where = f"the segment at {h.p_vaddr:#x}"
    if h.p_filesz > h.p_memsz or h.p_offset + h.p_filesz > len(data):
        raise _Bad(f"truncated: {where} is beyond the end of the file")
    if h.p_vaddr + h.p_memsz > _WINDOW:
        raise _Bad(f"{where} is outside the 47-bit user address space")
    if (h.p_vaddr - h.p_offset) % PAGE:
        raise _Bad(f"{where}: address and offset differ modulo the page size")
    prot = PROT_READ * bool(h.p_flags & 4) | PROT_WRITE * bool(h.p_flags & 2)
    prot |= PROT_EXEC * bool(h.p_flags & 1)
    return Segment(h.p_vaddr, h.p_memsz, h.p_offset, h.p_filesz, prot)


def _phdr_address(header: _Ehdr, loads: tuple[Segment, ...]) -> int:
    for s in loads:
        if s.offset <= header.e_phoff < s.offset + s.filesz:
            return header.e_phoff - s.offset + s.vaddr
    return 0


def _interpreter(headers: list[_Phdr], data: bytes) -> str | None:
    for h in headers:
        if h.p_type == PT_INTERP:
            name = data[h.p_offset : h.p_offset + h.p_filesz].split(b"\0")[0]
            return name.decode("utf-8", "replace")
    return None


def _build_id(headers: list[_Phdr], data: bytes) -> str | None:
    """The descriptor of NT_GNU_BUILD_ID, hex. A damaged note is ignored: the kernel does not read
    it either."""
    for h in headers:
        if h.p_type == PT_NOTE:
            for name, kind, descriptor in _notes(data[h.p_offset : h.p_offset + h.p_filesz]):
                if (name, kind) == (b"GNU\0", NT_GNU_BUILD_ID):
                    return descriptor.hex()
    return None


def _notes(data: bytes) -> Iterator[tuple[bytes, int, bytes]]:
    """The name, type and descriptor of each note, aligned to 4 as those of a build id are."""
    at = 0
    while at + _NHDR.size <= len(data):
        name, size, kind = _NHDR.unpack_from(data, at)
        start = at + _NHDR.size
        middle = start + (name + 3 & -4)
        if middle + size > len(data):
            return
        yield data[start : start + name], kind, data[middle : middle + size]
        at = middle + (size + 3 & -4)


def linux_version(vdso: bytes) -> str:
    """LINUX_VERSION_CODE in a vdso's note of "Linux"; empty if it has none. The note is searched
    for: its neighbours are aligned to 4 and to 8 in one segment."""
    at = vdso.find(_LINUX_NOTE)
    code = vdso[at + len(_LINUX_NOTE) :][:4]
    if at < 0 or len(code) < 4:
        return ""
    return f"{int.from_bytes(code[2:], 'little')}.{code[1]}.{code[0]}"


def _features(headers: list[_Phdr], data: bytes) -> int:
    """The features in the property note: an NT_GNU_PROPERTY_TYPE_0 with 8-aligned properties."""
    for h in headers:
        if h.p_type == PT_GNU_PROPERTY:
            note = data[h.p_offset : h.p_offset + h.p_filesz]
            at = 16  # after the header and the name "GNU"
            while at + 12 <= len(note):
                kind, size, value = struct.unpack_from("<III", note, at)
                if kind == GNU_PROPERTY_RISCV_FEATURE_1_AND and size == 4:
                    return int(value)
                at += 8 + (size + 7 & -8)
    return 0


def dynamic(data: bytes) -> tuple[list[str], list[str]]:
    """DT_NEEDED and the folders of DT_RUNPATH (or DT_RPATH) of an ELF file; none of a bad one."""
    try:
        headers = _program_headers(_header(data), data)
    except _Bad:
        return [], []
    tags = [
        (tag, value) for h in headers if h.p_type == PT_DYNAMIC for tag, value in _tags(h, data)
    ]
    strings = _from(dict(tags).get(DT_STRTAB, 0), headers, data)

    def texts(wanted: int) -> list[str]:
        found = (strings[value:].split(b"\0", 1)[0] for tag, value in tags if tag == wanted)
        return [text.decode("utf-8", "surrogateescape") for text in found]

    paths = texts(DT_RUNPATH) or texts(DT_RPATH)
    return texts(DT_NEEDED), paths[-1].split(":") if paths else []


def _tags(h: _Phdr, data: bytes) -> Iterator[tuple[int, int]]:
    part = data[h.p_offset : h.p_offset + h.p_filesz]
    for tag, value in _DYN.iter_unpack(part[: len(part) & -_DYN.size]):
        if tag == DT_NULL:
            return
        yield tag, value


def _from(address: int, headers: list[_Phdr], data: bytes) -> bytes:
    """The bytes of a segment from an address on."""
    for h in headers:
        if h.p_type == PT_LOAD and h.p_vaddr <= address < h.p_vaddr + h.p_filesz:
            return data[h.p_offset + address - h.p_vaddr : h.p_offset + h.p_filesz]
    return b""


class Stack(NamedTuple):
    """The initial stack: `data` goes to `sp`; the other fields are addresses in it."""

    sp: int
    data: bytes
    auxv: tuple[tuple[int, int], ...]
    args: tuple[int, int]
    envs: tuple[int, int]


def auxv(image: Image, bias: int, base: int, ids: int) -> list[tuple[int, int]]:
    """The auxiliary vector, in the order of create_elf_tables, after the vdso's; the stack adds
    AT_RANDOM and AT_EXECFN.

    base: load address of the interpreter, 0 without one. ids: uid and gid, real and effective.
    """
    return [
        (AT_MINSIGSTKSZ, MINSIGSTKSZ),
        (AT_HWCAP, _HWCAP),
        (AT_PAGESZ, PAGE),
        (AT_CLKTCK, 100),
        (AT_PHDR, image.phdr + bias if image.phdr else 0),
        (AT_PHENT, _PHDR_SIZE),
        (AT_PHNUM, image.phnum),
        (AT_BASE, base),
        (AT_FLAGS, 0),
        (AT_ENTRY, image.entry + bias),
        (AT_UID, ids),
        (AT_EUID, ids),
        (AT_GID, ids),
        (AT_EGID, ids),
        (AT_SECURE, 0),
    ]


def build_stack(
    top: int,
    argv: tuple[bytes, ...],
    env: tuple[bytes, ...],
    path: bytes,
    vector: list[tuple[int, int]],
    random: bytes,
) -> Stack:
    """From `top` down: a null word, the path, environment and argument strings, 16 random bytes,
    then (16-aligned) the vectors, down to argc at sp. random: 16 bytes."""
    strings = b"".join(s + b"\0" for s in (*argv, *env, path)) + bytes(8)
    at = start = top - len(strings)
    addresses = []
    for s in (*argv, *env, path):
        addresses.append(at)
        at += len(s) + 1
    random_at = (start - 16) & -16
    pairs = (*vector, (AT_RANDOM, random_at), (AT_EXECFN, addresses[-1]), (0, 0))
    n = len(argv)
    words = [n, *addresses[:n], 0, *addresses[n:-1], 0]
    words += [word for pair in pairs for word in pair]
    sp = (random_at - 8 * len(words)) & -16
    data = struct.pack(f"<{len(words)}Q", *words).ljust(random_at - sp, b"\0")
    data = (data + random).ljust(start - sp, b"\0") + strings
    args_end = addresses[n] if len(addresses) > n else start
    return Stack(sp, data, tuple(pairs), (start, args_end), (args_end, addresses[-1]))
