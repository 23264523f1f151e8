"""ptrace(2): one row per request."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import (
    NT_RISCV_USER_CFI,
    PTRACE_ATTACH,
    PTRACE_CONT,
    PTRACE_DETACH,
    PTRACE_GET_SYSCALL_INFO,
    PTRACE_GETEVENTMSG,
    PTRACE_GETREGSET,
    PTRACE_GETSIGINFO,
    PTRACE_GETSIGMASK,
    PTRACE_INTERRUPT,
    PTRACE_KILL,
    PTRACE_LISTEN,
    PTRACE_PEEKDATA,
    PTRACE_PEEKSIGINFO,
    PTRACE_PEEKTEXT,
    PTRACE_POKEDATA,
    PTRACE_POKETEXT,
    PTRACE_SEIZE,
    PTRACE_SETOPTIONS,
    PTRACE_SETREGSET,
    PTRACE_SETSIGINFO,
    PTRACE_SETSIGMASK,
    PTRACE_SINGLESTEP,
    PTRACE_SYSCALL,
    PTRACE_TRACEME,
    SI_USER,
)
from shstk.tracer.kernel.arch.regsets import REGSETS, Regset
from shstk.tracer.kernel.arch.shstk import regset_usable
from shstk.tracer.kernel.call import Args, Call, Outcome
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.process import ptrace
from shstk.tracer.kernel.process.ptrace import stop_of
from shstk.tracer.kernel.signal import siginfo, signals
from shstk.tracer.kernel.signal.siginfo import NSIG, SIGKILL, SIGTRAP
from shstk.tracer.kernel.task import DEAD, ZOMBIE, Task

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel


def _traceme(k: Kernel, t: Task) -> int:
    parent = t.process.parent
    if t.tracer is not None or parent is None or parent.outside:
        raise Errno("EPERM")
    t.tracer = parent.leader
    t.ptrace.options, t.ptrace.seized = 0, False
    return 0


def _peek(k: Kernel, t: Task, child: Task, addr: int, data: int) -> int:
    """The raw call stores the word at `data`. The C library returns it."""
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


def _go_on(k: Kernel, child: Task, signo: int, calls: bool = False) -> int:
    if signo > NSIG:
        raise Errno("EIO")
    child.ptrace.calls = calls
    ptrace.resume(k, child, signo)
    return 0


def _cont(k: Kernel, t: Task, child: Task, addr: int, data: int) -> int:
    return _go_on(k, child, data)


def _to_next_call(k: Kernel, t: Task, child: Task, addr: int, data: int) -> int:
    return _go_on(k, child, data, calls=True)


def _singlestep(k: Kernel, t: Task, child: Task, addr: int, data: int) -> int:
    """No RISC-V kernel has arch_has_single_step(): debuggers set breakpoints."""
    raise Errno("EIO")


def _detach(k: Kernel, t: Task, child: Task, addr: int, data: int) -> int:
    if data > NSIG:
        raise Errno("EIO")
    ptrace.detach(k, child, data)
    return 0


def _check_options(k: Kernel, options: int) -> None:
    if options & ~_OPTIONS:
        k.limit("ptrace", "no other options", f"{options & ~_OPTIONS:#x}")
        raise Errno("EINVAL")


def _setoptions(k: Kernel, t: Task, child: Task, addr: int, data: int) -> int:
    _check_options(k, data)
    child.ptrace.options = data
    return 0


def _geteventmsg(k: Kernel, t: Task, child: Task, addr: int, data: int) -> int:
    usermem.put_u64(k, t, data, child.ptrace.message)
    return 0


def _getsigmask(k: Kernel, t: Task, child: Task, addr: int, data: int) -> int:
    if addr != 8:
        raise Errno("EINVAL")
    usermem.put_u64(k, t, data, child.sigmask)
    return 0


def _setsigmask(k: Kernel, t: Task, child: Task, addr: int, data: int) -> int:
    if addr != 8:
        raise Errno("EINVAL")
    signals.set_mask(k, child, usermem.get_u64(k, t, data))
    return 0


def _get_syscall_info(k: Kernel, t: Task, child: Task, addr: int, data: int) -> int:
    """struct ptrace_syscall_info. addr: the size of the buffer. Returns the size of the struct."""
    code = stop_of(child).info.code & ~0x80
    op, *words = child.ptrace.syscall if code == SIGTRAP else (0,)
    value = struct.pack("<B3xIQQ", op, _AUDIT_ARCH_RISCV64, child.hart.pc, child.hart.x(2))
    value += struct.pack("<QB", *words) if op == 2 else struct.pack(f"<{len(words)}Q", *words)
    usermem.put(k, t, data, value[:addr])
    return len(value)


def _getsiginfo(k: Kernel, t: Task, child: Task, addr: int, data: int) -> int:
    if stop_of(child).kind == "group":
        raise Errno("EINVAL")
    usermem.put(k, t, data, siginfo.pack(stop_of(child).info))
    return 0


def _setsiginfo(k: Kernel, t: Task, child: Task, addr: int, data: int) -> int:
    raw = usermem.get(k, t, data, siginfo.SIZE)
    usermem.note(k, t, "read", data, raw)
    signo = int(struct.unpack_from("<i", raw)[0])
    stop_of(child).info = siginfo.from_user(raw, signo, t.process.pid)
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
    kind &= 0xFFFF_FFFF
    regset = REGSETS.get(kind)
    if regset is None or length % regset.word:
        raise Errno("EINVAL")
    if kind == NT_RISCV_USER_CFI and not regset_usable(k):
        raise Errno("EINVAL")
    return regset, base, length


def _may_attach(t: Task, child: Task) -> None:
    """Errno: EPERM for a thread of the caller, a tracee, a dead task, or one not dumpable."""
    gone = child.state in (ZOMBIE, DEAD) or child.process.outside
    if child.process is t.process or child.tracer is not None or gone or not child.process.dumpable:
        raise Errno("EPERM")


def _attach(k: Kernel, t: Task, child: Task, addr: int, data: int) -> int:
    _may_attach(t, child)
    ptrace.attach(k, child, t, 0, seized=False)
    return 0


def _seize(k: Kernel, t: Task, child: Task, addr: int, data: int) -> int:
    if addr:
        raise Errno("EIO")
    _check_options(k, data)
    _may_attach(t, child)
    ptrace.attach(k, child, t, data, seized=True)
    return 0


def _kill(k: Kernel, t: Task, child: Task, addr: int, data: int) -> int:
    signals.send(k, child, SIGKILL, SI_USER, sender=t.process.pid)
    return 0


def _interrupt(k: Kernel, t: Task, child: Task, addr: int, data: int) -> int:
    if not child.ptrace.seized:
        raise Errno("EIO")
    ptrace.interrupt(k, child)
    return 0


def _listen(k: Kernel, t: Task, child: Task, addr: int, data: int) -> int:
    """A seized task that its group's stop has stopped stays so, but tells what happens to it."""
    stop = stop_of(child)
    if not child.ptrace.seized or stop.info.code >> 8 != ptrace.EVENT_STOP:
        raise Errno("EIO")
    stop.listening = True
    if child.ptrace.traps:  # it has been continued since it stopped
        ptrace.release(k, child)
    return 0


