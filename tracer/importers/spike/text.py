"""The lines of Spike's log: `spike --log-commits`, alone or with `-l`.

With `-l` each instruction is printed before it executes, and so is each exception. That is the only
sign of an instruction that trapped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from shstk.schemas import causes
from shstk.schemas.errors import BadRecording

# Spike before 2020 named no hart, and wrote `x 5` for `x5`.
_COMMIT: Final = re.compile(
    r"(?:core +(\d{1,4}): )?([0-3]) 0x([0-9a-f]{16}) \(0x([0-9a-f]{4,16})\)((?: .*)?)"
)
_FETCH: Final = re.compile(r"core +(\d{1,4}): 0x([0-9a-f]{16}) \(0x([0-9a-f]{4,16})\) .*")
_TRAP: Final = re.compile(
    r"core +(\d{1,4}): exception (?:(trap_\w+)|trap #(\d{1,3})|interrupt #\d{1,3}),"
    r" epc 0x([0-9a-f]{16})"
)
_TVAL: Final = re.compile(r"core +(\d{1,4}): +(?:tval|badaddr) 0x([0-9a-f]{1,16})")
_TOLD: Final = re.compile(r"core +\d{1,4}: (?:>>>>.*|Executed \d+ times)")
_NARROW: Final = re.compile(r"(?:core +\d{1,4}: )?[0-3] 0x[0-9a-f]{8} \(0x")
_LIKE: Final = re.compile(r"core +\d{1,4}:|0x[0-9a-f]{8,16} \(0x[0-9a-f]{4}")
_REGISTER: Final = re.compile(r"([xfv])(\d{1,2})")
_CSR: Final = re.compile(r"c(\d{1,4})_\w+")
_VECTOR: Final = re.compile(r"e\d+ mf?\d+ l\d+")
_HEX: Final = re.compile(r"0x[0-9a-f]+")
_WORD: Final = re.compile(r"0x[0-9a-f]{1,16}")
_BANKS: Final = {"x": 0, "f": 32, "v": 64}  # the numbers of insn.rd
_U64: Final = 2**64 - 1

_CAUSES: Final = {
    "trap_instruction_address_misaligned": causes.INSTRUCTION_MISALIGNED,
    "trap_instruction_access_fault": causes.INSTRUCTION_ACCESS,
    "trap_illegal_instruction": causes.ILLEGAL_INSTRUCTION,
    "trap_breakpoint": causes.BREAKPOINT,
    "trap_load_address_misaligned": causes.LOAD_MISALIGNED,
    "trap_load_access_fault": causes.LOAD_ACCESS,
    "trap_store_address_misaligned": causes.STORE_MISALIGNED,
    "trap_store_access_fault": causes.STORE_ACCESS,
    "trap_user_ecall": 8,
    "trap_supervisor_ecall": 9,
    "trap_virtual_supervisor_ecall": 10,
    "trap_machine_ecall": 11,
    "trap_instruction_page_fault": causes.INSTRUCTION_PAGE,
    "trap_load_page_fault": causes.LOAD_PAGE,
    "trap_store_page_fault": causes.STORE_PAGE,
    "trap_double_trap": 16,
    "trap_software_check": causes.SOFTWARE_CHECK,
    "trap_instruction_guest_page_fault": 20,
    "trap_load_guest_page_fault": 21,
    "trap_virtual_instruction": 22,
    "trap_store_guest_page_fault": 23,
}
ECALLS: Final = (8, 9, 10, 11)


@dataclass(slots=True)
class Commit:
    """An instruction that retired. registers: by their number in insn.rd, low 64 bits."""

    hart: int
    mode: int  # 0 U, 1 S, 3 M
    pc: int
    word: int
    registers: dict[int, int] = field(default_factory=dict)
    csrs: dict[int, int] = field(default_factory=dict)
    loads: list[int] = field(default_factory=list)
    stores: list[tuple[int, int, int]] = field(default_factory=list)  # address, value, bytes


@dataclass(slots=True)
class Fetch:
    """An instruction that is about to execute."""

    hart: int
    pc: int
    word: int


@dataclass(slots=True)
class Trap:
    """cause: None for an interrupt."""

    hart: int
    cause: int | None
    pc: int
    tval: int = 0


Event = Commit | Fetch | Trap


@dataclass(slots=True)
class Others:
    """Lines between those of the log, which are no part of it. first: its number."""

    count: int = 0
    first: int = 0


def events(lines: Iterable[tuple[int, str]], path: Path, others: Others) -> Iterator[Event]:
    """The log's events, in order. Raises BadRecording."""
    trap: Trap | None = None
    for number, line in lines:
        if trap is not None:
            if (tval := _TVAL.fullmatch(line)) and int(tval[1]) == trap.hart:
                trap.tval = int(tval[2], 16)
                yield trap
                trap = None
                continue
            yield trap
            trap = None
        if found := _COMMIT.fullmatch(line):
            commit = Commit(int(found[1] or 0), int(found[2]), int(found[3], 16), int(found[4], 16))
            if not _effects(commit, found[5]):
                raise _bad(path, number, line)
            yield commit
        elif found := _FETCH.fullmatch(line):
            yield Fetch(int(found[1]), int(found[2], 16), int(found[3], 16))
        elif found := _TRAP.fullmatch(line):
            trap = Trap(int(found[1]), _cause(found, path, number), int(found[4], 16))
        elif _NARROW.match(line):
            raise BadRecording(
                f"{path}:{number}: the log of a 32-bit hart", "only RV64 logs can be imported"
            )
        elif _LIKE.search(line) and not _TOLD.fullmatch(line):
            raise _bad(path, number, line)
        elif line and not _TOLD.fullmatch(line):
            others.count += 1
            others.first = others.first or number
    if trap is not None:
        yield trap


