"""The signal frame: its bytes, the shadow-stack token on delivery, and rt_sigreturn (G1 to G5).

Offsets are those of arch/riscv's struct rt_sigframe, {siginfo, ucontext}.
The revision's switch `sigframe` decides where the frame holds the shadow-stack pointer.
"""

from __future__ import annotations

import contextlib
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from shstk.schemas.uapi import MINSIGSTKSZ, RISCV_V_MAGIC, RISCV_ZICFISS_MAGIC, SI_KERNEL
from shstk.tracer.kernel.arch import vectors
from shstk.tracer.kernel.call import NO_RETURN, Args, Call, Outcome
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.signal import siginfo, signals
from shstk.tracer.kernel.task import AltStack, SigAction, Siginfo, Task

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel

SA_ONSTACK: Final = 0x0800_0000
SS_ONSTACK: Final = 1
SS_DISABLE: Final = 2
SS_AUTODISARM: Final = 1 << 31

SS_PTR_SIZE: Final = 8
HEADER_SIZE: Final = 8 + SS_PTR_SIZE  # an extension {u32 magic, u32 size, u64 ss_ptr}
END: Final = struct.pack("<II", 0, 0)
MASK64: Final = 2**64 - 1
RA, SP, T0, A0, A1, A2 = 1, 2, 5, 10, 11, 12

# Offset in the frame.
UCONTEXT: Final = siginfo.SIZE
# Offsets in the ucontext.
UC_STACK: Final = 16
UC_STACK_SIZE: Final = 32  # the 4 bytes before it are padding, which the kernel does not write
UC_SIGMASK: Final = 40
SC_REGS: Final = 176


class Layout(NamedTuple):
    """Offsets in the ucontext, and the parts of the frame's size."""

    fpregs: int
    reserved: int  # a word that must be zero
    headers: int  # the extension list
    size: int  # of struct rt_sigframe
    cfi_size: int  # what ss_ptr adds to the extensions of an enabled task
    ss_ptr: int | None = None  # the fixed field, if there is one


LAYOUTS: Final = {
    # struct __sc_riscv_cfi_state {ss_ptr, rsvd} before the fp registers.
    "fixed": Layout(fpregs=448, reserved=964, headers=968, size=1104, cfi_size=0, ss_ptr=432),
    # ss_ptr behind the end header, in nothing of its own.
    "bare": Layout(fpregs=432, reserved=948, headers=952, size=1088, cfi_size=SS_PTR_SIZE),
    # An extension of the list.
    "ext": Layout(fpregs=432, reserved=948, headers=952, size=1088, cfi_size=HEADER_SIZE),
}


def layout_of(k: Kernel) -> Layout:
    return LAYOUTS[k.row["sigframe"]]


def frame_bytes(
    layout: Layout,
    info: Siginfo,
    altstack: AltStack,
    mask: int,
    regs: list[int],
    fpregs: list[int],
    fcsr: int,
    ss_ptr: int | None,
    v_state: bytes = b"",
) -> list[tuple[int, bytes]]:
    """What setup_rt_frame() stores, as (offset in the frame, bytes). It doesn't clear the gaps.

    regs: pc, x1..x31 (user_regs_struct). fpregs: 32 raw words. ss_ptr: None if not enabled.
    v_state: the vector extension header and its data, for a task that has used vectors.
    """
    head = siginfo.pack(info) + struct.pack("<QQQI", 0, 0, altstack.sp, altstack.flags)
    rest = struct.pack("<QQ", altstack.size, mask)
    context = struct.pack("<32Q", *regs)
    fp = struct.pack("<32QI4x", *fpregs, fcsr)
    tail = struct.pack("<I", 0) + v_state
    word = b"" if ss_ptr is None else struct.pack("<Q", ss_ptr)
    if layout.cfi_size == HEADER_SIZE and word:
        tail += struct.pack("<II", RISCV_ZICFISS_MAGIC, HEADER_SIZE) + word
    tail += END
    if layout.cfi_size == SS_PTR_SIZE:
        tail += word
    if layout.ss_ptr is None:
        parts = [(SC_REGS, context + fp)]
    else:
        parts = [(layout.ss_ptr, word)] if word else []
        parts += [(SC_REGS, context), (layout.fpregs, fp)]
    parts = [(UC_STACK_SIZE, rest), *parts, (layout.reserved, tail)]
    return [(0, head), *((UCONTEXT + at, part) for at, part in parts)]


def frame_size(layout: Layout, enabled: bool, vectors_used: bool) -> int:
    """get_rt_frame_size(): extensions add an end header of their own."""
    extensions = vectors.FRAME_SIZE * vectors_used + layout.cfi_size * enabled
    return layout.size + extensions + len(END) * bool(extensions) + 15 & ~15


# Alternate stacks.


def on_altstack(stack: AltStack, sp: int) -> bool:
    """on_sig_stack(): a stack with SS_AUTODISARM is never in use."""
    return not stack.flags & SS_AUTODISARM and _within(stack, sp)


