"""The life of a task: made by clone, another program by exec, ended by exit."""

from __future__ import annotations

from typing import Final

from shstk.schemas.uapi import CLONE_VFORK
from shstk.tracer.realkernel.events import Call, Return, Switch
from shstk.tracer.realkernel.importer import instructions
from shstk.tracer.realkernel.importer.attempts import read_arguments
from shstk.tracer.realkernel.importer.memory import end_delivery
from shstk.tracer.realkernel.importer.state import (
    OnCall,
    OnReturn,
    Story,
    Task,
    number,
    s32,
    u32_of,
)

_INIT: Final = 1
_DEAD: Final = 0x80 | 0x20 | 0x10  # TASK_DEAD, EXIT_ZOMBIE, EXIT_DEAD
_GROUP_EXIT: Final = 4  # SIGNAL_GROUP_EXIT


def _created(s: Story, t: Task, e: Call) -> None:
    """wake_up_new_task: also of an io worker, which no call of clone made."""
    child = Task(e.a[0], number(e.seen.get("pid")), number(e.seen.get("tgid")))
    child.parent, child.born = t.tid, True
    child.pc, child.sp = t.pc, t.sp
    child.ssp = number(e.seen.get("ssp")) or t.ssp
    child.mm_pointer = number(e.seen.get("mm"))
    shared = child.mm_pointer == t.mm_pointer
    child.mm = t.mm if shared else s.new_mm(child.mm_pointer, child.tid, "fork", t.mm)
    s.tasks[child.pointer] = child
    read_arguments(t)
    if t.attempt is not None and t.attempt["child_tid"] is None:
        t.attempt["child_tid"] = child.tid
        if t.attempt["flags"] & CLONE_VFORK:
            child.vfork_parent = t.tid
    s.event(child, "created", value=t.tid)


def first_user(s: Story, t: Task) -> None:
    if t.born:
        t.born = False
        s.event(t, "first_user")


# exec


def _begin_exec(s: Story, t: Task, e: Call) -> None:
    s.process(t.tgid).replacing = True


def _begun_exec(s: Story, t: Task, call: Call, e: Return) -> None:
    s.process(t.tgid).replacing = False
    if s32(e.a0) == 0:
        _enter_new_mm(s, t, e.head.mm)


def _enter_new_mm(s: Story, t: Task, pointer: int) -> None:
    """exec_mmap. The old one is dropped before or after begin_new_exec returns."""
    if not t.execing:
        t.execing = True
        t.replaced = None if t.mm is None else (t.mm_pointer, t.mm)
        t.mm_pointer, t.mm = pointer, s.new_mm(pointer, t.tid, "exec", t.mm)


def _exec_ends(s: Story, t: Task, call: Call, e: Return) -> None:
    t.execing = False
    status = s32(e.a0)
    if status == 0:
        t.ssp = 0
    t.exec_done = s.event(t, "exec_done", status=status)


# exit


def begin_exit(s: Story, t: Task, e: Call) -> None:
    instructions.break_off(s, t)
    if t.call is not None and t.call["name"] in ("execve", "execveat") and t.exec_done is None:
        s.event(t, "exec_done", status=s32(t.result) if s32(t.result) < 0 else -1)
    end_delivery(s, t)
    t.exit = s.event(t, "exit_begin", status=e.a[0] & 0xFFFF)


def _mm_release(s: Story, t: Task, e: Call) -> None:
    s.event(t, "robust_done")
    t.clear_child_tid = number(e.seen.get("clear_child_tid"))


def _released(s: Story, t: Task, call: Call, e: Return) -> None:
    t.released = True


def _woken(s: Story, t: Task, call: Call, e: Return) -> None:
    s.event(t, "futex_wake", addr=call.a[0], value=u32_of(e.a0))


def _complete(s: Story, t: Task, e: Call) -> None:
    """complete_vfork_done."""
    release = next((call for call in reversed(t.open) if call.name == "mm_release"), None)
    if release is not None and e.a[0] == number(release.seen.get("vfork_done")):
        s.event(t, "vfork_done", value=t.vfork_parent)


def _mmput(s: Story, t: Task, e: Call) -> None:
    users = number(e.seen.get("users")) - 1
    if t.released and t.exit is None and e.a[0] == t.mm_pointer:
        _enter_new_mm(s, t, e.head.mm)
    pointer, mm = t.replaced or (t.mm_pointer, t.mm)
    if t.released and mm is not None and e.a[0] == pointer:
        s.event(t, "mm_dropped", mm=mm, value=users)
        t.released, t.replaced = False, None
        if t.exit is not None:
            t.mm_pointer, t.mm = 0, None
    if users == 0:
        s.end_mm(e.a[0])


def release_task(s: Story, current: Task | None, e: Call) -> None:
    """A zombie is reaped, by its parent or by itself; init is no task of the program's."""
    t = s.tasks.get(e.a[0])
    if t is None:
        return
    end_call(s, t)
    leader = t.tid == t.tgid  # as it was before de_thread exchanged the pids
    if leader and current and current is not t and current.tgid == t.tgid:
        # de_thread: a thread that execs takes the leader's place
        s.running = t.tgid if s.running == current.tid else s.running
        current.tid = t.tgid
    elif leader:
        group = number(e.seen.get("group")) & _GROUP_EXIT
        code = number(e.seen.get("group_code" if group else "code"))
        s.put(
            "task_events",
            t,
            mm=None,
            kind="reaped",
            ssp=t.ssp,
            pc=t.pc,
            value=current.tgid if current else None,
            status=code,
        )
        s.processes.pop(t.tgid, None)
    if t is not current:
        del s.tasks[e.a[0]]


def end_call(s: Story, t: Task) -> None:
    """The call that a task was in when it ended."""
    if t.exit is not None and t.call is not None:
        read_arguments(t)
        if t.call["outcome"] != "no_return":
            t.call["outcome"] = "killed"
        t.call["seq_end"] = s.step()
        t.call = t.attempt = None


def switched(s: Story, to: Task | None, e: Switch) -> None:
    left = s.tasks.get(e.left)
    if left is not None:
        s.why[left.tid] = _why(left, e.state)
        if s.why[left.tid] == "exited":
            end_call(s, left)
    if to is not None and s.running != to.tid:
        why = "start" if s.running is None else s.why.get(s.running, "blocked")
        s.put("sched", to, from_tid=s.running, why=why)
        s.running = to.tid


def _why(t: Task, state: int) -> str:
    if state & _DEAD or (t.exit is not None and state):
        return "exited"
    if state:
        return "blocked"
    yielded = t.call is not None and t.call["name"] == "sched_yield"
    return "yielded" if yielded else "preempted"


ON_CALL: Final[dict[str, OnCall]] = {
    "wake_up_new_task": _created,
    "begin_new_exec": _begin_exec,
    "mm_release": _mm_release,
    "complete": _complete,
    "mmput": _mmput,
}
ON_RETURN: Final[dict[str, OnReturn]] = {
    "begin_new_exec": _begun_exec,
    "bprm_execve": _exec_ends,
    "mm_release": _released,
    "futex_wake": _woken,
}
