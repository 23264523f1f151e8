"""The kernel of one run: its tasks and processes, the order of its rows, blocking and waking.

loop.py drives the harts.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, Protocol

from shstk.schemas.extensions import OPTIONAL
from shstk.schemas.machine import CALL_NS, QUANTUM
from shstk.schemas.revisions import Revision
from shstk.schemas.seq import STEPS
from shstk.schemas.syscalls import SYSCALLS
from shstk.schemas.values import TableRow, Values, by_name
from shstk.tracer.kernel.call import RESTART, RESTART_ALWAYS, RESTART_BLOCK, Wait
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.sched import Scheduler
from shstk.tracer.kernel.task import BLOCKED, RUNNABLE, ZOMBIE, InCall, Process, Task

if TYPE_CHECKING:
    from shstk.tracer._core import Machine
    from shstk.tracer.kernel.mm.mm import Mm
    from shstk.tracer.kernel.process.clone import CloneAttempt
    from shstk.tracer.kernel.tree.sandbox import Sandbox
    from shstk.tracer.kernel.tty.terminal import Terminal
    from shstk.tracer.recording.recorder import Buffers


FIRST_PID: Final = 100
PID_MAX: Final = 32768
WARNINGS_MAX: Final = 1000
_BREATH: Final = 1 << 12  # kernel steps; STEPS is a multiple


class Halted(Exception):
    """The run ends in the middle of a call."""

    def __init__(self, ending: str) -> None:
        super().__init__(ending)
        self.ending = ending


class Recorder(Protocol):
    """The part of recording.recorder (or NullRecorder) that the kernel uses.

    add: as `row`, with a value for each column. keeps: False if all rows are discarded.
    """

    @property
    def keeps(self) -> bool: ...

    module_of: Callable[[int, int], int | None]
    open_rows: Callable[[], Iterable[TableRow]]

    def row(self, table: str, /, **columns: Any) -> None: ...
    def add(self, table: str, values: Values) -> None: ...
    def drain(self, machine: Buffers) -> None: ...
    def tick(self, machine: Buffers) -> None: ...
    def input(self, guest_path: str, data: bytes, mode: int, seq: int) -> int: ...
    def file(self, data: bytes) -> str: ...


class Kernel:
    """row: the revision's switches. memory: size of the machine's memory in bytes, pids_max: how
    many tasks the guest's cgroup may have; None: no limit.

    stdout_write receives (fd, bytes) written to descriptors 1 and 2. terminal: replaces the pipes
    that are otherwise the first process's standard input, output and error.
    """

    def __init__(
        self,
        machine: Machine,
        rec: Recorder,
        row: Revision,
        sandbox: Sandbox,
        *,
        abi: str = "merged",
        cpu: frozenset[str] = frozenset(OPTIONAL),
        nousercfi: bool = False,
        enable_cfi: str = "off",
        seed: int = 0,
        quantum: tuple[int, int] = QUANTUM,
        call_ns: int = CALL_NS,
        memory: int | None = None,
        pids_max: int | None = None,
        stdout_write: Callable[[int, bytes], None] = lambda fd, data: None,
        terminal: Terminal | None = None,
        pid_max: int = PID_MAX,
        bare_vdso: bool = False,
    ) -> None:
        self.machine = machine
        self.rec = rec
        self.row = row
        self.sandbox = sandbox
        self.abi = abi
        self.cpu = cpu
        self.nousercfi = nousercfi
        self.enable_cfi = enable_cfi
        self.seed: int = seed
        self.memory = memory
        self.pids_max = pids_max
        self.stdout_write = stdout_write
        self.terminal = terminal
        self.pid_max: int = pid_max
        self.bare_vdso: bool = bare_vdso  # as before schema 4: only the code of rt_sigreturn
        self.rng = random.Random(f"getrandom {seed}")
        self.sched = Scheduler(seed, quantum)
        self.call_ns: int = call_ns
        self.tasks: dict[int, Task] = {}  # live tasks and zombies
        self.outside: dict[int, Task] = {}  # process/outside.py
        self.processes: dict[int, Process] = {}
        self.mms: dict[int, Mm] = {}  # those with users
        self.state: dict[type, object] = {}  # state of single modules, by its class (state.py)
        self.current: Task
        self.first: Process
        self.during: int | None = None  # seq of the call or task event in progress
        self.warnings: list[str] = []
        self.ending: str | None = None  # if set, the run ends before the next instruction
        self.on_entry: Callable[[InCall], None] | None = None  # called at the entry of each call
        self.on_switch: Callable[[int], None] | None = None  # with the seq of each switch of tasks
        self._waiters: dict[Hashable, dict[Task, None]] = {}
        self._mm_count = 0
        self._last_pid = FIRST_PID - 1
        self.poll: Callable[[], str | None] = lambda: None  # an ending, if the run is to end now

    # Time, order, rows.

    def seq(self) -> int:
        """The seq of the next kernel step at this icount."""
        seq = self.machine.step()
        if not seq % _BREATH:
            self._pause(seq)
        return seq

    def _pause(self, seq: int) -> None:
        if not seq % STEPS:
            self.warn(
                f"the kernel took {STEPS} steps after instruction {self.machine.icount}:"
                " the run ends there"
            )
            raise Halted("steps")
        self.breathe()

    def breathe(self) -> None:
        """For loops within a call that a guest can make long: --timeout and Ctrl-C end them too."""
        if (ending := self.poll()) is not None:
            raise Halted(ending)

    def here(self) -> int:
        """seq of the call or task event in progress if it began at this icount, else a new one."""
        if self.during is not None and self.during // STEPS == self.machine.icount:
            return self.during
        return self.seq()

    def now_ns(self) -> int:
        """Virtual time since boot (time/clock.py)."""
        return self.machine.now()

    def event(self, kind: str, task: Task, **columns: Any) -> int:
        """Write one task_events row and return its seq."""
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
        """Each message is reported once, and no more than WARNINGS_MAX."""
        if len(self.warnings) <= WARNINGS_MAX and message not in self.warnings:
            full = len(self.warnings) == WARNINGS_MAX
            self.warnings.append("there were more warnings" if full else message)

    def limit(self, call: str, words: str, detail: str = "") -> None:
        """Warn that a call has met a limit of the model. words: part of `why` in its table row."""
        self.warn(f"{call} met a limit of the model: {words}" + (detail and f" ({detail})"))

    # Numbers and names.

    def find(self, tid: int) -> Task | None:
        """The task that a program names by its number."""
        return self.tasks.get(tid) or self.outside.get(tid)

    def all_processes(self) -> list[Process]:
        """With those that are not modelled."""
        return [*(t.process for t in self.outside.values()), *self.processes.values()]

    def new_tid(self) -> int | None:
        """alloc_pid: the next free number above the last one allocated, None if there is none."""
        for step in range(1, self.pid_max):
            tid = (self._last_pid + step) % self.pid_max
            if tid >= FIRST_PID and tid not in self.tasks:
                self._last_pid = tid
                return tid
        return None

    def new_mm_id(self) -> int:
        self._mm_count += 1
        return self._mm_count

    # Blocking and waking.

    def wake(self, task: Task, why: str = "key") -> None:
        """Make a blocked task runnable. Its call is retried with `blocked.woken` = why."""
        if task.state != BLOCKED or task.blocked is None:
            return
        self._unqueue(task)
        task.blocked.woken = why
        task.state = RUNNABLE
        self.sched.add(task)

    def wake_key(self, key: Hashable, n: int = 1 << 30) -> int:
        """Wake up to n tasks blocked on `key`, the longest waiting first. Returns how many."""
        woken = list(self._waiters.get(key, ()))[:n]
        for task in woken:
            self.wake(task)
        return len(woken)

    def waiting(self, key: Hashable) -> list[Task]:
        """The tasks blocked on `key`, the longest waiting first."""
        return list(self._waiters.get(key, ()))

    def requeue(self, task: Task, key: Hashable, to: Hashable) -> None:
        """Move a blocked task from the wait queue of one of its keys to that of another."""
        assert task.blocked is not None
        self._unqueue(task)
        task.blocked.keys = [to if own == key else own for own in task.blocked.keys]
        self._queue(task)

    def _queue(self, task: Task) -> None:
        assert task.blocked is not None
        for key in task.blocked.keys:
            self._waiters.setdefault(key, {})[task] = None

    def _unqueue(self, task: Task) -> None:
        for key in task.blocked.keys if task.blocked else ():
            if queue := self._waiters.get(key):
                queue.pop(task, None)
                if not queue:
                    del self._waiters[key]

    def retire(self, task: Task) -> None:
        """Take an exiting task off its wait queue and the run queue."""
        self._unqueue(task)
        task.state = ZOMBIE
        self.sched.remove(task)

    def block(self, task: Task, wait: Wait) -> None:
        """Block a task in its call. A signal that is already pending wakes it at once."""
        blocked = task.blocked
        assert blocked is not None
        blocked.reason = wait.reason
        blocked.keys = [*(() if wait.key is None else (wait.key,)), *wait.also]
        blocked.deadline_ns, blocked.interruptible = wait.deadline_ns, wait.interruptible
        blocked.woken = None
        task.state = BLOCKED
        self.sched.remove(task)
        self._queue(task)
        if wait.deadline_ns is not None:
            self.sched.sleep_until(wait.deadline_ns, task)
        if wait.interruptible and task.sigpending:
            self.wake(task, "signal")

    def idle_until(self, ns: int) -> None:
        """No task is runnable: advance the clock to `ns` (as in now_ns)."""
        self.machine.spend(max(ns - self.now_ns(), 0))

    # The end of a call.

    def settle(self, task: Task, sa_restart: bool) -> None:
        """End a call whose outcome is a RESTART…, just before a handler's frame is built.

        deliver.py calls this if `task.restart is not None`, with the handler's SA_RESTART. Either
        the ecall runs again when the handler returns (pc - 4, a0 restored), or a0 is -EINTR. If no
        handler is entered, the loop restarts the call on the return to user mode.
        """
        again = task.restart is RESTART_ALWAYS or (task.restart is RESTART and sa_restart)
        if again:
            self.restart_call(task)
        else:
            task.restart = None
            task.hart.set_x(10, -Errno("EINTR").number & 2**64 - 1)
            self.end_call(task, "returned", -Errno("EINTR").number)

    def restart_call(self, task: Task) -> None:
        """Set the registers so that the ecall runs again, or restart_syscall in its place."""
        assert task.call is not None
        if task.restart is RESTART_BLOCK:
            task.hart.set_x(17, SYSCALLS["restart_syscall"].number)
        task.restart = None
        task.hart.set_x(10, task.call.args[0])
        task.hart.pc = task.call.pc
        self.end_call(task, "restarted", None)

    def end_call(self, task: Task, outcome: str, ret: int | None) -> None:
        """Write the row of the call a task is in, and of its clone attempt. The call is over."""
        call = task.call
        if call is None:
            return
        task.call = task.blocked = None
        ended = self.seq()
        if self.rec.keeps:
            self.rec.add("syscalls", _call_row(task, call, outcome, ret, ended))
            if call.attempt is not None:
                self.rec.row("clones", **_clone_row(call.attempt, outcome, ret, ended))

    def open_rows(self) -> Iterator[TableRow]:
        """The rows of the calls and address spaces that have not ended, as if the run ended now."""
        for task in sorted(self.tasks.values(), key=lambda t: t.tid):
            if task.call is not None:
                row = _call_row(task, task.call, "run_ended", None, None)
                yield "syscalls", by_name("syscalls", row)
                if task.call.attempt is not None:
                    yield "clones", _clone_row(task.call.attempt, "run_ended", None, None)
        for mm in self.mms.values():
            yield "mms", mm.row(None)


def _call_row(task: Task, call: InCall, outcome: str, ret: int | None, ended: int | None) -> Values:
    """A row of `syscalls`."""
    hart = task.hart
    back = outcome in ("returned", "restarted")
    return (
        call.seq,
        call.tid,
        call.mm,
        ended,
        call.nr,
        call.name,
        *call.args,
        ret,
        outcome,
        call.pc,
        call.sp,
        call.ssp,
        hart.ssp if back else None,
        hart.state_hash() if back else None,
    )


def _clone_row(
    attempt: CloneAttempt, outcome: str, ret: int | None, ended: int | None
) -> dict[str, Any]:
    known = {"seq_end": ended, "ret": ret} if outcome == "returned" else {}
    return vars(attempt) | {"seq_end": None, "ret": None} | known
