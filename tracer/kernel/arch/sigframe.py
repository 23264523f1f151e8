"""The signal frame: its bytes, the shadow-stack token on delivery, and rt_sigreturn (G1 to G5).

Offsets are those of arch/riscv's struct rt_sigframe, {siginfo, ucontext}.
Where the frame keeps the shadow-stack pointer is the revision's switch `sigframe`.
"""

from __future__ import annotations

import contextlib
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import MINSIGSTKSZ, RISCV_V_MAGIC, RISCV_ZICFISS_MAGIC, SI_KERNEL
from shstk.tracer.kernel.arch import vectors
from shstk.tracer.kernel.call import NO_RETURN, Args, Call, Outcome
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.signal import siginfo, signals
from shstk.tracer.kernel.task import AltStack, SigAction, Siginfo, Task

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel

# __vdso_rt_sigreturn: li a7, 139; ecall. Handlers come back to it by `ret`, so it needs no lpad.
VDSO_CODE: Final = struct.pack("<II", 0x08B0_0893, 0x0000_0073)

SA_ONSTACK: Final = 0x0800_0000
SS_ONSTACK: Final = 1
SS_DISABLE: Final = 2
SS_AUTODISARM: Final = 1 << 31

HEADER_SIZE: Final = 16  # {u32 magic, u32 size, u64 ss_ptr}
END: Final = struct.pack("<II", 0, 0)
MASK64: Final = 2**64 - 1
RA, SP, T0, A0, A1, A2 = 1, 2, 5, 10, 11, 12

# In the frame.
UCONTEXT: Final = siginfo.SIZE
# In the ucontext.
UC_STACK: Final = 16
UC_STACK_SIZE: Final = 32  # the 4 bytes before it are padding, which the kernel does not write
UC_SIGMASK: Final = 40
SC_REGS: Final = 176


@dataclass(frozen=True)
class Layout:
    """Where things stand in the ucontext, and the frame's size without and with a shadow stack."""

    fpregs: int
    reserved: int  # a word that must be zero
    headers: int  # the extension list
    size: int
    size_enabled: int
    ss_ptr: int | None = None  # the fixed field; else ss_ptr travels in an extension header

    @property
    def fcsr(self) -> int:
        return self.fpregs + 32 * 8