def _within(stack: AltStack, sp: int) -> bool:
    return stack.sp < sp <= stack.sp + stack.size


def altstack_flags(stack: AltStack, sp: int) -> int:
    """sas_ss_flags()."""
    if not stack.size:
        return SS_DISABLE
    return SS_ONSTACK if on_altstack(stack, sp) else 0


def set_altstack(stack: AltStack, new: AltStack, sp: int) -> AltStack:
    """do_sigaltstack(): the new setting. Errno: EPERM, EINVAL, ENOMEM."""
    mode = new.flags & ~SS_AUTODISARM
    if on_altstack(stack, sp):
        raise Errno("EPERM")
    if mode not in (0, SS_ONSTACK, SS_DISABLE):
        raise Errno("EINVAL")
    if mode == SS_DISABLE:
        return AltStack(0, new.flags, 0)
    if new.size < MINSIGSTKSZ:
        raise Errno("ENOMEM")
    return new


def read_altstack(k: Kernel, t: Task, addr: int) -> AltStack:
    return AltStack(*struct.unpack("<QI4xQ", usermem.get(k, t, addr, 24)))


# Delivery.


def push(k: Kernel, t: Task, info: Siginfo, action: SigAction, mask: int) -> bool:
    """Enter a handler: token, frame, registers. False if the frame or the token can't be stored.

    As in the kernel, the token is pushed even if the frame then can't be stored: ssp has moved, and
    a row without a handler records it. ELP is unchanged: the frame has no field for it, so the
    handler is entered with the interrupted code's ELP (G5).
    """
    layout, hart = layout_of(k), t.hart
    enabled = t.cfi.ubcfi_en
    size = frame_size(layout, enabled, hart.v_used)
    regs = hart.regs()
    frame, alt = _place(t, action, regs[SP], size)
    if not usermem.access_ok(frame, size):
        return False
    seq, ssp = k.seq(), hart.ssp
    ss_ptr = _push_token(k, t) if enabled else None
    pieces = frame_bytes(
        layout,
        info,
        t.altstack,
        mask,
        [hart.pc, *regs[1:]],
        [hart.f(i) for i in range(32)],
        hart.fcsr,
        (ss_ptr or 0) if enabled else None,
        vectors.frame(hart, frame + UCONTEXT + layout.headers),
    )
    stored = [_store(k, t, frame + offset, data) for offset, data in pieces]
    done = all(stored) and (ss_ptr is not None or not enabled)
    if done:
        _enter_handler(t, info.signo, action.handler, frame)
    if done or ss_ptr is not None:
        k.rec.row(
            "signals",
            seq=seq,
            tid=t.tid,
            mm=t.mm_id,
            kind="delivery",
            signo=info.signo,
            code=info.code,
            si_addr=info.si_addr,
            sender=info.sender,
            handler=action.handler if done else None,
            frame=frame,
            ss_ptr=ss_ptr,
            token_addr=ss_ptr,
            token_value=ssp if ss_ptr is not None else None,
            ssp_before=ssp,
            ssp_after=hart.ssp,
            alt_stack=alt,
        )
    return done


def _place(t: Task, action: SigAction, sp: int, size: int) -> tuple[int, bool]:
    """get_sigframe(): the frame's address, and whether it is on the alternate stack."""
    stack = t.altstack
    on_it = on_altstack(stack, sp)
    if on_it and not on_altstack(stack, sp - size):
        return MASK64, True  # overflow: return an address that can't be stored to
    if action.flags & SA_ONSTACK and stack.size and not on_it:
        return (stack.sp + stack.size - size) & ~0xF, True
    return (sp - size) & MASK64 & ~0xF, on_it


def _push_token(k: Kernel, t: Task) -> int | None:
    """save_user_shstk(): store ssp in the word below it; ssp becomes that word's address."""
    token = (t.hart.ssp - 8) & MASK64
    try:
        usermem.ss_put(k, t, token, t.hart.ssp)
    except Errno:
        return None
    if k.row["signal_ssp"] == "moved":
        t.hart.ssp = token
    return token


def _store(k: Kernel, t: Task, addr: int, data: bytes) -> bool:
    try:
        usermem.put(k, t, addr, data)
    except Errno:
        return False
    return True


def _enter_handler(t: Task, signo: int, handler: int, frame: int) -> None:
    assert t.mm is not None
    hart = t.hart
    hart.pc = handler & ~1  # sepc's lowest bit reads as zero
    hart.set_x(RA, t.mm.sigreturn)
    if t.cfi.ubcfi_en:
        hart.set_x(T0, t.mm.sigreturn)  # so that a handler's sspopchk t0 sees what sspush ra pushed
    hart.set_x(SP, frame)
    hart.set_x(A0, signo)
    hart.set_x(A1, frame)
    hart.set_x(A2, frame + UCONTEXT)


# Return.


@dataclass
class _Return:
    """The token that a sigreturn found, for its row."""

    ss_ptr: int | None = None
    token: int | None = None


