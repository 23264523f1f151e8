"""The kernel of one run: what it owns, and the loop that drives the harts."""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Protocol

from schemas.revisions import Revision
from schemas.seq import STEPS
from tracer.kernel import signals, traps
from tracer.kernel.call import NO_RETURN, RESTART, RESTART_ALWAYS, End, Outcome, Wait
from tracer.kernel.errno import Errno
from tracer.kernel.mm import Mm
from tracer.kernel.sched import Scheduler
from tracer.kernel.table import CALLS
from tracer.kernel.task import (
    BLOCKED,
    DEAD,
    RUNNABLE,
    ZOMBIE,
    Blocked,
    InCall,
    Process,
    Task,
)
from tracer.kernel.timers import Timers
from tracer.kernel.usermem import put_u32

if TYPE_CHECKING:
    from tracer._core import Machine
    from tracer.kernel.sandbox import Sandbox
    from tracer.kernel.vma import MappedFile

STOP_ECALL: Final = 1
STOP_FAULT: Final = 2
STOP_FLUSH: Final = 3

FIRST_PID: Final = 100
PID_MAX: Final = 32768
_SLICE: Final = 1 << 20  # instructions at most before the recorder and the limits are looked at
_POLL_EVERY: Final = 256  # kernel entries between two looks at the host's limits
_U64: Final = 2**64 - 1
_ARGS: Final = ("a0", "a1", "a2", "a3", "a4", "a5")


class Recorder(Protocol):
    """What the kernel asks of tracer.recorder (or of NullRecorder)."""

    module_of: Callable[[int, int], int | None]

    def row(self, table: str, /, **columns: Any) -> None: ...
    def drain(self, machine: Machine) -> None: ...
    def tick(self, machine: Machine) -> None: ...
    def input(self, guest_path: str, data: bytes, mode: int, seq: int) -> int: ...


