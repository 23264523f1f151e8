"""The picture of a run: lanes of tasks and of shadow stacks over icount, as shapes to draw.

x is 0 to WIDTH, from the run's begin to its end. y grows downwards; a lane's is its upper edge.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from shstk.replay.decode import size
from shstk.replay.derive.depths import depths
from shstk.replay.facts import Facts
from shstk.replay.views import VIEWS
from shstk.schemas import seq as positions

if TYPE_CHECKING:
    from shstk.replay.run import Run

WIDTH: Final = 960
LANE: Final = 20
COLORS: Final = 8  # tasks take turns with the colors of page.html.jinja
_POINTS: Final = 400  # of a task's depth
_TASKS_SHOWN: Final = 40
_STACKS_SHOWN: Final = 40
_TICKS: Final = 6
Row = dict[str, Any]


@dataclass(frozen=True)
class Bar:
    """From x to x + width. kind is its style, color that of a task; title is shown on hovering."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    title: str
    color: int = 0


@dataclass(frozen=True)
class Label:
    y: float
    text: str
    inner: bool = False  # of a task within a stack


@dataclass(frozen=True)
class Curve:
    """The depth of a task on a stack: the points of a polygon."""

    points: str
    color: int


@dataclass(frozen=True)
class Mark:
    """A finding or a fault. link: the id of what it refers to."""

    x: float
    y: float
    kind: str
    title: str
    link: str


