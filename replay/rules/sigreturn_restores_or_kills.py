"""sigreturn restores the frame's state and consumes the token, or forces a SIGSEGV.

## What it checks
The frame as the kernel read it decides. The token at ss_ptr is swapped for 0, even if it then
proves wrong; it must be ss_ptr + 8, and becomes ssp. Without the header ssp stays unchanged; v4's
bare word (before the list is read) and the fixed field (last of all) are always restored. A nonzero
reserved word, an unknown magic, a wrong size, a header while the shadow stack is disabled, a wrong
token or an unreadable frame forces SIGSEGV with SI_KERNEL, and the state restored up to there stays
restored. Otherwise the task resumes at the frame's pc. A signal that is delivered at once saves the
registers and the mask that this one restored.

## Why it matters
A program that can write the frame must not be able to set ssp. Only a token that a delivery, or the
program itself on its own stack, has stored there can do so.

## When it applies
Every rt_sigreturn; the place of ss_ptr follows the revision's switch sigframe.

## Evidence columns
kernel_memory.op read and swap within the call; signals.ss_ptr, token_value, ssp_before, ssp_after,
and the task's next row of signals; flow for where it resumes.

## Example
    t1 rt_sigreturn() { sigreturn token token_value=0 }
after which ssp is higher although the word at ss_ptr was 0.

## Not a violation when
the program forged the token with ssamoswap on its own stack: that is accepted (seen on 7.2.13).

## How to investigate
    shstk query RUN "SELECT * FROM signals WHERE kind = 'sigreturn'"

## Sources
usercfi.c, restore_user_shstk, and signal.c, restore_sigcontext; v3 23/29 (behind restore_altstack)
and v4 23/30 (before the list); seen on 7.2.13 (signal:
sigreturn_ss_ptr_plus_8, sigreturn_ss_ptr_to_rw_page, sigreturn_token_zeroed, after_sigreturn).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from shstk.replay.derive.handlings import Handling
from shstk.replay.derive.sigframe import (
    HEADER,
    LAYOUTS,
    PC,
    REGS_SIZE,
    SC_REGS,
    UC_SIGMASK,
    UC_STACK,
    UCONTEXT,
    ZICFISS_SIZE,
    Layout,
)
from shstk.replay.facts import STATE, Facts
from shstk.replay.rules import words
from shstk.replay.rules.outcome import OK, Outcome, Unknown
from shstk.replay.rules.signal_steps import first_blocks, returns, then, wrong
from shstk.schemas.uapi import RISCV_V_MAGIC, RISCV_ZICFISS_MAGIC, SIGNALS

NEEDS = (*STATE, "signals", "kernel_memory.tid", "sched.tid")
ALSO = ("code", "flow", "signals.code", "signals.signo", "signals.ssp_before", "signals.ssp_after")
APPLIES = "rt_sigreturn"
RESTS_ON = ("sigframe",)

_FP_REGS_SIZE = 256  # without fcsr, of which the hart loads only 8 bits
_UNBLOCKABLE = 1 << SIGNALS["SIGKILL"] - 1 | 1 << SIGNALS["SIGSTOP"] - 1


@dataclass(frozen=True)
class _Due:
    """What a frame requires: the token's address, if any, and the reason to refuse it, if any."""

    ss_ptr: int | None = None
    refused: str = ""


def check(facts: Facts) -> Iterator[Outcome]:
    layout, steps = LAYOUTS[facts.law.sigframe], list(returns(facts))
    delivered = {h.seq: h for h in facts.handlings}
    blocks = first_blocks(facts, steps)
    for step in steps:
        if step.row.frame is None or (not step.frame and not step.refused):
            yield Unknown("the kernel's reads of the frame are not recorded")
            continue
        enabled = facts.supported and step.state.enabled
        due = _asked(step, layout, enabled)
        outcome = _token(step, due, step.task in facts.traced)
        if outcome is OK and not due.refused:
            outcome = _restored(step, layout, delivered, blocks)
        yield outcome


def _asked(step: Handling, layout: Layout, enabled: bool) -> _Due:
    """Walk the frame as the kernel does, up to the first error.

    A bare ss_ptr is read before the list of extensions, a fixed one last of all.
    """
    frame, unreadable = step.frame, "the frame cannot be read"
    ss_ptr = None
    reserved = frame.uc(layout.reserved, 4)
    if reserved is None:
        return _Due(ss_ptr, unreadable)
    if reserved:
        return _Due(ss_ptr, "the reserved word is not 0")
    found, end = frame.extensions(layout)
    if layout.bare and enabled:
        vectors = sum(e.size for e in found if e.magic == RISCV_V_MAGIC)
        ss_ptr = frame.uc(layout.extensions + vectors + HEADER)
        if ss_ptr is None:
            return _Due(None, unreadable)
    for extension in found:
        if extension.magic == RISCV_V_MAGIC:
            continue
        if extension.magic != RISCV_ZICFISS_MAGIC or not layout.extended:
            return _Due(ss_ptr, f"magic {extension.magic:#x} is unknown")
        if not enabled:
            return _Due(ss_ptr, "a shadow-stack header, and the shadow stack is off")
        if extension.size != ZICFISS_SIZE:
            return _Due(ss_ptr, f"the header's size is {extension.size}")
        ss_ptr = frame.uc(extension.offset + 8)
    if end is None or frame.bytes(UCONTEXT + UC_STACK, 24) is None:
        return _Due(ss_ptr, unreadable)
    if layout.ss_ptr is not None and enabled:
        ss_ptr = frame.uc(layout.ss_ptr)
        if ss_ptr is None:
            return _Due(None, unreadable)
    return _Due(ss_ptr)


