"""Signals: a handler's frame, rt_sigreturn, and death."""

from __future__ import annotations

import struct
from typing import Final

from shstk.schemas.uapi import SI_KERNEL, SI_QUEUE, SI_TKILL, SI_USER, SIGNALS
from shstk.tracer.importers.rows import Row
from shstk.tracer.realkernel.events import Call, Return
from shstk.tracer.realkernel.importer import memory
from shstk.tracer.realkernel.importer.attempts import read_arguments
from shstk.tracer.realkernel.importer.lifetimes import begin_exit, first_user
from shstk.tracer.realkernel.importer.state import (
    Delivery,
    OnCall,
    OnReturn,
    Story,
    Task,
    number,
    s32,
    s64,
)

_SA_RESTART: Final = 0x1000_0000
_RESTARTSYS, _NOINTR, _NOHAND, _BLOCK = -512, -513, -514, -516
_EINTR: Final = -4
_ELSEWHERE: Final = ("execve", "execveat", "rt_sigreturn")
_WOKEN: Final = (_RESTARTSYS, _NOINTR, _NOHAND, _BLOCK, _EINTR)
_SENT: Final = (SI_USER, SI_QUEUE, SI_TKILL)  # a task sent it
_FAULTS: Final = tuple(SIGNALS[f"SIG{name}"] for name in ("ILL", "TRAP", "BUS", "FPE", "SEGV"))
_INFO: Final = struct.Struct("<iii4xiI")  # kernel_siginfo: signo, errno, code, then pid and uid


def _looks(s: Story, t: Task, e: Call) -> None:
    """arch_do_signal_or_restart: regs->a0 is what the task's call returned. The call ends here,
    unless a signal woke its task, or the task goes on elsewhere."""
    t.result = number(e.seen.get("a0"))
    if t.call is not None and s64(t.result) not in _WOKEN and t.call["name"] not in _ELSEWHERE:
        t.call |= {"outcome": "returned", "ret": s64(t.result)}
        _end_call(s, t)


def _got(s: Story, t: Task, call: Call, e: Return) -> None:
    """get_signal has one for a handler. The call that it interrupts ends here. io workers ask for
    signals too, but have no handlers."""
    if not e.a0 & 0xFF or not t.inside("arch_do_signal_or_restart"):
        return
    first_user(s, t)
    if t.call is not None:
        if t.sigreturn is not None:
            end_sigreturn(s, t, t.ssp)
        else:
            t.settled = (t.call, s64(t.result))
            _settle(t, 0)
            _end_call(s, t)
    t.delivery = Delivery()


def _end_call(s: Story, t: Task) -> None:
    """Its outcome is set."""
    assert t.call is not None
    read_arguments(t)
    if t.call["outcome"] == "returned":
        memory.call_returns(s, t, t.call["ret"])
    t.call |= {"seq_end": s.step(), "ssp_exit": t.ssp}
    if t.attempt is not None and t.call["outcome"] == "returned":
        t.attempt |= {"seq_end": t.call["seq_end"], "ret": t.call["ret"]}
    t.call = t.attempt = None


def _settle(t: Task, sa_flags: int) -> None:
    """As arch_do_signal_or_restart decides before it enters a handler."""
    if t.settled is None:
        return
    row, result = t.settled
    again = result == _NOINTR or (result == _RESTARTSYS and sa_flags & _SA_RESTART)
    if again:
        row |= {"outcome": "restarted", "ret": None}
    else:
        restart = result in (_RESTARTSYS, _NOHAND, _BLOCK)
        row |= {"outcome": "returned", "ret": _EINTR if restart else result}


def _set_up(s: Story, t: Task, e: Call) -> None:
    """signal_setup_done: whether the frame could be built is its first argument."""
    _settle(t, number(e.seen.get("sa_flags")))
    t.settled = None
    if t.delivery is None:
        return
    t.delivery.failed = bool(e.a[0] & 0xFFFF_FFFF)
    t.delivery.alt = (number(e.seen.get("alt_sp")), number(e.seen.get("alt_size")))
    t.delivery.row = _told(e.seen.get("info", b""))


def _told(info: bytes) -> Row:
    """The columns of a siginfo."""
    signo, _, code, pid, _ = _INFO.unpack_from(info.ljust(_INFO.size, b"\0"))
    fault = signo in _FAULTS and 0 < code < SI_KERNEL
    sent = code in _SENT or (signo == SIGNALS["SIGCHLD"] and code > 0)
    return {
        "signo": signo,
        "code": code,
        "si_addr": number(info[16:24]) if fault else None,
        "sender": pid if sent else None,
    }


