"""The loop that drives the harts: pick a task, run it, handle the reason why it stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from shstk.tracer._core import STOP_ECALL, STOP_FAULT, STOP_FLUSH
from shstk.tracer.kernel.arch import traps
from shstk.tracer.kernel.call import NO_RETURN, RESTART, Interrupted, Outcome, Wait
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.kernel import Halted
from shstk.tracer.kernel.mm import sharedmem
from shstk.tracer.kernel.mm.usermem import put_u32
from shstk.tracer.kernel.process import ptrace
from shstk.tracer.kernel.signal.deliver import deliver_pending
from shstk.tracer.kernel.table import CALLS
from shstk.tracer.kernel.task import DEAD, RUNNABLE, ZOMBIE, Blocked, InCall, Task
from shstk.tracer.kernel.time.clock import spend
from shstk.tracer.kernel.time.timers import TIMERS

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel

# Most instructions, and most system calls, between two checks of the recorder and the limits.
_SLICE: Final = 1 << 20
_CALLS: Final = 1 << 8


def run(
    k: Kernel,
    max_instructions: int | None = None,
    poll: Callable[[], str | None] = lambda: None,
    alarms: Iterable[tuple[int, Callable[[], None]]] = (),
) -> str:
    """Run until every task has exited. Returns the ending (schemas.vocabulary.ENDINGS).

    poll: called again and again; returns an ending to stop with, or None.
    alarms: (icount, callback) in ascending order. A callback is called when exactly that many
    instructions have been attempted and the kernel has handled them; past alarms are skipped. The
    guest can't observe it.
    """
    ending = None
    for icount, ring in alarms:
        if icount < k.machine.icount:
            continue
        if (ending := advance(k, icount, max_instructions, poll)) is not None:
            break
        ring()
    if ending is None:
        ending = advance(k, None, max_instructions, poll)
    assert ending is not None
    close(k)
    return ending


def close(k: Kernel) -> None:
    """Write the rows of the calls and mms that are still open after the last instruction."""
    k.rec.open_rows = tuple
    for table, columns in k.open_rows():
        k.rec.row(table, **columns)
    k.rec.drain(k.machine)


def advance(
    k: Kernel,
    until: int | None,
    max_instructions: int | None = None,
    poll: Callable[[], str | None] = lambda: None,
) -> str | None:
    """Run to the icount `until` and return None; or to the end of the run and return its ending.

    The run stops between two slices, so that it can continue as if it had never stopped; or it is
    halted in the middle of a call, and does not.
    """
    k.poll = poll
    try:
        return _advance(k, until, max_instructions)
    except Halted as halted:
        k.during = None
        return halted.ending


def _advance(k: Kernel, until: int | None, max_instructions: int | None) -> str | None:
    while until is None or k.machine.icount < until:
        task = ready(k)
        if isinstance(task, str):
            return task
        budget = budget_of(k, max_instructions)
        if budget <= 0:
            return "limit"
        if until is not None:
            budget = min(budget, until - k.machine.icount)
        _run_on(k, task, budget)
        k.rec.tick(k.machine)
    return None


def _run_on(k: Kernel, task: Task, budget: int) -> None:
    """Run a task that is `ready`, beyond system calls after which `ready` would just choose it
    again. Such a call changes neither how long the task may run nor what is to be done then."""
    machine, sched, armed = k.machine, k.sched, TIMERS.of(k).armed
    end = machine.icount + budget
    for _ in range(_CALLS):
        if run_slice(k, task, budget) != STOP_ECALL or not _goes_on(k, task):
            return
        # A sleeper or a timer is a time, and a call takes time.
        if sched.queue or sched.sleepers or armed:
            return
        sched.yielded = False  # nobody else can run
        budget = end - machine.icount
        if budget <= 0:
            return


def _goes_on(k: Kernel, task: Task) -> bool:
    """Whether a task that comes back from a call enters user mode at once."""
    process = task.process
    return (
        k.sched.running is task
        and task.call is None
        and task.restart is None
        and not task.sigpending
        and task.saved_sigmask is None
        and process.killed is None
        and not process.stopped
        and task.tracer is None
        and task.ptrace.resumed is None
        and k.ending is None
    )


def ready(k: Kernel) -> Task | str:
    """The task whose instruction is the next one, in user mode; or the ending of the run.

    The kernel has done all that it does before that instruction. Asked again, it does nothing more.
    """
    while True:
        if k.ending is not None:
            return k.ending
        if (ending := k.poll()) is not None:
            return ending
        TIMERS.of(k).fire(k)
        while (sleeper := k.sched.overdue(k.now_ns())) is not None:
            k.wake(sleeper, "deadline")
        last = k.sched.last
        task = k.sched.next()
        if task is None:
            if all(t.state in (ZOMBIE, DEAD) for t in k.tasks.values()):
                return "killed" if (k.first.exit_status or 0) & 0x7F else "exited"
            if not _idle(k):
                return k.poll() or "deadlock"
            continue
        if task is not last:
            _switch(k, task, last)
        if _to_user(k, task):
            return task


def _idle(k: Kernel) -> bool:
    """Advance the clock until a task can run. False if none ever will."""
    deadlines = (k.sched.deadline(), TIMERS.of(k).deadline(k, idle=True))
    known = [ns for ns in deadlines if ns is not None]
    if known:
        k.idle_until(min(known))
    return bool(known)


def _switch(k: Kernel, task: Task, last: Task | None) -> None:
    task.hart.clear_reservation()
    seq = k.seq()
    if k.on_switch is not None:
        k.on_switch(seq)
    k.rec.row(
        "sched",
        seq=seq,
        tid=task.tid,
        mm=task.mm_id,
        from_tid=last.tid if last else None,
        why=k.sched.why_stopped(last),
        state_hash=task.hart.state_hash(),
    )


def _to_user(k: Kernel, task: Task) -> bool:
    """Finish the chosen task's call and deliver its signals. False if it can't run after that."""
    k.current = task
    if task.call is not None and task.restart is None:
        blocked = task.blocked
        assert blocked is not None
        # An uninterruptible wait was ended by a fatal signal: the call is not retried.
        if blocked.woken != "signal" or blocked.interruptible:
            _try_call(k, task)
            if task.call is not None and task.restart is None:
                return False  # it is still blocked, or its next try finds a signal pending
    if task.state != RUNNABLE:
        return False
    if not task.entered:
        _first_entry(k, task)
    deliver_pending(k, task)
    if task.state != RUNNABLE:
        return False
    if task.restart is not None:
        k.restart_call(task)
    return True


def _first_entry(k: Kernel, task: Task) -> None:
    """schedule_tail: the child itself stores for CLONE_CHILD_SETTID; errors are ignored."""
    if task.set_child_tid:
        k.during = task.born_during
        with suppress(Errno):
            put_u32(k, task, task.set_child_tid, task.tid)
        k.during = None
        task.set_child_tid = 0
    # Recorded before any signal is delivered: the ssp that clone or exec set, before any token.
    task.entered = True
    k.event("first_user", task)


def budget_of(k: Kernel, max_instructions: int | None = None) -> int:
    """How many instructions the task that is `ready` may run before the kernel has to act."""
    budget = k.sched.budget(_SLICE)
    for deadline in (k.sched.deadline(), TIMERS.of(k).deadline(k)):
        if deadline is not None:
            budget = min(budget, max(deadline - k.now_ns(), 1))
    if max_instructions is not None:
        budget = min(budget, max_instructions - k.machine.icount)
    return budget


def run_slice(k: Kernel, task: Task, budget: int) -> int:
    """Run a task that is `ready` for at most `budget` instructions, and do what the kernel does at
    the last one. Returns the STOP_*."""
    assert task.mm is not None
    machine, mm = k.machine, task.mm
    before = machine.icount
    stop = task.hart.run(mm.space, budget, task.tid, mm.id)
    used = machine.icount - before
    task.icount += used
    k.sched.charge(used)
    if machine.stored:
        sharedmem.note_stores(k)
    if stop == STOP_ECALL:
        _enter_call(k, task)
    elif stop == STOP_FAULT:
        task.hart.clear_reservation()
        traps.handle_fault(k, task)
    elif stop == STOP_FLUSH:
        k.rec.drain(k.machine)
    return stop


def _enter_call(k: Kernel, task: Task) -> None:
    assert task.mm is not None
    seq, nr, args, pc, sp, ssp = task.hart.enter()
    call = CALLS.get(nr)
    if call is None:
        k.warn(f"system call {nr} is unknown: -ENOSYS")
    name = call.name if call else None
    task.call = InCall(seq, nr, name, args, task.tid, task.mm.id, pc, sp, ssp)
    task.blocked = Blocked()
    # Otherwise a periodic timer whose handler ends sooner leaves the program no instruction.
    if name != "rt_sigreturn":
        spend(k, task, k.call_ns)
    if k.on_entry is not None:
        k.on_entry(task.call)
    _try_call(k, task)


def _try_call(k: Kernel, task: Task) -> None:
    """Try a call for the first time, or again after its task woke."""
    in_call = task.call
    assert in_call is not None
    if task.tracer is not None or task.ptrace.entering:
        if (stop := ptrace.enter_call(k, task)) is not None:
            k.block(task, stop)
            return
        nr = in_call.nr
        in_call.name = CALLS[nr].name if nr in CALLS else None
    call = CALLS.get(in_call.nr)
    k.during = in_call.seq
    result: Outcome
    try:
        result = call.handler(k, task, in_call.args) if call else -Errno("ENOSYS").number
    except Errno as error:
        result = -error.number
    except Interrupted:
        result = RESTART
    if k.sandbox.answers.rows:
        k.sandbox.answers.report(k)
    k.during = None
    if isinstance(result, Wait):
        k.block(task, result)
        return
    if task.tracer is not None:
        ptrace.leave_call(task, result)
    if isinstance(result, int):
        task.hart.leave(result)
        k.end_call(task, "returned", result)
    elif result is NO_RETURN:
        if task.call is in_call:
            k.end_call(task, "no_return", None)
    else:
        task.restart = result
        task.hart.leave(-result.value)
