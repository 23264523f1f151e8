"""Whether a range was mapped at a given time, from the record of mapping operations."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from shstk.replay.derive.rows import Area, Mapping, Rows
from shstk.replay.derive.stacks import Copied


@dataclass(frozen=True)
class Place:
    """A range of an address space just before seq."""

    seq: int
    mm: int | None
    area: Area


def occupied(
    mm: int | None, area: Area, seq: int, mappings: Rows[Mapping], forks: Rows[Copied]
) -> bool:
    """Whether something was mapped in `area` just before `seq`."""
    return bool(occupied_of([Place(seq, mm, area)], mappings, forks))


def occupied_of(asked: Iterable[Place], mappings: Rows[Mapping], forks: Rows[Copied]) -> set[Place]:
    """The places in which something was mapped, found in one pass over the operations."""
    questions = list(asked)
    rows: list[Place | Mapping | Copied] = [*questions]
    if questions:
        rows += [*mappings, *forks]
    taken: dict[int | None, list[Area]] = {}
    found = set()
    for row in sorted(rows, key=lambda row: row.seq):
        if isinstance(row, Copied):
            taken[row.mm] = list(taken.get(row.from_mm, ()))
        elif isinstance(row, Mapping):
            taken[row.mm] = _after(row, taken.get(row.mm, []))
        elif any(area.overlaps(row.area) for area in taken.get(row.mm, ())):
            found.add(row)
    return found


def _after(row: Mapping, areas: list[Area]) -> list[Area]:
    """The areas of an address space after an operation on it."""
    if not row.done or row.start is None or row.op not in ("map", "unmap", "remap"):
        return areas
    if row.op == "remap" and row.old_start is not None:
        areas = _without(areas, Area(row.old_start, row.old_length or 0))
    areas = _without(areas, row.area)
    return areas if row.op == "unmap" else [*areas, row.area]


def _without(areas: list[Area], gone: Area) -> list[Area]:
    return [piece for area in areas for piece in area.minus(gone)]