def _bad(path: Path, number: int, line: str) -> BadRecording:
    return BadRecording(
        f"{path}:{number}: not a line of a commit log: {line.strip()[:100]!r}",
        "expected `core   0: 0 0x000000000001013c (0x0000e406) mem 0x… 0x…`, an exception, or what"
        " -l prints; log into a file of its own with --log=FILE",
    )


def _cause(found: re.Match[str], path: Path, number: int) -> int | None:
    if found[3]:
        return int(found[3])
    if found[2] and found[2] not in _CAUSES:
        raise BadRecording(f"{path}:{number}: an unknown exception: {found[2]}")
    return _CAUSES.get(found[2] or "")


def _effects(commit: Commit, text: str) -> bool:
    """Read what an instruction wrote and where it accessed memory; whether it could be read."""
    if not text:
        return True
    if " e" in text:
        text = _VECTOR.sub("", text, count=1)
    words = text.split()
    at, end = 0, len(words)
    while at < end:
        name = words[at]
        if name == "mem":
            if at + 1 == end or not _WORD.fullmatch(words[at + 1]):
                return False
            address = int(words[at + 1], 16)
            at += 2
            if at < end and words[at].startswith("0x"):
                value = words[at]
                if not _HEX.fullmatch(value):
                    return False
                commit.stores.append((address, int(value, 16) & _U64, (len(value) - 1) // 2))
                at += 1
            else:
                commit.loads.append(address)
            continue
        if name in _BANKS and at + 1 < end:  # x 5
            name, at = name + words[at + 1], at + 1
        if at + 1 >= end or not _HEX.fullmatch(words[at + 1]):
            return False
        value_of = int(words[at + 1], 16)
        if found := _REGISTER.fullmatch(name):
            if int(found[2]) > 31:
                return False
            commit.registers[_BANKS[found[1]] + int(found[2])] = value_of & _U64
        elif found := _CSR.fullmatch(name):
            commit.csrs[int(found[1])] = value_of & _U64
        else:
            return False
        at += 2
    return True
