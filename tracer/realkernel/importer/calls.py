"""System calls: their entry, and the return to user mode that ends them."""

from __future__ import annotations

from typing import Final

from shstk.schemas.syscalls import BY_NUMBER
from shstk.schemas.uapi import CLONE_VFORK, CLONE_VM, CSIGNAL
from shstk.tracer.realkernel.events import Ecall, User
from shstk.tracer.realkernel.importer.instructions import settle
from shstk.tracer.realkernel.importer.lifetimes import first_user
from shstk.tracer.realkernel.importer.memory import AT_RETURN
from shstk.tracer.realkernel.importer.state import Story, Task, number, read_back, s64, words

_APIS: Final = {CLONE_VM | CLONE_VFORK: "vfork", 0: "fork"}
_EXECS: Final = ("execve", "execveat")
_NO_RETURN: Final = ("exit", "exit_group", "rt_sigreturn")
# struct clone_args, in the names of the table's columns.
_CLONE_ARGS: Final = (
    *("flags", "pidfd", "child_tid_addr", "parent_tid", "exit_signal", "stack", "stack_size"),
    *("tls", "tids", "set_tid_size"),
)


def entered(s: Story, t: Task, e: Ecall) -> None:
    settle(s, t)
    s.instruction()
    t.pc, t.sp, t.ssp = e.pc + 4, e.sp, e.ssp
    t.forced = t.trap = None
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
    t.attempt = _attempt(s, t, name, e.args) if name in ("clone", "clone3") else None
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


def _attempt(s: Story, t: Task, name: str, a: tuple[int, ...]) -> dict[str, object]:
    """The columns of a clones row. clone3's arguments are in memory: see _read_arguments."""
    assert t.call is not None
    row = dict.fromkeys(
        ("flags", "stack", "stack_size", "tls", "parent_tid", "child_tid_addr", "exit_signal"), 0
    )
    if name == "clone":
        row |= {
            "flags": a[0] & ~CSIGNAL,
            "stack": a[1],
            "parent_tid": a[2],
            "tls": a[3],
            "child_tid_addr": a[4],
            "exit_signal": a[0] & CSIGNAL,
        }
        api = _APIS.get(a[0] & 0xFFFF_FFFF & ~CSIGNAL, "clone")
    else:
        api = "clone3"
    unknown = dict.fromkeys(("set_tid", "child_tid", "ret", "seq_end"))
    return s.put("clones", t, seq=t.call["seq"], api=api, **row, **unknown)


def read_arguments(t: Task) -> None:
    """Fill clone3's columns in, as soon as the kernel has read them."""
    row, call = t.attempt, t.call
    if row is None or call is None or row["api"] != "clone3" or row["flags"]:
        return
    data = read_back(t, call["a0"], min(call["a1"], 8 * len(_CLONE_ARGS)))
    given = dict(zip(_CLONE_ARGS, words(data), strict=False))
    row |= {key: value for key, value in given.items() if key in row}
    row["exit_signal"] &= 0xFFFF_FFFF
    if given.get("tids") and given.get("set_tid_size"):
        first = read_back(t, given["tids"], 4)
        row["set_tid"] = number(first) if len(first) == 4 else None


def returned(s: Story, t: Task, e: User) -> None:
    """The task goes back to user mode. A call that a handler interrupted has ended already."""
    settle(s, t)
    t.pc, t.sp, t.ssp = e.pc, e.sp, e.ssp
    t.delivery = None
    if t.call is not None:
        _end(s, t, e)
    first_user(s, t)


def _end(s: Story, t: Task, e: User) -> None:
    call = t.call
    assert call is not None
    name, sigreturn = call["name"], t.sigreturn
    if sigreturn is not None:
        sigreturn["ssp_after"] = e.ssp
        call["seq_end"] = s.step()
        t.call = t.sigreturn = None
        return
    if name in _EXECS:
        _exec_end(s, t, e)
    replaced = name in _EXECS and t.exec_done is not None and t.exec_done["status"] == 0
    again = e.pc == call["pc"] and not replaced
    ret = 0 if replaced else s64(e.a0)
    if not again and name in AT_RETURN:
        AT_RETURN[name](s, t, tuple(call[f"a{i}"] for i in range(6)), ret)
    call["seq_end"] = s.step()
    call["ssp_exit"] = e.ssp
    call["outcome"] = "restarted" if again else "returned"
    call["ret"] = None if again else ret
    if t.attempt is not None:
        read_arguments(t)
        if not again:
            t.attempt |= {"seq_end": call["seq_end"], "ret": ret}
    t.call = t.attempt = None


def _exec_end(s: Story, t: Task, e: User) -> None:
    """exec_done: bprm_execve has returned it, unless the call failed before."""
    if t.exec_done is None:
        t.exec_done = s.event(t, "exec_done", status=min(s64(e.a0), 0))
    elif t.exec_done["status"] == 0:
        t.exec_done |= {"pc": e.pc, "ssp": e.ssp, "mm": t.mm}
