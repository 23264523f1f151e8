"""What is mapped in an address space at a time, from the record of its operations."""

from __future__ import annotations

from replay.derive.rows import Area, Mapping, Rows
from replay.derive.stacks import Copied


def occupied(
    mm: int | None, area: Area, seq: int, mappings: Rows[Mapping], forks: Rows[Copied]
) -> bool:
    """Whether something was mapped in `area` just before `seq`."""
    return any(taken.overlaps(area) for taken in _mapped(mm, seq, mappings, forks))


def _mapped(mm: int | None, seq: int, mappings: Rows[Mapping], forks: Rows[Copied]) -> list[Area]:
    """Every area, a fork child's beginning with what its parent had at the fork."""
    fork = next((f for f in forks if f.mm == mm and f.mm is not None), None)
    taken = _mapped(fork.from_mm, fork.seq, mappings, forks) if fork else []
    for m in mappings:
        if m.mm != mm or m.seq >= seq or not m.done or m.start is None:
            continue
        if m.op == "remap" and m.old_start is not None:
            taken = _without(taken, Area(m.old_start, m.old_length or 0))
        if m.op in ("map", "unmap", "remap"):
            taken = _without(taken, m.area)
        if m.op in ("map", "remap"):
            taken.append(m.area)
    return taken


def _without(areas: list[Area], gone: Area) -> list[Area]:
    return [piece for area in areas for piece in area.minus(gone)]
