"""A signal frame holds each part where its revision's layout has it.

## What it checks
The frame's bytes as the kernel stored them: siginfo at 0 with the signal, its code, and the address
of a fault; the ucontext at 128, with uc_flags and uc_link 0; the general registers at 176 of it;
then, by the revision's switch sigframe:

    ext     fp registers 432, reserved word 948 (0), list of extensions 952: for an enabled task one
            {0x9487, 16, ss_ptr}, so that ss_ptr stands at 960, and the end {0, 0}
    fixed   {ss_ptr, reserved} 432, fp registers 448, reserved word 964 (0), end 968 (?)

The frame is as large as that takes, 1088 or 1120 bytes under ext, and stands that far below sp, or
below the alternate stack's top, rounded down to 16.

## Why it matters
Programs read registers out of the frame by these offsets, unwinders and debuggers too. What was
built for one layout reads something else in the other.

## When it applies
Deliveries to a handler whose frame is recorded. The layout follows the revision under both
expectations; of the fixed one no source tells more than that the field stands before the fp union.

## Evidence columns
kernel_memory.addr, bytes of what was stored with the delivery; signals.frame, signo, code, si_addr,
token_addr, alt_stack.

## Example
    t1 deliver SIGUSR1 token frame=F { mem_write F+128+948 u32:0,u32:0x9487,u32:24 }

## Not a violation when
the task has used vectors: an extension 0x53465457 of their size stands in the list too, and the
frame is larger by it.

## How to investigate
    shstk query RUN "SELECT seq, tid, frame, ss_ptr FROM signals WHERE kind = 'delivery'"

## Sources
Series, signal.c and uapi/asm/ptrace.h: from v4 or v5 in the list of extension headers, in v3 a
field of struct sigcontext; seen on 7.2.13 (signal: handler, sc_off_from_uc 960, hdr_size 16).
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.derive.handlings import Handling
from shstk.replay.derive.sigframe import (
    FP_SIZE,
    LAYOUTS,
    REGS_SIZE,
    SC_REGS,
    SI_ADDR,
    SI_CODE,
    SI_SIGNO,
    SP,
    UC_FLAGS,
    UC_LINK,
    UC_SIGMASK,
    UC_STACK,
    UCONTEXT,
    ZICFISS_SIZE,
    Frame,
    Layout,
)
from shstk.replay.facts import STATE, Facts
from shstk.replay.rules.outcome import OK, Outcome, Unknown
from shstk.replay.rules.signal_steps import deliveries, wrong
from shstk.schemas.uapi import RISCV_V_MAGIC, RISCV_ZICFISS_MAGIC

NEEDS = (*STATE, "signals")
APPLIES = "delivery of a signal to a handler"
RESTS_ON = ("sigframe",)

_Fault = tuple[int, str, str]  # offset in the frame, expected, actual


def check(facts: Facts) -> Iterator[Outcome]:
    layout = LAYOUTS[facts.law.sigframe]
    for step in deliveries(facts):
        if step.row.handler is None:
            continue
        if not step.frame:
            yield Unknown("the frame's bytes are not recorded")
            continue
        enabled = facts.supported and step.state.enabled
        first = next(_faults(step, layout, enabled), None)
        if first is None:
            yield OK
        else:
            offset, expected, actual = first
            why = f"the frame at {offset} of {step.frame.base:#x}"
            yield wrong(step, expected, actual, why, step.frame.base + offset)


def _faults(step: Handling, layout: Layout, enabled: bool) -> Iterator[_Fault]:
    """What is not where it should be, from the frame's begin to its end."""
    yield from _siginfo(step)
    yield from _words(step, {UC_FLAGS: (8, 0, "uc_flags"), UC_LINK: (8, 0, "uc_link")})
    spans = {
        UC_STACK: (12, "ss_sp and ss_flags"),  # and 4 bytes of padding, which it leaves alone
        UC_STACK + 16: (8, "ss_size"),
        UC_SIGMASK: (8, "uc_sigmask"),
        SC_REGS: (REGS_SIZE, "sc_regs"),
        layout.fpregs: (FP_SIZE, "the fp registers"),
    }
    for offset, (size, name) in spans.items():
        if step.frame.bytes(UCONTEXT + offset, size) is None:
            yield UCONTEXT + offset, f"{name}, {size} bytes", "not all stored"
    if enabled and layout.ss_ptr is not None:
        yield from _words(step, {layout.ss_ptr: (8, step.row.token_addr, "ss_ptr")})
    yield from _words(step, {layout.reserved: (4, 0, "the reserved word")})
    yield from _extensions(step, layout, enabled)
    yield from _place(step, layout)


