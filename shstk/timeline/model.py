"""What a timeline consists of: tracks, and what lies on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Details = Mapping[str, str]


@dataclass(frozen=True)
class Track:
    """One row of the picture. pid, tid: the row is that of a process or of a task. unit: the row is
    a counter's."""

    id: int  # from 1
    name: str
    parent: int | None = None
    pid: int | None = None
    tid: int | None = None
    unit: str | None = None


@dataclass(frozen=True)
class Slice:
    """Something that lasts from one seq to another; end None: to the run's end.

    yields: it ends early if another begins inside it and outlasts it (a system call that a signal
    interrupts). flows: the numbers of the arrows that begin or end here.
    """

    track: int
    begin: int
    end: int | None
    name: str
    category: str
    details: Details = field(default_factory=dict)
    flows: tuple[int, ...] = ()
    yields: bool = False


@dataclass(frozen=True)
class Instant:
    """Something that happens at a seq."""

    track: int
    at: int
    name: str
    category: str
    details: Details = field(default_factory=dict)
    flows: tuple[int, ...] = ()


@dataclass(frozen=True)
class Point:
    """The value of a counter from a seq on."""

    track: int
    at: int
    value: int


@dataclass
class Timeline:
    """left_out: what is not shown, one sentence each."""

    first: int
    last: int
    tracks: list[Track] = field(default_factory=list)
    slices: list[Slice] = field(default_factory=list)
    instants: list[Instant] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def track(self, name: str, parent: int | None = None, **what: int | str) -> int:
        """Adds a track and returns its number."""
        self.tracks.append(Track(len(self.tracks) + 1, name, parent, **what))  # type: ignore[arg-type]
        return len(self.tracks)
