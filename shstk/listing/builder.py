"""Turn the lines of a listing into rows: seqs, tasks, and the columns derived from them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from shstk.listing.events import EVENTS, Event, Place, Task
from shstk.listing.head import Head
from shstk.listing.syntax import Line, Listing
from shstk.listing.values import Area, BadValue, Names, as_held
from shstk.schemas import seq, uapi
from shstk.schemas.errors import BadListing
from shstk.schemas.manifest import Manifest
from shstk.schemas.nearest import did_you_mean
from shstk.schemas.rows import BadRow, check
from shstk.schemas.syscalls import SYSCALLS
from shstk.schemas.tables import TABLES

_CALL: Final = re.compile(r"([a-z_][a-z0-9_]*)\((.*)\)", re.DOTALL)
_SET: Final = re.compile(r"([a-z][a-z0-9_]*)=(.+)", re.DOTALL)
_SEQ: Final = re.compile(r"[0-9]+(\.[0-9]+)?")
_TASK: Final = re.compile(r"t([0-9]+)")
_MM: Final = re.compile(r"mm([0-9]+)")

Row = dict[str, Any]

_NO_RETURN: Final = ("exit", "exit_group", "rt_sigreturn")
_FORK: Final = {"exit_signal": uapi.SIGNALS["SIGCHLD"]}
_VFORK: Final = {"flags": uapi.CLONE_VM | uapi.CLONE_VFORK, **_FORK}
# api -> (the system call, the columns it fills in)
_CLONES: Final[dict[str, tuple[str, dict[str, int]]]] = {
    "clone": ("clone", {}),
    "clone3": ("clone3", {}),
    "fork": ("clone", _FORK),
    "vfork": ("clone", _VFORK),
}
_CLONE_ARGUMENTS: Final = (
    "flags", "stack", "stack_size", "tls", "parent_tid", "child_tid_addr", "set_tid", "exit_signal",
)  # fmt: skip
# The arguments from a0; clone3's struct is in memory, so only its size is passed.
_CLONE_REGISTERS: Final[dict[str, Callable[[Row], list[int]]]] = {
    "clone": lambda c: [
        c["flags"] | c["exit_signal"],
        c["stack"],
        c["parent_tid"],
        c["tls"],
        c["child_tid_addr"],
    ],
    "clone3": lambda c: [0, 88],
}
# The column with ssp after the event.
_SSP_AFTER: Final = {"task_events": "ssp", "cfi": "ssp_after", "signals": "ssp_after"}


@dataclass(frozen=True)
class Outer:
    """The event whose braces contain a line."""

    tid: int
    seq: int


class Builder:
    """Reads the lines of one run into `rows` and `files`. Raises BadListing."""

    def __init__(self, listing: Listing) -> None:
        self.rows: dict[str, list[Row]] = {}
        self.files: list[bytes] = []  # of the inputs
        self._where = listing.where
        self._names = Names()
        self._head = Head(self._names)
        self._tasks: dict[int, Task] = {}
        self._shadow_stacks: list[Area] = []
        self._at = -1  # the last seq used
        self._said: int | None = None  # the task of the last line
        self._running: int | None = None  # the task last switched to
        for line in listing.lines:
            self._line(line)
        for rows in self.rows.values():
            rows.sort(key=lambda row: row["seq"])

    def manifest(self) -> Manifest:
        first = self.rows.get("task_events", [{"tid": 1}])[0]["tid"]
        ends = [row.get("seq_end") or row["seq"] for rows in self.rows.values() for row in rows]
        return self._head.manifest(self.rows, first, max(ends, default=0))

    def _line(self, line: Line, outer: Outer | None = None) -> None:
        try:
            if outer is None and self._is_head(line):
                return
            self._event(line, outer)
        except (BadValue, BadRow) as e:
            raise BadListing(f"{self._where}:{line.number}: {e}", "see docs/listing.md") from e

    def _is_head(self, line: Line) -> bool:
        words = line.words
        if len(words) == 3 and words[1] == "=" and words[0].isidentifier():
            self._names.define(words[0], words[2])
            return True
        if self._head.takes(words[0]):
            self._head.line(words[0], words[1:])
            return True
        return False

    def _event(self, line: Line, outer: Outer | None) -> None:
        words = list(line.words)
        at = words.pop(0) if _SEQ.fullmatch(words[0]) else None
        tid = self._numbered(_TASK, words)
        mm = self._numbered(_MM, words)
        if not words:
            raise BadValue("no event on this line")
        name = words.pop(0)
        tid = tid if tid is not None else outer.tid if outer else self._said
        if tid is None:
            raise BadValue("the event has no task: begin it with one, such as t1")
        if outer is None:
            self._said = tid
        call = _CALL.fullmatch(name)
        event = EVENTS.get(name)
        instruction = bool(event and event.instruction)
        place_seq = self._next(at, outer, instruction=instruction, call=bool(call))
        if name == "boot":
            mm = self._numbered(_MM, words) or mm or 1
            self._boot(place_seq, tid, mm, words)
            return
        during = outer.seq if outer else None
        task = self._task(tid, mm, outer, created=name == "created")
        head = {"seq": place_seq, "tid": tid, "mm": task.mm, "during": during}
        words, ret = _split_return(words)
        place = self._place(tid, task, words, event.flags if event else frozenset(), ret)
        if call:
            self._call(call[1], call[2], head, place, line, never=ret == "?")
            return
        if name == "row":
            self._raw(head, place)
        elif name == "input":
            self._input(head, place)
        elif event:
            self._plain(event, head, place)
        else:
            raise BadValue(f"no event {name!r}{_like(name, (*EVENTS, 'boot', 'row', 'input'))}")
        self._inside(line, Outer(tid, place_seq))

    def _numbered(self, pattern: re.Pattern[str], words: list[str]) -> int | None:
        match = pattern.fullmatch(words[0]) if words else None
        if match:
            words.pop(0)
        return int(match[1]) if match else None

    def _next(self, at: str | None, outer: Outer | None, *, instruction: bool, call: bool) -> int:
        icount = max(self._at, 0) // seq.STEPS
        if at is not None:
            try:
                found = seq.parse(at if "." in at or instruction else f"{at}.1")
            except (ValueError, OverflowError) as e:
                raise BadValue(str(e)) from e
        elif outer is None and (instruction or call):
            found = seq.pack(icount + 1, 0 if instruction else 1)
        else:
            found = max(self._at, 0) + 1
        if found <= self._at:
            raise BadValue(
                f"{seq.show(found)} is not after {seq.show(self._at)}, the last seq used"
                " (events are in seq order; a call ends one step after the last event inside)"
            )
        if found >= 2**64:
            raise BadValue(f"{seq.show(found)} does not fit into a seq")
        self._at = found
        return found

    def _task(self, tid: int, mm: int | None, outer: Outer | None, *, created: bool) -> Task:
        if created or tid not in self._tasks:
            creator = self._tasks.get(outer.tid) if outer else None
            known = self._tasks.get(tid)
            if mm is None and known and not known.created:
                mm = known.mm
            elif mm is None and created and creator:
                mm = creator.mm
            if mm is None:
                raise BadValue(f"t{tid} is not known yet: give its mm, or have a clone create it")
            ssp = creator.ssp if creator else 0
            self._tasks[tid] = Task(mm, ssp, outer.tid if outer and creator else None, created)
        elif mm is not None:
            self._tasks[tid].mm = mm
        return self._tasks[tid]

    def _place(
        self, tid: int, task: Task, words: list[str], flags: frozenset[str], ret: str | None
    ) -> Place:
        found = flags & set(words)
        rest = [word for word in words if word not in found]
        number = None if ret in (None, "?") else self._names.number(str(ret))
        return Place(tid, task, self._names, self._shadow_stacks, rest, found, number)

    def _plain(self, event: Event, head: Row, place: Place) -> None:
        self._take_columns(event.table, place)
        for column, default in event.columns:
            self._take_word(event.table, column, default, place)
        filled = event.fill(place) if event.fill else {}
        row = self._add(event.table, head, {**event.fixed, **filled, **place.given})
        if place.words:
            raise BadValue(f"{event.name}: unexpected {place.words[0]!r}")
        after = row.get(_SSP_AFTER.get(event.table, ""))
        if event.name == "exec_done" and "ssp" not in place.given and not row["status"]:
            row["ssp"] = after = 0
        if after is not None:
            place.task.ssp = after
        if event.name == "switch":
            self._running = place.tid
        if event.name == "new_mm" and row["cause"] == "fork":
            place.task.created = False  # this is the mm of the next task with this tid
        if event.name == "mm_dropped" and row["value"] == 0:
            self._end_mm(row["mm"], row["seq"])

    def _take_columns(self, table: str, place: Place) -> None:
        """`column=value` words."""
        rest: list[str] = []
        for word in place.words:
            match = _SET.fullmatch(word)
            if not match:
                rest.append(word)
                continue
            if match[1] not in TABLES[table].names:
                raise BadValue(f"{table} has no column {match[1]}")
            column = TABLES[table].column(match[1])
            place.given[match[1]] = self._names.value(column, match[2])
        place.words = rest

    def _take_word(self, table: str, name: str, default: str | None, place: Place) -> None:
        if name in place.given:
            return
        column = TABLES[table].column(name)
        if place.words or default is None:
            place.given[name] = self._names.value(column, place.take(f"a word for {name}"))
        elif default == "@creator":
            place.given[name] = place.task.creator
        elif default == "@running":
            place.given[name] = self._running
        else:
            place.given[name] = self._names.value(column, default)

    def _call(
        self, name: str, arguments: str, head: Row, place: Place, line: Line, never: bool
    ) -> None:
        number, clone, registers = self._arguments(name, arguments)
        self._take_columns("syscalls", place)
        if place.words:
            raise BadValue(f"{name}: unexpected {place.words[0]!r}")
        ret = place.ret
        if ret is None and not never and name not in _NO_RETURN:
            raise BadValue(f"{name}: no result (= 0, = -ENOMEM, or = ? if it did not return)")
        entry = place.task.ssp
        self._inside(line, Outer(place.tid, head["seq"]))
        outcome = "returned"
        if ret is None:
            outcome = "no_return" if name in _NO_RETURN else "run_ended"
        row: Row = {"nr": number, "name": _CLONES.get(name, (name,))[0], "ret": ret, **registers}
        row |= {"outcome": outcome, "ssp_entry": entry, "seq_end": None, **place.given}
        if "seq_end" not in place.given and row["outcome"] != "run_ended":
            self._at += 1
            row["seq_end"] = self._at
        if row["outcome"] in ("returned", "loader"):
            row.setdefault("ssp_exit", place.task.ssp)
        self._add("syscalls", head, row)
        if row.get("ssp_exit") is not None:
            place.task.ssp = row["ssp_exit"]
        if clone:
            child = ret if ret is not None and ret > 0 else None
            made = {"api": name, "seq_end": row["seq_end"], "ret": ret, "child_tid": child}
            self._add("clones", head, made | clone)

    def _arguments(self, name: str, text: str) -> tuple[int, Row, Row]:
        """(call number, columns of clones if it is one, a0 to a5)."""
        parts = [part.strip() for part in text.split(",")] if text.strip() else []
        if name in _CLONES:
            clone = self._clone_arguments(name, parts)
            call = _CLONES[name][0]
            return SYSCALLS[call].number, clone, _registers(_CLONE_REGISTERS[call](clone))
        if name not in SYSCALLS:
            raise BadValue(f"no call {name!r}{_like(name, SYSCALLS)}")
        if len(parts) > 6:
            raise BadValue(f"{name}: a call takes at most six arguments")
        column = TABLES["syscalls"].column("a0")
        return SYSCALLS[name].number, {}, _registers([self._names.value(column, p) for p in parts])

    def _clone_arguments(self, name: str, parts: list[str]) -> Row:
        made: Row = {**dict.fromkeys(_CLONE_ARGUMENTS, 0), "set_tid": None, **_CLONES[name][1]}
        for i, part in enumerate(parts):
            match = _SET.fullmatch(part)
            key, value = (match[1], match[2]) if match else ("flags", part)
            if key not in _CLONE_ARGUMENTS or (not match and i):
                raise BadValue(f"{name}: {part!r} is not one of {', '.join(_CLONE_ARGUMENTS)}")
            made[key] = self._names.value(TABLES["clones"].column(key), value)
        return made

    def _boot(self, at: int, tid: int, mm: int, words: list[str]) -> None:
        if words:
            raise BadValue(f"boot: unexpected {words[0]!r}")
        self._tasks[tid] = Task(mm, created=True)
        self._running = tid
        head = {"tid": tid, "mm": mm}
        self._add("task_events", {**head, "seq": at}, {"kind": "created", "ssp": 0})
        self._add("mms", {**head, "seq": at + 1}, {"cause": "exec"})
        self._add("task_events", {**head, "seq": at + 2}, {"kind": "first_user", "ssp": 0})
        self._at = at + 2

    def _raw(self, head: Row, place: Place) -> None:
        table = place.take("the name of a table")
        if table not in TABLES:
            raise BadValue(f"no table {table!r}: known are {' '.join(TABLES)}")
        self._take_columns(table, place)
        if place.words:
            raise BadValue(f"row {table}: {place.words[0]!r} is not column=value")
        self._add(table, head, place.given)

    def _input(self, head: Row, place: Place) -> None:
        self._take_columns("inputs", place)
        number = self._names.number(place.take("its number"))
        path = self._names.text(place.take("its path"))
        data = self._names.data(place.take("its bytes"))
        if number != len(self.files) + 1:
            raise BadValue(f"inputs are numbered from 1: the next is {len(self.files) + 1}")
        if place.words:
            raise BadValue(f"input: unexpected {place.words[0]!r}")
        self.files.append(data)
        made: Row = {"input": number, "guest_path": path, "size": len(data), "mode": 0o100755}
        made |= {"sha256": hashlib.sha256(data).hexdigest(), "first_seq": head["seq"]}
        self._add("inputs", head, made | place.given)

    def _add(self, table: str, head: Row, columns: Row) -> Row:
        row = {k: v for k, v in head.items() if k in TABLES[table].names} | columns
        if isinstance(ret := row.get("ret"), int):
            row["ret"] = as_held(TABLES[table].column("ret"), ret)
        check(TABLES[table], row)
        self.rows.setdefault(table, []).append(row)
        return row

    def _end_mm(self, mm: int, at: int) -> None:
        for row in self.rows.get("mms", ()):
            if row["mm"] == mm and row.get("seq_end") is None:
                row["seq_end"] = at

    def _inside(self, line: Line, outer: Outer) -> None:
        for inner in line.inner:
            self._line(inner, outer)


def _split_return(words: list[str]) -> tuple[list[str], str | None]:
    """The words without `= RET`, and RET."""
    if "=" not in words:
        return words, None
    at = words.index("=")
    if at + 1 == len(words):
        raise BadValue("no value after the =")
    return words[:at] + words[at + 2 :], words[at + 1]


def _registers(values: list[int]) -> Row:
    return {f"a{i}": values[i] if i < len(values) else 0 for i in range(6)}


def _like(word: str, known: Iterable[str]) -> str:
    near = did_you_mean(word, known, most=1)
    return f": {near}" if near else ""
