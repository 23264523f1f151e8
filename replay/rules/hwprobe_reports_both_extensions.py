"""riscv_hwprobe reports Zicfilp and Zicfiss if and only if the machine has them.

## What it checks
In riscv_hwprobe's value for key 4 (IMA_EXT_0), bit 63 is set if and only if the machine has
Zicfilp; in the value for key 16 (IMA_EXT_1), bit 0 if and only if it has Zicfiss, and before 7.3 no
other bit.

## Why it matters
C libraries probe an extension before they enable it. A wrong value leaves it unused or causes
SIGILL.

## When it applies
Calls that returned 0 and read values (flags 0). riscv_nousercfi makes no difference (seen on
7.2.13). A kernel that does not know a key stores -1 in place of the key.

## Evidence columns
kernel_memory.addr, bytes within the call: pairs {key, value} of 8 bytes each; manifest.cpu.

## Example
    t1 riscv_hwprobe(PTR, 1) = 0 { mem_write PTR u64:16,u64:0 }
on a machine with Zicfiss.

## Not a violation when
the call finds the harts that have given values (flags 1): it writes a set of harts. From 7.3 on key
16 can also have bits 1 to 5 (ZICCLSM, ZICCAMOA, ZICCIF, ZICCRSE, ZA64RS).

## How to investigate
    shstk query RUN "SELECT * FROM syscalls WHERE name = 'riscv_hwprobe'"

## Sources
uapi/asm/hwprobe.h as merged: RISCV_HWPROBE_EXT_ZICFILP, bit 63 of IMA_EXT_0, and
RISCV_HWPROBE_EXT_ZICFISS, bit 0 of IMA_EXT_1; seen on 7.2.13 (env: hwprobe). The header of 7.3 has
bits 1 to 5 of IMA_EXT_1 too.
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.derive.rows import Call, Transfer
from shstk.replay.facts import Facts
from shstk.replay.rules.outcome import OK, Finding, Outcome, Unknown
from shstk.schemas.extensions import EXTENSIONS, IMA_EXT_1, optional_of

NEEDS = ("syscalls", "syscalls.a0", "syscalls.a1", "syscalls.a4")
APPLIES = "riscv_hwprobe of a key that has Zicfilp or Zicfiss"
RESTS_ON = ("ima_ext_1",)

_PAIR = 16  # bytes
# (key, bit) -> extension
_BITS = {e.hwprobe: e.name for e in EXTENSIONS.values() if e.optional and e.hwprobe}


def check(facts: Facts) -> Iterator[Outcome]:
    for call in facts.calls("riscv_hwprobe"):
        if call.ret == 0 and not call.a4:
            yield from _answers(facts, call)


def _answers(facts: Facts, call: Call) -> Iterator[Outcome]:
    written = [
        t
        for t in facts.transfers.of(call.tid, call.seq, call.seq_end)
        if t.op == "write" and call.a0 <= t.addr < call.a0 + _PAIR * call.a1
    ]
    if call.a1 and not written:
        yield Unknown("the values that riscv_hwprobe stored are not recorded")
    for transfer in written:
        for at in range(0, len(transfer.bytes) - _PAIR + 1, _PAIR):
            key = int.from_bytes(transfer.bytes[at : at + 8], "little")
            value = int.from_bytes(transfer.bytes[at + 8 : at + _PAIR], "little")
            for bit in (bit for known, bit in _BITS if known == key):
                yield _judge(facts, call, transfer, at, (key, bit), value)
            if key == IMA_EXT_1 and facts.law.ima_ext_1 == "zicfiss" and value & ~1:
                yield _wrong(call, transfer, at, "bit 0 of key 16 only", value, "before 7.3")


def _judge(
    facts: Facts, call: Call, transfer: Transfer, at: int, asked: tuple[int, int], value: int
) -> Outcome:
    extension, (key, bit) = _BITS[asked], asked
    due, reported = extension in optional_of(facts.run.manifest.cpu), bool(value >> bit & 1)
    if due == reported:
        return OK
    expected = f"bit {bit} of key {key} {'set' if due else 'clear'}"
    why = f"the machine has {'' if due else 'no '}{extension}"
    return _wrong(call, transfer, at, expected, value, why)


def _wrong(call: Call, transfer: Transfer, at: int, expected: str, value: int, why: str) -> Finding:
    return Finding(
        seq=call.seq,
        tid=call.tid,
        mm=call.mm,
        addr=transfer.addr + at + 8,
        expected=expected,
        actual=f"{value:#x}",
        note=f"riscv_hwprobe of task {call.tid}: {why}",
        evidence=(call.seq, transfer.seq),
    )