def sys_rt_sigreturn(k: Kernel, t: Task, a: Args) -> Outcome:
    """Any failure raises SIGSEGV; what was restored before it stays restored."""
    hart, frame = t.hart, t.hart.x(SP)
    found, ssp = _Return(), hart.ssp
    alt = _within(t.altstack, frame)
    seq = k.during
    assert t.call is not None
    # If the registers can't be restored, the call returns 0 after its ecall.
    hart.pc = t.call.pc + 4
    own = k.seq()
    try:
        (mask,) = struct.unpack("<Q", _take(k, t, frame + UCONTEXT + UC_SIGMASK, 8))
        signals.set_mask(k, t, mask)
        _restore(k, t, frame + UCONTEXT, found)
        _restore_altstack(k, t, frame + UCONTEXT)
        _restore_field(k, t, frame + UCONTEXT, found)
        failed = False
    except Errno:
        failed = True
        hart.set_x(A0, 0)
    k.rec.row(
        "signals",
        seq=own,
        tid=t.tid,
        mm=t.mm_id,
        kind="sigreturn",
        frame=frame,
        ss_ptr=found.ss_ptr,
        token_addr=found.ss_ptr,
        token_value=found.token,
        ssp_before=ssp,
        ssp_after=hart.ssp,
        alt_stack=alt,
        sigreturn_seq=seq,
    )
    if failed:
        signals.send(k, t, siginfo.SIGSEGV, SI_KERNEL, forced=True)
    return NO_RETURN


def _restore(k: Kernel, t: Task, ucontext: int, found: _Return) -> None:
    """restore_sigcontext()."""
    layout, hart = layout_of(k), t.hart
    regs = struct.unpack("<32Q", _take(k, t, ucontext + SC_REGS, 256))
    hart.pc = regs[0] & ~1
    for i in range(1, 32):
        hart.set_x(i, regs[i])
    *words, fcsr = struct.unpack("<32QI", _take(k, t, ucontext + layout.fpregs, 260))
    for i, word in enumerate(words):
        hart.set_f(i, word)
    hart.fcsr = fcsr & 0xFF
    if any(_take(k, t, ucontext + layout.reserved, 4)):
        raise Errno("EINVAL")
    at = ucontext + layout.headers
    if layout.cfi_size == SS_PTR_SIZE and t.cfi.ubcfi_en:
        behind = len(END) + vectors.FRAME_SIZE * hart.v_used
        _restore_ssp(k, t, _take_u64(k, t, at + behind), found)
    while True:
        magic, size = struct.unpack("<II", _take(k, t, at, 8))
        if magic == 0 and size == 0:
            return
        if magic == RISCV_V_MAGIC:
            if size != vectors.FRAME_SIZE or not hart.v_used:
                raise Errno("EINVAL")
            extension = _take(k, t, at, vectors.HEAD_SIZE)
            registers = _take(k, t, vectors.datap(extension), vectors.DATA)
            vectors.restore(hart, extension, registers)
            at += size
            continue
        known = magic == RISCV_ZICFISS_MAGIC and size == HEADER_SIZE == layout.cfi_size
        if not (known and t.cfi.ubcfi_en):
            raise Errno("EINVAL")
        _restore_ssp(k, t, _take_u64(k, t, at + 8), found)
        at += size


def _take(k: Kernel, t: Task, addr: int, n: int) -> bytes:
    """Read a part of the frame, and record it: the task's new state depends on it."""
    data = usermem.get(k, t, addr, n)
    usermem.note(k, t, "read", addr, data)
    return data


def _take_u64(k: Kernel, t: Task, addr: int) -> int:
    return int.from_bytes(_take(k, t, addr, 8), "little")


def _restore_field(k: Kernel, t: Task, ucontext: int, found: _Return) -> None:
    """The fixed field is read last, whether the shadow stack is enabled or not."""
    field = layout_of(k).ss_ptr
    if field is None:
        return
    ss_ptr = _take_u64(k, t, ucontext + field)
    if t.cfi.ubcfi_en:
        _restore_ssp(k, t, ss_ptr, found)


def _restore_ssp(k: Kernel, t: Task, ss_ptr: int, found: _Return) -> None:
    """restore_user_shstk(): the token is consumed even if it is wrong."""
    found.ss_ptr = ss_ptr
    found.token = usermem.ss_swap(k, t, ss_ptr, 0)
    if (found.token - ss_ptr) & MASK64 != 8:
        raise Errno("EINVAL")
    t.hart.ssp = found.token


def _restore_altstack(k: Kernel, t: Task, ucontext: int) -> None:
    """restore_altstack(): fails only if the setting can't be read. A bad one is ignored."""
    new = AltStack(*struct.unpack("<QI4xQ", _take(k, t, ucontext + UC_STACK, 24)))
    with contextlib.suppress(Errno):
        t.altstack = set_altstack(t.altstack, new, t.hart.x(SP))


CALLS: Final = (Call("rt_sigreturn", sys_rt_sigreturn),)
