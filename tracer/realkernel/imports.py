"""The plugin's events become a run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from shstk.schemas.errors import BadProgram, BadRecording
from shstk.schemas.extensions import CPUS, DEFAULT_CPU
from shstk.schemas.tables import DUMPED, TABLES
from shstk.schemas.uapi import RLIMITS
from shstk.tracer import elf
from shstk.tracer.importers.revision import expected
from shstk.tracer.importers.seal import About, seal
from shstk.tracer.realkernel.events import Events
from shstk.tracer.realkernel.importer.read import Recording, read
from shstk.tracer.realkernel.importer.state import File
from shstk.tracer.realkernel.table import BLIND

# The names of the table's notes; those of FACTS become facts of the manifest.
PROGRAM: Final = "program"
CPU: Final = "cpu"  # of extensions.CPUS
LIMIT: Final = "rlimit:"  # and a name -> the soft and the hard limit of the first process
FACTS: Final = ("banner", "image", "qemu", "firmware", "append")
# A word of the kernel's command line.
NOUSERCFI: Final = "riscv_nousercfi=all"
# What the plugin can't see.
_UNSEEN: Final = ("state_hash",)
_TRACED: Final = "cfi"
_UNOBSERVED: Final = ("tree", "typed", *DUMPED)


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is known of a recording beside its events. kernel: the revision whose rules are
    expected; None: what the banner says. ended: how the machine ended."""

    program: str | None = None  # path in the guest
    argv: tuple[str, ...] = ()
    environ: tuple[str, ...] = ()
    kernel: str | None = None
    files: Files | None = None
    facts: dict[str, str] = field(default_factory=dict)
    memory: int | None = None
    ended: str = "exited"
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Imported:
    path: Path
    ending: str
    exit_status: int | None
    icount: int
    warnings: tuple[str, ...]


class Files:
    """The files of the guest whose bytes are known: the program, and those below a root.

    The kernel tells only a mapped file's name. Where several files below the root have one name and
    other bytes, none of them is taken.
    """

    def __init__(self, root: Path | None = None) -> None:
        self._files: dict[str, File | None] = {}
        self._below: dict[str, list[Path]] = {}
        self._root = root
        for path in _regular(root) if root else ():
            self._below.setdefault(path.name, []).append(path)

    def add(self, path: str, data: bytes) -> None:
        self._files[path.rpartition("/")[2]] = _file(path, data)

    def get(self, name: str) -> File | None:
        if name not in self._files:
            self._files[name] = self._look(name)
        return self._files[name]

    def _look(self, name: str) -> File | None:
        contents = {path.read_bytes(): path for path in self._below.get(name, ())}
        if len(contents) != 1 or self._root is None:
            return None
        ((data, path),) = contents.items()
        return _file("/" + os.fsdecode(os.path.relpath(path, self._root)), data)

    def used(self) -> Iterator[bytes]:
        """The bytes of those that the run refers to."""
        return (file.data for file in self._files.values() if file and file.number is not None)


def program_file(path: Path) -> bytes:
    """The bytes of a program. Raises BadProgram."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadProgram(f"{path}: {error.strerror}", "give the path of an ELF file") from error


def _file(path: str, data: bytes) -> File:
    image = None
    with suppress(BadProgram):
        image = elf.parse(data, path)
    return File(path, data, image)


def _regular(root: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(root):
        for name in sorted(names):
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink():
                yield path


def import_events(
    path: Path,
    out: Path,
    known: Known,
    force: bool = False,
    on_output: Callable[[int, bytes], None] | None = None,
) -> Imported:
    """Raises BadRecording, NeverStarted, UsageError, CannotWrite."""
    events = Events(path)
    notes = events.table.notes
    files = known.files or Files()
    program = known.program or notes.get(PROGRAM)
    recording = read(events, program.rpartition("/")[2] if program else None, files)
    facts = {key: notes[key] for key in FACTS if key in notes} | known.facts
    # Every table has a banner.
    kernel, warnings = expected(known.kernel, facts.get("banner", "there is none"))
    ending, status = _ending(recording, known.ended)
    guest = program or f"/{recording.name}"
    about = About(
        recorder="qemu",
        facts=facts,
        smp=events.harts,
        observed=_observed(),
        blind={k.removeprefix(BLIND): why for k, why in notes.items() if k.startswith(BLIND)},
        kernel=kernel,
        program=guest,
        argv=known.argv or (guest,),
        environ=known.environ,
        rlimits=_limits(notes),
        memory=known.memory,
        cpu=_cpu(notes),
        nousercfi=NOUSERCFI in facts.get("append", "").split(),
        first_tid=recording.first_tid,
        ending=ending,
        exit_status=status,
        warnings=(*known.warnings, *warnings),
    )
    rows = recording.story.rows
    for row in rows.of("output") if on_output else ():
        assert on_output is not None
        on_output(row["fd"], row["bytes"])
    sealed = seal(out, rows, about, files.used(), force)
    return Imported(sealed, ending, status, rows.icount, about.warnings)


def _cpu(notes: Mapping[str, str]) -> str:
    """Raises BadRecording."""
    cpu = notes.get(CPU, DEFAULT_CPU)
    if cpu not in CPUS:
        raise BadRecording(f"the events' table is damaged: {CPU} {cpu}")
    return cpu


def _limits(notes: Mapping[str, str]) -> dict[str, tuple[int, int]]:
    """Raises BadRecording."""
    found = {}
    for key, value in notes.items():
        if key.startswith(LIMIT) and (name := key.removeprefix(LIMIT)) in RLIMITS:
            soft, _, hard = value.partition(" ")
            if not soft.isdigit() or not hard.isdigit():
                raise BadRecording(f"the events' table is damaged: {key} {value}")
            found[name] = (int(soft), int(hard))
    return found


def _observed() -> dict[str, tuple[str, ...]]:
    return {
        name: tuple(column for column in table.names if column not in _UNSEEN)
        for name, table in TABLES.items()
        if table.trace in (None, _TRACED) and name not in _UNOBSERVED
    }


def _ending(recording: Recording, ended: str) -> tuple[str, int | None]:
    status = recording.exit_status
    if ended == "exited" and (status is None or not recording.whole):
        return "interrupted", status
    if ended != "exited":
        return ended, status
    assert status is not None
    return ("killed" if status & 0x7F else "exited"), status
