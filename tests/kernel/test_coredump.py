"""Core dumps: what a process that a signal kills leaves behind, as a debugger reads it."""

from __future__ import annotations

import shutil
import struct
from dataclasses import dataclass
from pathlib import Path

import pytest

import shstk
from shstk.tracer.record import RecordResult

BIN = Path(__file__).parents[2] / "fixtures" / "bin"
SIGSEGV, COREFLAG = 11, 0x80
PRSTATUS, PRFPREG, PRPSINFO, AUXV, SIGINFO, FILE = 1, 2, 3, 6, 0x53494749, 0x46494C45
USER_CFI = 0x903


@dataclass(frozen=True)
class Core:
    """notes: owner, type and bytes, in order. loads: flags, start, size in memory, bytes."""

    notes: list[tuple[bytes, int, bytes]]
    loads: list[tuple[int, int, int, bytes]]

    def of(self, kind: int) -> list[bytes]:
        return [data for _, known, data in self.notes if known == kind]

    def word(self, addr: int) -> int:
        for _, start, _, data in self.loads:
            if start <= addr < start + len(data):
                return int(struct.unpack_from("<Q", data, addr - start)[0])
        raise AssertionError(f"{addr:#x} is not in the core")


def parse(data: bytes) -> Core:
    assert data[:7] == b"\x7fELF\x02\x01\x01"
    assert struct.unpack_from("<HH", data, 16) == (4, 243), "ET_CORE, RISC-V"
    count = struct.unpack_from("<H", data, 56)[0]
    notes, loads = [], []
    for i in range(count):
        kind, flags, at, start, _, size, length, _ = struct.unpack_from(
            "<IIQQQQQQ", data, 64 + 56 * i
        )
        part = data[at : at + size]
        if kind == 1:
            assert at % 4096 == 0
            loads.append((flags, start, length, part))
            continue
        while part:
            owner, room, note = struct.unpack_from("<III", part)
            begin = 12 + (owner + 3) // 4 * 4
            notes.append((part[12 : 11 + owner], note, part[begin : begin + room]))
            part = part[begin + (room + 3) // 4 * 4 :]
    return Core(notes, loads)


def record(tmp_path: Path, *argv: str, core: int = 2**64 - 1, kernel: str = "7.2") -> RecordResult:
    root = tmp_path / "root"
    root.mkdir(exist_ok=True)
    shutil.copy(BIN / "faulty.elf", root / "faulty")
    return shstk.record(
        "/faulty",
        *argv,
        out=tmp_path / "x.run",
        kernel=kernel,
        root=root,
        overlay=tmp_path / "kept",
        rlimits={"CORE": core},
        max_instructions=20_000_000,
    )


def dumped(tmp_path: Path) -> bytes | None:
    core = tmp_path / "kept" / "core"
    return core.read_bytes() if core.exists() else None


@pytest.fixture(scope="module")
def smashed(tmp_path_factory: pytest.TempPathFactory) -> tuple[RecordResult, Core]:
    where = tmp_path_factory.mktemp("smashed")
    result = record(where, "smashed")
    data = dumped(where)
    assert data is not None
    return result, parse(data)


def test_the_notes_of_a_task_that_dies_of_sspopchk(smashed: tuple[RecordResult, Core]) -> None:
    result, core = smashed
    assert result.exit_status == SIGSEGV | COREFLAG
    assert result.ending == "killed"
    kinds = [(owner, kind) for owner, kind, _ in core.notes]
    first = [(b"CORE", kind) for kind in (PRSTATUS, PRPSINFO, SIGINFO, AUXV, FILE, PRFPREG)]
    assert kinds == [*first, (b"LINUX", USER_CFI)]
    (status,) = core.of(PRSTATUS)
    run = shstk.open(result.path)
    fatal = run.table("signals").filter(kind="fatal").row(0, named=True)
    fault = run.table("task_events").filter(kind="exit_begin").row(0, named=True)
    signo, code = struct.unpack_from("<ii", status)
    assert (len(status), signo, code) == (376, SIGSEGV, fatal["code"])
    assert struct.unpack_from("<i", status, 32)[0] == fatal["tid"]
    assert struct.unpack_from("<Q", status, 112)[0] == fault["pc"]
    (signal,) = core.of(SIGINFO)
    told = struct.unpack_from("<iii4xQ", signal)
    assert told == (SIGSEGV, 0, fatal["code"], fatal["si_addr"])
    (info,) = core.of(PRPSINFO)
    assert (len(info), info[40:56].rstrip(b"\0")) == (136, b"faulty")
    assert info[56:].rstrip(b"\0") == b"/faulty smashed"
    (files,) = core.of(FILE)
    assert files.endswith(b"/faulty\0")


def test_the_shadow_stack_is_a_segment(smashed: tuple[RecordResult, Core]) -> None:
    """NT_RISCV_USER_CFI tells where the task stood in it; its words are those that were pushed."""
    result, core = smashed
    state, ssp = struct.unpack("<QQ", core.of(USER_CFI)[0])
    assert state == 0x28, "enabled, and ssp is valid"
    run = shstk.open(result.path)
    fatal = run.table("signals").filter(kind="fatal").row(0, named=True)
    assert ssp == fatal["ssp_before"]
    (stack,) = run.table("mappings").filter(op="map", shadow_stack=True).iter_rows(named=True)
    flags = {start: (flags, size) for flags, start, size, _ in core.loads}
    assert flags[stack["start"]] == (6, stack["length"])
    pushes = run.table("cfi").filter(kind="sspush")
    last = {row["addr"]: row["value"] for row in pushes.iter_rows(named=True)}
    assert last
    assert {addr: core.word(addr) for addr in last} == last


def test_every_thread_has_its_notes(tmp_path: Path) -> None:
    result = record(tmp_path, "two-tasks", kernel="v3")
    data = dumped(tmp_path)
    assert data is not None
    core = parse(data)
    tids = [struct.unpack_from("<i", status, 32)[0] for status in core.of(PRSTATUS)]
    (fatal,) = shstk.open(result.path).table("signals").filter(kind="fatal").iter_rows(named=True)
    assert tids[0] == fatal["tid"]
    assert len(core.of(USER_CFI)) == len(core.of(PRFPREG)) == len(set(tids))


def test_rlimit_core(tmp_path: Path) -> None:
    """Below a page there is none. A larger one cuts the core off, and the status is the same."""
    assert record(tmp_path, "smashed", core=4095).exit_status == SIGSEGV
    assert dumped(tmp_path) is None
    shutil.rmtree(tmp_path / "x.run")
    assert record(tmp_path, "smashed", core=8192).exit_status == SIGSEGV | COREFLAG
    data = dumped(tmp_path)
    assert data is not None
    assert len(data) <= 4096 * 4


def test_a_run_with_a_core_agrees_when_executed_again(smashed: tuple[RecordResult, Core]) -> None:
    assert shstk.replay_run(smashed[0].path).disagreement is None
