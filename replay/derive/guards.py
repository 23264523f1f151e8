"""Guard regions: the pages of an area that MADV_GUARD_INSTALL made inaccessible."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from shstk.replay.derive.rows import Mapping
from shstk.schemas.uapi import MADV_GUARD_INSTALL, MADV_GUARD_REMOVE

_ADVICE: Final = (MADV_GUARD_INSTALL, MADV_GUARD_REMOVE)


class Guards:
    """From the rows of mappings, in seq order. A forked mm has its parent's."""

    def __init__(self, mappings: Iterable[Mapping], parents: dict[int, tuple[int, int]]) -> None:
        """parents: mm -> (the mm that it was copied from, seq of the fork)."""
        rows = [m for m in mappings if m.done and m.start is not None and _decides(m)]
        # Most runs have no guard, and nothing to look up.
        self._rows = rows if any(m.op == "discard" for m in rows) else []
        self._parents = parents

    def at(self, mm: int | None, address: int, seq: int) -> bool:
        """Whether an address was guarded at a time."""
        for m in reversed(self._rows):
            if m.mm != mm or m.seq >= seq or not m.area.holds(address):
                continue
            if m.op == "remap" and m.old_start is not None and m.start is not None:
                offset = address - m.start
                moved = offset < (m.old_length or 0)
                return moved and self.at(mm, m.old_start + offset, m.seq)
            return m.op == "discard" and m.flags == MADV_GUARD_INSTALL
        if self._rows and mm in self._parents:
            parent, forked = self._parents[mm]
            return self.at(parent, address, min(forked, seq))
        return False


def _decides(row: Mapping) -> bool:
    """Whether a row installs or removes guards. mprotect and MADV_DONTNEED leave them."""
    return row.op in ("map", "unmap", "remap") or (row.op == "discard" and row.flags in _ADVICE)
