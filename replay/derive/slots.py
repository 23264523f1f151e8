"""What stands in each word of the shadow stacks: who wrote it last, and what a pop should find.

A word is a slot of an address space. Its writers are cfi rows and kernel_memory rows; map, unmap
and discard clear it, remap moves it, and a fork child inherits what the parent's held at the fork.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from shstk.replay import _core
from shstk.replay.derive.gather import Gather
from shstk.replay.derive.made import frame, numbers
from shstk.replay.derive.places import Mark, last_marks
from shstk.replay.derive.regions import Change
from shstk.replay.derive.rows import Area, Rows, Transfer
from shstk.replay.derive.stacks import Ledger

_WORD: Final = 8
# as replay/core/words.hpp numbers them
LOADER: Final = pl.Enum(["sspopchk", "ssamoswap", "read", "swap"])
_SCHEMA: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    "seq": pl.UInt64,
    "tid": pl.UInt32,
    "mm": pl.UInt32,
    "addr": pl.UInt64,
    "word": pl.UInt64,
    "load": LOADER,
    "found": pl.UInt64,
}
_JUDGED: Final[dict[str, type[pl.DataType]]] = {
    "seq": pl.UInt64,
    "tid": pl.UInt32,
    "mm": pl.UInt32,
    "addr": pl.UInt64,
    "word": pl.UInt64,
    "load": pl.UInt8,
    "found": pl.UInt64,
    "due": pl.UInt64,
    "due_seq": pl.UInt64,
}


@dataclass(frozen=True)
class Loads:
    """What was loaded from words of shadow stacks.

    right: how many loads, by who loaded (sspopchk, ssamoswap; read or swap: the kernel), found
    what should stand there. wrong: those that did not, in seq order: the columns of _SCHEMA, with
    due u64 (what should) and due_seq u64 (who wrote it; null: nobody, so 0).
    """

    right: dict[str, int]
    wrong: pl.DataFrame


def loads(transfers: Rows[Transfer], ledger: Ledger, changes: Sequence[Change]) -> Gather[Loads]:
    """Every load of a run."""
    kernels = list(_of_kernel(transfers, ledger))
    judge = Judge(changes, pl.DataFrame(kernels, schema=_SCHEMA, orient="row"))
    piece = yield judge
    while piece:
        piece = yield
    return judge.end()


def _of_kernel(
    transfers: Rows[Transfer], ledger: Ledger
) -> Iterator[tuple[int, int | None, int | None, int, int | None, str | None, int | None]]:
    """The words of shadow stacks that the kernel wrote or read."""
    for t in transfers:
        touched = Area(t.addr, max(t.size - _WORD, 0) if t.op == "swap" else t.size)
        if not ledger.touches(t.mm, touched, t.seq):
            continue
        data = t.bytes
        old, new = (data[:_WORD], data[_WORD:]) if t.op == "swap" else (data, data)
        load = None if t.op == "write" else t.op
        for addr in range(t.addr // _WORD * _WORD, touched.top, _WORD):
            words = [_word(data, addr - t.addr) for data in (new, old)]
            if load is None or words[1] is not None:
                yield t.seq, t.tid, t.mm, addr, words[0], load, words[1] if load else None


def _word(data: bytes, at: int) -> int | None:
    """The word that begins at an offset; None if it is not wholly there."""
    word = data[at : at + _WORD] if at >= 0 else b""
    return int.from_bytes(word, "little") if len(word) == _WORD else None


class Judge:
    """Judges the loads among some rows of cfi, which it takes in order, and among those of the
    kernel.

    Loads of words whose contents the run does not tell are left out, and those of what is not
    mapped: I4's. The core keeps what stands in each word, and what stood there before each change
    of what is mapped.
    """

    def __init__(self, changes: Sequence[Change], kernels: pl.DataFrame) -> None:
        self._changes = changes
        self._marks = [Mark(c.mm, c.area, c.seq, number) for number, c in enumerate(changes)]
        times = pl.Series(sorted({m.seq for m in self._marks}), dtype=pl.UInt64)
        self._words = _core.Words(numbers(times))
        who = pl.col("load").to_physical()
        for batch in kernels.sort("seq").with_columns(who).to_arrow().to_batches():
            self._words.kernels(batch)
        self.take = self._words.take

    def end(self) -> Loads:
        counts, *rows = self._words.end()
        known_loaders = dict(enumerate(LOADER.categories))
        load = pl.col("load").replace_strict(known_loaders, return_dtype=LOADER)
        wrong, asked, known = (frame(made, _JUDGED).with_columns(load) for made in rows)
        found = _trace_back(asked.select(*_SCHEMA), known.sort("seq"), self._marks, self._changes)
        wrong = pl.concat([wrong, _wrong(found)]).sort("seq")
        right = Counter(dict(zip(LOADER.categories, counts, strict=True)))
        right.subtract(dict(wrong["load"].value_counts().iter_rows()))
        return Loads(dict(right), wrong)


def _wrong(loads: pl.DataFrame) -> pl.DataFrame:
    """The loads that did not find what should stand there."""
    # ssamoswap.w, which no column tells from ssamoswap.d, gives half a word
    half = (pl.col("load") == "ssamoswap") & (pl.col("found") == pl.col("due") % 2**32)
    return loads.filter((pl.col("due") != pl.col("found")) & ~half)


def _trace_back(
    loads: pl.DataFrame, rows: pl.DataFrame, marks: list[Mark], changes: Sequence[Change]
) -> pl.DataFrame:
    """Follows each loaded word back through remaps and forks to who wrote it last."""
    cleared_by, copied_by = (
        [number for number, c in enumerate(changes) if c.kind == kind]
        for kind in ("cleared", "copied")
    )
    known = rows.select("mm", "addr", due="word", due_seq="seq", at="seq")
    nobody = pl.lit(None, pl.UInt64)
    done = [loads.clear().with_columns(due=nobody, due_seq=nobody)]
    asked = loads.with_columns(then=pl.col("seq"), home=pl.col("mm"), slot=pl.col("addr"))
    while asked.height:
        held = (
            last_marks(asked, marks)
            .sort("seq")
            .join_asof(
                known,
                left_on="seq",
                right_on="at",
                by=["mm", "addr"],
                allow_exact_matches=False,
                check_sortedness=False,
            )
        )
        written = (pl.col("due_seq") > pl.col("mark_seq").fill_null(0)).fill_null(False)
        cleared = (~written & pl.col("mark").is_in(cleared_by)).fill_null(False)
        onward = (~written & pl.col("mark").is_in(copied_by)).fill_null(False)
        answered = [
            held.filter(written),
            held.filter(cleared).with_columns(due=pl.lit(0, pl.UInt64), due_seq=nobody),
        ]
        done += [
            a.with_columns(seq="then", mm="home", addr="slot").select(done[0].columns)
            for a in answered
        ]
        earlier = held.filter(onward)
        places = [
            (changes[mark].from_mm, addr + changes[mark].shift)
            for addr, mark in earlier.select("addr", "mark").iter_rows()
        ]
        place = pl.DataFrame(places, schema={"mm": pl.UInt32, "addr": pl.UInt64}, orient="row")
        asked = earlier.select(asked.columns).with_columns(
            mm=place["mm"], addr=place["addr"], seq=earlier["mark_seq"]
        )
    return pl.concat(done)
