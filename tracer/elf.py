"""ELF files: the data that the kernel's loader uses, and the initial stack of a program.

Executables and shared libraries of RV64. pyelftools parses them; the values that it returns are
validated here.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import Any, Final

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

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

_PHDR_SIZE: Final = 56
_MAX_PHDRS: Final = 65536 // _PHDR_SIZE
_WINDOW: Final = 1 << 47
ET_DYN_BASE: Final = _WINDOW // 3 * 2 & -PAGE  # ELF_ET_DYN_BASE, without randomisation

AT_PHDR, AT_PHENT, AT_PHNUM, AT_PAGESZ, AT_BASE, AT_FLAGS, AT_ENTRY = 3, 4, 5, 6, 7, 8, 9
AT_UID, AT_EUID, AT_GID, AT_EGID, AT_HWCAP, AT_CLKTCK, AT_SECURE = 11, 12, 13, 14, 16, 17, 23
AT_RANDOM, AT_EXECFN, AT_SYSINFO_EHDR, AT_MINSIGSTKSZ = 25, 31, 33, 51

_LINUX_NOTE: Final = struct.pack("<III8s", 6, 4, 0, b"Linux")
_HWCAP: Final = sum(1 << ord(name) - ord("a") for name in EXTENSIONS if len(name) == 1)


@dataclass(frozen=True)
class Segment:
    """A PT_LOAD."""

    vaddr: int
    memsz: int
    offset: int
    filesz: int
    prot: int


@dataclass(frozen=True)
class Image:
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


def parse(data: bytes, path: str) -> Image:
    """Raises BadProgram, naming `path`."""
    try:
        return _image(ELFFile(io.BytesIO(data)), data)
    except _Bad as error:
        raise BadProgram(f"{path}: {error}", error.hint) from None
    except (ELFError, ValueError, KeyError, UnicodeDecodeError, struct.error, OSError) as error:
        raise BadProgram(f"{path}: not a valid ELF file ({error})", _HINT) from None


class _Bad(Exception):
    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.hint = hint or _HINT


_HINT: Final = "give an RV64 Linux executable"


def _image(elf: Any, data: bytes) -> Image:
    header = elf.header
    if elf.elfclass != 64 or not elf.little_endian or header.e_machine != "EM_RISCV":
        raise _Bad(f"a {elf.elfclass}-bit ELF for {header.e_machine}, not RV64")
    if header.e_type not in ("ET_EXEC", "ET_DYN"):
        raise _Bad(f"{header.e_type}: not an executable", "link it")
    if not 0 < header.e_phnum <= _MAX_PHDRS or header.e_phentsize != _PHDR_SIZE:
        raise _Bad(f"{header.e_phnum} program headers of {header.e_phentsize} bytes")
    if header.e_phoff + header.e_phnum * _PHDR_SIZE > len(data):
        raise _Bad("truncated: the program headers are beyond the end of the file")
    headers = [segment.header for segment in elf.iter_segments()]
    loads = tuple(_segment(h, data) for h in headers if h.p_type == "PT_LOAD" and h.p_memsz)
    if not loads:
        raise _Bad("nothing to load: no PT_LOAD segment")
    pie = header.e_type == "ET_DYN"
    if not pie and min(s.vaddr for s in loads) < PAGE:
        raise _Bad("a segment in page 0, which Linux does not map")
    return Image(
        pie=pie,
        entry=header.e_entry,
        segments=loads,
        phdr=_phdr_address(header, loads),
        phnum=header.e_phnum,
        align=max(h.p_align for h in headers if h.p_type == "PT_LOAD"),
        interpreter=_interpreter(headers, data),
        build_id=_build_id(elf),
        features=_features(headers, data),
        exec_stack=any(h.p_type == "PT_GNU_STACK" and h.p_flags & 1 for h in headers),
    )


def _segment(h: Any, data: bytes) -> Segment:
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


def _phdr_address(header: Any, loads: tuple[Segment, ...]) -> int:
    for s in loads:
        if s.offset <= header.e_phoff < s.offset + s.filesz:
            return int(header.e_phoff - s.offset + s.vaddr)
    return 0


def _interpreter(headers: list[Any], data: bytes) -> str | None:
    for h in headers:
        if h.p_type == "PT_INTERP":
            name = data[h.p_offset : h.p_offset + h.p_filesz].split(b"\0")[0]
            return name.decode("utf-8", "replace")
    return None


def _build_id(elf: Any) -> str | None:
    """The descriptor of NT_GNU_BUILD_ID, hex. A damaged note is ignored: the kernel does not read
    it either."""
    try:
        for segment in elf.iter_segments("PT_NOTE"):
            for note in segment.iter_notes():
                if note["n_type"] == "NT_GNU_BUILD_ID":
                    return str(note["n_desc"])
    except (ELFError, ValueError, KeyError, UnicodeDecodeError, struct.error, TypeError):
        return None
    return None


def linux_version(vdso: bytes) -> str:
    """LINUX_VERSION_CODE in a vdso's note of "Linux"; empty if it has none. The note is searched
    for: its neighbours are aligned to 4 and to 8 in one segment."""
    at = vdso.find(_LINUX_NOTE)
    code = vdso[at + len(_LINUX_NOTE) :][:4]
    if at < 0 or len(code) < 4:
        return ""
    return f"{int.from_bytes(code[2:], 'little')}.{code[1]}.{code[0]}"


def _features(headers: list[Any], data: bytes) -> int:
    """The features in the property note: an NT_GNU_PROPERTY_TYPE_0 with 8-aligned properties."""
    for h in headers:
        if h.p_type == "PT_GNU_PROPERTY":
            note = data[h.p_offset : h.p_offset + h.p_filesz]
            at = 16  # after the header and the name "GNU"
            while at + 12 <= len(note):
                kind, size, value = struct.unpack_from("<III", note, at)
                if kind == GNU_PROPERTY_RISCV_FEATURE_1_AND and size == 4:
                    return int(value)
                at += 8 + (size + 7 & -8)
    return 0


def dynamic(data: bytes) -> tuple[list[str], list[str]]:
    """DT_NEEDED and the folders of DT_RUNPATH (or DT_RPATH) of a valid ELF file."""
    needed: list[str] = []
    runpath: list[str] = []
    try:
        segments: Any = ELFFile(io.BytesIO(data)).iter_segments("PT_DYNAMIC")
        for segment in segments:
            for tag in segment.iter_tags():
                if tag.entry.d_tag == "DT_NEEDED":
                    needed.append(tag.needed)
                elif tag.entry.d_tag == "DT_RUNPATH":
                    runpath = tag.runpath.split(":")
                elif tag.entry.d_tag == "DT_RPATH" and not runpath:
                    runpath = tag.rpath.split(":")
    except (ELFError, ValueError, KeyError, UnicodeDecodeError, struct.error, AttributeError):
        return [], []
    return needed, runpath


@dataclass(frozen=True)
class Stack:
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