def _siginfo(step: Handling) -> Iterator[_Fault]:
    row, frame = step.row, step.frame
    code = None if row.code is None else row.code % 2**32
    due = {SI_SIGNO: (4, row.signo, "si_signo"), SI_CODE: (4, code, "si_code")}
    if row.si_addr is not None:
        due[SI_ADDR] = (8, row.si_addr, "si_addr")
    for offset, (size, value, name) in due.items():
        found = frame.word(offset, size)
        if value is not None and found != value:
            yield offset, f"{name} {value:#x}", _shown(found)


def _words(step: Handling, due: dict[int, tuple[int, int | None, str]]) -> Iterator[_Fault]:
    """Words of the ucontext: offset → size, value, name."""
    for offset, (size, value, name) in due.items():
        found = step.frame.uc(offset, size)
        if value is not None and found != value:
            yield UCONTEXT + offset, f"{name} {value:#x}", _shown(found)


def _extensions(step: Handling, layout: Layout, enabled: bool) -> Iterator[_Fault]:
    found, end = step.frame.extensions(layout)
    wanted = enabled and layout.ss_ptr is None
    own = [e for e in found if e.magic == RISCV_ZICFISS_MAGIC]
    for extension in found:
        if extension.magic not in (RISCV_V_MAGIC, RISCV_ZICFISS_MAGIC):
            yield UCONTEXT + extension.offset, "a known extension", f"magic {extension.magic:#x}"
    for extension in own if wanted else []:
        if extension.size != ZICFISS_SIZE:
            yield UCONTEXT + extension.offset + 4, f"size {ZICFISS_SIZE}", f"size {extension.size}"
        yield from _words(step, {extension.offset + 8: (8, step.row.token_addr, "ss_ptr")})
    if len(own) != wanted:
        place = own[0].offset if own else layout.extensions
        expected = "an extension 0x9487" if wanted else "no extension 0x9487"
        yield UCONTEXT + place, expected, f"{len(own)} of them"
    if end is None:
        last = found[-1].offset + found[-1].size if found else layout.extensions
        yield UCONTEXT + last, "the end {0, 0}", "no end"


def _place(step: Handling, layout: Layout) -> Iterator[_Fault]:
    """The frame's address: its size below sp, or below the top of the alternate stack."""
    frame = step.frame
    places = (SC_REGS + 8 * SP, UC_STACK, UC_STACK + 16)
    sp, alt_sp, alt_size = (_stored(frame, place) for place in places)
    size = layout.size(sum(e.size for e in frame.extensions(layout)[0]))
    alt_top = alt_sp + alt_size
    tops = {False: {sp}, True: {sp} if alt_sp < sp <= alt_top else {alt_top}, None: {sp, alt_top}}
    due = {(top - size) % 2**64 // 16 * 16 for top in tops[step.row.alt_stack]}
    if frame.base not in due:
        below = "the alternate stack's top" if step.row.alt_stack else "sp"
        expected = f"{size} bytes below {below}: {min(due):#x}"
        yield 0, expected, f"{frame.base:#x}"


def _stored(frame: Frame, offset: int) -> int:
    """A word of the ucontext that the walk over the frame has found stored."""
    word = frame.uc(offset)
    assert word is not None
    return word


def _shown(value: int | None) -> str:
    return "not stored" if value is None else f"{value:#x}"
