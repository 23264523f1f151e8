"""A commit log becomes a run: a hart is a task, and what translates addresses an address space."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from shstk.schemas.errors import BadProgram, BadRecording
from shstk.schemas.revisions import DEFAULT_REVISION
from shstk.schemas.tables import TABLES
from shstk.schemas.uapi import MAP_PRIVATE, PAGE
from shstk.tracer import elf
from shstk.tracer.importers.lines import Lines
from shstk.tracer.importers.seal import About
from shstk.tracer.importers.spike.hart import RESET, Hart
from shstk.tracer.importers.spike.memory import Space, Words
from shstk.tracer.importers.spike.text import ECALLS, Commit, Fetch, Others, Trap, events
from shstk.tracer.importers.stream import Stream

_NO_TRAPS: Final = "the log has no exceptions: record it with -l"
_OBSERVED: Final = {
    "cfi": TABLES["cfi"].names,
    "insn": TABLES["insn"].names,
    "faults": ("seq", "tid", "mm", "pc", "word", "cause", "tval", "address"),
}


@dataclass(frozen=True)
class Imported:
    path: Path
    instructions: int
    events: int  # rows of cfi
    warnings: tuple[str, ...]


@dataclass
class _Program:
    """The ELF file that names addresses."""

    path: str
    data: bytes
    image: elf.Image
    mapped: set[int] = field(default_factory=set)  # the address spaces that execute it

    def executes(self, pc: int, word: int) -> bool:
        """Whether it has this instruction at this address."""
        for segment in self.image.code:
            if segment.vaddr <= pc < segment.vaddr + segment.filesz:
                at = segment.offset + pc - segment.vaddr
                size = 4 if word & 3 == 3 else 2
                return int.from_bytes(self.data[at : at + size], "little") == word
        return False


def program_of(path: Path) -> _Program:
    """Raises BadProgram."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadProgram(f"{path}: {error.strerror or error}") from error
    image = elf.parse(data, str(path))
    if image.pie:
        raise BadProgram(
            f"{path} is position-independent: the log does not tell where it was loaded"
        )
    return _Program(f"/{path.name}", data, image)


def import_log(
    path: Path,
    out: Path,
    *,
    executable: Path | None = None,
    force: bool = False,
) -> Imported:
    """Raises BadRecording, BadProgram, CannotWrite.

    executable: the ELF file that ran, to name addresses.
    """
    program = program_of(executable) if executable else None
    lines, others = Lines(path), Others()
    with Stream(out, force) as rows:
        log = _Log(rows, program)
        for event in events(lines, path, others):
            log.take(event)
        if not log.harts:
            raise BadRecording(
                f"{path}: no instruction in it",
                "record it with `spike --log-commits --log=FILE …`; see docs/importing.md",
            )
        if not rows.icount:
            raise BadRecording(
                f"{path}: nothing in the log tells what ssp is",
                "begin the log at reset, or before an instruction that sets ssp",
            )
        warnings = tuple(_warnings(log, lines, others))
        about = About(
            recorder="spike",
            smp=max(len(log.harts), 1),
            observed=_OBSERVED,
            blind={} if log.verbose else {"faults": _NO_TRAPS},
            kernel=DEFAULT_REVISION,  # no rule that a log can be judged by depends on it
            program=program.path if program else "/unknown",
            argv=(program.path if program else "unknown",),
            first_tid=1,
            ending="interrupted",
            exit_status=None,
            warnings=warnings,
        )
        sealed = rows.seal(about, [program.data] if program and program.mapped else ())
    return Imported(sealed, rows.icount, rows.counts["cfi"], warnings)


class _Log:
    def __init__(self, rows: Stream, program: _Program | None) -> None:
        self.harts: dict[int, Hart] = {}
        self.verbose = False  # -l: exceptions are printed
        self.early = 0  # instructions of a hart before its ssp was known
        self._rows = rows
        self._words = Words()
        self._spaces: dict[Space, int] = {}
        self.program = program

    def take(self, e: Commit | Fetch | Trap) -> None:
        hart = self.harts.get(e.hart)
        if hart is None:
            hart = self.harts[e.hart] = Hart(self._words)
            if isinstance(e, Commit | Fetch) and e.pc == RESET:
                hart.reset()
        if isinstance(e, Fetch):
            hart.fetched, self.verbose = (e.pc, e.word), True
        elif isinstance(e, Trap):
            self.verbose = True
            if e.cause is not None:
                self._trapped(hart, e)
        else:
            self._retired(hart, e)

    def _mm(self, space: Space) -> int:
        return self._spaces.setdefault(space, len(self._spaces) + 1)

    def _retired(self, hart: Hart, e: Commit) -> None:
        mm = self._mm(hart.space(e.mode))
        cfi, insn = hart.retired(e)
        if insn is None:
            self.early += 1
            return
        seq, tid = self._rows.instruction(), e.hart + 1
        if cfi:
            self._rows.put("cfi", seq=seq, tid=tid, mm=mm, **cfi)
        self._rows.put("insn", seq=seq, tid=tid, mm=mm, **insn)
        program = self.program
        if program and mm not in program.mapped and program.executes(e.pc, e.word):
            program.mapped.add(mm)
            self._map(program, tid, mm)

    def _trapped(self, hart: Hart, e: Trap) -> None:
        mm = self._mm(hart.space(hart.mode or 0))
        cfi, fault = hart.trapped(e)
        if hart.ssp is None:
            self.early += 1
            return
        seq, tid = self._rows.instruction(), e.hart + 1
        if cfi:
            self._rows.put("cfi", seq=seq, tid=tid, mm=mm, **cfi)
        if e.cause not in ECALLS:
            self._rows.put("faults", seq=self._rows.step(), tid=tid, mm=mm, **fault)

    def _map(self, program: _Program, tid: int, mm: int) -> None:
        """Rows that let addresses be named. No recorder observed them, and no rule reads them."""
        place = {"tid": tid, "mm": mm}
        if len(program.mapped) == 1:
            seq = self._rows.step()
            self._rows.put(
                "inputs",
                seq=seq,
                **place,
                input=1,
                guest_path=program.path,
                sha256=hashlib.sha256(program.data).hexdigest(),
                size=len(program.data),
                mode=0o100755,
                first_seq=seq,
            )
            self._rows.put(
                "modules",
                seq=self._rows.step(),
                **place,
                module=1,
                path=program.path,
                input=1,
                bias=0,
                build_id=program.image.build_id,
            )
        for segment in program.image.segments:
            start = segment.vaddr & -PAGE
            self._rows.put(
                "mappings",
                seq=self._rows.step(),
                **place,
                op="map",
                hint=start,
                start=start,
                length=(segment.vaddr + segment.memsz - start + PAGE - 1) & -PAGE,
                prot=segment.prot,
                flags=MAP_PRIVATE,
                shadow_stack=False,
                input=1,
                offset=segment.offset & -PAGE,
                ret=start,
            )


def _warnings(log: _Log, lines: Lines, others: Others) -> list[str]:
    told = []
    if log.early:
        told.append(f"{log.early} instructions were left out: what ssp was then is not known")
    if others.count:
        told.append(f"{others.count} lines are no part of the log (the first: {others.first})")
    if lines.cut:
        told.append("the last line is incomplete and was left out")
    if log.program and not log.program.mapped:
        told.append(f"{log.program.path} names no address: the log has none of its instructions")
    return told
