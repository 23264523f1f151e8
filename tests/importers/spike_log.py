"""A commit log as Spike prints it, of a program that the executor ran.

No package has Spike. The lines follow commit_log_print_insn in riscv/execute.cc and take_trap and
disasm in riscv/processor.cc of riscv-isa-sim. The program runs in user mode on hart 0. In place of
a kernel there are the few instructions that a log needs: they set menvcfg, senvcfg and ssp, fence,
and return.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import shstk
from shstk.replay.run import Run

USER, SUPERVISOR, MACHINE = 0, 1, 3
SENVCFG, MENVCFG, SSP, SATP = 0x10A, 0x30A, 0x11, 0x180
SSE, LPE = 1 << 3, 1 << 2
NAMES = {SENVCFG: "senvcfg", MENVCFG: "menvcfg", SSP: "ssp", SATP: "satp"}
TRAPS = {
    2: "trap_illegal_instruction",
    7: "trap_store_access_fault",
    15: "trap_store_page_fault",
    18: "trap_software_check",
}
SAVED = (1, 5, 7)


def record(program: Path, out: Path) -> Run:
    return shstk.open(shstk.record(program, out=out, trace=("cfi", "insn")).path)


def commit(mode: int, pc: int, word: int, *effects: str, hart: int = 0) -> str:
    size = 8 if word & 3 == 3 else 4
    told = "".join(f" {effect}" for effect in effects)
    return f"core{hart:4}: {mode} 0x{pc:016x} (0x{word:0{size}x}){told}"


def fetch(pc: int, word: int) -> str:
    size = 8 if word & 3 == 3 else 4
    return f"core   0: 0x{pc:016x} (0x{word:0{size}x}) unknown"


def csr(number: int, value: int) -> str:
    return f"c{number}_{NAMES[number]} 0x{value:016x}"


def register(number: int, value: int) -> str:
    bank, index = "xf"[number // 32], number % 32
    return f"{bank}{index:<2} 0x{value:016x}"


def write(mode: int, pc: int, number: int, value: int) -> str:
    """csrw NUMBER, t0."""
    return commit(mode, pc, number << 20 | 0x29073, csr(number, value))


def boot(enabled: int) -> Iterator[str]:
    """The reset vector, and what lets the modes below use shadow stacks and landing pads."""
    yield commit(MACHINE, 0x1000, 0x297, register(5, 0x1000))
    yield commit(MACHINE, 0x1004, 0x2028593, register(11, 0x1020))
    yield write(MACHINE, 0x8000_0000, MENVCFG, enabled)
    yield write(MACHINE, 0x8000_0004, SATP, 0x8000_0000_0008_0000)
    yield commit(MACHINE, 0x8000_0008, 0x30200073, "c768_mstatus 0x0000000a00000080")


def lines(run: Run, *, verbose: bool) -> Iterator[str]:
    """verbose: as -l prints it."""
    cfi = {row["seq"]: row for row in run.table("cfi").iter_rows(named=True)}
    faults = {row["seq"] >> 20: row for row in run.table("faults").iter_rows(named=True)}
    insns = {row["seq"]: row for row in run.table("insn").iter_rows(named=True)}
    for row in faults.values():
        seq = row["seq"] >> 20 << 20
        insns.setdefault(seq, row | {"seq": seq, "rd": None, "mem_addr": None, "ssp": None})
    # The kernel enables each before the first of its instructions takes effect.
    begins = [
        (bit, min((seq for seq, row in cfi.items() if (row["kind"] == "lpad") == pad), default=0))
        for bit, pad in ((SSE, False), (LPE, True))
    ]
    yield from boot(SSE | LPE)
    ssp, on, task = 0, 0, None
    clones = run.table("clones").drop_nulls("child_tid").select("seq", "child_tid", "tid").rows()
    registers: dict[int, dict[int, int]] = {}  # of each task, those that are saved
    for _, row in sorted(insns.items()):
        while clones and clones[0][0] < row["seq"]:
            _, child, parent = clones.pop(0)
            registers[child] = dict(registers[parent])
        due = sum(bit for bit, begin in begins if 0 < begin <= row["seq"])
        event = cfi.get(row["seq"])
        before = event["ssp_before"] if event else ssp if row["ssp"] is None else row["ssp"]
        if (before, due, row["tid"]) != (ssp, on, task):
            yield from _kernel(before, due, registers.setdefault(row["tid"], {}))
            on, task = due, row["tid"]
        if verbose:
            yield fetch(row["pc"], row["word"])
        fault = faults.get(row["seq"] >> 20)
        if fault is not None:
            if verbose:
                yield from _trap(fault)
            ssp = before
            continue
        yield commit(USER, row["pc"], row["word"], *_effects(row, event))
        ssp = row["ssp"]
        if row["rd"] in SAVED:
            registers[row["tid"]][row["rd"]] = row["rd_value"]


def _kernel(ssp: int, enabled: int, registers: dict[int, int]) -> Iterator[str]:
    """The return to a task."""
    at = 0xFFFF_FFFF_8000_0000
    yield write(SUPERVISOR, at, SENVCFG, enabled)
    yield write(SUPERVISOR, at + 4, SSP, ssp)
    yield commit(SUPERVISOR, at + 8, 0x1200_0073)
    for number, value in registers.items():
        word = 0x0001_3003 | number << 7 | 8 * number << 20  # ld
        place = f"mem 0x{0xFFFF_FFFF_9000_0000 + 8 * number:016x}"
        yield commit(SUPERVISOR, at + 8 + 4 * number, word, register(number, value), place)
    yield commit(SUPERVISOR, at + 0x100, 0x1020_0073, "c768_mstatus 0x0000000a00000022")


def _trap(fault: dict[str, Any]) -> Iterator[str]:
    yield f"core   0: exception {TRAPS[fault['cause']]}, epc 0x{fault['pc']:016x}"
    yield f"core   0:           tval 0x{fault['tval']:016x}"


def _effects(row: dict[str, Any], event: dict[str, Any] | None) -> Iterator[str]:
    if row["rd"] is not None and row["rd"] < 64:
        yield register(row["rd"], row["rd_value"])
    if event and event["kind"] in ("sspush", "sspopchk", "ssp_write"):
        yield csr(SSP, event["ssp_after"])
    if row["mem_addr"] is None:
        return
    opcode = row["word"] & 0x7F
    stores = opcode in (0x23, 0x27) or (event and event["kind"] == "sspush")
    stores = stores or (row["word"] & 3 != 3 and row["word"] >> 13 in (5, 6, 7))
    if not stores:
        yield f"mem 0x{row['mem_addr']:016x}"
    if stores or opcode == 0x2F:
        yield f"mem 0x{row['mem_addr']:016x} 0x{row['mem_value']:0{2 * row['mem_size']}x}"
