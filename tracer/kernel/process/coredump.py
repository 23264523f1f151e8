"""Core dumps: the file `core` of a process that a signal kills (fs/coredump.c, fs/binfmt_elf.c).

As under core_pattern "core" and coredump_filter 0x33. What is written on private file pages is not
known, so writable ones are dumped whole. There is no note NT_RISCV_TAGGED_ADDR_CTRL.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import (
    NT_AUXV,
    NT_FILE,
    NT_PRFPREG,
    NT_PRPSINFO,
    NT_PRSTATUS,
    NT_RISCV_USER_CFI,
    NT_RISCV_VECTOR,
    NT_SIGINFO,
    O_CREAT,
    O_EXCL,
    O_NOFOLLOW,
    O_WRONLY,
    PAGE,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
)
from shstk.tracer.kernel.arch import regsets, shstk
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.fs import opening, pathcalls
from shstk.tracer.kernel.fs.regular import RegularFile, resize
from shstk.tracer.kernel.signal import siginfo, signals
from shstk.tracer.kernel.task import DEAD, UID, ZOMBIE, Siginfo, Task
from shstk.tracer.kernel.tree.hosttree import raw
from shstk.tracer.kernel.tree.sandbox import AT_FDCWD, find

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.mm.mm import Mm
    from shstk.tracer.kernel.mm.vma import Vma

NAME: Final = "core"
_ET_CORE, _EM_RISCV, _PT_LOAD, _PT_NOTE = 4, 243, 1, 4
_EHDR: Final = struct.Struct("<16sHHIQQQIHHHHHH")
_PHDR: Final = struct.Struct("<IIQQQQQQ")
# struct elf_prstatus: signo, code, errno; cursig; sigpend, sighold; pid, ppid, pgrp, sid; four
# times; the registers; fpvalid.
_PRSTATUS: Final = struct.Struct("<3ih2xQQ4i64x256si4x")
# struct elf_prpsinfo: state, sname, zomb, nice; flag; uid, gid, pid, ppid, pgrp, sid; the name, the
# arguments.
_PRPSINFO: Final = struct.Struct("<bcbb4xQIIiiii16s80s")
_PIECE: Final = 16 * PAGE


def write(k: Kernel, t: Task, info: Siginfo) -> bool:
    """do_coredump(): whether a core was written, though RLIMIT_CORE may have cut it off."""
    limit = t.rlimit("CORE")
    if limit < PAGE or t.process.dumpable != 1 or t.mm is None:
        return False
    try:
        if find(k, t, AT_FDCWD, NAME, follow=False).inode is not None:
            pathcalls.unlink(k, t, AT_FDCWD, NAME)
        flags = O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW
        file = opening.open_at(k, t, AT_FDCWD, NAME, flags, 0o600)
    except Errno:
        return False
    assert isinstance(file, RegularFile)
    file.refs += 1
    try:
        _emit(k, t, file, info, limit)
    except Errno:
        pass  # no room: as much as fits
    finally:
        file.put(k)
        k.sandbox.answers.report(k)
    return True


def _emit(k: Kernel, t: Task, file: RegularFile, info: Siginfo, limit: int) -> None:
    """Holes count for the length of the file, but not for RLIMIT_CORE. Errno ENOSPC, EFBIG."""
    assert t.mm is not None
    mm, areas = t.mm, list(t.mm.vmas)
    notes = b"".join(_notes(k, t, info))
    sizes = [_dumped(mm, area) for area in areas]
    at = _EHDR.size + _PHDR.size * (1 + len(areas))
    headers = [_PHDR.pack(_PT_NOTE, 0, at, 0, 0, len(notes), 0, 4)]
    start = end = -(-(at + len(notes)) // PAGE) * PAGE
    for area, size in zip(areas, sizes, strict=True):
        place = (end, area.start, 0, size, area.length)
        headers.append(_PHDR.pack(_PT_LOAD, _flags(area), *place, PAGE))
        end += size
    head = b"".join((_ehdr(len(headers)), *headers, notes))
    pieces: Iterator[tuple[int, bytes]] = _contents(mm, areas, sizes, start)
    for place_at, data in ((0, head), *pieces):
        if len(data) > limit:
            return
        limit -= len(data)
        file.write_at(k, t, data, place_at)
    if file.inode.size < end:
        resize(k, file.regular, end)


def _ehdr(segments: int) -> bytes:
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    sizes = (_EHDR.size, _PHDR.size, segments, 0, 0, 0)
    return _EHDR.pack(ident, _ET_CORE, _EM_RISCV, 1, 0, _EHDR.size, 0, 0, *sizes)


def _flags(area: Vma) -> int:
    """PF_R, PF_W, PF_X."""
    rights = ((PROT_READ, 4), (PROT_WRITE, 2), (PROT_EXEC, 1))
    return sum(flag for right, flag in rights if area.prot & right)


def _dumped(mm: Mm, area: Vma) -> int:
    """vma_dump_size(): anonymous memory, written file pages, and the headers of ELF files."""
    if "dd" in area.flags:  # MADV_DONTDUMP
        return 0
    if area.file is None:
        return area.length
    if area.shared:
        return 0 if area.file.inode.nlink else area.length
    if area.prot & PROT_WRITE:
        return area.length
    is_elf = area.offset == 0 and mm.space.read(area.start, 4) == b"\x7fELF"
    return PAGE if is_elf else 0


def _contents(
    mm: Mm, areas: list[Vma], sizes: list[int], start: int
) -> Iterator[tuple[int, bytes]]:
    """The bytes that are not zero, with their places in the file; one page or more at a time."""
    for area, size in zip(areas, sizes, strict=True):
        for at in range(0, size, _PIECE):
            length = min(_PIECE, size - at)
            if area.file is not None or mm.space.resident(area.start + at, length):
                for page in range(at, at + length, PAGE):
                    data = mm.space.read(area.start + page, PAGE, force=True)
                    if data is not None and any(data):
                        yield start + page, data
        start += size


# Notes.


def _notes(k: Kernel, t: Task, info: Siginfo) -> Iterator[bytes]:
    """Of the thread that got the signal, with those of the process; then of the others."""
    others = [o for o in t.process.tasks if o is not t and o.state not in (ZOMBIE, DEAD)]
    for thread in (t, *others):
        yield _note("CORE", NT_PRSTATUS, _prstatus(thread, info))
        if thread is t:
            assert t.mm is not None
            yield _note("CORE", NT_PRPSINFO, _prpsinfo(t))
            yield _note("CORE", NT_SIGINFO, siginfo.pack(info))
            yield _note("CORE", NT_AUXV, t.mm.auxv)
            yield _note("CORE", NT_FILE, _files(t.mm))
        yield _note("CORE", NT_PRFPREG, regsets.REGSETS[NT_PRFPREG].get(thread))
        if thread.hart.v_used:
            yield _note("LINUX", NT_RISCV_VECTOR, regsets.REGSETS[NT_RISCV_VECTOR].get(thread))
        if shstk.regset_usable(k):
            cfi = regsets.REGSETS[NT_RISCV_USER_CFI].get(thread)
            yield _note("LINUX", NT_RISCV_USER_CFI, cfi)


def _note(name: str, kind: int, data: bytes) -> bytes:
    owner = name.encode() + b"\0"
    padded = owner.ljust(-(-len(owner) // 4) * 4, b"\0")
    head = struct.pack("<III", len(owner), len(data), kind)
    return head + padded + data.ljust(-(-len(data) // 4) * 4, b"\0")


def _prstatus(t: Task, info: Siginfo) -> bytes:
    process = t.process
    pending, held = signals.pending_set((t,)), t.sigmask
    ids = (t.tid, process.ppid, process.pgid, process.sid)
    registers = regsets.REGSETS[NT_PRSTATUS].get(t)
    head = (info.signo, info.code, 0, info.signo)
    return _PRSTATUS.pack(*head, pending, held, *ids, registers, 1)


def _prpsinfo(t: Task) -> bytes:
    process = t.process
    ids = (UID, UID, process.pid, process.ppid, process.pgid, process.sid)
    arguments = b" ".join(process.argv)[:79]
    return _PRPSINFO.pack(0, b"R", 0, 0, 0, *ids, raw(t.comm), arguments)


def _files(mm: Mm) -> bytes:
    """NT_FILE: count, page size, then start, end and page offset of each area; then the names."""
    areas = [area for area in mm.vmas if area.file is not None]
    numbers = [n for area in areas for n in (area.start, area.end, area.offset // PAGE)]
    names = b"".join(raw(area.file.path) + b"\0" for area in areas if area.file is not None)
    return struct.pack(f"<QQ{len(numbers)}Q", len(areas), PAGE, *numbers) + names
