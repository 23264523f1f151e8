"""Core dumps for tests: those of fixtures/programs/faulty.c, and others put together by hand."""

from __future__ import annotations

import shutil
import struct
from dataclasses import dataclass, field
from pathlib import Path

import shstk

BIN = Path(__file__).parents[2] / "fixtures" / "bin"
PAGE = 4096
PRSTATUS, PRPSINFO, AUXV, SIGINFO, FILE, USER_CFI = 1, 3, 6, 0x53494749, 0x46494C45, 0x903
R, W, X = 4, 2, 1


def die(folder: Path, case: str, kernel: str = "7.2") -> Path:
    """The core of `faulty CASE` under the kernel model; its file tree is `root` beside it."""
    root, core = folder / "root", folder / f"core.{case}"
    root.mkdir(exist_ok=True, parents=True)
    shutil.copy(BIN / "faulty.elf", root / "faulty")
    result = shstk.record(
        "/faulty",
        case,
        out=folder / f"{case}.run",
        kernel=kernel,
        root=root,
        overlay=folder / case,
        rlimits={"CORE": 2**64 - 1},
        max_instructions=20_000_000,
    )
    assert result.exit_status == 11 | 0x80
    shutil.move(folder / case / "core", core)
    return core


@dataclass
class Area:
    """data: what the core has of it. due: what it should have, if that is more."""

    start: int
    length: int
    flags: int
    data: bytes = b""
    due: int | None = None


@dataclass
class CoreFile:
    """A core dump in parts. notes: owner, type, bytes."""

    areas: list[Area] = field(default_factory=list)
    notes: list[tuple[bytes, int, bytes]] = field(default_factory=list)
    machine: int = 243
    type: int = 4
    elf_class: int = 2
    xnum: bool = False

    def thread(
        self,
        tid: int,
        registers: dict[int, int],
        ssp: int | None = None,
        signo: int = 11,
    ) -> None:
        """registers: by number, 0 is pc."""
        values = [registers.get(n, 0) for n in range(32)]
        data = struct.pack(
            "<3ih2xQQ4i64x32Qi4x", signo, 0, 0, signo, 0, 0, tid, 1, 1, 1, *values, 1
        )
        self.notes.append((b"CORE", PRSTATUS, data))
        if ssp is not None:
            self.notes.append((b"LINUX", USER_CFI, struct.pack("<QQ", 0x28, ssp)))

    def signal(self, signo: int, code: int, address: int) -> None:
        self.notes.append((b"CORE", SIGINFO, struct.pack("<iii4xQ", signo, 0, code, address)))

    def pack(self) -> bytes:
        notes = b"".join(_note(*note) for note in self.notes)
        count = 1 + len(self.areas)
        at = 64 + 56 * count + (64 if self.xnum else 0)
        headers = [struct.pack("<IIQQQQQQ", 4, 0, at, 0, 0, len(notes), 0, 4)]
        start = -(-(at + len(notes)) // PAGE) * PAGE
        body = bytearray()
        for area in self.areas:
            place = (start + len(body), area.start, 0)
            due = len(area.data) if area.due is None else area.due
            sizes = (due, area.length, PAGE)
            headers.append(struct.pack("<IIQQQQQQ", 1, area.flags, *place, *sizes))
            body += area.data
        ident = b"\x7fELF" + bytes([self.elf_class, 1, 1]).ljust(12, b"\0")
        shoff, phnum = (64, 0xFFFF) if self.xnum else (0, count)
        phoff = 128 if self.xnum else 64
        head = struct.pack(
            "<16sHHIQQQIHHHHHH",
            *(ident, self.type, self.machine, 1, 0, phoff, shoff),
            *(0, 64, 56, phnum, 64, int(self.xnum), 0),
        )
        section = struct.pack("<IIQQQQIIQQ", 0, 0, 0, 0, 0, 0, 0, count, 0, 0)
        text = head + (section if self.xnum else b"") + b"".join(headers) + notes
        return text.ljust(start, b"\0") + bytes(body)


def _note(owner: bytes, kind: int, data: bytes) -> bytes:
    name = owner + b"\0"
    head = struct.pack("<III", len(name), len(data), kind)
    return (
        head + name.ljust(-(-len(name) // 4) * 4, b"\0") + data.ljust(-(-len(data) // 4) * 4, b"\0")
    )


CODE, SHADOW, STACK = 0x10000, 0x7000_0000, 0x7FFF_0000
CALL = 0x0000_00EF  # jal ra, 0
SSPOPCHK = 0xCDC0_C073


def words(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}Q", *values)


def small() -> CoreFile:
    """A thread at an sspopchk: its two callers are at CODE + 4 and CODE + 8, on both stacks. It has
    the second in ra."""
    code = struct.pack("<3I", CALL, CALL, SSPOPCHK).ljust(PAGE, b"\0")
    core = CoreFile()
    core.areas = [
        Area(CODE, PAGE, R | X, code),
        Area(SHADOW, PAGE, R | W, bytes(PAGE - 16) + words(CODE + 4, CODE + 8)),
        Area(STACK, PAGE, R | W, bytes(PAGE - 8) + words(CODE + 8)),
    ]
    core.thread(7, {0: CODE + 8, 1: 0x4141_4141_4141, 2: STACK + PAGE - 64}, SHADOW + PAGE - 16)
    core.signal(11, 10, CODE + 8)
    return core
