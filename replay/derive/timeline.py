"""Which of many ranges an address was in at a time, when ranges come and go.

A segment tree over the bounds of the ranges. Building it takes n log n steps, a question log² n.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import Generic, Protocol, TypeVar


class Lasting(Protocol):
    """A range of addresses that stands from one seq until another (None: the run's end)."""

    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...
    @property
    def from_seq(self) -> int: ...
    @property
    def to_seq(self) -> int | None: ...


R = TypeVar("R", bound=Lasting)


class _Node(Generic[R]):
    """covers: the ranges that span the whole node, by from_seq; starts: the from_seq of each.

    from_seqs, to_seqs: sorted, of all ranges in the node's subtree.
    """

    __slots__ = ("covers", "from_seqs", "starts", "to_seqs")

    def __init__(self) -> None:
        self.covers: list[R] = []
        self.starts: list[int] = []
        self.from_seqs: list[int] = []
        self.to_seqs: list[int] = []

    def last(self, seq: int) -> R | None:
        """The last cover that began at or before seq. Covers never stand at the same time."""
        found = bisect_right(self.starts, seq)
        return self.covers[found - 1] if found else None

    def stands(self, seq: int) -> bool:
        """Whether any range of the subtree stands at a time."""
        return bisect_right(self.from_seqs, seq) > bisect_right(self.to_seqs, seq)


class Timeline(Generic[R]):
    """Ranges of which no two hold the same address at the same time."""

    def __init__(self, ranges: Sequence[R]) -> None:
        self.bounds = sorted({bound for r in ranges for bound in (r.start, r.end)})
        self._leaves = 1 << max(len(self.bounds) - 2, 0).bit_length()
        self._nodes: dict[int, _Node[R]] = {}
        for r in sorted(ranges, key=_from_seq):
            self._insert(r)
        for node in self._nodes.values():
            node.to_seqs.sort()

    def last(self, address: int, seq: int | None = None) -> R | None:
        """The last range to hold an address that began at or before seq (None: ever)."""
        node, until = self._leaf(address), 2**64 if seq is None else seq
        best: R | None = None
        while node:
            held = self._nodes.get(node)
            if held and held.covers:
                found = held.last(until)
                if found and (best is None or found.from_seq > best.from_seq):
                    best = found
            node >>= 1
        return best

    def at(self, address: int, seq: int) -> R | None:
        """The range that holds an address at a time."""
        found = self.last(address, seq)
        return found if found and _stands(found, seq) else None

    def within(self, start: int, end: int, seq: int) -> Iterator[R]:
        """The ranges that reach into start <= address < end at a time, by address."""
        found = self.after(start, seq)
        while found and found.start < end:
            yield found
            found = self.after(found.end, seq)

    def after(self, address: int, seq: int) -> R | None:
        """The first range at a time that ends above an address."""
        first = max(bisect_right(self.bounds, address) - 1, 0)
        leaf = self._find(1, self._leaves, seq, first, self._leaves - 1, forward=True)
        return None if leaf is None else self.at(self.bounds[leaf], seq)

    def before(self, address: int, seq: int) -> R | None:
        """The last range at a time that ends at or below an address."""
        last = bisect_right(self.bounds, address) - 2
        while (leaf := self._find(1, self._leaves, seq, 0, last, forward=False)) is not None:
            found = self.at(self.bounds[leaf], seq)
            if found is None or found.end <= address:
                return found
            last = bisect_left(self.bounds, found.start) - 1
        return None

    def _leaf(self, address: int) -> int:
        """The node of an address; 0 outside of all ranges."""
        at = bisect_right(self.bounds, address) - 1
        return self._leaves + at if 0 <= at < len(self.bounds) - 1 else 0

    def _insert(self, r: R) -> None:
        low = self._leaves + bisect_left(self.bounds, r.start)
        high = self._leaves + bisect_left(self.bounds, r.end)
        spanned = []
        while low < high:
            if low & 1:
                spanned.append(low)
                low += 1
            if high & 1:
                high -= 1
                spanned.append(high)
            low, high = low >> 1, high >> 1
        above = set()
        for node in spanned:
            held = self._node(node)
            held.covers.append(r)
            held.starts.append(r.from_seq)
            while node:
                above.add(node)
                node >>= 1
        for node in above:
            held = self._node(node)
            held.from_seqs.append(r.from_seq)
            if r.to_seq is not None:
                held.to_seqs.append(r.to_seq)

    def _node(self, number: int) -> _Node[R]:
        held = self._nodes.get(number)
        if held is None:
            held = self._nodes[number] = _Node()
        return held

    def _find(
        self, node: int, width: int, seq: int, first: int, last: int, *, forward: bool
    ) -> int | None:
        """The first (or last) leaf from first to last that a range covers at a time.

        width: leaves under the node.
        """
        low = (node << (width.bit_length() - 1)) - self._leaves
        held = self._nodes.get(node)
        if low > last or low + width <= first or held is None or not held.stands(seq):
            return None
        cover = held.last(seq)
        if cover and _stands(cover, seq):
            return max(low, first) if forward else min(low + width - 1, last)
        if width == 1:
            return None
        for child in (2 * node, 2 * node + 1) if forward else (2 * node + 1, 2 * node):
            found = self._find(child, width // 2, seq, first, last, forward=forward)
            if found is not None:
                return found
        return None


def _from_seq(r: Lasting) -> int:
    return r.from_seq


def _stands(r: Lasting, seq: int) -> bool:
    return r.from_seq <= seq and (r.to_seq is None or seq < r.to_seq)
