"""A signal frame has the layout of its revision.

## What it checks
The frame that the kernel stores has siginfo at 0 with the signal, its code, and the address of a
fault; the ucontext at 128, with uc_flags and uc_link 0; and the general registers at 176 of the
ucontext. The rest depends on the revision's switch sigframe:

    ext     fp registers 432, reserved word 948 (0), list of extensions 952: for an enabled task one
            {0x9487, 16, ss_ptr}, so that ss_ptr is at 960, and the end {0, 0}
    bare    the same without that extension; an enabled task's ss_ptr follows the end, at 960
    fixed   {ss_ptr, reserved} 432, fp registers 448, reserved word 964 (0), list 968

The frame has the size of these parts: 1088 bytes, or for an enabled task 1120 under ext and 1104
under bare; always 1104 under fixed. Its address is that far below sp, or below the alternate
stack's top, rounded down to a multiple of 16.

## Why it matters
Programs, unwinders and debuggers read registers from the frame by these offsets. Code built for one
layout reads the wrong words in the other.

## When it applies
Deliveries to a handler whose frame is recorded. The layout follows the revision under both
expectations.

## Evidence columns
kernel_memory.addr, bytes of what was stored with the delivery; signals.frame, signo, code, si_addr,
token_addr, alt_stack.

## Example
    t1 deliver SIGUSR1 token frame=F { mem_write F+128+948 u32:0,u32:0x9487,u32:24 }

## Not a violation when
the task has used vectors: the list also has an extension 0x53465457 for them, and the frame is
larger by its size.

## How to investigate
    shstk query RUN "SELECT seq, tid, frame, ss_ptr FROM signals WHERE kind = 'delivery'"

## Sources
Series, signal.c and uapi/asm/ptrace.h: v1 22/28 and 23/28 (a field of struct sigcontext), v4 23/30,
Message-ID 20240912231650.3740732-24-debug@rivosinc.com (behind the end), Message-ID
20241001-v5_user_cfi_series-v1-23 (in the list of extension headers); seen on 7.2.13 (signal:
handler, sc_off_from_uc 960, hdr_size 16).
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.derive.handlings import Handling
from shstk.replay.derive.sigframe import (
    FP_SIZE,
    HEADER,
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

NEEDS = (*STATE, "signals", "kernel_memory.tid")
ALSO = ("signals.si_addr", "signals.signo", "signals.token_addr")
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
    """Each deviation from the layout, from the frame's start to its end."""
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
    yield from _place(step, layout, enabled)


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
    wanted = enabled and layout.extended
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
    elif enabled and layout.bare:
        yield from _words(step, {end + HEADER: (8, step.row.token_addr, "ss_ptr")})


def _place(step: Handling, layout: Layout, enabled: bool) -> Iterator[_Fault]:
    """The frame's address: its size below sp, or below the top of the alternate stack."""
    frame = step.frame
    places = (SC_REGS + 8 * SP, UC_STACK, UC_STACK + 16)
    sp, alt_sp, alt_size = (_stored(frame, place) for place in places)
    size = layout.size(sum(e.size for e in frame.extensions(layout)[0]), enabled)
    alt_top = alt_sp + alt_size
    tops = {False: {sp}, True: {sp} if alt_sp < sp <= alt_top else {alt_top}, None: {sp, alt_top}}
    due = {(top - size) % 2**64 // 16 * 16 for top in tops[step.row.alt_stack]}
    if frame.base not in due:
        below = "the alternate stack's top" if step.row.alt_stack else "sp"
        expected = f"{size} bytes below {below}: {min(due):#x}"
        yield 0, expected, f"{frame.base:#x}"


def _stored(frame: Frame, offset: int) -> int:
    """A word of the ucontext that _faults has already found stored."""
    word = frame.uc(offset)
    assert word is not None
    return word


def _shown(value: int | None) -> str:
    return "not stored" if value is None else f"{value:#x}"