def _peeksiginfo(k: Kernel, t: Task, child: Task, addr: int, data: int) -> int:
    """struct ptrace_peeksiginfo_args: from which signal on, whether of the process, how many."""
    start, flags, most = struct.unpack("<QIi", usermem.get(k, t, addr, 16))
    if flags & ~1 or most < 0:
        raise Errno("EINVAL")
    queue = child.process.pending if flags & 1 else child.pending
    found = queue[start : start + most]
    for i, info in enumerate(found):
        usermem.put(k, t, data + i * siginfo.SIZE, siginfo.pack(info))
    return len(found)


_AUDIT_ARCH_RISCV64: Final = 0xC000_00F3
# TRACESYSGOOD, FORK, VFORK, CLONE, EXEC, VFORKDONE, EXIT, EXITKILL; and TRACESECCOMP, whose event
# never occurs.
_OPTIONS: Final = 0x7F | 0x80 | ptrace.O_EXITKILL

Request = Callable[["Kernel", Task, Task, int, int], int]

# Requests for a task that is not traced yet or need not be stopped.
ATTACHING: Final[dict[int, Request]] = {
    PTRACE_ATTACH: _attach,
    PTRACE_SEIZE: _seize,
}
RUNNING: Final[dict[int, Request]] = {
    PTRACE_KILL: _kill,
    PTRACE_INTERRUPT: _interrupt,
}
# Requests for a stopped tracee.
REQUESTS: Final[dict[int, Request]] = {
    PTRACE_PEEKTEXT: _peek,
    PTRACE_PEEKDATA: _peek,
    PTRACE_POKETEXT: _poke,
    PTRACE_POKEDATA: _poke,
    PTRACE_CONT: _cont,
    PTRACE_SINGLESTEP: _singlestep,
    PTRACE_DETACH: _detach,
    PTRACE_SYSCALL: _to_next_call,
    PTRACE_SETOPTIONS: _setoptions,
    PTRACE_GETEVENTMSG: _geteventmsg,
    PTRACE_GETSIGINFO: _getsiginfo,
    PTRACE_SETSIGINFO: _setsiginfo,
    PTRACE_GETREGSET: _getregset,
    PTRACE_SETREGSET: _setregset,
    PTRACE_GETSIGMASK: _getsigmask,
    PTRACE_SETSIGMASK: _setsigmask,
    PTRACE_GET_SYSCALL_INFO: _get_syscall_info,
    PTRACE_LISTEN: _listen,
    PTRACE_PEEKSIGINFO: _peeksiginfo,
}


def sys_ptrace(k: Kernel, t: Task, a: Args) -> Outcome:
    request, tid, addr, data = a[0], a[1] & 0xFFFF_FFFF, a[2], a[3]
    if request == PTRACE_TRACEME:
        return _traceme(k, t)
    child = k.find(tid)
    if child is None:
        raise Errno("ESRCH")
    if request in ATTACHING:
        return ATTACHING[request](k, t, child, addr, data)
    if child.tracer is None or child.tracer.process is not t.process:
        raise Errno("ESRCH")
    if request in RUNNING:
        return RUNNING[request](k, t, child, addr, data)
    if child.ptrace.stop is None or child.ptrace.stop.listening:
        raise Errno("ESRCH")
    if request not in REQUESTS:
        raise Errno("EIO")
    return REQUESTS[request](k, t, child, addr, data)


CALLS: Final = (
    Call(
        "ptrace",
        sys_ptrace,
        why="no other options (SUSPEND_SECCOMP);"
        " no PTRACE_EVENT_EXIT if a signal or another thread ends the task",
    ),
)