@dataclass
class Picture:
    labels: list[Label] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    ticks: list[tuple[float, str]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    height: float = 0


@dataclass(frozen=True)
class Point:
    """Something to mark on a task's lane."""

    seq: int
    tid: int | None
    kind: str
    title: str
    link: str


def draw(run: Run, points: Iterable[Point]) -> Picture:
    """points: findings and faults."""
    return _Drawing(run).draw(list(points))


class _Drawing:
    def __init__(self, run: Run) -> None:
        self._run = run
        self._end = positions.pack(run.manifest.icount + 1, 0)
        self._made = Picture()
        self._colors: dict[int | None, int] = {}
        self._lanes: dict[int | None, float] = {}
        self._y: float = 0

    def draw(self, points: list[Point]) -> Picture:
        self._tasks(points)
        self._y += LANE / 2
        self._stacks()
        for point in points:
            lane = self._lanes.get(point.tid)
            if lane is not None:
                x = self._x(point.seq)
                self._made.marks.append(Mark(x, lane, point.kind, point.title, point.link))
        icount = self._run.manifest.icount
        for i in range(_TICKS):
            at = icount * i // (_TICKS - 1)
            self._made.ticks.append((self._x(positions.pack(at, 0)), f"{at:,}"))
        self._made.height = self._y
        return self._made

    def _x(self, seq: int | None) -> float:
        return WIDTH if seq is None else round(min(seq, self._end) * WIDTH / self._end, 2)

    def _bar(self, begin: int, end: int | None, y: float, height: float, *what: Any) -> None:
        x = self._x(begin)
        self._made.bars.append(Bar(x, y, max(self._x(end) - x, 1), height, *what))

    def _label(self, text: str, inner: bool = False) -> None:
        self._made.labels.append(Label(self._y, text, inner))

    def _tasks(self, points: Sequence[Point]) -> None:
        """Those with findings first, if there are too many."""
        rows = VIEWS["tasks"].build(self._run).sort("made_seq", "tid")
        marked = {point.tid for point in points}
        chosen = rows
        if rows.height > _TASKS_SHOWN:
            first = rows.with_columns(plain=~pl.col("tid").is_in(list(marked)))
            chosen = first.sort("plain", "made_seq", "tid").head(_TASKS_SHOWN).sort("made_seq")
            self._made.left_out.append(f"{rows.height - chosen.height:,} more tasks")
        for row in chosen.iter_rows(named=True):
            tid = row["tid"]
            self._colors.setdefault(tid, len(self._colors) % COLORS)
            self._lanes[tid] = self._y
            self._label(f"task {tid} ({row['how']})")
            on = "on" if row["enabled_at_birth"] or row["enabled_at_end"] else "off"
            title = f"task {tid}, made at {positions.show(row['made_seq'])}, shadow stack {on}"
            span = row["made_seq"], row["exit_seq"]
            self._bar(*span, self._y + 4, LANE - 8, "task", title, self._colors[tid])
            self._y += LANE

    def _stacks(self) -> None:
        stacks = VIEWS["shadow_stacks"].build(self._run)
        stays = VIEWS["stays"].build(self._run)
        exits = dict(VIEWS["tasks"].build(self._run).select("tid", "exit_seq").iter_rows())
        shown = stacks.head(_STACKS_SHOWN)
        if stacks.height > shown.height:
            self._made.left_out.append(f"{stacks.height - shown.height:,} more shadow stacks")
        facts = Facts(self._run, self._run.row, "intent")
        points = depths(self._run, facts.ledger, _POINTS)
        for row in shown.iter_rows(named=True):
            self._stack(row, exits)
            key = {name: row[name] for name in ("mm", "base", "made_seq")}
            here = stays.filter(**key).sort("from_seq")
            for tid in here["tid"].unique(maintain_order=True):
                self._user(row, tid, here.filter(tid=tid), points.filter(tid=tid))
            self._y += 6

    def _stack(self, row: Row, exits: dict[int, int | None]) -> None:
        """Its life. What its owner's exit should have freed but did not is a leak from then on;
        what was taken away before is missing until then."""
        owner, gone = row["owner"], row["released_seq"]
        whose = "no task's" if owner is None else f"task {owner}'s"
        self._label(f"{row['base']:#x} {size(row['size'])}, {whose}")
        by = "nobody" if gone is None else f"{row['released_how']} at {positions.show(gone)}"
        made = f"{row['how']} at {positions.show(row['made_seq'])}"
        title = f"{whose} stack, allocated by {made}, freed by {by}"
        until, due = gone, exits.get(owner) if row["should"] else None
        if due is not None:
            missing = gone is not None and gone < due
            until = gone if missing else due
            kind, end = ("missing", due) if missing else ("leak", gone)
            owed = f"it should have been freed by {row['should']}"
            self._bar(until, end, self._y + 4, LANE - 8, kind, owed)
        color = self._colors.get(owner, COLORS)
        self._bar(row["made_seq"], until, self._y + 4, LANE - 8, "stack", title, color)
        self._y += LANE

    def _user(self, row: Row, tid: int, stays: pl.DataFrame, points: pl.DataFrame) -> None:
        color = self._colors.get(tid, COLORS)
        kind = "stay" if tid == row["owner"] else "guest"
        deepest = max(row["high_water"] or 8, 8)
        self._label(f"{tid} on it", inner=True)
        for begin, end in stays.select("from_seq", "to_seq").iter_rows():
            told = f"task {tid} is on it from {positions.show(begin)} to {positions.show(end)}"
            self._bar(begin, end, self._y + 2, LANE - 4, kind, told, color)
            until = self._end if end is None else end
            deep = points.filter(pl.col("seq").is_between(begin, until))
            self._curve(deep, until, deepest, color)
        self._y += LANE

    def _curve(self, deep: pl.DataFrame, until: int, deepest: int, color: int) -> None:
        """A step at each point: the depth holds until the next."""
        top, room = self._y + 2, LANE - 4
        corners, level = [], top
        for seq, depth in deep.select("seq", "depth").iter_rows():
            x = self._x(seq)
            corners.append((x, level))
            level = round(top + room * min(depth / deepest, 1), 1)
            corners.append((x, level))
        if corners:
            corners += [(self._x(until), level), (self._x(until), top)]
            text = " ".join(f"{x:g},{y:g}" for x, y in corners)
            self._made.curves.append(Curve(text, color))
