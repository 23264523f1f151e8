"""A run as each task's sequence of events, in words that are comparable across runs.

An event is a call with its effect on shadow stacks, a clone, a task's first instruction, a signal,
a fault or an exit. Rows that only add detail to an event are part of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

import polars as pl
import pyarrow as pa

from shstk.replay import decode
from shstk.replay.derive import rows
from shstk.replay.derive.history import Cloned, Execed, Exited, Task
from shstk.replay.derive.sigframe import UCONTEXT
from shstk.replay.diff.names import OWN, Names
from shstk.replay.diff.tasks import Cast
from shstk.replay.facts import Facts
from shstk.schemas.argument_types import FLAGS
from shstk.schemas.causes import (
    BREAKPOINT,
    ILLEGAL_INSTRUCTION,
    INSTRUCTION_PAGE,
    LANDING_PAD_FAULT,
    LOAD_ACCESS,
    LOAD_MISALIGNED,
    LOAD_PAGE,
    SHADOW_STACK_FAULT,
    SOFTWARE_CHECK,
    STORE_ACCESS,
    STORE_MISALIGNED,
    STORE_PAGE,
)
from shstk.schemas.syscalls import SYSCALLS, name_of
from shstk.schemas.uapi import ERRNO, O_CREAT, O_EXCL, SIGNALS

# Every field of an event: the name that --ignore takes, and its label.
FIELDS: Final[dict[str, str]] = {
    **{f"syscalls.a{i}": f"argument {i + 1}" for i in range(6)},
    "syscalls.ret": "result",
    "syscalls.outcome": "outcome",
    "clones.flags": "flags",
    "clones.stack": "stack",
    "clones.stack_size": "stack_size",
    "clones.set_tid": "set_tid",
    "clones.exit_signal": "exit signal",
    "clones.ret": "result",
    "shadow_stacks.made": "shadow stack allocated",
    "shadow_stacks.gone": "shadow stack unmapped",
    "shadow_stacks.released": "shadow stack",
    "task_events.ssp": "first ssp",
    "task_events.pc": "first pc",
    "task_events.status": "ends with",
    "kernel_memory.bytes": "stored",
    "output.bytes": "output",
    "signals.code": "si_code",
    "signals.si_addr": "si_addr",
    "signals.sender": "sender",
    "signals.handler": "handler",
    "signals.alt_stack": "alternate stack",
    "signals.token": "token",
    "signals.frame": "ss_ptr in the frame",
    "faults.pc": "at",
    "faults.signo": "signal",
    "faults.code": "si_code",
    "faults.address": "address",
    "faults.expected": "expected",
    "faults.found": "found",
}
# Calls by which tasks wait for each other: how often they occur depends on scheduling.
WAITING: Final = frozenset({"futex", "sched_yield"})
_WAITED: Final = frozenset({-ERRNO["EAGAIN"], -ERRNO["ETIMEDOUT"]})
# Calls that read: what /proc reports about a process follows from what the process did.
_READS: Final = frozenset({"read", "readv", "pread64", "lseek", "getdents64"})
_ENDS: Final = frozenset({"exit", "exit_group"})
# Multiplexed calls: the first or second argument selects the operation.
_ABOUT: Final = {"prctl": 0, "futex": 1, "ioctl": 1, "fcntl": 1, "ptrace": 0}
_CAUSES: Final = {
    ILLEGAL_INSTRUCTION: "illegal instruction",
    BREAKPOINT: "breakpoint",
    LOAD_MISALIGNED: "misaligned load",
    LOAD_ACCESS: "load access fault",
    STORE_MISALIGNED: "misaligned store",
    STORE_ACCESS: "store access fault",
    INSTRUCTION_PAGE: "fetch page fault",
    LOAD_PAGE: "load page fault",
    STORE_PAGE: "store page fault",
}
_CHECKS: Final = {LANDING_PAD_FAULT: "landing pad check", SHADOW_STACK_FAULT: "shadow stack check"}
# What a call asks for: restart_syscall finishes the call that was restarted last.
_ASKED: Final = ("nr", "a0", "a1", "a2", "a3", "a4", "a5")
_NEW: Final = O_CREAT | O_EXCL
_FRAME: Final = 2048  # no frame is larger
_STRING: Final = 4096
_SMALL: Final = 16
_ROWS: Final = 4096

RELEASED: Final = "released"
_LEFT: Final = "left until the address space goes"
_LEAKED: Final = "never released"
STARTS: Final = "starts"
EXIT: Final = "exit"

Step = tuple[Task, int, "What"]  # task, seq, event
Said = deque[tuple[int, int | None, bytes]]  # seq, mm, bytes


class What(NamedTuple):
    """An event without its position, comparable across runs. about: the variant, such as a prctl's
    option. fields: (name from FIELDS, value)."""

    table: str
    name: str
    about: str
    fields: tuple[tuple[str, str], ...]
    task: str = ""  # set if the order of all tasks' events is compared

    @property
    def key(self) -> tuple[str, str, str, str]:
        return self.table, self.name, self.about, self.task

    def __str__(self) -> str:
        return f"{self.task}: {self._told()}" if self.task else self._told()

    @property
    def brief(self) -> str:
        """As text, without the flags of a clone."""
        flags = dict(self.fields).get("clones.flags")
        return str(self).replace(flags, "…") if flags else str(self)

    def _told(self) -> str:
        given = dict(self.fields)
        if self.table == "syscalls":
            args = [given[f"syscalls.a{i}"] for i in range(6) if f"syscalls.a{i}" in given]
            text = f"{self.name}({', '.join(args)}) = {given.get('syscalls.ret', '?')}"
            rest = [f for f in self.fields if not f[0].startswith(("syscalls.a", "syscalls.ret"))]
        elif self.table == "clones":
            text = f"{self.name}({given.get('clones.flags')}) = {given.get('clones.ret', '?')}"
            rest = [f for f in self.fields if f[0] not in ("clones.flags", "clones.ret")]
        else:
            text, rest = self.name, list(self.fields)
        shown = [f"{FIELDS[name]} {value}" for name, value in rest if value]
        return text + (f" [{', '.join(shown)}]" if shown else "")


class Whats:
    """Interns each What as a number: equal numbers are equal events, in both runs."""

    def __init__(self) -> None:
        self._numbers: dict[What, int] = {}
        self._keys: dict[tuple[str, str, str, str], int] = {}
        self._key_of: list[int] = []
        self.all: list[What] = []

    def number(self, what: What) -> int:
        if what not in self._numbers:
            self._numbers[what] = len(self.all)
            self.all.append(what)
            self._key_of.append(self._keys.setdefault(what.key, len(self._keys)))
        return self._numbers[what]

    def key(self, number: int) -> int:
        """The number of its kind: events of the same kind may be one event that changed."""
        return self._key_of[number]


class Teller:
    """Yields one run's events. ignored: tables, fields and calls to leave out. strings: whether to
    name files by what calls read. exact: include what depends on scheduling (offsets, waiting)."""

    def __init__(
        self,
        facts: Facts,
        cast: Cast,
        names: Names,
        ignored: frozenset[str],
        strings: bool,
        exact: bool,
    ) -> None:
        self._facts = facts
        self._cast = cast
        self._names = names
        self._ignored = ignored
        self._strings = strings
        self._exact = exact
        self._clones = {c.seq: c for c in facts.history.clones}
        self._maps = {m.row.seq: m for m in facts.stack_maps}
        self._touched: dict[int | None, list[rows.Mapping]] = {}
        for mapping in facts.mappings:
            if mapping.shadow_stack:
                self._touched.setdefault(mapping.during, []).append(mapping)
        clones = facts.run.table("clones")
        self._attempts = {row["seq"]: row for row in clones.iter_rows(named=True)}
        events = facts.run.table("task_events").select("seq", "pc")
        self._pcs = dict(events.iter_rows())
        self._deadlock = facts.run.manifest.ending == "deadlock"
        self.cut = self._cut_off()

    def steps(self) -> Iterator[Step]:
        """Every event that is not ignored, in no particular order."""
        for told in (self._calls, self._starts, self._exits, self._signals, self._faults):
            for task, seq, what in told():
                if self._ignored.isdisjoint((what.table, what.name, f"{what.name}({what.about})")):
                    yield task, seq, what._replace(fields=tuple(self._kept(what)))

    def _kept(self, what: What) -> Iterator[tuple[str, str]]:
        for name, value in what.fields:
            if name not in self._ignored and name.split(".")[0] not in self._ignored:
                yield name, value

    def _cut_off(self) -> frozenset[Task]:
        """Tasks that were ended by another task (exit_group, exec, SIGKILL) or by the end of the
        recording. How far they got depends on scheduling."""
        run, history = self._facts.run, self._facts.history
        own = run.scan("syscalls").filter(rows.called(*_ENDS))
        died = run.scan("signals").filter(
            (pl.col("kind").cast(pl.String) == "fatal") & (pl.col("signo") != SIGNALS["SIGKILL"])
        )
        chosen = own.filter(pl.col("outcome").cast(pl.String) == "no_return")
        ends = pl.concat([f.select("tid", "seq") for f in (chosen, died)]).collect().rows()
        itself = {self._cast.at(tid, seq) for tid, seq in ends}
        if self._deadlock:
            itself |= {self._cast.root(t) for t in history.tasks if t.exit_seq is None}
        return frozenset(set(self._cast.tasks) - itself)

    # Calls

    def _calls(self) -> Iterator[Step]:
        outputs = self._outputs()
        restarted: dict[Task, dict[str, Any]] = {}
        for batch in self._facts.run.batches("syscalls"):
            if not batch.num_rows:
                continue
            seqs = batch.column("seq")
            read, stored = self._transfers(seqs[0].as_py(), seqs[-1].as_py())
            for row in _rows(batch):
                seq, name = row["seq"], name_of(row["nr"])
                task = self._cast.at(row["tid"], seq)
                if task is None:
                    continue
                if row["outcome"] == "restarted":
                    restarted[task] = row
                elif name == "restart_syscall" and task in restarted:
                    row |= {key: restarted[task][key] for key in _ASKED}
                    name = name_of(row["nr"])
                what = self._call(task, row, name, read.get(seq, {}), stored.get(seq, {}))
                said = self._said(outputs.get(row["tid"]), row)
                if said:
                    text = self._names.text(said, row["mm"], seq)
                    what = what._replace(fields=(*what.fields, ("output.bytes", repr(text))))
                if not self._passed_over(task, name, row):
                    yield task, seq, what
        for tid, left in outputs.items():  # a run may record output without the call that wrote it
            for seq, mm, data in left:
                task = self._cast.at(tid, seq)
                if task is not None:
                    said = self._names.text(_text(data), mm, seq)
                    yield task, seq, What("output", "output", "", (("output.bytes", repr(said)),))

    def _outputs(self) -> dict[int | None, Said]:
        said: dict[int | None, Said] = {}
        for batch in self._facts.run.batches("output"):
            for row in batch.select(["seq", "tid", "mm", "bytes"]).to_pylist():
                said.setdefault(row["tid"], deque()).append((row["seq"], row["mm"], row["bytes"]))
        return said

    def _said(self, outputs: Said | None, row: dict[str, Any]) -> str:
        """The bytes a call wrote to standard output and standard error, removed from outputs."""
        end = row["seq_end"] or row["seq"]
        data = []
        while outputs and row["seq"] < outputs[0][0] <= end:
            data.append(outputs.popleft()[2])
        return _text(b"".join(data))

    def _transfers(
        self, first: int, last: int
    ) -> tuple[dict[int, dict[int, str]], dict[int, dict[int, bytes]]]:
        """The strings read and small values stored by the calls in a span, by seq and address."""
        if not self._strings:
            return {}, {}
        size = pl.col("bytes").bin.size()
        op = pl.col("op").cast(pl.String)
        chosen = ((op == "read") & (size <= _STRING)) | ((op == "write") & (size <= _SMALL))
        found = (
            self._facts.run.scan("kernel_memory")
            .filter(pl.col("during").is_between(first, last) & chosen)
            .select("during", "op", "addr", "bytes")
            .collect()
        )
        read: dict[int, dict[int, str]] = {}
        stored: dict[int, dict[int, bytes]] = {}
        for during, op_, addr, data in found.iter_rows():
            if op_ == "read":
                read.setdefault(during, {})[addr] = _text(data)
            else:
                stored.setdefault(during, {})[addr] = data
        return read, stored

    def _passed_over(self, task: Task, name: str, row: dict[str, Any]) -> bool:
        """Whether to skip the call: it is another event, is restarted, or only waited."""
        outcome, ret = row["outcome"], row["ret"]
        if outcome == "restarted" or (name in _ENDS and ret is None):
            return True
        if outcome == "run_ended":
            return not self._deadlock
        if outcome == "killed" and not self._exact:
            return True
        if self._exact:
            return False
        if ret == -ERRNO["EINTR"]:
            return True
        if name in _READS:
            file = self._names.descriptors.name(task, row["a0"] or 0)
            if file.startswith("</proc/") or not self._strings:
                return True
        return name in WAITING and (ret is None or ret >= 0 or ret in _WAITED)

    @staticmethod
    def _path(name: str, args: tuple[int, ...], read: dict[int, str]) -> str | None:
        """The first string among the arguments."""
        known = SYSCALLS[name].arguments if name in SYSCALLS else ()
        strings = (a for a, argument in zip(args, known, strict=False) if argument.type == "str")
        return next((read[a] for a in strings if a in read), None)

    def _call(
        self,
        task: Task,
        row: dict[str, Any],
        name: str,
        read: dict[int, str],
        stored: dict[int, bytes],
    ) -> What:
        seq, mm, ret = row["seq"], row["mm"], row["ret"]
        if seq in self._clones:
            return self._clone(task, self._clones[seq], row)
        args = tuple(row[f"a{i}"] or 0 for i in range(6))  # null is in no field that is compared
        path = self._path(name, args, read)
        succeeded = ret is not None and not -4096 < ret < 0
        if succeeded and path and name == "openat" and args[2] & _NEW == _NEW:
            self._names.created(path)
        shown = self._names.arguments(task, mm, seq, name, args, read)
        if succeeded:
            opened = self._names.path(path, mm, seq) if path else None
            self._names.descriptors.called(task, name, args, ret, opened, stored.get)
        result = self._names.result(task, name, args, ret, seq)
        fields = [(f"syscalls.a{i}", value) for i, value in enumerate(shown)]
        fields.append(("syscalls.ret", self._place_of_stack(seq, ret) or result))
        if row["outcome"] in ("killed", "run_ended"):
            fields.append(("syscalls.outcome", row["outcome"].replace("_", " ")))
        if name == "wait4" and len(stored.get(args[1], b"")) == 4 and ret:
            status = decode.wait_status(int.from_bytes(stored[args[1]], "little"))
            fields.append(("kernel_memory.bytes", status))
        if name == "prctl" and len(stored.get(args[1], b"")) == 8:
            fields.append(("kernel_memory.bytes", hex(int.from_bytes(stored[args[1]], "little"))))
        if name == "execve":
            fields += self._execed(row)
        else:
            fields += self._stacks(task, self._touched.get(seq, ()))
        about = shown[_ABOUT[name]] if name in _ABOUT and len(shown) > _ABOUT[name] else ""
        return What("syscalls", name, about, tuple(fields))

    def _execed(self, row: dict[str, Any]) -> list[tuple[str, str]]:
        end = row["seq_end"] or row["seq"]
        for execed in self._facts.history.execs:
            began = execed.begin is not None and row["seq"] < execed.begin.seq <= end
            if began and execed.task.tid == row["tid"] and execed.succeeded:
                return self._released(execed, None)
        return []

    def _clone(self, task: Task, clone: Cloned, row: dict[str, Any]) -> What:
        seq, mm, asked = row["seq"], row["mm"], self._attempts[row["seq"]]
        if clone.child is not None:
            self._names.descriptors.cloned(task, self._cast.root(clone.child), clone.row.flags)
            result = self._cast.path(clone.child)
        else:
            result = decode.result(clone.row.ret)
        fields = [
            ("clones.flags", decode.flags(asked["flags"], FLAGS["clone"])),
            ("clones.stack", self._names.place(mm, asked["stack"], seq) if asked["stack"] else ""),
            ("clones.stack_size", decode.size(asked["stack_size"]) if asked["stack_size"] else ""),
            ("clones.set_tid", "" if asked["set_tid"] is None else "given"),
            ("clones.exit_signal", _signal_or_none(asked["exit_signal"])),
            ("clones.ret", result),
            *self._stacks(task, self._touched.get(seq, ())),
        ]
        return What("clones", asked["api"], "", tuple(fields))

    def _place_of_stack(self, seq: int, ret: int | None) -> str | None:
        """The result of map_shadow_stack, as a place in the area it mapped."""
        made = self._maps.get(seq)
        if made is None or made.stack is None or ret is None:
            return None
        offset = ret - made.stack.base
        if offset and offset == made.size - 8:
            return "the token's address"
        return "the base" if not offset else f"the base + {offset:#x}"

    # Shadow stacks

    def _stacks(self, task: Task, touched: Iterable[rows.Mapping]) -> list[tuple[str, str]]:
        """The shadow stacks that a call allocated and unmapped; no field if there are none."""
        made = [
            decode.size(m.length) if m.done else f"refused ({decode.result(m.ret)})"
            for m in touched
            if m.op == "map"
        ]
        gone = [self._whose(task, m) for m in touched if m.op == "unmap" and m.done]
        fields = ("shadow_stacks.made", made), ("shadow_stacks.gone", gone)
        return [(name, " and ".join(values)) for name, values in fields if values]

    def _released(self, step: Exited | Execed, cleared: int | None) -> list[tuple[str, str]]:
        """The shadow stacks that an exit or exec unmapped, or that the task's own was left mapped.

        cleared: seq of clear_child_tid. No field if there was nothing to release.
        """
        told = []
        for m in step.mapped.gone:
            whose = self._whose(self._cast.root(step.task), m)
            late = cleared is not None and m.seq > cleared
            told.append(RELEASED if whose == OWN else f"{whose} {RELEASED}")
            told[-1] += " after clear_child_tid" if late else ""
        begin = step.begin.seq if isinstance(step, Execed) and step.begin else step.seq
        own = self._facts.ledger.owned(step.task, begin)
        if own is not None and (own.ended is None or own.ended.how == "mm dropped"):
            told.append(_LEAKED if own.ended is None else _LEFT)
        return [("shadow_stacks.released", " and ".join(told))] if told else []

    def _whose(self, task: Task, gone: rows.Mapping) -> str:
        stack = self._facts.ledger.at(gone.mm, gone.area.base, gone.seq)
        if stack is None:
            return "a shadow stack" if gone.shadow_stack else "ordinary memory in its place"
        return self._names.stack(stack, task)

    # Tasks

    def _starts(self) -> Iterator[Step]:
        for task in self._cast.tasks:
            first = task.first_user
            if first is None:
                continue
            pc = self._pcs.get(first.seq)
            fields = [("task_events.ssp", self._names.ssp(task, first.mm, first.ssp, first.seq))]
            if pc is not None:
                fields.append(("task_events.pc", self._names.place(first.mm, pc, first.seq)))
            yield task, first.seq, What("task_events", STARTS, "", tuple(fields))

    def _exits(self) -> Iterator[Step]:
        for exited in self._facts.history.exits:
            task = self._cast.root(exited.task)
            yield task, exited.event.seq, self._exit(task, exited)

    def _exit(self, task: Task, exited: Exited) -> What:
        status = exited.event.status
        fields = [("task_events.status", "" if status is None else decode.wait_status(status))]
        cleared = exited.cleared.seq if exited.cleared else None
        fields += self._released(exited, cleared)
        return What("task_events", EXIT, "", tuple(fields))

    # Signals and faults

    def _signals(self) -> Iterator[Step]:
        for row in self._facts.run.table("signals").iter_rows(named=True):
            task = self._cast.at(row["tid"], row["seq"])
            if task is not None:
                yield task, row["seq"], self._signal(row)

    def _signal(self, row: dict[str, Any]) -> What:
        seq, mm, signo = row["seq"], row["mm"], row["signo"]
        if row["kind"] == "sigreturn":
            token, value = row["token_addr"], row["token_value"]
            found = "none" if token is None else "found" if value == token + 8 else "wrong"
            return What("signals", "sigreturn", "", (("signals.token", found),))
        fields = [("signals.code", decode.signal_code(signo, row["code"]))]
        if row["si_addr"] is not None:
            fields.append(("signals.si_addr", self._names.place(mm, row["si_addr"], seq)))
        if row["sender"] is not None:
            sender = self._names.tid(row["sender"], seq)
            of_many = signo == SIGNALS["SIGCHLD"] and not self._exact
            fields.append(("signals.sender", "a child" if of_many else sender))
        if row["kind"] == "delivery":
            handler, pushed = row["handler"], row["token_addr"]
            if handler is not None:
                fields.append(("signals.handler", self._names.place(mm, handler, seq)))
                fields.append(("signals.alt_stack", "yes" if row["alt_stack"] else ""))
                fields.append(("signals.frame", self._frame(row)))
            fields.append(("signals.token", "" if pushed is None else "pushed"))
        return What("signals", decode.signal_name(signo), row["kind"], tuple(fields))

    def _frame(self, row: dict[str, Any]) -> str:
        """The offset of ss_ptr in the frame's ucontext."""
        frame, ss_ptr = row["frame"], row["ss_ptr"]
        if frame is None or ss_ptr is None:
            return ""
        word = ss_ptr.to_bytes(8, "little")
        for written in self._facts.transfers.of(row["tid"], row["seq"], row["seq"] + 8):
            if written.op == "write" and frame <= written.addr < frame + _FRAME:
                at = written.bytes.find(word)
                if at >= 0:
                    return f"ucontext+{written.addr + at - frame - UCONTEXT}"
        return "nowhere"

    def _faults(self) -> Iterator[Step]:
        for row in self._facts.run.table("faults").iter_rows(named=True):
            task = self._cast.at(row["tid"], row["seq"])
            if task is not None and row["signo"] is not None:
                yield task, row["seq"], self._fault(row)

    def _fault(self, row: dict[str, Any]) -> What:
        seq, mm, cause = row["seq"], row["mm"], row["cause"]
        name = _CHECKS.get(row["tval"], "software check") if cause == SOFTWARE_CHECK else None
        fields = [("faults.pc", self._names.place(mm, row["pc"], seq))]
        fields.append(("faults.signo", decode.signal_name(row["signo"])))
        fields.append(("faults.code", decode.signal_code(row["signo"], row["code"])))
        for column in ("address", "expected", "found"):
            if row[column] is not None:
                fields.append((f"faults.{column}", self._names.place(mm, row[column], seq)))
        return What("faults", name or _CAUSES.get(cause, f"cause {cause}"), "", tuple(fields))


def _rows(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    """The rows of a batch, a few at a time to bound memory."""
    for start in range(0, batch.num_rows, _ROWS):
        yield from batch.slice(start, _ROWS).to_pylist()


def _text(data: bytes) -> str:
    return data.decode(errors="backslashreplace")


def _signal_or_none(number: int) -> str:
    return decode.signal_name(number) if number else ""
