"""ptrace reads a task's CFI state and can set its ssp, but cannot enable, disable or lock CFI.

## What it checks
PTRACE_GETREGSET of NT_RISCV_USER_CFI returns {cfi_state, shstk_ptr}. Bits 0 LP_EN, 1 LP_LOCK,
3 SS_EN, 4 SS_LOCK and 5 SS_PTR of cfi_state match the stopped task's state, bit 2 ELP is set after
a landing-pad fault, and shstk_ptr is its ssp; all are 0 while everything is disabled.
PTRACE_SETREGSET with any of bits 0, 1, 3, 4 or an unknown one returns -EINVAL. Otherwise, if the
shadow stack is enabled and bit 5 is set, ssp becomes shstk_ptr; if not, it stays unchanged.

## Why it matters
Debuggers set ssp when they call a function or skip a return. If a tracer could disable CFI, it
would not protect against any process that may trace.

## When it applies
Every revision; calls for a known task and the whole register set. On a machine without either
extension, or with both disabled by riscv_nousercfi, all is 0, and from 7.2 both requests return
-EINVAL.

## Evidence columns
syscalls.a0 to a3, ret of ptrace; kernel_memory.bytes within the call; the traced task's earlier
prctl calls, and the ssp of its events before and after.

## Example
    t9 ptrace(PTRACE_SETREGSET, 1, NT_RISCV_USER_CFI, IOV) = 0 { mem_read REGS u64:8,u64:0 }

## Not a violation when
iov_len is shorter: only that much is transferred. The tracer may also set ELP.

## How to investigate
    shstk query RUN "SELECT * FROM syscalls WHERE name = 'ptrace' AND a2 = 2307"

## Sources
Series, arch/riscv/kernel/ptrace.c and uapi/asm/ptrace.h, struct user_cfi_state; seen on 7.2.13
(faults: cfi_state 0x28 on, 0x2d at a landing-pad fault, 0x0 off). -EINVAL without support:
riscv_cfi_get and riscv_cfi_set of 7.2.13 and 7.3-rc7, not of 7.1.8.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

import polars as pl

from shstk.replay.derive.rows import Call
from shstk.replay.derive.ssp_path import ssp_path
from shstk.replay.facts import STATE, Facts
from shstk.replay.rules import words
from shstk.replay.rules.outcome import OK, Finding, Outcome, Unknown
from shstk.schemas.causes import LANDING_PAD_FAULT, SOFTWARE_CHECK
from shstk.schemas.uapi import ERRNO, NT_RISCV_USER_CFI, PTRACE_GETREGSET, PTRACE_SETREGSET
from shstk.schemas.uapi import PTRACE_CFI_BRANCH_EXPECTED_LANDING_PAD_STATE as ELP
from shstk.schemas.uapi import PTRACE_CFI_BRANCH_LANDING_PAD_EN_STATE as LP_EN
from shstk.schemas.uapi import PTRACE_CFI_BRANCH_LANDING_PAD_LOCK_STATE as LP_LOCK
from shstk.schemas.uapi import PTRACE_CFI_SHADOW_STACK_EN_STATE as SS_EN
from shstk.schemas.uapi import PTRACE_CFI_SHADOW_STACK_LOCK_STATE as SS_LOCK
from shstk.schemas.uapi import PTRACE_CFI_SHADOW_STACK_PTR_STATE as SS_PTR

NEEDS = (*STATE, "signals.tid", "cfi.tid", "syscalls.ssp_exit", "kernel_memory.tid")
ALSO = ("faults",)
APPLIES = "ptrace of the register set NT_RISCV_USER_CFI"
RESTS_ON = ("cfi_regset",)

_MAY_SET = ELP | SS_PTR
_EINVAL, _ESRCH = -ERRNO["EINVAL"], -ERRNO["ESRCH"]
_SIZE = 16
_IOVEC = 16  # bytes of a struct iovec


def check(facts: Facts) -> Iterator[Outcome]:
    calls = [
        call
        for call in facts.calls("ptrace")
        if call.a0 in (PTRACE_GETREGSET, PTRACE_SETREGSET) and call.a2 % 2**32 == NT_RISCV_USER_CFI
    ]
    if not calls:
        return
    if facts.law.cfi_regset == "usable" and not (facts.supported or facts.landing_pads):
        yield from (_unusable(call) for call in calls)
        return
    path = _Path(facts, calls)
    for call in calls:
        yield _got(facts, call, path) if call.a0 == PTRACE_GETREGSET else _set(facts, call, path)


def _unusable(call: Call) -> Outcome:
    if call.ret is None or call.ret in (_EINVAL, _ESRCH):
        return OK if call.ret == _EINVAL else Unknown(f"the call returned {words.result(call.ret)}")
    return _wrong(call, words.result(_EINVAL), words.result(call.ret), "no support")


class _Path:
    """The traced tasks' ssp over time, including the values set by their tracers."""

    def __init__(self, facts: Facts, calls: list[Call]) -> None:
        self._task = facts.history.task
        tids = sorted({call.a1 % 2**32 for call in calls})
        path = ssp_path(facts.run).filter(pl.col("tid").is_in(tids)).collect().sort("seq")
        self._before = _by_tid(path, "ssp_before", tids)
        self._after = _by_tid(path, "ssp_after", tids)
        self._moved: dict[int, tuple[int, int]] = {}  # by tid: seq of the call, ssp set
        self._sets: dict[int, list[int]] = {tid: [] for tid in tids}
        for call in calls:
            if call.a0 == PTRACE_SETREGSET:
                self._sets[call.a1 % 2**32].append(call.seq)

    def before(self, tid: int, seq: int) -> int | None:
        """A task's ssp at a time."""
        seqs, values = self._after[tid]
        at = int(seqs.search_sorted(seq, side="left"))
        moved = self._moved.get(tid)
        if moved and (not at or moved[0] > seqs[at - 1]):
            return moved[1] if self._same(tid, moved[0], seq) else None
        return int(values[at - 1]) if at and self._same(tid, seqs[at - 1], seq) else None

    def after(self, tid: int, seq: int) -> tuple[int, int] | None:
        """The task's next event with an ssp: its seq and the ssp."""
        seqs, values = self._before[tid]
        at = int(seqs.search_sorted(seq, side="right"))
        if at == len(seqs) or not self._same(tid, seq, seqs[at]):
            return None
        return seqs[at], values[at]

    def _same(self, tid: int, one: int, other: int) -> bool:
        """Whether a tid is one task's at two times."""
        return self._task(tid, one) is self._task(tid, other)

    def move(self, tid: int, seq: int, ssp: int) -> None:
        self._moved[tid] = (seq, ssp)

    def set_between(self, tid: int, after: int, until: int) -> bool:
        """Whether a tracer set the task's state between two seqs."""
        seqs = self._sets[tid]
        at = bisect_right(seqs, after)
        return at < len(seqs) and seqs[at] < until


