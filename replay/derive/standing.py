"""What stands in the words of the shadow stacks at one time after another: a walk over the writes.

Going forward costs what was written in between; going back begins anew. A fork shares its parent's
pages until either writes to them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

import polars as pl

from shstk.replay.derive.pieces import pieces
from shstk.replay.derive.regions import Change
from shstk.replay.derive.words import Word
from shstk.schemas.uapi import PAGE

if TYPE_CHECKING:
    from shstk.replay.run import Run

_COLUMNS: Final = ("seq", "tid", "mm", "kind", "addr", "value", "pc", "fault")
_KINDS: Final = ("sspush", "ssamoswap", "sspopchk")
ROWS: Final = 500_000  # of cfi at a time
MANY: Final = 512  # rows of which only the last of each word is worth a step in Python


class Pop(NamedTuple):
    """The last pop of a word, or by a task."""

    seq: int
    pc: int
    addr: int


@dataclass(slots=True)
class _Page:
    """owner: the space that may write to it; others have it by a fork."""

    owner: _Space
    words: dict[int, Word] = field(default_factory=dict)
    pops: dict[int, Pop] = field(default_factory=dict)

    def copy(self, owner: _Space) -> _Page:
        return _Page(owner, dict(self.words), dict(self.pops))


@dataclass(eq=False, slots=True)
class _Space:
    """The pages of an address space by number, and the words that an operation zeroed, with its
    seq."""

    pages: dict[int, _Page] = field(default_factory=dict)
    zeroed: dict[int, tuple[Word, int]] = field(default_factory=dict)

    def page(self, number: int) -> _Page:
        """The page, to write to."""
        page = self.pages.get(number)
        if page is None or page.owner is not self:
            page = page.copy(self) if page else _Page(self)
            self.pages[number] = page
        return page


_NOBODY: Final = _Space()


class Standing:
    """The words of all address spaces, just before a time."""

    def __init__(self, run: Run, changes: Sequence[Change], kernels: Sequence[Word]) -> None:
        """changes: of what is mapped. kernels: the words that the kernel wrote. Both by seq."""
        self._run = run
        stops: list[Word | Change] = [*kernels, *changes]
        self._all_stops = sorted(stops, key=lambda stop: stop.seq)
        self._begin()

    def _begin(self) -> None:
        self._now = 0
        self._spaces: dict[int | None, _Space] = {}
        self._last_pops: dict[int | None, Pop] = {}
        self._rows = _Rows(self._run)
        self._stops = iter(self._all_stops)
        self._stop = next(self._stops, None)

    # Questions, each about the moment just before a seq

    def words(self, mm: int | None, low: int, high: int, seq: int) -> list[Word]:
        """The words at low <= address < high, in ascending order."""
        self._go(seq)
        space = self._spaces.get(mm)
        if space is None:
            return []
        numbers = range(low // PAGE, -(-high // PAGE))
        if len(numbers) > len(space.pages):
            held = sorted(number for number in space.pages if number in numbers)
        else:
            held = [number for number in numbers if number in space.pages]
        found = (word for number in held for word in space.pages[number].words.values())
        return sorted((w for w in found if low <= w.addr < high), key=lambda w: w.addr)

    def popped(self, mm: int | None, word: Word, seq: int) -> Pop | None:
        """The last pop of a word that stands, since it was written."""
        self._go(seq)
        space = self._spaces.get(mm)
        page = space.pages.get(word.addr // PAGE) if space else None
        pop = page.pops.get(word.addr) if page else None
        return pop if pop and pop.seq > word.seq else None

    def last_pop(self, tid: int, seq: int) -> Pop | None:
        """A task's last pop."""
        self._go(seq)
        return self._last_pops.get(tid)

    def zeroed(self, mm: int | None, address: int, seq: int) -> tuple[Word, int] | None:
        """The word that an operation on the mapping last zeroed there, and its seq."""
        self._go(seq)
        space = self._spaces.get(mm)
        return space.zeroed.get(address) if space else None

    # The walk

    def _go(self, seq: int) -> None:
        if seq < self._now:
            self._begin()
        self._now = seq
        while self._stop and self._stop.seq < seq:
            at = self._stop.seq
            self._store(self._rows.before(at))
            changes: list[Change] = []
            while self._stop and self._stop.seq == at:
                if isinstance(self._stop, Word):
                    self._store([(False, self._stop)])
                else:
                    changes.append(self._stop)
                self._stop = next(self._stops, None)
            self._change(changes)
        self._store(self._rows.before(seq))

    def _store(self, events: Iterable[tuple[bool, Word]]) -> None:
        """events: writes, and pops (True) of what stands there."""
        for popped, word in events:
            space = self._spaces.get(word.mm)
            if space is None:
                space = self._spaces[word.mm] = _Space()
            page = space.page(word.addr // PAGE)
            if popped:
                assert word.pc is not None
                page.pops[word.addr] = self._last_pops[word.tid] = Pop(word.seq, word.pc, word.addr)
            else:
                page.words[word.addr] = word

    def _change(self, changes: list[Change]) -> None:
        """What one operation did: mremap takes the memory away from where it copies it from."""
        copied = [(c, self._copies(c)) for c in changes if c.kind == "copied"]
        for change in changes:
            space = self._spaces.get(change.mm)
            if space is None or change.kind == "copied":
                continue
            for number in _within(space, change.area.base, change.area.top):
                page = space.pages.pop(number)
                if change.kind == "cleared":
                    space.zeroed |= {a: (word, change.seq) for a, word in page.words.items()}
        for change, pages in copied:
            self._spaces.setdefault(change.mm, _Space()).pages |= pages

    def _copies(self, change: Change) -> dict[int, _Page]:
        source = self._spaces.get(change.from_mm)
        if source is None:
            return {}
        low, moved = change.area.base + change.shift, -change.shift
        pages = {n: source.pages[n] for n in _within(source, low, low + change.area.size)}
        if moved:
            return {n + moved // PAGE: _moved(page, moved) for n, page in pages.items()}
        for page in pages.values():
            page.owner = _NOBODY  # whoever writes first copies it
        return pages


def _within(space: _Space, low: int, high: int) -> list[int]:
    """The numbers of the pages of a range; mappings are of whole pages."""
    numbers = range(low // PAGE, -(-high // PAGE))
    if len(numbers) < len(space.pages):
        return [number for number in numbers if number in space.pages]
    return [number for number in space.pages if number in numbers]


def _moved(page: _Page, shift: int) -> _Page:
    """A page at another place."""
    words = {a + shift: w._replace(addr=a + shift) for a, w in page.words.items()}
    pops = {a + shift: p._replace(addr=a + shift) for a, p in page.pops.items()}
    return _Page(_NOBODY, words, pops)


class _Rows:
    """The writes and pops of cfi, in order."""

    def __init__(self, run: Run) -> None:
        kind = pl.col("kind").cast(pl.String)
        works = kind.is_in(_KINDS) & pl.col("fault").is_null()
        self._frames = (
            piece.rows.filter(works).select(
                "seq", "tid", "mm", pl.col("addr") // 8 * 8, "value", "pc", kind
            )
            for piece in pieces(run, *_COLUMNS, rows=ROWS)
        )
        self._take(next(self._frames))

    def _take(self, frame: pl.DataFrame) -> None:
        self._frame, self._seqs, self._from = frame, frame["seq"].to_list(), 0

    def before(self, seq: int) -> Iterator[tuple[bool, Word]]:
        """Those that follow the last ones told, until a seq; of many, the last of each word."""
        while True:
            begin, until = self._from, bisect_left(self._seqs, seq, self._from)
            self._from = until
            if until > begin:
                part = self._frame.slice(begin, until - begin)
                if part.height > MANY:
                    pops = (pl.col("kind") == "sspopchk").alias("pops")
                    part = part.unique(["mm", "addr", pops], keep="last", maintain_order=True)
                for row in part.rows():
                    word = Word(*row)
                    yield word.writer == "sspopchk", word
            following = next(self._frames, None) if until == len(self._seqs) else None
            if following is None:
                return
            self._take(following)
