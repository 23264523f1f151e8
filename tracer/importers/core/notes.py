"""The notes of a core dump: the threads, their registers, the signal, the mapped files.

struct elf_prstatus, elf_prpsinfo, siginfo, user_cfi_state of 64-bit Linux. The thread whose signal
ended the process comes first; a thread's notes follow its NT_PRSTATUS.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Final

from shstk.schemas.errors import BadRecording
from shstk.schemas.uapi import (
    NT_AUXV,
    NT_FILE,
    NT_PRPSINFO,
    NT_PRSTATUS,
    NT_RISCV_USER_CFI,
    NT_SIGINFO,
    SI_KERNEL,
)
from shstk.schemas.uapi import PTRACE_CFI_SHADOW_STACK_EN_STATE as SS_EN
from shstk.schemas.uapi import PTRACE_CFI_SHADOW_STACK_PTR_STATE as SS_PTR
from shstk.tracer.importers.core.elfcore import Core

_PID, _REGISTERS = 32, 112  # in elf_prstatus
_INFO: Final = struct.Struct("<iii4xQ")  # si_signo, si_errno, si_code, si_addr or si_pid
_PSINFO_PID, _NAME, _ARGUMENTS, _PSINFO_END = 24, 40, 56, 136
_FILE: Final = struct.Struct("<QQQ")
_MOST_TID: Final = 2**31 - 1


@dataclass
class Thread:
    """registers: pc, x1 to x31. cfi: cfi_state; None: the core does not tell."""

    tid: int
    signo: int
    registers: tuple[int, ...]
    cfi: int | None = None
    shstk_ptr: int = 0

    @property
    def pc(self) -> int:
        return self.registers[0]

    def x(self, number: int) -> int:
        return self.registers[number] if number else 0

    @property
    def ssp(self) -> int | None:
        """csr ssp, if its shadow stack is on."""
        return self.shstk_ptr if (self.cfi or 0) & SS_EN and (self.cfi or 0) & SS_PTR else None


@dataclass(frozen=True, slots=True)
class Mapped:
    """A file that is mapped. offset: in the file, bytes."""

    start: int
    end: int
    offset: int
    path: str


@dataclass
class Notes:
    """What the notes of a core say. address: si_addr; of a signal that was sent, `sender`."""

    threads: list[Thread] = field(default_factory=list)
    signo: int = 0
    code: int | None = None
    address: int | None = None
    sender: int | None = None
    pid: int | None = None
    name: str = ""
    arguments: str = ""
    auxv: dict[int, int] = field(default_factory=dict)
    files: list[Mapped] = field(default_factory=list)


def read(core: Core) -> Notes:
    """Raises BadRecording."""
    found = Notes()
    for note in core.notes:
        if note.owner in (b"CORE", b"LINUX") and note.kind in _READERS:
            try:
                _READERS[note.kind](found, note.data)
            except (struct.error, _Bad) as error:
                what = f"{core.path}: note {_NAMES[note.kind]} is damaged: {error}"
                raise BadRecording(what) from error
    if not found.threads:
        why = "it is cut off before them" if core.cut else "no note NT_PRSTATUS"
        raise BadRecording(f"{core.path}: the core has no thread: {why}")
    first = found.threads[0]
    found.signo = found.signo or first.signo
    found.pid = found.pid or first.tid
    return found


class _Bad(ValueError):
    pass


def _prstatus(found: Notes, data: bytes) -> None:
    (tid,) = struct.unpack_from("<i", data, _PID)
    if not 0 < tid <= _MOST_TID or any(tid == t.tid for t in found.threads):
        raise _Bad(f"pid {tid}")
    signo = int.from_bytes(data[12:14], "little")
    found.threads.append(Thread(tid, signo, struct.unpack_from("<32Q", data, _REGISTERS)))


def _cfi(found: Notes, data: bytes) -> None:
    if not found.threads:
        raise _Bad("it comes before any thread")
    thread = found.threads[-1]
    thread.cfi, thread.shstk_ptr = struct.unpack_from("<QQ", data)


def _siginfo(found: Notes, data: bytes) -> None:
    found.signo, _, found.code, value = _INFO.unpack_from(data)
    if not 0 <= found.signo <= 64:
        raise _Bad(f"signal {found.signo}")
    if found.code <= 0:  # sent by a task, or SI_USER
        found.sender = value & 0xFFFF_FFFF or None
    elif found.signo in _FAULTS and found.code != SI_KERNEL:
        found.address = value


def _prpsinfo(found: Notes, data: bytes) -> None:
    if len(data) < _PSINFO_END:
        raise _Bad(f"{len(data)} bytes")
    (pid,) = struct.unpack_from("<i", data, _PSINFO_PID)
    if not 0 < pid <= _MOST_TID:
        raise _Bad(f"pid {pid}")
    found.pid = pid
    found.name = _text(data[_NAME:_ARGUMENTS])
    found.arguments = _text(data[_ARGUMENTS:_PSINFO_END]).strip()


def _auxv(found: Notes, data: bytes) -> None:
    for key, value in struct.iter_unpack("<QQ", data[: len(data) & -16]):
        if key == 0:
            break
        found.auxv.setdefault(key, value)


def _files(found: Notes, data: bytes) -> None:
    count, page = struct.unpack_from("<QQ", data)
    places = 16 + count * _FILE.size
    names = data[places:].split(b"\0")
    if places > len(data) or len(names) < count:
        raise _Bad(f"{count} files in {len(data)} bytes")
    for name, (start, end, offset) in zip(names, _FILE.iter_unpack(data[16:places]), strict=False):
        found.files.append(Mapped(start, end, offset * page, _text(name)))


def _text(data: bytes) -> str:
    return data.split(b"\0")[0].decode(errors="backslashreplace")


_FAULTS: Final = (4, 5, 7, 8, 11)  # SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV have si_addr
_READERS: Final = {
    NT_PRSTATUS: _prstatus,
    NT_RISCV_USER_CFI: _cfi,
    NT_SIGINFO: _siginfo,
    NT_PRPSINFO: _prpsinfo,
    NT_AUXV: _auxv,
    NT_FILE: _files,
}
_NAMES: Final = {
    NT_PRSTATUS: "NT_PRSTATUS",
    NT_RISCV_USER_CFI: "NT_RISCV_USER_CFI",
    NT_SIGINFO: "NT_SIGINFO",
    NT_PRPSINFO: "NT_PRPSINFO",
    NT_AUXV: "NT_AUXV",
    NT_FILE: "NT_FILE",
}
