"""A program recorded on a real kernel: prepared, booted in QEMU, imported."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shstk.schemas.errors import BadProgram, CannotWrite, UsageError
from shstk.schemas.extensions import optional_of
from shstk.schemas.uapi import RLIMITS
from shstk.tracer import elf
from shstk.tracer.guest import RunResult
from shstk.tracer.importers.revision import expected
from shstk.tracer.kernel.boot import initial_limits
from shstk.tracer.options import check_cpu
from shstk.tracer.realkernel import initramfs, qemu, table
from shstk.tracer.realkernel.importer.read import NeverStarted
from shstk.tracer.realkernel.imports import (
    CPU,
    LIMIT,
    NOUSERCFI,
    PROGRAM,
    Files,
    Known,
    import_events,
    program_file,
)
from shstk.tracer.realkernel.initramfs import INIT, Job
from shstk.tracer.realkernel.options import RealOptions
from shstk.tracer.realkernel.prepare import Prepared, prepare

_SHADOW_STACKS: Final = "arch_set_shadow_stack_status"
_ELF: Final = b"\x7fELF"
_LEAST_MEMORY: Final = 512 << 20
_APPEND: Final = "console=ttyS0 quiet loglevel=1 panic=-1 nokaslr rdinit="
# The kernel derives these from the machine's memory.
_BY_MEMORY: Final = ("NPROC", "SIGPENDING")
_FOLDERS: Final = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
_SHOWN: Final = 5  # lines of the console, if the program did not start


@dataclass(frozen=True)
class RealResult(RunResult):
    path: Path

    def describe(self) -> str:
        return "stopped at --events-limit" if self.ending == "limit" else super().describe()


def record(options: RealOptions) -> RealResult:
    """Raises UsageError, BadProgram, BadImage, NoQemu, NoCompiler, BadRecording, NeverStarted,
    CannotWrite."""
    found = qemu.find(options.qemu)
    firmware = qemu.find_firmware(options.firmware)
    if options.smp < 1:
        raise UsageError(f"--smp {options.smp}: a machine has at least one hart")
    check_cpu(options.cpu)
    guest = _placed(options)
    prepared = prepare(options.files)
    expected(options.kernel, prepared.banner)
    out = options.out or Path(Path(options.program).name).with_suffix(".run")
    try:
        with tempfile.TemporaryDirectory(prefix="shstk-") as work:
            return _record(options, guest, prepared, found, firmware, Path(work), out)
    except OSError as error:
        raise CannotWrite(f"{error.filename}: {error.strerror}") from error


@dataclass(frozen=True)
class _Guest:
    """path: of the program in the guest. data: its bytes, unless it lies in the root."""

    path: str
    argv: tuple[str, ...]
    data: bytes
    own: bool


def _placed(options: RealOptions) -> _Guest:
    """The program in the root, or else the host's, in the guest's /. Raises BadProgram."""
    guest = _found(options)
    if guest.data.startswith(_ELF):
        elf.parse(guest.data, options.program)  # before a kernel is booted in vain
    return guest


def _found(options: RealOptions) -> _Guest:
    program = options.program
    for place in _inside(options):
        assert options.root is not None
        host = options.root / place.lstrip("/")
        if host.is_file():
            bare = "/" not in program and place != f"/{program}"
            return _Guest(
                place, (program if bare else place, *options.argv), program_file(host), False
            )
    path = f"/{os.path.basename(program)}"
    return _Guest(path, (path, *options.argv), program_file(Path(program)), True)


def _inside(options: RealOptions) -> Iterator[str]:
    if options.root is None:
        return
    if not options.root.is_dir():
        raise BadProgram(f"--root {options.root}: not a directory")
    yield "/" + options.program.lstrip("/")
    if "/" not in options.program:
        for folder in (options.env or {}).get("PATH", _FOLDERS).split(":"):
            yield f"{folder}/{options.program}"


def _record(
    options: RealOptions,
    guest: _Guest,
    prepared: Prepared,
    found: qemu.Qemu,
    firmware: Path | None,
    work: Path,
    out: Path,
) -> RealResult:
    environ = tuple(f"{key}={value}" for key, value in (options.env or {}).items())
    job = Job(
        guest.path,
        guest.argv,
        environ,
        cwd=options.cwd,
        stdin=options.stdin,
        uid=options.uid,
        pids_max=options.pids_max,
    )
    own = [(guest.path, guest.data)] if guest.own else []
    archive = initramfs.build(job, own, options.root, options.binds)
    off = NOUSERCFI if options.nousercfi else ""
    append = " ".join(filter(None, (_APPEND + INIT, off, options.append)))
    (work / "Image").write_bytes(prepared.image)
    (work / "initrd").write_bytes(archive)
    limits = {name: initial_limits({})[name] for name in RLIMITS if name not in _BY_MEMORY}
    notes = {PROGRAM: guest.path, CPU: options.cpu, "qemu": found.name, "append": append}
    notes |= {LIMIT + name: f"{soft} {hard}" for name, (soft, hard) in limits.items()}
    text = table.with_notes(prepared.table, notes)
    if "zicfiss" not in optional_of(options.cpu):
        text += table.WITHOUT_SSP + "\n"
    (work / "table").write_text(text)
    memory = options.memory or max(_LEAST_MEMORY, 3 * len(archive) + (_LEAST_MEMORY >> 1))
    machine = qemu.Machine(
        kernel=work / "Image",
        initrd=work / "initrd",
        append=append,
        firmware=firmware,
        smp=options.smp,
        cpu=options.cpu,
        memory=memory,
        seed=options.seed,
    )
    events = options.events or work / "events"
    booted = qemu.boot(found, machine, work / "table", events, _Watch(options, events))
    if booted.ended == "interrupted" and not events.exists():
        raise KeyboardInterrupt
    files = Files(options.root)
    files.add(guest.path, guest.data)
    known = Known(
        program=guest.path,
        argv=guest.argv,
        environ=environ,
        kernel=options.kernel,
        files=files,
        facts={"firmware": booted.firmware} if booted.firmware else {},
        memory=memory,
        ended=booted.ended,
        warnings=tuple(_warnings(options, prepared)),
    )
    if options.on_progress:
        options.on_progress(f"importing {events.stat().st_size / 1e6:.0f} MB of events")
    try:
        made = import_events(events, out, known, options.force, options.on_output)
    except NeverStarted as error:
        if booted.ended == "interrupted":
            raise KeyboardInterrupt from None
        what, hint = error.what, error.hint
        if booted.ended in _TOO_SOON:
            what = f"{_TOO_SOON[booted.ended]} ended the machine before {guest.path} was started"
            hint = "give it more, or look at the console's output"
        shown = "\n  ".join(booted.console.strip().splitlines()[-_SHOWN:])
        raise NeverStarted(what, f"{hint}\n  the console's end:\n  {shown}") from None
    return RealResult(made.ending, made.exit_status, made.icount, made.warnings, path=made.path)


def _warnings(options: RealOptions, prepared: Prepared) -> Iterator[str]:
    if _SHADOW_STACKS not in prepared.symbols:
        yield "the kernel has no shadow stacks: it was built without CONFIG_RISCV_USER_CFI"
    if options.smp > 1:
        yield "with more than one hart, no two recordings are alike"


_TOO_SOON: Final = {"timeout": "--timeout", "limit": "--events-limit"}


class _Watch:
    """Watches over QEMU: called again and again, it tells the user how far it is and returns an
    ending once QEMU is to be stopped."""

    def __init__(self, options: RealOptions, events: Path) -> None:
        self._options = options
        self._events = events
        self._begin = time.monotonic()

    def __call__(self) -> str | None:
        seconds, size = time.monotonic() - self._begin, self._size()
        if self._options.on_progress:
            self._options.on_progress(f"QEMU runs: {seconds:.0f} s, {size / 1e6:.0f} MB of events")
        if self._options.interrupted and self._options.interrupted():
            return "interrupted"
        if size >= self._options.events_limit:
            return "limit"
        return "timeout" if seconds >= self._options.timeout else None

    def _size(self) -> int:
        try:
            return self._events.stat().st_size
        except FileNotFoundError:  # QEMU is about to make it
            return 0