def _by_tid(
    path: pl.DataFrame, column: str, tids: list[int]
) -> dict[int, tuple[pl.Series, pl.Series]]:
    """For each task the seqs at which a column is known, and its values."""
    known = path.select("tid", "seq", column).drop_nulls()
    parts = {tid: known.filter(tid=tid) for tid in tids}
    return {tid: (rows["seq"], rows[column]) for tid, rows in parts.items()}


def _got(facts: Facts, call: Call, path: _Path) -> Outcome:
    if call.ret != 0:
        return Unknown(f"the call returned {words.result(call.ret)}")
    data = _moved_bytes(facts, call, "write")
    if data is None:
        return Unknown("the state that ptrace stored is not recorded")
    tid = call.a1 % 2**32
    state = facts.history.state(tid, call.seq)
    bits = LP_EN * state.lp_enabled | LP_LOCK * state.lp_locked
    if state.enabled:
        bits |= SS_EN | SS_PTR | SS_LOCK * state.locked
    found = int.from_bytes(data[:8], "little")
    known = ~0 if not state.lp_enabled else ~ELP
    if _waits_for_pad(facts, tid, call.seq, path):
        bits, known = bits | ELP, ~0
    if found & known != bits & known:
        return _wrong(call, f"cfi_state {bits:#x}", f"cfi_state {found:#x}", "its state")
    ssp = path.before(tid, call.seq) if state.enabled else 0
    pointer = int.from_bytes(data[8:], "little") if len(data) == _SIZE else None
    if pointer is not None and ssp is not None and pointer != ssp:
        return _wrong(call, f"shstk_ptr {ssp:#x}", f"shstk_ptr {pointer:#x}", "its ssp", pointer)
    return OK


def _set(facts: Facts, call: Call, path: _Path) -> Outcome:
    data = _moved_bytes(facts, call, "read")
    if data is None or call.ret not in (0, _EINVAL):
        return Unknown("the state that ptrace loaded is not recorded")
    tid, bits = call.a1 % 2**32, int.from_bytes(data[:8], "little")
    due = _EINVAL if bits & ~_MAY_SET else 0
    if call.ret != due:
        why = f"cfi_state {bits:#x}"
        return _wrong(call, words.result(due), words.result(call.ret), why)
    ssp = path.before(tid, call.seq)
    if not due and bits & SS_PTR and facts.history.state(tid, call.seq).enabled:
        ssp = int.from_bytes(data[8:], "little") // 8 * 8  # bits 2:0 are read-only zero
        path.move(tid, call.seq, ssp)
    found = path.after(tid, call.seq)
    if found is None or ssp is None or path.set_between(tid, call.seq, found[0]):
        return OK
    if found[1] != ssp:
        return _wrong(call, f"ssp {ssp:#x}", f"ssp {found[1]:#x}", f"cfi_state {bits:#x}",
                      found[1], found[0])  # fmt: skip
    return OK


def _moved_bytes(facts: Facts, call: Call, op: str) -> bytes | None:
    """The bytes copied to or from the register set, without those of the iovec itself."""
    rows = facts.transfers.of(call.tid, call.seq, call.seq_end)
    found = [t.bytes for t in rows if t.op == op and not call.a3 <= t.addr < call.a3 + _IOVEC]
    return found[0] if found else None


def _waits_for_pad(facts: Facts, tid: int, seq: int, path: _Path) -> bool:
    """Whether a missing landing pad was the task's last event."""
    task = facts.history.task(tid, seq)
    last = facts.faults.last(tid, seq)
    if last is None or (task and last.seq < task.born):
        return False
    if (last.cause, last.tval) != (SOFTWARE_CHECK, LANDING_PAD_FAULT):
        return False
    since = last.seq
    return not facts.signals.of(tid, since, seq) and not path.set_between(tid, since, seq)


def _wrong(
    call: Call,
    expected: str,
    actual: str,
    why: str,
    addr: int | None = None,
    seq: int | None = None,
) -> Finding:
    what = "PTRACE_GETREGSET" if call.a0 == PTRACE_GETREGSET else "PTRACE_SETREGSET"
    return Finding(
        seq=call.seq,
        tid=call.tid,
        mm=call.mm,
        addr=addr,
        expected=expected,
        actual=actual,
        note=f"{what} of task {call.a1 % 2**32} by task {call.tid}: {why}",
        evidence=(call.seq,) if seq is None else (call.seq, seq),
    )