def _delivered(s: Story, t: Task, call: Call, e: Return) -> None:
    """arch_do_signal_or_restart returns: regs are the handler's."""
    d = t.delivery
    if d is None:
        return
    if d.row is not None and (not d.failed or d.token is not None):
        before = t.ssp
        t.pc, t.sp = number(e.seen.get("pc")), number(e.seen.get("sp"))
        if d.token is not None:
            t.ssp = number(e.seen.get("ssp"))
        low, size = d.alt
        address, word = d.token or (None, None)
        s.put(
            "signals",
            t,
            kind="delivery",
            handler=None if d.failed else t.pc,
            frame=None if d.failed else t.sp,
            ss_ptr=address,
            token_addr=address,
            token_value=word,
            ssp_before=before,
            ssp_after=t.ssp,
            alt_stack=None if d.failed else low < t.sp <= low + size,
            **d.row,
        )
    memory.end_delivery(s, t)


def end_sigreturn(s: Story, t: Task, ssp: int) -> None:
    assert t.call is not None
    assert t.sigreturn is not None
    t.sigreturn["ssp_after"] = ssp
    t.call["seq_end"] = s.step()
    t.call = t.sigreturn = None


# The token, which save_user_shstk pushes and restore_user_shstk takes, each with an AMO.


def _begin_swap(s: Story, t: Task, e: Call) -> None:
    t.swap = []


def _saved(s: Story, t: Task, call: Call, e: Return) -> None:
    swap, t.swap = t.swap or [], None
    for access in swap:
        if access.store:
            memory.transfer(s, t, "write", access.address, access.data)
            if t.delivery is not None:
                t.delivery.token = (access.address, number(access.data))


def _restored(s: Story, t: Task, call: Call, e: Return) -> None:
    swap, t.swap = t.swap or [], None
    loads = [access for access in swap if not access.store]
    stores = [access for access in swap if access.store]
    old = loads[0].data if loads else None
    if t.sigreturn is not None:
        t.sigreturn |= {"ss_ptr": call.a[1], "token_addr": call.a[1]}
        t.sigreturn["token_value"] = None if old is None else number(old)
    if old is not None and s32(e.a0) == 0:
        t.ssp = number(old)
    if old is not None and stores:
        memory.transfer(s, t, "swap", stores[0].address, old + stores[0].data)


# Death


def _sent(s: Story, t: Task, e: Call) -> None:
    if "info" in e.seen:
        s.process(number(e.seen.get("tgid"))).sent[e.a[0]] = e.seen["info"]


def _group_exit(s: Story, t: Task, e: Call) -> None:
    """Of a process that a signal kills, one task had the signal. The others get a SIGKILL that
    nobody sent, and so do those whose process is replaced by exec."""
    process = s.process(t.tgid)
    unsent = e.a[0] & 0x7F == SIGNALS["SIGKILL"] and SIGNALS["SIGKILL"] not in process.sent
    if unsent and _another_has_it(s, t):
        return
    t.killed = t.inside("get_signal") and not process.dying and not process.replacing
    process.dying = True


def _another_has_it(s: Story, t: Task) -> bool:
    """Whether another task is about to end the process. Before it does, it kills the others and
    waits for them if there is to be a core dump."""
    return any(
        other is not t and other.tgid == t.tgid and not other.exit and other.inside("get_signal")
        for other in s.tasks.values()
    )


def _exits(s: Story, t: Task, e: Call) -> None:
    """do_exit knows the signal: do_group_exit is told SIGKILL for one that kills at once."""
    signo = e.a[0] & 0x7F
    if t.killed and signo:
        first_user(s, t)
        told = {"signo": signo, "code": None, "si_addr": None, "sender": None}
        if (info := s.process(t.tgid).sent.get(signo)) is not None:
            told |= _told(info)
        s.put("signals", t, kind="fatal", ssp_before=t.ssp, ssp_after=t.ssp, **told)
    begin_exit(s, t, e)


ON_CALL: Final[dict[str, OnCall]] = {
    "arch_do_signal_or_restart": _looks,
    "signal_setup_done": _set_up,
    "save_user_shstk": _begin_swap,
    "restore_user_shstk": _begin_swap,
    "send_signal_locked": _sent,
    "do_group_exit": _group_exit,
    "do_exit": _exits,
}
ON_RETURN: Final[dict[str, OnReturn]] = {
    "get_signal": _got,
    "arch_do_signal_or_restart": _delivered,
    "save_user_shstk": _saved,
    "restore_user_shstk": _restored,
}
