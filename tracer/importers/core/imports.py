"""A core dump becomes a run of one moment: what stood (0.n), the fault (1.0), the death (1.1)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shstk.schemas.revisions import DEFAULT_REVISION
from shstk.schemas.tables import REGISTERS
from shstk.schemas.uapi import PAGE, SEGV_ACCERR
from shstk.tracer import elf
from shstk.tracer.importers.core import fault
from shstk.tracer.importers.core.areas import Area, areas
from shstk.tracer.importers.core.elfcore import Core
from shstk.tracer.importers.core.files import VDSO, File, Files, find
from shstk.tracer.importers.core.notes import Notes, Thread, read
from shstk.tracer.importers.revision import expected
from shstk.tracer.importers.rows import Rows
from shstk.tracer.importers.seal import About, seal

_MM: Final = 1
_CORE_FLAG: Final = 0x80  # of a wait status
# Of an ordinary stack: what a run keeps below sp, where popped frames lie, and above it.
_BELOW: Final = 2 * PAGE
_ABOVE: Final = 4 << 20
_CODE: Final = 64  # bytes of code that are kept around an address


@dataclass(frozen=True)
class Imported:
    path: Path
    program: str
    pid: int
    signo: int
    threads: int
    warnings: tuple[str, ...]


def import_core(
    path: Path,
    out: Path,
    *,
    exe: Path | None = None,
    root: Path | None = None,
    kernel: str | None = None,
    force: bool = False,
) -> Imported:
    """Raises BadRecording, Damaged, BadProgram, UsageError, CannotWrite.

    exe: the program's file. root: the guest's file tree. kernel: the revision; None: as the vdso
    says.
    """
    core = Core(path)
    notes = read(core)
    files = find(core, notes, exe, root)
    told = [*_missing(core, notes), *files.told]
    version = _version(files)
    revision, said = _expected(kernel, version)
    first = notes.threads[0]
    word = _instruction(core, files, first.pc)
    astray = notes.code == SEGV_ACCERR and notes.address == first.pc
    astray = astray and fault.is_shadow_access(word)
    found = areas(core, notes, files, astray)
    rows = Rows()
    numbers = _files(rows, found, files)
    _areas(rows, found, numbers)
    _threads(rows, notes.threads)
    _memory(rows, core, notes, found, files)
    _death(rows, core, notes, word)
    killed = notes.signo != 0
    about = About(
        recorder="core",
        facts={"Linux": version} if version else {},
        observed={},
        kernel=revision,
        program=files.program,
        argv=_arguments(notes, files),
        auxv=tuple(notes.auxv.items()),
        first_tid=notes.pid or first.tid,
        ending="killed" if killed else "interrupted",
        exit_status=notes.signo | _CORE_FLAG if killed else None,
        warnings=(*told, *said),
    )
    used = (file.data for file in files.known.values() if file.number is not None)
    sealed = seal(out, rows, about, used, force)
    return Imported(
        sealed, files.program, about.first_tid, notes.signo, len(notes.threads), about.warnings
    )


def _missing(core: Core, notes: Notes) -> Iterator[str]:
    """What the core lacks."""
    if core.cut:
        lost = sum(s.due - s.size for s in core.segments)
        whole = sum(s.due for s in core.segments)
        yield (
            f"the core is cut off: {lost:,} of its {whole:,} bytes of memory are missing"
            " (ulimit -c, or a full disk)"
        )
    if all(t.cfi is None for t in notes.threads):
        yield (
            "no thread has a note NT_RISCV_USER_CFI: where the shadow stacks are is not known"
            " (a kernel without CONFIG_RISCV_USER_CFI, or before 7.0)"
        )
    if not notes.files:
        yield "the core has no note NT_FILE: which files were mapped is not known"


def _expected(kernel: str | None, version: str) -> tuple[str, tuple[str, ...]]:
    if kernel is None and not version:
        assumed = f"nothing in the core says which kernel it is: {DEFAULT_REVISION} is assumed"
        return DEFAULT_REVISION, (assumed,)
    return expected(kernel, f"Linux version {version}")


def _version(files: Files) -> str:
    """LINUX_VERSION_CODE, which is in a note of the vdso; the model's has none."""
    vdso = files.known.get(VDSO)
    return elf.linux_version(vdso.data) if vdso else ""


def _instruction(core: Core, files: Files, pc: int) -> int | None:
    data = core.read(pc, 4) or files.read(pc, 4)
    if len(data) < 2:
        return None
    size = 4 if data[0] & 3 == 3 else 2
    return int.from_bytes(data[:size], "little") if len(data) >= size else None


def _arguments(notes: Notes, files: Files) -> tuple[str, ...]:
    """As far as NT_PRPSINFO has them: 79 bytes, without quotes."""
    return tuple(notes.arguments.split()) or (files.program,)


# Rows


