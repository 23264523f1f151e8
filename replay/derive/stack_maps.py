"""Calls of map_shadow_stack, with the mappings and stores within them."""

from __future__ import annotations

from dataclasses import dataclass

from shstk.replay.derive.law import page_align
from shstk.replay.derive.regions import Regions
from shstk.replay.derive.rows import Area, Call, Mapping, Rows, Transfer
from shstk.schemas.uapi import SHADOW_STACK_SET_TOKEN


@dataclass(frozen=True)
class StackMap:
    """One call: addr, size and flags as the kernel reads them (flags are 32 bits wide)."""

    row: Call
    made: tuple[Mapping, ...]
    refused: tuple[Mapping, ...]
    gone: tuple[Mapping, ...]
    written: tuple[Transfer, ...]
    taken: bool  # whether something was mapped in its range before

    @property
    def addr(self) -> int:
        return self.row.a0

    @property
    def size(self) -> int:
        return self.row.a1

    @property
    def flags(self) -> int:
        return self.row.a2 % 2**32

    @property
    def token(self) -> bool:
        return bool(self.flags & SHADOW_STACK_SET_TOKEN)

    @property
    def length(self) -> int:
        return page_align(self.size)

    @property
    def stack(self) -> Area | None:
        """The stack that is mapped when the call returns."""
        gone = {m.area for m in self.gone}
        left = [m.area for m in self.made if m.area not in gone]
        return left[0] if left else None

    @property
    def failed(self) -> bool:
        return self.row.ret is not None and -4095 <= self.row.ret < 0


def stack_maps(
    calls: Rows[Call], mappings: Rows[Mapping], transfers: Rows[Transfer], regions: Regions
) -> list[StackMap]:
    """Every call, in seq order."""
    inside = [(call, mappings.of(call.tid, call.seq, call.seq_end)) for call in calls]
    places = [_place(call, [m for m in rows if m.op == "map" and m.done]) for call, rows in inside]
    made = []
    for (call, rows), place in zip(inside, places, strict=True):
        written = transfers.of(call.tid, call.seq, call.seq_end)
        made.append(
            StackMap(
                row=call,
                made=tuple(m for m in rows if m.op == "map" and m.done),
                refused=tuple(m for m in rows if m.op == "map" and not m.done),
                gone=tuple(m for m in rows if m.op == "unmap" and m.done),
                written=tuple(t for t in written if t.op != "read"),
                taken=place is not None
                and bool(regions.within(call.mm, place.base, place.top, call.seq - 1)),
            )
        )
    return made


def _place(call: Call, made: list[Mapping]) -> Area | None:
    """The range that a call requests, or else the one that it maps."""
    if call.a0:
        return Area(call.a0, page_align(call.a1))
    return made[0].area if made else None