def _token(step: Handling, due: _Due, traced: bool) -> Outcome:
    """Check the swap, ssp, and whether a SIGSEGV follows."""
    row = step.row
    before, after = row.ssp_before, row.ssp_after
    swaps = [t for t in step.tokens if t.op == "swap"]
    other = [t for t in swaps if t.addr != due.ss_ptr]
    if other:
        expected = "no token used" if due.ss_ptr is None else f"the token at {due.ss_ptr:#x}"
        why = due.refused or "the frame says"
        return wrong(step, expected, f"{other[0].addr:#x} swapped", why, other[0].addr)
    if swaps and any(swaps[0].bytes[8:]):
        left = f"{int.from_bytes(swaps[0].bytes[8:], 'little'):#x} left there"
        return wrong(step, "the token replaced by 0", left, "a token is valid once", due.ss_ptr)
    token = row.token_value
    if swaps:
        token = int.from_bytes(swaps[0].bytes[:8], "little")
    good = due.ss_ptr is None or (token is not None and (token - due.ss_ptr) % 2**64 == 8)
    ssp = token if due.ss_ptr is not None and good else before
    if due.refused or not good:
        bad = f"the word at {words.address(due.ss_ptr)} is {words.address(token)}, not a token"
        return _refused(step, due.refused if good else bad, ssp, traced)
    if due.ss_ptr is not None and not swaps:
        return wrong(step, f"the token at {due.ss_ptr:#x} swapped for 0", "nothing swapped",
                     "the frame says", due.ss_ptr)  # fmt: skip
    if after is not None and ssp is not None and after != ssp:
        why = "no header in the frame" if due.ss_ptr is None else "the token's value"
        return wrong(step, f"ssp {ssp:#x}", f"ssp {after:#x}", why, after)
    if step.refused and step.next and step.next.kind == "delivery":
        return wrong(step, "no SIGSEGV", then(step.next), "the frame and its token are good",
                     row.frame, step.next.seq)  # fmt: skip
    return OK


def _refused(step: Handling, why: str, ssp: int | None, traced: bool) -> Outcome:
    """Check for a SIGSEGV forced by the kernel; state restored before it stays restored."""
    row = step.row
    if ssp is not None and row.ssp_after not in (None, ssp):
        actual = f"ssp {words.address(row.ssp_after)}"
        return wrong(step, f"ssp {ssp:#x}", actual, why, row.ssp_after)
    if step.refused:
        return OK
    if traced:
        return Unknown("a debugger may have kept the SIGSEGV")
    if step.followed_by is None:
        return wrong(step, "SIGSEGV", "the task resumed", why, row.frame)
    if None in (step.followed_by.signo, step.followed_by.code):
        return Unknown("the signal after the sigreturn is not recorded")
    came, seq = then(step.followed_by), step.followed_by.seq
    return wrong(step, "SIGSEGV with SI_KERNEL", came, why, row.frame, seq)


def _restored(
    step: Handling,
    layout: Layout,
    delivered: dict[int, Handling],
    blocks: dict[int, tuple[int, int]],
) -> Outcome:
    """Check where the task resumes, and what a signal delivered at once finds restored."""
    frame, pc = step.frame, (step.frame.reg(PC) or 0) & ~1
    if step.seq in blocks and blocks[step.seq][1] != pc:
        seq, found = blocks[step.seq]
        return wrong(step, f"pc {pc:#x}", f"pc {found:#x}", "the frame's", found, seq)
    nested = delivered.get(step.at_once.seq) if step.at_once else None
    if nested is None or nested.row.kind != "delivery" or not nested.frame:
        return OK
    spans = {
        SC_REGS + 8: (REGS_SIZE - 8, "registers"),
        layout.fpregs: (_FP_REGS_SIZE, "fp registers"),
    }
    for offset, (size, name) in spans.items():
        was, now = frame.bytes(UCONTEXT + offset, size), nested.frame.bytes(UCONTEXT + offset, size)
        if was is not None and now is not None and was != now:
            at = UCONTEXT + offset + _first_difference(was, now)
            return wrong(step, f"{name} restored", f"others at {at} of the next frame",
                         "the frame's", nested.frame.base + at, nested.seq)  # fmt: skip
    mask, now_mask = frame.uc(UC_SIGMASK), nested.frame.uc(UC_SIGMASK)
    if mask is not None and now_mask is not None and (due := mask & ~_UNBLOCKABLE) != now_mask:
        return wrong(step, f"mask {due:#x}", f"mask {now_mask:#x}", "the frame's",
                     nested.frame.base + UCONTEXT + UC_SIGMASK, nested.seq)  # fmt: skip
    return OK


def _first_difference(one: bytes, other: bytes) -> int:
    return next(i for i, (a, b) in enumerate(zip(one, other, strict=True)) if a != b)