def _files(rows: Rows, found: Iterable[Area], files: Files) -> dict[str, int]:
    """The files that areas are of: rows of inputs and modules. Returns the inputs by path."""
    numbers: dict[str, int] = {}
    modules = 0
    for area in found:
        file = files.known.get(area.name or "")
        if file is None or area.offset is None:
            continue
        if file.number is None:
            file.number = numbers[file.path] = rows.file(rows.step(), file.path, file.data)
        if area.prot & 4:
            modules += 1
            rows.put(
                "modules",
                seq=rows.step(),
                mm=_MM,
                module=modules,
                path=file.path,
                input=file.number,
                bias=(area.segment.start - _virtual(file, area.offset)) % 2**64,
                build_id=file.image.build_id if file.image else None,
            )
    return numbers


def _virtual(file: File, offset: int) -> int:
    """The ELF address of the segment that is mapped from an offset on."""
    for s in file.image.code if file.image else ():
        if s.offset & -PAGE <= offset < s.offset + s.filesz:
            return offset - s.offset + s.vaddr
    return offset


def _areas(rows: Rows, found: Iterable[Area], numbers: dict[str, int]) -> None:
    for area in found:
        rows.put(
            "dump_areas",
            seq=rows.step(),
            mm=_MM,
            start=area.segment.start,
            length=area.segment.length,
            prot=area.prot,
            shadow_stack=area.sign,
            name=area.name,
            input=numbers.get(area.name or ""),
            offset=area.offset,
            dumped=area.segment.size,
        )


def _threads(rows: Rows, threads: Iterable[Thread]) -> None:
    for thread in threads:
        registers = dict(zip(REGISTERS, thread.registers[1:], strict=True))
        rows.put(
            "dump_threads",
            seq=rows.step(),
            tid=thread.tid,
            mm=_MM,
            pc=thread.pc,
            ssp=thread.ssp,
            cfi=thread.cfi,
            **registers,
        )


def _memory(rows: Rows, core: Core, notes: Notes, found: Iterable[Area], files: Files) -> None:
    """The shadow stacks, each thread's stack around sp, and code that no file has."""
    kept: dict[int, int] = {}  # first byte -> past the last
    for area in found:
        if area.sign:
            kept[area.segment.start] = area.segment.start + area.segment.size
    for thread in notes.threads:
        sp = thread.x(2)
        segment = core.at(sp) or core.at(sp - 1)
        if segment and segment.start not in kept:
            low = max(segment.start, (sp - _BELOW) & -PAGE)
            kept[low] = max(kept.get(low, 0), min(segment.start + segment.size, sp + _ABOVE))
        for address in (thread.pc, thread.x(1), thread.x(5)):
            low = max(address - _CODE, 0) & -_CODE
            if not files.read(address, 2) and core.read(low, 1):
                kept.setdefault(low, low + 2 * _CODE)
    end = 0
    for low, high in sorted(kept.items()):
        for start, length, data in _pieces(core, max(low, end), high):
            rows.put("dump_memory", seq=rows.step(), mm=_MM, addr=start, length=length, bytes=data)
        end = max(end, high)


def _pieces(core: Core, low: int, high: int) -> Iterator[tuple[int, int, bytes | None]]:
    """What the core has of a range: bytes, and zeros as their length alone."""
    begin, held = low, bytearray()
    zeros = 0
    while low < high:
        page = core.part(low, min(-low % PAGE or PAGE, high - low))
        blank = bool(page) and not any(page)
        if held and (blank or not page):
            yield begin, len(held), bytes(held)
            held = bytearray()
        if zeros and not blank:
            yield begin, zeros, None
            zeros = 0
        if not page:
            return
        if blank:
            begin = begin if zeros else low
            zeros += len(page)
        else:
            begin = begin if held else low
            held += page
        low += len(page)
    if held or zeros:
        yield begin, len(held) or zeros, bytes(held) or None


def _death(rows: Rows, core: Core, notes: Notes, word: int | None) -> None:
    """The fault, if one raised the signal, and the death by it."""
    if not notes.signo:
        return
    thread = notes.threads[0]
    at_ssp = core.word(thread.ssp) if thread.ssp is not None else None
    raised = fault.raised(notes, thread, word, at_ssp)
    seq = rows.instruction()
    if raised:
        rows.put(
            "faults",
            seq=seq,
            tid=thread.tid,
            mm=_MM,
            pc=thread.pc,
            word=word,
            cause=raised.cause,
            tval=raised.tval,
            address=raised.address,
            expected=raised.expected,
            found=raised.found,
            signo=notes.signo,
            code=notes.code,
            si_addr=notes.address,
        )
    rows.put(
        "signals",
        seq=rows.step(),
        tid=thread.tid,
        mm=_MM,
        kind="fatal",
        signo=notes.signo,
        code=notes.code,
        si_addr=notes.address,
        sender=notes.sender,
        ssp_before=thread.ssp,
    )
