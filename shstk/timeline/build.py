"""The timeline of a run, made of its views, its log and its findings."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from shstk import log
from shstk.replay.decode import size
from shstk.replay.derive.depths import depths
from shstk.replay.facts import Facts
from shstk.replay.views import VIEWS
from shstk.schemas import seq as positions
from shstk.timeline.model import Instant, Point, Slice, Timeline

if TYPE_CHECKING:
    from shstk.replay.check import Report
    from shstk.replay.run import Run

_POINTS: Final = 20_000  # of a task's depth
_LOGGED: Final = ("syscalls", "task_events", "signals", "faults")
_HOW: Final = {"boot": "first task", "worker": "user worker"}

Row = dict[str, Any]


def build(
    run: Run,
    report: Report,
    window: tuple[int, int] | None,
    limit: int,
    times: Mapping[int, int] | None = None,
) -> Timeline:
    """window: only what happens from one seq to another. limit: of functions and of system calls,
    keep that many: those that last longest. times: seq -> virtual time, ns."""
    return _Build(run, report, window, limit).run(times or {})


class _Build:
    def __init__(
        self, run: Run, report: Report, window: tuple[int, int] | None, limit: int
    ) -> None:
        self._run = run
        self._report = report
        self._limit = limit
        end = positions.pack(run.manifest.icount + 1, 0)
        first, last = window or (0, end)
        self._made = Timeline(first, min(last, end))
        self._lives: dict[int, tuple[list[int], list[int]]] = {}  # tid -> births, tracks
        self._pids: dict[int, int] = {}  # pid -> track
        self._arrows = 0
        self._of: dict[tuple[str, int | None, int], list[int]] = {}  # kind, tid, seq -> arrows

    def run(self, times: Mapping[int, int]) -> Timeline:
        self._clock(times)
        self._tasks()
        handoffs = self._view("handoffs").filter(pl.col("tid").is_not_null())
        stacks, frames = self._view("shadow_stacks"), self._view("frames")
        self._arrows_between(handoffs, stacks, frames)
        self._functions(frames)
        self._log()
        self._stacks(stacks)
        self._depths()
        self._findings()
        return self._made

    def _view(self, name: str) -> pl.DataFrame:
        return VIEWS[name].build(self._run)

    def _clock(self, times: Mapping[int, int]) -> None:
        shown = [(seq, ns) for seq, ns in sorted(times.items()) if self._shown(seq, seq)]
        if shown:
            track = self._made.track("virtual time", unit="ns")
            step = -(-len(shown) // _POINTS)
            self._made.points += [Point(track, seq, ns) for seq, ns in shown[::step]]

    # Tracks of tasks. A tid is used again: each life of one has a track of its own.

    def _tasks(self) -> None:
        for row in self._view("tasks").sort("made_seq", "tid").iter_rows(named=True):
            pid, tid = row["pid"], row["tid"]
            if pid not in self._pids:
                self._pids[pid] = self._made.track(f"process {pid}", pid=pid)
            what = _HOW.get(row["how"], row["how"])
            track = self._made.track(f"{tid} ({what})", self._pids[pid], pid=pid, tid=tid)
            births, tracks = self._lives.setdefault(tid, ([], []))
            births.append(row["made_seq"])
            tracks.append(track)

    def _track(self, tid: int | None, seq: int) -> int | None:
        births, tracks = self._lives.get(tid or 0, ([], []))
        return tracks[max(bisect_right(births, seq) - 1, 0)] if tracks else None

    # Arrows

    def _arrow(self, *ends: tuple[str, int | None, int]) -> None:
        self._arrows += 1
        for end in ends:
            self._of.setdefault(end, []).append(self._arrows)

    def _arrows_between(
        self, handoffs: pl.DataFrame, stacks: pl.DataFrame, frames: pl.DataFrame
    ) -> None:
        """From a clone to its child's first instruction; from the release of a stack to the wake-up
        that follows in the same exit; from a signal to its sigreturn."""
        events = self._run.table("task_events").with_columns(pl.col("kind").cast(pl.String))
        first = dict(events.filter(kind="first_user").group_by("tid").agg("seq").iter_rows())
        for row in handoffs.iter_rows(named=True):
            begun = next((at for at in first.get(row["tid"], ()) if at > row["seq"]), None)
            if begun is not None:
                self._arrow(("syscalls", row["parent"], row["seq"]), ("task", row["tid"], begun))
        wakes = dict(events.filter(kind="futex_wake").group_by("tid").agg("seq").iter_rows())
        freed = stacks.filter(pl.col("released_how") == "exit").sort("released_seq", "base")
        for row in freed.iter_rows(named=True):
            tid, seq = row["released_by"], row["released_seq"]
            woke = next((at for at in wakes.get(tid, ()) if at > seq), None)
            if woke is not None:
                self._arrow(("release", tid, seq), ("task", tid, woke))
        returned = frames.filter(kind="signal", ended="sigreturn")
        for tid, delivered, back in returned.select("tid", "call_seq", "return_seq").iter_rows():
            self._arrow(("signals", tid, delivered), ("signals", tid, back))

    def _flows(self, kind: str, tid: int | None, seq: int) -> tuple[int, ...]:
        return tuple(self._of.get((kind, tid, seq), ()))

    # What lasts

    def _shown(self, begin: int, end: int | None) -> bool:
        return begin <= self._made.last and (end is None or end >= self._made.first)

    def _longest(self, rows: pl.DataFrame, begin: str, end: str, what: str) -> pl.DataFrame:
        first, last = self._made.first, self._made.last
        lasting = pl.col(end).fill_null(last)
        shown = rows.filter((pl.col(begin) <= last) & (lasting >= first))
        if shown.height <= self._limit:
            return shown
        lasts = shown.with_columns(lasts=lasting - pl.col(begin), at=pl.int_range(pl.len()))
        kept = lasts.sort("lasts", "at", descending=[True, False]).head(self._limit).sort("at")
        shortest = int(kept["lasts"].min() or 0) // positions.STEPS  # type: ignore[arg-type]
        self._made.left_out.append(
            f"{shown.height - kept.height:,} of {shown.height:,} {what}, none of which lasts longer"
            f" than {shortest:,} instructions"
        )
        return kept.select(rows.columns)

    def _functions(self, frames: pl.DataFrame) -> None:
        rows = self._longest(frames, "call_seq", "return_seq", "function calls")
        for row in rows.iter_rows(named=True):
            track = self._track(row["tid"], row["call_seq"])
            if track is None:
                continue
            name = row["symbol"] or _hex(row["callee"])
            if row["kind"] == "signal":
                name = f"handler {name}"
            details: dict[str, str] = {
                "from": row["caller"] or "-",
                "depth": str(row["depth"]),
                "ended": row["ended"],
            }
            if row["slot"] is not None:
                details["pushed at"] = _hex(row["slot"])
            kind = "handler" if row["kind"] == "signal" else "function"
            self._slice(track, row["call_seq"], row["return_seq"], name, kind, details)

    def _slice(
        self,
        track: int,
        begin: int,
        end: int | None,
        name: str,
        category: str,
        details: dict[str, str],
        flows: tuple[int, ...] = (),
        yields: bool = False,
    ) -> None:
        if self._shown(begin, end):
            details = {"at": positions.show(begin)} | details
            made = Slice(track, begin, end, name, category, details, flows, yields)
            self._made.slices.append(made)

    # The log: system calls last, everything else happens at once.

    def _log(self) -> None:
        calls = self._run.scan("syscalls").select("seq", "seq_end", "tid").collect()
        exits = self._exits()
        shown = self._longest(calls, "seq", "seq_end", "system calls")
        ends = {(tid, seq): end for seq, end, tid in shown.iter_rows()}
        for line in log.tell(self._run):
            track = self._track(line.tid, line.seq)
            if track is None or line.table not in _LOGGED:
                continue
            if line.table == "syscalls":
                if (line.tid, line.seq) in ends:
                    end = ends[line.tid, line.seq] or exits(line.tid, line.seq)
                    name, _, _ = line.text.partition("(")
                    flows = self._flows("syscalls", line.tid, line.seq)
                    details = {"call": line.text}
                    self._slice(track, line.seq, end, name, "syscall", details, flows, yields=True)
            else:
                kind = "task" if line.table == "task_events" else line.table
                flows = self._flows(kind, line.tid, line.seq)
                name = _short(line)
                self._instant(track, line.seq, name, kind, {"event": line.text}, flows)

    def _exits(self) -> Callable[[int | None, int], int | None]:
        """When the exit of a task begins in which a call that doesn't return ends."""
        begun = self._run.table("task_events").filter(
            pl.col("kind").cast(pl.String) == "exit_begin"
        )
        by_tid = dict(begun.group_by("tid").agg("seq").iter_rows())

        def after(tid: int | None, seq: int) -> int | None:
            return next((at for at in by_tid.get(tid, ()) if at >= seq), None)

        return after

    def _instant(
        self,
        track: int,
        at: int,
        name: str,
        category: str,
        details: dict[str, str],
        flows: tuple[int, ...] = (),
    ) -> None:
        if self._shown(at, at):
            details = {"at": positions.show(at)} | details
            self._made.instants.append(Instant(track, at, name, category, details, flows))

    # Shadow stacks: a track for each, and below it one for each task that was on it.

    def _stacks(self, stacks: pl.DataFrame) -> None:
        groups: dict[int | None, int] = {}
        tracks: dict[tuple[Any, ...], int] = {}
        for row in stacks.iter_rows(named=True):
            if not self._shown(row["made_seq"], row["released_seq"]):
                continue
            mm = row["mm"]
            if mm not in groups:
                groups[mm] = self._made.track(f"shadow stacks of mm {mm}")
            name = f"{_hex(row['base'])} {size(row['size'])}"
            track = self._made.track(name, groups[mm])
            tracks.setdefault((mm, row["base"], row["made_seq"]), track)
            owner = "nobody" if row["owner"] is None else f"task {row['owner']}"
            made = f"{row['how']} of {row['made_by']} at {positions.show(row['made_seq'])}"
            details: dict[str, str] = {"owner": owner, "allocated by": made}
            if row["released_seq"] is None:
                details["freed by"] = "nobody"
            else:
                by = "" if row["released_by"] is None else f" of {row['released_by']}"
                at = positions.show(row["released_seq"])
                details["freed by"] = f"{row['released_how']}{by} at {at}"
            if row["should"]:
                details["should have been freed by"] = row["should"]
            if row["high_water"] is not None:
                details["deepest"] = f"{row['high_water']} bytes"
            label = _whose(row["owner"]) + (", not freed as it should be" if row["should"] else "")
            self._slice(track, row["made_seq"], row["released_seq"], label, "shadow stack", details)
            if row["released_how"] == "exit":
                self._released(row, name)
        for row in self._view("stays").iter_rows(named=True):
            key = (row["mm"], row["base"], row["made_seq"])
            if key not in tracks or not self._shown(row["from_seq"], row["to_seq"]):
                continue
            user = (*key, row["tid"])
            if user not in tracks:
                tracks[user] = self._made.track(f"{row['tid']} on it", tracks[key])
            mine = row["owner"] == row["tid"]
            label = f"task {row['tid']}" + ("" if mine else f" on {_whose(row['owner'])}")
            self._slice(tracks[user], row["from_seq"], row["to_seq"], label, "stay", {})

    def _released(self, row: Row, name: str) -> None:
        tid, seq = row["released_by"], row["released_seq"]
        track = self._track(tid, seq)
        if track is not None:
            flows = self._flows("release", tid, seq)
            whose = _whose(row["owner"])
            self._instant(
                track,
                seq,
                "frees its shadow stack",
                "release",
                {"stack": name, "whose": whose},
                flows,
            )

    def _depths(self) -> None:
        facts = Facts(self._run, self._run.row, "intent")
        rows = depths(self._run, facts.ledger, _POINTS)
        counters: dict[int, int] = {}
        for seq, tid, depth in rows.select("seq", "tid", "depth").iter_rows():
            track = self._track(tid, seq)
            if track is None or not self._shown(seq, seq):
                continue
            if track not in counters:
                counters[track] = self._made.track(f"{tid} shadow stack depth", track, unit="bytes")
            self._made.points.append(Point(counters[track], seq, depth))

    def _findings(self) -> None:
        rows = self._report.violated.iter_rows(named=True)
        for row in rows:
            track = self._track(row["tid"], row["seq"])
            track = track if track is not None else next(iter(self._pids.values()), None)
            if track is None:
                continue
            evidence = " ".join(positions.show(at) for at in row["evidence"])
            details: dict[str, str] = {
                "rule": row["rule"],
                "expected": row["expected"],
                "actual": row["actual"],
                "note": row["note"],
                "evidence": evidence,
                "source": row["source"],
            }
            name = f"{row['rule']} {row['slug']}"
            self._instant(track, row["seq"], name, "finding", details)


def _short(line: log.Line) -> str:
    """The first words of a line: what happened, without its values."""
    if line.table == "signals":
        words = line.text.split()
        return " ".join(words[:3]) if words[0] == "killed" else words[0].rstrip(":")
    if line.table == "faults":
        _, _, signal = line.text.rpartition("-> ")
        return f"fault {signal}"
    return line.text.partition(":")[0].partition(" addr=")[0]


def _whose(owner: int | None) -> str:
    return "no task's" if owner is None else f"task {owner}'s"


def _hex(value: int | None) -> str:
    return "-" if value is None else hex(value)