class Kernel:
    """row: the revision's switches. memory: bytes of the machine, None for as much as is asked.

    stdout_write takes (fd, bytes) of descriptors 1 and 2.
    """

    def __init__(
        self,
        machine: Machine,
        rec: Recorder,
        row: Revision,
        sandbox: Sandbox,
        *,
        abi: str = "merged",
        cpu: frozenset[str] = frozenset({"zicfiss", "zicfilp"}),
        nousercfi: bool = False,
        seed: int = 0,
        memory: int | None = None,
        stdout_write: Callable[[int, bytes], None] = lambda fd, data: None,
        pid_max: int = PID_MAX,
    ) -> None:
        self.machine = machine
        self.rec = rec
        self.row = row
        self.sandbox = sandbox
        self.abi = abi
        self.cpu = cpu
        self.nousercfi = nousercfi
        self.seed: int = seed
        self.memory = memory
        self.stdout_write = stdout_write
        self.pid_max: int = pid_max
        self.rng = random.Random(f"getrandom {seed}")
        self.sched = Scheduler(seed)
        self.timers = Timers()
        self.tasks: dict[int, Task] = {}  # live ones and zombies
        self.processes: dict[int, Process] = {}
        self.mms: dict[int, Mm] = {}  # those with users
        self.current: Task
        self.first: Process
        self.during: int | None = None  # seq of the call or task event in progress
        self.warnings: list[str] = []
        self._waiters: dict[Hashable, dict[Task, None]] = {}
        self._modules: dict[int, list[tuple[int, int, int]]] = {}  # mm -> (start, end, module)
        self._module_count = 0
        self._mm_count = 0
        self._shared_count = 0
        self._last_pid = FIRST_PID - 1
        self._slept_ns = 0
        self._icount, self._step = 0, 0
        self._last: Task | None = None  # that ran before
        rec.module_of = self.module_of

    # Time, order, rows.

    def seq(self) -> int:
        """The next kernel step at this icount."""
        icount = self.machine.icount
        if icount != self._icount:
            self._icount, self._step = icount, 0
        self._step += 1
        if self._step >= STEPS:
            raise OverflowError(f"more than {STEPS} kernel steps at icount {icount}")
        return icount * STEPS + self._step

    def now_ns(self) -> int:
        """Virtual time since boot: one ns an instruction, plus what was slept while idle."""
        return self.machine.icount + self._slept_ns

    def event(self, kind: str, task: Task, **columns: Any) -> int:
        """One task_events row; its seq."""
        seq = self.seq()
        columns.setdefault("mm", task.mm_id)
        self.rec.row(
            "task_events",
            seq=seq,
            tid=task.tid,
            kind=kind,
            ssp=task.hart.ssp,
            pc=task.hart.pc,
            **columns,
        )
        return seq

    def warn(self, message: str) -> None:
        """Once for each message."""
        if message not in self.warnings:
            self.warnings.append(message)

    # Numbers and names.

    def new_tid(self) -> int | None:
        """alloc_pid: the next free number above the last one given; None if there is none."""
        for step in range(1, self.pid_max):
            tid = (self._last_pid + step) % self.pid_max
            if tid >= FIRST_PID and tid not in self.tasks:
                self._last_pid = tid
                return tid
        return None

    def new_mm_id(self) -> int:
        self._mm_count += 1
        return self._mm_count

    def new_shared(self) -> int:
        """A name for a piece of shared memory."""
        self._shared_count += 1
        return self._shared_count

    def add_module(
        self,
        mm: Mm,
        path: str,
        input: int | None,
        bias: int,
        areas: list[tuple[int, int]],
        build_id: str | None = None,
    ) -> None:
        """A file is mapped as code."""
        self._module_count += 1
        ranges = self._modules.setdefault(mm.id, [])
        ranges += [(start, end, self._module_count) for start, end in areas]
        self.rec.row(
            "modules",
            seq=self.seq(),
            tid=self.current.tid,
            mm=mm.id,
            module=self._module_count,
            path=path,
            input=input,
            bias=bias,
            build_id=build_id,
        )

    def map_module(self, mm: Mm, start: int, end: int, file: MappedFile, offset: int) -> None:
        self.add_module(mm, file.path, file.input, (start - offset) & _U64, [(start, end)])

    def inherit_modules(self, mm: Mm, parent: Mm) -> None:
        self._modules[mm.id] = list(self._modules.get(parent.id, ()))

    def module_of(self, mm: int, pc: int) -> int | None:
        """The module that code at pc belongs to, the latest mapped first."""
        for start, end, module in reversed(self._modules.get(mm, ())):
            if start <= pc < end:
                return module
        return None

    # Sleeping and waking.

    def wake(self, task: Task, why: str = "key") -> None:
        """Blocked -> runnable: its call is tried again, `blocked.woken` = why."""
        if task.state != BLOCKED or task.blocked is None:
            return
        self._unqueue(task, task.blocked.key)
        task.blocked.woken = why
        task.state = RUNNABLE
        self.sched.add(task)

    def wake_key(self, key: Hashable, n: int = 1 << 30) -> int:
        """Wake up to n tasks blocked on `key`, longest waiting first; how many were."""
        woken = list(self._waiters.get(key, ()))[:n]
        for task in woken:
            self.wake(task)
        return len(woken)

    def waiting(self, key: Hashable) -> list[Task]:
        """The tasks blocked on `key`, longest waiting first."""
        return list(self._waiters.get(key, ()))

    def requeue(self, task: Task, key: Hashable) -> None:
        """A blocked task waits for another key from now on."""
        assert task.blocked is not None
        self._unqueue(task, task.blocked.key)
        task.blocked.key = key
        self._waiters.setdefault(key, {})[task] = None

    def _unqueue(self, task: Task, key: Hashable) -> None:
        if queue := self._waiters.get(key):
            queue.pop(task, None)
            if not queue:
                del self._waiters[key]

    def retire(self, task: Task) -> None:
        """A task that exits waits for nothing and runs no more."""
        if task.blocked is not None:
            self._unqueue(task, task.blocked.key)
        task.state = ZOMBIE
        self.sched.remove(task)

    def _block(self, task: Task, wait: Wait) -> None:
        blocked = task.blocked
        assert blocked is not None
        blocked.reason, blocked.key = wait.reason, wait.key
        blocked.deadline_ns, blocked.interruptible = wait.deadline_ns, wait.interruptible
        blocked.woken = None
        task.state = BLOCKED
        self.sched.remove(task)
        if wait.key is not None:
            self._waiters.setdefault(wait.key, {})[task] = None
        if wait.deadline_ns is not None:
            self.sched.sleep_until(wait.deadline_ns, task)
        if wait.interruptible and signals.has_pending(task):
            self.wake(task, "signal")

    def _idle(self) -> bool:
        """Nobody can run: let the time pass until somebody can. False if nobody ever will."""
        deadlines = [self.sched.deadline(), self.timers.deadline(self, idle=True)]
        known = [d for d in deadlines if d is not None]
        if not known:
            return False
        self._slept_ns += max(min(known) - self.now_ns(), 0)
        return True

    # The loop.

    def run(
        self, max_instructions: int | None = None, poll: Callable[[], str | None] = lambda: None
    ) -> str:
        """Run until everything has exited; how it ended (schemas.vocabulary.ENDINGS).

        poll: asked now and then; an ending to stop with, or None.
        """
        entries = 0
        ending: str | None = None
        while ending is None:
            if entries % _POLL_EVERY == 0 and (ending := poll()) is not None:
                break
            entries += 1
            self.timers.fire(self)
            while (sleeper := self.sched.overdue(self.now_ns())) is not None:
                self.wake(sleeper, "deadline")
            task = self.sched.next()
            if task is None:
                if not any(t.state not in (ZOMBIE, DEAD) for t in self.tasks.values()):
                    break
                if not self._idle():
                    ending = "deadlock"
                continue
            self._switch_to(task)
            if not self._to_user(task):
                continue
            budget = self._budget(max_instructions)
            if budget <= 0:
                ending = "limit"
                break
            stop = self._run_slice(task, budget)
            self.rec.tick(self.machine)
            if stop not in (STOP_ECALL, STOP_FAULT):
                ending = poll()
        self._end_run()
        if ending is None:
            status = self.first.exit_status or 0
            ending = "killed" if status & 0x7F else "exited"
        return ending

    def _switch_to(self, task: Task) -> None:
        if task is self._last:
            return
        why = self.sched.why_stopped(self._last)
        task.hart.clear_reservation()
        self.rec.row(
            "sched",
            seq=self.seq(),
            tid=task.tid,
            mm=task.mm_id,
            from_tid=self._last.tid if self._last else None,
            why=why,
            state_hash=task.hart.state_hash(),
        )
        self._last = task

    def _to_user(self, task: Task) -> bool:
        """What stands between the chosen task and its next instruction; False if it can't run."""
        self.current = task
        if task.call is not None and task.restart is None:
            blocked = task.blocked
            assert blocked is not None
            # A fatal signal ended a wait that no other signal ends: the call never goes on.
            if blocked.woken != "signal" or blocked.interruptible:
                self._try_call(task)
        if task.state != RUNNABLE:
            return False
        if not task.entered:
            self._first_entry(task)
        signals.deliver_pending(self, task)
        if task.state != RUNNABLE:
            return False
        if task.restart is not None:
            self._restart(task)
        return True

    def _first_entry(self, task: Task) -> None:
        """schedule_tail: CLONE_CHILD_SETTID is the child's own store, errors don't matter."""
        if task.set_child_tid:
            self.during = task.born_during
            with suppress(Errno):
                put_u32(self, task, task.set_child_tid, task.tid)
            self.during = None
            task.set_child_tid = 0
        # Before any signal: the ssp that clone or exec handed over, without a first token.
        task.entered = True
        self.event("first_user", task)

    def _budget(self, max_instructions: int | None) -> int:
        budget = self.sched.budget(_SLICE)
        for deadline in (self.sched.deadline(), self.timers.deadline(self, idle=False)):
            if deadline is not None:
                budget = min(budget, max(deadline - self.now_ns(), 1))
        if max_instructions is not None:
            budget = min(budget, max_instructions - self.machine.icount)
        return budget

    def _run_slice(self, task: Task, budget: int) -> int:
        assert task.mm is not None
        before = self.machine.icount
        stop = task.hart.run(task.mm.space, budget, task.tid, task.mm.id)
        used = self.machine.icount - before
        task.icount += used
        self.sched.charge(used)
        if stop == STOP_ECALL:
            self._enter_call(task)
        elif stop == STOP_FAULT:
            task.hart.clear_reservation()
            traps.handle_fault(self, task)
        elif stop == STOP_FLUSH:
            self.rec.drain(self.machine)
        return stop

    # System calls.

    def _enter_call(self, task: Task) -> None:
        hart = task.hart
        hart.clear_reservation()
        *args, nr = hart.args()
        pc = hart.pc
        call = CALLS.get(nr)
        if call is None:
            self.warn(f"system call {nr} is unknown: -ENOSYS")
        task.call = InCall(
            seq=self.seq(),
            nr=nr,
            name=call.name if call else None,
            args=(args[0], args[1], args[2], args[3], args[4], args[5]),
            tid=task.tid,
            mm=task.mm_id,
            pc=pc,
            sp=hart.x(2),
            ssp=hart.ssp,
        )
        task.blocked = Blocked()
        hart.pc = pc + 4
        self._try_call(task)

    def _try_call(self, task: Task) -> None:
        """The first try of a call, or the next one after its task woke."""
        in_call = task.call
        assert in_call is not None
        call = CALLS.get(in_call.nr)
        self.during = in_call.seq
        result: Outcome
        try:
            result = call.handler(self, task, in_call.args) if call else -Errno("ENOSYS").number
        except Errno as error:
            result = -error.number
        self.during = None
        if isinstance(result, Wait):
            self._block(task, result)
        elif result is NO_RETURN:
            if task.call is in_call:
                self.end_call(task, "no_return", None)
        elif isinstance(result, End):
            task.restart = result
            task.hart.set_x(10, -Errno("EINTR").number & _U64)
        else:
            task.hart.set_x(10, result & _U64)
            self.end_call(task, "returned", result)

    def settle(self, task: Task, sa_restart: bool) -> None:
        """End a call that gave a RESTART…, just before a handler's frame is built.

        signals.deliver_pending calls it if `task.restart is not None`, with the handler's
        SA_RESTART: either the ecall runs again when the handler returns (pc - 4, a0 restored), or
        a0 is -EINTR. If no handler is entered, the kernel restarts the call afterwards.
        """
        again = task.restart is RESTART_ALWAYS or (task.restart is RESTART and sa_restart)
        if again:
            self._restart(task)
        else:
            task.restart = None
            self.end_call(task, "returned", -Errno("EINTR").number)

    def _restart(self, task: Task) -> None:
        assert task.call is not None
        task.restart = None
        task.hart.set_x(10, task.call.args[0])
        task.hart.pc = task.call.pc
        self.end_call(task, "restarted", None)

    def end_call(self, task: Task, outcome: str, ret: int | None) -> None:
        """The row of the call a task is in, and its clone attempt's; it is in none from now on."""
        call = task.call
        if call is None:
            return
        task.call = task.blocked = None
        ended = None if outcome == "run_ended" else self.seq()
        back = outcome in ("returned", "restarted")
        self.rec.row(
            "syscalls",
            seq=call.seq,
            tid=call.tid,
            mm=call.mm,
            seq_end=ended,
            nr=call.nr,
            name=call.name,
            **dict(zip(_ARGS, call.args, strict=True)),
            ret=ret,
            outcome=outcome,
            pc=call.pc,
            sp=call.sp,
            ssp_entry=call.ssp,
            ssp_exit=task.hart.ssp if back else None,
            state_hash=task.hart.state_hash() if back else None,
        )
        if call.attempt is not None:
            returned = outcome == "returned"
            self.rec.row(
                "clones",
                **call.attempt,
                seq_end=ended if returned else None,
                ret=ret if returned else None,
            )

    def _end_run(self) -> None:
        """Rows of what was still going on."""
        for task in sorted(self.tasks.values(), key=lambda t: t.tid):
            self.end_call(task, "run_ended", None)
        for mm in self.mms.values():
            self.rec.row("mms", **mm.row, seq_end=None)
        self.rec.drain(self.machine)
