"""A trace's events, in order, become the rows of one program and all that it created."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from shstk.schemas.syscalls import BY_NUMBER, SYSCALLS
from shstk.schemas.uapi import CLONE_THREAD, CLONE_VM, CLONED_AS, CSIGNAL, ERRNO
from shstk.tracer.importers.ftrace.event import LOST, Event
from shstk.tracer.importers.ftrace.memory import Memory
from shstk.tracer.importers.ftrace.tasks import Call, Task, Told
from shstk.tracer.importers.rows import Row, Rows

_NR: Final = {name: call.number for name, call in SYSCALLS.items()}
_CLONES: Final = {_NR["clone"]: "clone", _NR["clone3"]: "clone3"}
_EXECS: Final = (_NR["execve"], _NR["execveat"])
_ENDS: Final = (_NR["exit"], _NR["exit_group"], _NR["rt_sigreturn"])  # they do not return
# What the kernel returns to itself when a signal interrupts a call -> whether the call is restarted
# after a handler, by whether it has SA_RESTART: ERESTARTSYS, NOINTR, NOHAND, _RESTARTBLOCK.
_RESTART: Final = {
    -512: {False: False, True: True},
    -513: {False: True, True: True},
    -514: {False: False, True: False},
    -516: {False: False, True: False},
}
# Events that show when an exiting task gave up its address space.
DROPS: Final = frozenset({"ss_mmput", "ss_exit_mmap", "sched_switch"})
_SA_RESTART: Final = 0x1000_0000
_EINTR: Final = -ERRNO["EINTR"]
_DEAD: Final = ("X", "Z")


class Story:
    """The rows of the process `root`, from an exec of it on. known: the names of events that the
    trace can have. one_hart: whether only one hart ran."""

    def __init__(self, root: int, known: frozenset[str], one_hart: bool) -> None:
        self.root = root
        self.exit_status: int | None = None
        self.over = False  # the root's exit has begun
        self.lost: Event | None = None  # at which the story ends
        self.unpaired = 0  # clone3 of which nothing but the call was seen
        self.program = ""
        self._known = known
        self._one_hart = one_hart
        self._told = Told()
        self._memory = Memory(self._told)
        self._tasks: dict[int, Task] = {}
        self._left: dict[int, str] = {}  # why each task last stopped running
        self._running: int | None = None
        self._born: Row = {}  # the last created
        self._delivered: Row = {}  # the last delivery
        self._returning: Row = {}  # the last sigreturn
        self._of_any: dict[str, Callable[[Event], None]] = {  # they tell whom they concern
            "sched_switch": self._switch,
            "ss_switch": lambda event: self._ssp(event.number("next"), event),
            "ss_new": self._new,
            "sched_process_fork": self._fork,
            "sched_wakeup_new": self._worker,
            "sched_process_exec": self._exec,
            "sched_process_exit": self._process_exit,
        }
        self._handlers: dict[str, Callable[[Task, Event], None]] = {
            "sys_enter": self._enter,
            "sys_exit": self._leave,
            "signal_deliver": self._deliver,
            "ss_clone": self._attempt,
            "ss_alloc": self._alloc,
            "ss_active": self._active,
            "ss_map": self._map,
            "ss_map_ret": self._memory.mapped,
            "ss_own_map": self._map,
            "ss_own_map_ret": self._memory.mapped,
            "ss_unmap": self._memory.unmap,
            "ss_unmap_ret": self._memory.unmapped,
            "ss_own_unmap": self._unmap_own,
            "ss_save": self._save,
            "ss_restore": self._restore,
            "ss_release": self._release,
            "ss_exec": self._exec_begin,
            "ss_exit": self._exit,
            "ss_mm_release": self._mm_release,
            "ss_mmput": self._mmput,
            "ss_exit_mmap": self._exit_mmap,
            "ss_wake": self._wake,
            "ss_wake_ret": self._woken,
        }
        self._boot()

    @property
    def rows(self) -> Rows:
        return self._told.rows

    @property
    def rings(self) -> bool:
        """Whether it made an io_uring, whose workers may be tasks of it."""
        return any(row["nr"] == _NR["io_uring_setup"] for row in self._told.rows.of("syscalls"))

    @property
    def tids(self) -> set[int]:
        """Of the process and all that it created."""
        return {*self._tasks}

    def read(self, events: Iterable[Event]) -> None:
        for event in events:
            if event.name == LOST:
                self.lost = event
                break
            if event.name in self._of_any:
                self._of_any[event.name](event)
            elif event.name in self._handlers and (task := self._tasks.get(event.pid)):
                self._handlers[event.name](task, event)
        for row in self._told.rows.of("syscalls"):
            if row["seq_end"] is None:
                row["outcome"] = "run_ended"

    # Lives

    def _boot(self) -> None:
        """The root, in its exec: what it maps until it has ended belongs to it."""
        root = self._tasks[self.root] = Task(self.root, self.root, None)
        self._told.event(root, "created", value=None)
        root.space = self._told.space(root, "exec", None)
        if self._one_hart:
            self._told.put("sched", root, from_tid=None, why="start")
        self._running = self.root
        root.booting = True

    def _first_user(self, task: Task) -> None:
        if not task.entered:
            task.entered = True
            self._told.event(task, "first_user")

    def _fork(self, event: Event) -> None:
        child, parent = event.number("child_pid"), self._tasks.get(event.number("pid") or 0)
        attempt = parent.call.attempt if parent and parent.call else None
        if child is None or parent is None or attempt is None:  # what it shares is not known
            return
        attempt["child_tid"] = child
        self._create(child, parent, attempt["flags"])

    def _worker(self, event: Event) -> None:
        """Without a fork it is io_uring's: a thread of its creator."""
        child, parent = event.number("pid") or 0, self._tasks.get(event.pid)
        known = self._tasks.get(child)
        in_clone = parent and parent.call and parent.call.nr in _CLONES
        if parent and not in_clone and (known is None or known.exit):
            self._create(child, parent, CLONE_VM | CLONE_THREAD)

    def _create(self, child: int, parent: Task, flags: int) -> None:
        pid = parent.pid if flags & CLONE_THREAD else child
        made = self._tasks[child] = Task(child, pid, parent.space)
        if not flags & CLONE_VM:
            made.space = self._told.space(made, "fork", parent.space)
        self._born = self._told.event(made, "created", ssp=None, value=parent.tid)

    def _new(self, event: Event) -> None:
        """The kernel's own arguments of the event before."""
        self._ssp(event.number("child"), event)
        child = self._tasks.get(event.number("child") or 0)
        if child and not child.entered:
            self._born["ssp"] = child.ssp

    def _ssp(self, tid: int | None, event: Event) -> None:
        task = self._tasks.get(tid or 0)
        if task and (ssp := event.number("ssp")) is not None:
            task.ssp = ssp

    def _exec_begin(self, task: Task, event: Event) -> None:
        if task.exec is None and not task.booting:
            task.exec = self._told.event(task, "exec_begin")

    def _exec(self, event: Event) -> None:
        tid, old = event.number("pid") or 0, event.number("old_pid") or 0
        task = self._tasks.get(old) or self._tasks.get(tid)
        if task is None:
            return
        if not task.booting:
            self._exec_begin(task, event)
        if old != tid:  # a thread goes on with its leader's tid
            self._tasks.pop(old, None)
            task.tid = tid
            self._tasks[tid] = task
            self._left.pop(old, None)
            self._running = tid if self._running == old else self._running
        task.ssp, task.exec_ssp = task.exec_ssp, None
        if task.booting:
            self.program = event.text("filename")
            self._first_user(task)
        else:
            self._enter_space(task)
            self._told.event(task, "exec_done", status=0)
        task.exec, task.booting, task.fresh = None, False, False

    def _enter_space(self, task: Task) -> None:
        """The address space of a new program, at the first sign of it."""
        if task.exec and not task.fresh:
            task.fresh = True
            task.space = self._told.space(task, "exec", task.space)

    def _exit(self, task: Task, event: Event) -> None:
        self._begin_exit(task, (event.number("code") or 0) & 0xFFFF)

    def _process_exit(self, event: Event) -> None:
        task = self._tasks.get(event.number("pid") or 0)
        if task is None or task.exit:
            return
        call = task.call
        if call and call.nr in _ENDS[:2]:
            self._begin_exit(task, (call.args[0] & 0xFF) << 8)
        else:
            self._begin_exit(task, task.signal or self._group_status(task))

    def _group_status(self, task: Task) -> int:
        """The status of a task that another of its process made exit."""
        statuses = [
            t.exit["status"]
            for t in self._tasks.values()
            if t.pid == task.pid and t.exit and t.call and t.call.nr == _NR["exit_group"]
        ]
        return statuses[-1] if statuses else 0

    def _begin_exit(self, task: Task, status: int) -> None:
        if task.exit:
            return
        own = task.call is not None and task.call.nr in _ENDS[:2]
        if status & 0x7F and not own:
            self._told.put("signals", task, kind="fatal", signo=status & 0x7F)
        task.exit = self._told.event(task, "exit_begin", status=status)
        if task.call and not own:
            task.call.row["outcome"] = "killed"
        if task.tid == self.root:
            self.exit_status, self.over = status, True

    def _mm_release(self, task: Task, event: Event) -> None:
        if task.exit:
            task.clear_tid = event.number("ctid") or 0
            self._told.event(task, "robust_done")  # futex_exit_release came right before
        elif event.number("tsk") == task.tid:
            self._exec_begin(task, event)

    def _release(self, task: Task, event: Event) -> None:
        self._ssp(event.number("tsk"), event)
        in_exec = task.call is None or task.call.nr in _EXECS
        if not task.exit and in_exec:
            self._exec_begin(task, event)
        gives = event.number("en") and event.number("base")
        if task.exit and not gives:
            self._drop_unseen(task)

    def _mmput(self, task: Task, event: Event) -> None:
        users = event.number("users")
        if task.exec and not task.fresh:
            self._drop(task, None if users is None else users - 1)
            self._enter_space(task)
        elif task.exit and not task.dropped:
            self._drop(task, None if users is None else users - 1)

    def _exit_mmap(self, task: Task, event: Event) -> None:
        if task.exec and not task.fresh:
            self._drop(task, 0)
            self._enter_space(task)
        elif task.exit and not task.dropped:
            self._drop(task, 0)

    def _drop(self, task: Task, users: int | None) -> None:
        row = self._told.event(task, "mm_dropped", value=users)
        if task.space and users == 0:
            task.space.row["seq_end"] = row["seq"]
        task.dropped = bool(task.exit)
        if task.exit and task.call:
            task.call.row["seq_end"] = self._told.rows.step()

    def _drop_unseen(self, task: Task) -> None:
        """A trace without any sign of mmput: it follows the release."""
        if not self._known & DROPS and not task.dropped:
            self._drop(task, None)

    def _wake(self, task: Task, event: Event) -> None:
        address = event.number("uaddr")
        if task.exit and task.clear_tid and address == task.clear_tid:
            self._told.event(task, "clear_child_tid", addr=address)
            task.waking = address

    def _woken(self, task: Task, event: Event) -> None:
        if task.waking is not None:
            self._told.event(task, "futex_wake", addr=task.waking, value=event.number("ret"))
            task.waking = None

    # Calls

    def _enter(self, task: Task, event: Event) -> None:
        number = event.number("id")
        if number is None or number < 0 or task.booting:
            return
        self._first_user(task)
        if task.call:  # a trace need not have the return of each call
            task.call.row["seq_end"] = self._told.rows.step()
        task.restarts = None
        args = (*event.args, *[0] * 6)[:6]
        self._told.rows.instruction()
        row = self._told.put(
            "syscalls",
            task,
            seq_end=None,
            nr=number,
            name=BY_NUMBER[number].name if number in BY_NUMBER else None,
            **{f"a{i}": value for i, value in enumerate(args)},
            outcome="no_return" if number in _ENDS else "run_ended",
        )
        task.call = Call(number, args, row)
        if number == _NR["clone"]:
            self._clone(
                task,
                api=CLONED_AS.get(args[0] & 0xFFFF_FFFF & ~CSIGNAL, "clone"),
                flags=args[0] & ~CSIGNAL,
                exit_signal=args[0] & CSIGNAL,
                stack=args[1],
                parent_tid=args[2],
                tls=args[3],
                child_tid_addr=args[4],
            )
        elif number == _NR["rt_sigreturn"]:
            self._returning = self._told.put(
                "signals", task, kind="sigreturn", sigreturn_seq=row["seq"], ssp_before=None
            )

    def _clone(self, task: Task, **given: Any) -> None:
        call = task.call
        if call is None or call.nr not in _CLONES:
            return
        if call.attempt is None:
            call.attempt = self._told.rows.put(
                "clones",
                seq=call.row["seq"],
                tid=task.tid,
                mm=call.row["mm"],
                api=_CLONES[call.nr],
                seq_end=None,
                **dict.fromkeys(("stack", "stack_size", "tls", "parent_tid"), 0),
                **dict.fromkeys(("child_tid_addr", "exit_signal"), 0),
                set_tid=None,
                child_tid=None,
                ret=None,
                flags=0,
            )
        call.attempt.update(given)

    def _attempt(self, task: Task, event: Event) -> None:
        names = {
            "flags": "flags",
            "stack": "stack",
            "size": "stack_size",
            "tls": "tls",
            "ptid": "parent_tid",
            "ctid": "child_tid_addr",
            "sig": "exit_signal",
        }
        told = {names[k]: v for k, v in event.values.items() if k in names and isinstance(v, int)}
        if "exit_signal" in told:
            told["exit_signal"] &= CSIGNAL
        self._clone(task, **{name: value % 2**64 for name, value in told.items()})

    def _alloc(self, task: Task, event: Event) -> None:
        """shstk_alloc_thread_stack for a child, which still is a copy of its parent."""
        self._attempt(task, event)
        if task.call and task.call.nr in _CLONES and (ssp := event.number("ssp")) is not None:
            task.call.row["ssp_entry"] = task.ssp = ssp

    def _active(self, task: Task, event: Event) -> None:
        """What exec sets ssp to. (A clone does the same for its child.)"""
        if task.exec or task.booting:
            task.exec_ssp = event.number("ssp")

    def _leave(self, task: Task, event: Event) -> None:
        number, ret, call = event.number("id"), event.number("ret"), task.call
        if task.booting or ret is None:
            return
        if call is None or call.nr != number:
            self._first_user(task)
            return
        task.call = None
        if call.nr == _NR["rt_sigreturn"]:
            call.row["seq_end"] = self._told.rows.step()
        elif ret in _RESTART:
            task.restarts = call, ret
            call.row["seq_end"] = self._told.rows.step()
            call.row["outcome"] = "restarted"
        else:
            self._memory.after_call(task, call, ret)
            call.row.update(seq_end=self._told.rows.step(), ret=ret, outcome="returned")
        if call.attempt:
            call.attempt.update(seq_end=call.row["seq_end"], ret=call.row.get("ret"))
        elif call.nr in _CLONES:
            self.unpaired += 1

    # Mappings

    def _map(self, task: Task, event: Event) -> None:
        self._enter_space(task)
        self._memory.map(task, event)

    def _unmap_own(self, task: Task, event: Event) -> None:
        """vm_munmap, which is taken to succeed: for the kernel's own areas it fails only if the
        task is killed meanwhile, and is then repeated."""
        if "ss_unmap" not in self._known:  # which tells more
            self._memory.gone(task, event.number("start") or 0, event.number("len") or 0, 0)
            if task.exit:
                self._drop_unseen(task)

    # Signals

    def _deliver(self, task: Task, event: Event) -> None:
        signo, handler = event.number("sig") or 0, event.number("sa_handler")
        if handler in (0, 1, None):
            task.signal = signo if handler == 0 else None
            return
        self._first_user(task)
        if task.restarts:
            call, code = task.restarts
            if not _RESTART[code][bool((event.number("sa_flags") or 0) & _SA_RESTART)]:
                call.row.update(outcome="returned", ret=_EINTR)
                if call.attempt:
                    call.attempt["ret"] = _EINTR
            task.restarts = None
        self._delivered = self._told.put(
            "signals",
            task,
            kind="delivery",
            signo=signo,
            code=event.number("code"),
            handler=handler,
        )

    def _save(self, task: Task, event: Event) -> None:
        self._ssp(event.number("tsk"), event)
        if self._delivered.get("tid") == task.tid:
            self._delivered["ssp_before"] = event.number("ssp")

    def _restore(self, task: Task, event: Event) -> None:
        if self._returning.get("tid") == task.tid:
            self._returning["ss_ptr"] = event.number("ptr")

    # Switches

    def _switch(self, event: Event) -> None:
        prev, state = event.number("prev_pid") or 0, event.text("prev_state")
        if task := self._tasks.get(prev):
            self._left[prev] = self._why(task, state)
            if task.exit and not task.dropped and state.startswith(_DEAD):
                self._drop(task, None)
        after = self._tasks.get(event.number("next_pid") or 0)
        if after is None or after.tid == self._running or not self._one_hart:
            return
        why = self._left.get(self._running or 0, "blocked")
        self._told.put("sched", after, from_tid=self._running, why=why)
        self._running = after.tid

    def _why(self, task: Task, state: str) -> str:
        if task.exit and (task.dropped or state.startswith(_DEAD)):
            return "exited"
        if not state.startswith("R"):
            return "blocked"
        yields = task.call is not None and task.call.nr == _NR["sched_yield"]
        return "yielded" if yields else "preempted"