LAYOUTS: Final = {
    # v3's field (?): {ss_ptr, reserved} before the fp registers.
    "fixed": Layout(
        fpregs=448, reserved=964, headers=968, size=1104, size_enabled=1104, ss_ptr=432
    ),
    "ext": Layout(fpregs=432, reserved=948, headers=952, size=1088, size_enabled=1120),
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
    """What setup_rt_frame() stores, as (offset in the frame, bytes); the gaps keep what was there.

    regs: pc, x1..x31 (user_regs_struct). fpregs: 32 raw words. ss_ptr: None if not enabled.
    v_state: the extension header of a task that has used them, with what follows it.
    """
    head = siginfo.pack(info) + struct.pack("<QQQI", 0, 0, altstack.sp, altstack.flags)
    rest = struct.pack("<QQ", altstack.size, mask)
    context = struct.pack("<32Q", *regs)
    if layout.ss_ptr is not None:
        context += struct.pack("<QQ", ss_ptr or 0, 0)
    context += struct.pack("<32QI4x", *fpregs, fcsr)
    tail = struct.pack("<I", 0) + v_state
    if layout.ss_ptr is None and ss_ptr is not None:
        tail += struct.pack("<IIQ", RISCV_ZICFISS_MAGIC, HEADER_SIZE, ss_ptr)
    tail += END
    return [
        (0, head),
        (UCONTEXT + UC_STACK_SIZE, rest),
        (UCONTEXT + SC_REGS, context),
        (UCONTEXT + layout.reserved, tail),
    ]


def frame_size(layout: Layout, enabled: bool, vectors_used: bool) -> int:
    """get_rt_frame_size(): extension headers bring an end header of their own."""
    size = layout.size_enabled if enabled else layout.size
    if not vectors_used:
        return size
    own = HEADER_SIZE if enabled and layout.ss_ptr is None else 0
    return layout.size + vectors.FRAME_SIZE + own + len(END) + 15 & ~15


# Alternate stacks.


def on_altstack(stack: AltStack, sp: int) -> bool:
    """on_sig_stack(): an autodisarmed one never counts as being in use."""
    return not stack.flags & SS_AUTODISARM and _within(stack, sp)


def _within(stack: AltStack, sp: int) -> bool:
    return stack.sp < sp <= stack.sp + stack.size


def altstack_flags(stack: AltStack, sp: int) -> int:
    """sas_ss_flags()."""
    if not stack.size:
        return SS_DISABLE
    return SS_ONSTACK if on_altstack(stack, sp) else 0


def set_altstack(stack: AltStack, new: AltStack, sp: int) -> AltStack:
    """do_sigaltstack(): the new setting, or EPERM, EINVAL, ENOMEM."""
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

    The token is pushed even where the frame then can't be, as in the kernel: ssp has moved, and a
    row without a handler says so. ELP is left alone: the frame has no place for it, so the handler
    is entered with the interrupted one (G5).
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
    """get_sigframe(): the frame's address, and whether it lies on the alternate stack."""
    stack = t.altstack
    on_it = on_altstack(stack, sp)
    if on_it and not on_altstack(stack, sp - size):
        return MASK64, True  # overflowing it: an address that can't be stored to, so SIGSEGV
    if action.flags & SA_ONSTACK and stack.size and not on_it:
        return (stack.sp + stack.size - size) & ~0xF, True
    return (sp - size) & MASK64 & ~0xF, on_it


def _push_token(k: Kernel, t: Task) -> int | None:
    """create_rstor_token(): the word below ssp gets the old ssp; its address is the new one."""
    token = (t.hart.ssp - 8) & MASK64
    try:
        usermem.ss_put(k, t, token, t.hart.ssp)
    except Errno:
        return None
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
    hart.set_x(RA, t.mm.vdso)
    if t.cfi.ubcfi_en:
        hart.set_x(T0, t.mm.vdso)  # so that a handler's sspopchk t0 sees what sspush ra pushed
    hart.set_x(SP, frame)
    hart.set_x(A0, signo)
    hart.set_x(A1, frame)
    hart.set_x(A2, frame + UCONTEXT)


# Return.


@dataclass
class _Return:
    """What a sigreturn found of the token, for its row."""

    ss_ptr: int | None = None
    token: int | None = None


def sys_rt_sigreturn(k: Kernel, t: Task, a: Args) -> Outcome:
    """Whatever fails ends in SIGSEGV; what was restored before it stays restored."""
    hart, frame = t.hart, t.hart.x(SP)
    found, ssp = _Return(), hart.ssp
    alt = _within(t.altstack, frame)
    seq = k.during
    assert t.call is not None
    # Should the registers not come to be restored: the call returns 0 behind its ecall.
    hart.pc = t.call.pc + 4
    own = k.seq()
    try:
        (mask,) = struct.unpack("<Q", _take(k, t, frame + UCONTEXT + UC_SIGMASK, 8))
        signals.set_mask(k, t, mask)
        _restore(k, t, frame + UCONTEXT, found)
        _restore_altstack(k, t, frame + UCONTEXT)
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
    if layout.ss_ptr is not None and t.cfi.ubcfi_en:
        _restore_ssp(k, t, ucontext + layout.ss_ptr, found)
    *words, fcsr = struct.unpack("<32QI", _take(k, t, ucontext + layout.fpregs, 260))
    for i, word in enumerate(words):
        hart.set_f(i, word)
    hart.fcsr = fcsr & 0xFF
    if any(_take(k, t, ucontext + layout.reserved, 4)):
        raise Errno("EINVAL")
    at = ucontext + layout.headers
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
        known = layout.ss_ptr is None and magic == RISCV_ZICFISS_MAGIC and size == HEADER_SIZE
        if not (known and t.cfi.ubcfi_en):
            raise Errno("EINVAL")
        _restore_ssp(k, t, at + 8, found)
        at += size


def _take(k: Kernel, t: Task, addr: int, n: int) -> bytes:
    """A part of the frame, as the program left it: what becomes of the task follows from it."""
    data = usermem.get(k, t, addr, n)
    usermem.note(k, t, "read", addr, data)
    return data


def _restore_ssp(k: Kernel, t: Task, addr: int, found: _Return) -> None:
    """restore_user_shstk(): the token is used up even when it turns out wrong."""
    (ss_ptr,) = struct.unpack("<Q", _take(k, t, addr, 8))
    found.ss_ptr = ss_ptr
    found.token = usermem.ss_swap(k, t, ss_ptr, 0)
    if (found.token - ss_ptr) & MASK64 != 8:
        raise Errno("EINVAL")
    t.hart.ssp = found.token


def _restore_altstack(k: Kernel, t: Task, ucontext: int) -> None:
    """restore_altstack(): only an unreadable one fails; a bad one is left as it was."""
    new = AltStack(*struct.unpack("<QI4xQ", _take(k, t, ucontext + UC_STACK, 24)))
    with contextlib.suppress(Errno):
        t.altstack = set_altstack(t.altstack, new, t.hart.x(SP))


CALLS: Final = (Call("rt_sigreturn", sys_rt_sigreturn),)
