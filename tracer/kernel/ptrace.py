"""ptrace: a child that asks to be traced stops at each signal, and its parent looks at it.

A stopped task has `ptrace_stop`, the status its tracer's wait gets. When it is let go on, the
signal it takes with it (or none) lies in `ptrace["resume"]` until deliver_pending picks it up.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tracer.kernel import siginfo, signals, usermem
from tracer.kernel.call import Args, Call, Outcome
from tracer.kernel.errno import Errno
from tracer.kernel.siginfo import CLD_TRAPPED, NSIG, SI_USER, SIGKILL, SIGTRAP, bit
from tracer.kernel.task import STOPPED, Process, Siginfo, Task

if TYPE_CHECKING:
    from tracer.kernel.kernel import Kernel

STOPPED_STATUS: Final = 0x7F  # of a wait status: stopped, by the signal in the next byte

# cfi_state of struct user_cfi_state (T1).
LP_EN: Final = 1 << 0
LP_LOCK: Final = 1 << 1
ELP: Final = 1 << 2
SS_EN: Final = 1 << 3
SS_LOCK: Final = 1 << 4
SS_PTR: Final = 1 << 5
CFI_SETTABLE: Final = ELP | SS_PTR


# Stopping and going on.


def signal_stop(k: Kernel, t: Task, info: Siginfo) -> None:
    """ptrace_signal(): stop before `info` is acted upon; tell the tracer."""
    assert t.tracer is not None
    t.ptrace_stop = info.signo << 8 | STOPPED_STATUS
    t.ptrace_reported = False
    t.ptrace["info"] = info
    t.state = STOPPED
    k.sched.remove(t)
    signals.notify(k, t.tracer.process, t.tid, CLD_TRAPPED, info.signo)


def is_stopped(t: Task) -> bool:
    return t.ptrace_stop is not None


def resume(k: Kernel, t: Task, signo: int) -> None:
    """Let a stopped task go on with a signal: the one it stopped at, another, or 0 for none."""
    info: Siginfo = t.ptrace["info"]
    if signo:
        assert t.tracer is not None
        own = info.signo == signo
        t.ptrace["resume"] = info if own else Siginfo(signo, SI_USER, t.tracer.process.pid)
    release(k, t)


def release(k: Kernel, t: Task) -> None:
    """Out of the ptrace-stop, whatever becomes of the signal."""
    t.ptrace_stop = None
    t.ptrace.pop("info", None)
    if t.state == STOPPED:
        signals.run_on(k, t)


def take_resumed(k: Kernel, t: Task) -> Siginfo | None:
    """The signal the tracer let through; if the task blocks it by now, it waits in the queue."""
    info: Siginfo | None = t.ptrace.pop("resume", None)
    if info is not None and t.sigmask & bit(info.signo):
        signals.queue(k, t, info)
        return None
    return info


def tracer_gone(k: Kernel, tracer: Process) -> None:
    """exit_ptrace(): its tracees run on, with the signal they stopped at."""
    for t in k.tasks.values():
        if t.tracer is not None and t.tracer.process is tracer:
            if is_stopped(t):
                resume(k, t, t.ptrace["info"].signo)
            t.tracer = None


def exec_done(k: Kernel, t: Task) -> None:
    """A traced task stops after execve as if by SIGTRAP."""
    if t.tracer is not None:
        signals.send(k, t, SIGTRAP, SI_USER, sender=t.process.pid)


# Register sets.


@dataclass(frozen=True)
class Regset:
    """`word`: bytes an iov_len must be a multiple of."""

    word: int
    get: Callable[[Task], bytes]
    set: Callable[[Task, bytes], None]


def _get_gpr(t: Task) -> bytes:
    """user_regs_struct: pc, x1..x31."""
    return struct.pack("<32Q", t.hart.pc, *t.hart.regs()[1:])


def _set_gpr(t: Task, data: bytes) -> None:
    words = struct.unpack(f"<{len(data) // 8}Q", data)
    for i, word in enumerate(words):
        if i == 0:
            t.hart.pc = word & ~1
        else:
            t.hart.set_x(i, word)


def _get_fpr(t: Task) -> bytes:
    """__riscv_d_ext_state: f0..f31, fcsr."""
    return struct.pack("<32QI4x", *(t.hart.f(i) for i in range(32)), t.hart.fcsr)


def _set_fpr(t: Task, data: bytes) -> None:
    for i, word in enumerate(struct.unpack(f"<{len(data) // 8}Q", data)):
        if i < 32:
            t.hart.set_f(i, word)
        else:
            t.hart.fcsr = word & 0xFF


def _get_cfi(t: Task) -> bytes:
    """user_cfi_state: {cfi_state, shstk_ptr}."""
    cfi, state, ssp = t.cfi, 0, 0
    if cfi.lp_en:
        state |= LP_EN | LP_LOCK * cfi.lp_locked | ELP * t.hart.elp
    if cfi.ubcfi_en:
        state |= SS_EN | SS_PTR | SS_LOCK * cfi.ubcfi_locked
        ssp = t.hart.ssp
    return struct.pack("<QQ", state, ssp)


def _set_cfi(t: Task, data: bytes) -> None:
    """Nothing can be turned on, off or locked from outside; ssp and ELP can be moved."""
    state, ssp = struct.unpack("<QQ", data.ljust(16, b"\0"))
    if state & ~CFI_SETTABLE:
        raise Errno("EINVAL")
    if t.cfi.lp_en:
        t.hart.elp = bool(state & ELP)
    if t.cfi.ubcfi_en and state & SS_PTR:
        t.hart.ssp = ssp


REGSETS: Final = {
    0x1: Regset(8, _get_gpr, _set_gpr),  # NT_PRSTATUS
    0x2: Regset(8, _get_fpr, _set_fpr),  # NT_PRFPREG
    0x903: Regset(8, _get_cfi, _set_cfi),  # NT_RISCV_USER_CFI
}


# Requests.


def _traceme(k: Kernel, t: Task) -> int:
    if t.tracer is not None or t.process.parent is None:
        raise Errno("EPERM")
    t.tracer = t.process.parent.leader
    return 0


def _peek(k: Kernel, t: Task, child: Task, addr: int, data: int) -> int:
    """The raw call stores the word at `data`; the C library makes a result of it."""
    word = child.space.read(addr, 8, force=True)
    if word is None:
        raise Errno("EIO")
    usermem.note(k, child, "read", addr, word)
    usermem.put(k, t, data, word)
    return 0


def _poke(k: Kernel, t: Task, child: Task, addr: int, data: int) -> int:
    word = struct.pack("<Q", data)
    if not child.space.write(addr, word, force=True):
        raise Errno("EIO")
    usermem.note(k, child, "write", addr, word)
    return 0


def _cont(k: Kernel, t: Task, child: Task, addr: int, data: int) -> int:
    if data > NSIG:
        raise Errno("EIO")
    resume(k, child, data)
    return 0


def _detach(k: Kernel, t: Task, child: Task, addr: int, data: int) -> int:
    _cont(k, t, child, addr, data)
    child.tracer = None
    return 0


def _setoptions(k: Kernel, t: Task, child: Task, addr: int, data: int) -> int:
    """PTRACE_O_EXITKILL alone means nothing here: a tracer is a parent that waits."""
    if data & ~PTRACE_O_EXITKILL:
        k.warn(f"ptrace: options {data:#x} are not modelled (EINVAL)")
        raise Errno("EINVAL")
    return 0


def _getsiginfo(k: Kernel, t: Task, child: Task, addr: int, data: int) -> int:
    usermem.put(k, t, data, siginfo.pack(child.ptrace["info"]))
    return 0


def _setsiginfo(k: Kernel, t: Task, child: Task, addr: int, data: int) -> int:
    raw = usermem.get(k, t, data, siginfo.SIZE)
    usermem.note(k, t, "read", data, raw)
    signo = int(struct.unpack_from("<i", raw)[0])
    child.ptrace["info"] = siginfo.from_user(raw, signo, t.process.pid)
    return 0


def _getregset(k: Kernel, t: Task, child: Task, addr: int, data: int) -> int:
    regset, base, length = _iovec(k, t, addr, data)
    value = regset.get(child)[:length]
    usermem.put(k, t, base, value)
    usermem.put_u64(k, t, data + 8, len(value))
    return 0


def _setregset(k: Kernel, t: Task, child: Task, addr: int, data: int) -> int:
    regset, base, length = _iovec(k, t, addr, data)
    value = usermem.get(k, t, base, min(length, len(regset.get(child))))
    usermem.note(k, t, "read", base, value)
    regset.set(child, value)
    usermem.put_u64(k, t, data + 8, len(value))
    return 0


def _iovec(k: Kernel, t: Task, kind: int, addr: int) -> tuple[Regset, int, int]:
    base, length = usermem.get_u64(k, t, addr), usermem.get_u64(k, t, addr + 8)
    regset = REGSETS.get(kind & 0xFFFF_FFFF)
    if regset is None or length % regset.word:
        raise Errno("EINVAL")
    return regset, base, length


PTRACE_TRACEME: Final = 0
PTRACE_KILL: Final = 8
PTRACE_O_EXITKILL: Final = 1 << 20

# Requests on a stopped tracee.
REQUESTS: Final[dict[int, Callable[[Kernel, Task, Task, int, int], int]]] = {
    1: _peek,  # PTRACE_PEEKTEXT
    2: _peek,  # PTRACE_PEEKDATA
    4: _poke,  # PTRACE_POKETEXT
    5: _poke,  # PTRACE_POKEDATA
    7: _cont,  # PTRACE_CONT
    17: _detach,  # PTRACE_DETACH
    0x4200: _setoptions,  # PTRACE_SETOPTIONS
    0x4202: _getsiginfo,  # PTRACE_GETSIGINFO
    0x4203: _setsiginfo,  # PTRACE_SETSIGINFO
    0x4204: _getregset,  # PTRACE_GETREGSET
    0x4205: _setregset,  # PTRACE_SETREGSET
}
UNMODELLED: Final = {
    9: "PTRACE_SINGLESTEP",
    16: "PTRACE_ATTACH",
    24: "PTRACE_SYSCALL",
    0x4201: "PTRACE_GETEVENTMSG",
    0x4206: "PTRACE_SEIZE",
    0x4207: "PTRACE_INTERRUPT",
    0x4208: "PTRACE_LISTEN",
}


def sys_ptrace(k: Kernel, t: Task, a: Args) -> Outcome:
    request, tid, addr, data = a[0], a[1] & 0xFFFF_FFFF, a[2], a[3]
    if request == PTRACE_TRACEME:
        return _traceme(k, t)
    child = k.tasks.get(tid)
    if child is None:
        raise Errno("ESRCH")
    if request in UNMODELLED:
        k.warn(f"ptrace: {UNMODELLED[request]} is not modelled (EIO)")
        raise Errno("EIO")
    if child.tracer is None or child.tracer.process is not t.process:
        raise Errno("ESRCH")
    if request == PTRACE_KILL:
        signals.send(k, child, SIGKILL, SI_USER, sender=t.process.pid)
        return 0
    if not is_stopped(child):
        raise Errno("ESRCH")
    if request not in REQUESTS:
        raise Errno("EIO")
    return REQUESTS[request](k, t, child, addr, data)


CALLS: Final = (
    Call(
        117,
        "ptrace",
        sys_ptrace,
        why="no attaching, stepping, events or stops at system calls",
    ),
)
