"""System calls: their entry, and the return to user mode that ends them."""

from __future__ import annotations

from typing import Final

from shstk.schemas.syscalls import BY_NUMBER
from shstk.tracer.realkernel.events import Ecall, User
from shstk.tracer.realkernel.importer import attempts
from shstk.tracer.realkernel.importer.instructions import settle
from shstk.tracer.realkernel.importer.lifetimes import first_user
from shstk.tracer.realkernel.importer.memory import call_returns, end_delivery
from shstk.tracer.realkernel.importer.signals import end_sigreturn
from shstk.tracer.realkernel.importer.state import Story, Task, s64

_EXECS: Final = ("execve", "execveat")
_NO_RETURN: Final = ("exit", "exit_group", "rt_sigreturn")


def entered(s: Story, t: Task, e: Ecall) -> None:
    settle(s, t)
    s.instruction()
    t.pc, t.sp, t.ssp = e.pc + 4, e.sp, e.ssp
    t.trap = None
    call = BY_NUMBER.get(e.nr)
    name = call.name if call else None
    t.reads.clear()
    t.result = 0
    t.call = s.put(
        "syscalls",
        t,
        nr=e.nr,
        name=name,
        **{f"a{i}": value for i, value in enumerate(e.args)},
        ret=None,
        outcome="no_return" if name in _NO_RETURN else "run_ended",
        seq_end=None,
        pc=e.pc,
        sp=e.sp,
        ssp_entry=e.ssp,
        ssp_exit=None,
    )
    t.attempt = attempts.begin(s, t, name, e.args) if name in attempts.CALLS else None
    if name in _EXECS:
        t.exec_done = None
        s.event(t, "exec_begin")
    if name == "rt_sigreturn":
        t.sigreturn = s.put(
            "signals",
            t,
            kind="sigreturn",
            frame=e.sp,
            ssp_before=e.ssp,
            ssp_after=None,
            sigreturn_seq=t.call["seq"],
        )


def returned(s: Story, t: Task, e: User) -> None:
    """The task goes back to user mode. A call that a handler interrupted has ended already."""
    settle(s, t)
    t.pc, t.sp, t.ssp = e.pc, e.sp, e.ssp
    end_delivery(s, t)
    if t.call is not None:
        _end(s, t, e)
    first_user(s, t)


def _end(s: Story, t: Task, e: User) -> None:
    call = t.call
    assert call is not None
    name = call["name"]
    if t.sigreturn is not None:
        end_sigreturn(s, t, e.ssp)
        return
    if name in _EXECS:
        _exec_end(s, t, e)
    replaced = name in _EXECS and t.exec_done is not None and t.exec_done["status"] == 0
    again = e.pc == call["pc"] and not replaced
    ret = 0 if replaced else s64(e.a0)
    if not again:
        call_returns(s, t, ret)
    call["seq_end"] = s.step()
    call["ssp_exit"] = e.ssp
    call["outcome"] = "restarted" if again else "returned"
    call["ret"] = None if again else ret
    if t.attempt is not None:
        attempts.read_arguments(t)
        if not again:
            t.attempt |= {"seq_end": call["seq_end"], "ret": ret}
    t.call = t.attempt = None


def break_off(s: Story, t: Task) -> None:
    """The events end in a call. clone3 has no attempt before it has read what it is asked for."""
    attempts.read_arguments(t)
    if t.attempt is not None and t.attempt["api"] == "clone3" and not t.reads:
        s.rows.of("clones").remove(t.attempt)


def _exec_end(s: Story, t: Task, e: User) -> None:
    """exec_done: bprm_execve has returned it, unless the call failed before."""
    if t.exec_done is None:
        t.exec_done = s.event(t, "exec_done", status=min(s64(e.a0), 0))
    elif t.exec_done["status"] == 0:
        t.exec_done |= {"pc": e.pc, "ssp": e.ssp, "mm": t.mm}
