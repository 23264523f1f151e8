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

from shstk.replay.derive.gather import Gather
from shstk.replay.derive.places import Mark, last_marks
from shstk.replay.derive.regions import Change
from shstk.replay.derive.rows import Area, Rows, Transfer
from shstk.replay.derive.stacks import Ledger
from shstk.schemas.causes import SOFTWARE_CHECK

_WORD: Final = 8
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


@dataclass(frozen=True)
class Loads:
    """What was loaded from words of shadow stacks.

    right: how many loads, by who loaded (sspopchk, ssamoswap; read or swap: the kernel), found
    what should stand there. wrong: those that did not, in seq order: the rows of `accesses`, with
    due u64 (what should) and due_seq u64 (who wrote it; null: nobody, so 0).
    """

    right: dict[str, int]
    wrong: pl.DataFrame


def loads(transfers: Rows[Transfer], ledger: Ledger, changes: Sequence[Change]) -> Gather[Loads]:
    """Every load of a run."""
    kernels = list(_of_kernel(transfers, ledger))
    others = pl.DataFrame(kernels, schema=_SCHEMA, orient="row").sort("seq").lazy()
    judge = Judge(changes)
    while piece := (yield):
        judge.take(accesses(piece.rows, piece.span(others).collect()))
    return judge.end()


def accesses(cfi: pl.DataFrame, others: pl.DataFrame) -> pl.DataFrame:
    """Loads from and writes to shadow-stack words, in seq order.

    others: those of the kernel at the same time. Columns: seq u64, tid u32, mm u32, addr u64
    (8-byte aligned), word u64 (what stands there afterwards; null: not wholly known), load str (who
    loaded, as in Loads; null: nobody), found u64 (the word loaded; null: not known).
    """
    push, pop, swap = (pl.col("kind") == name for name in ("sspush", "sspopchk", "ssamoswap"))
    loaders = {name: pl.lit(name, LOADER) for name in ("sspopchk", "ssamoswap")}
    # a pop that meets another address has read its word
    done = pl.col("fault").is_null() | (pop & (pl.col("fault") == SOFTWARE_CHECK))
    whole = pl.col("addr") % _WORD == 0  # only ssamoswap.w can stand at half a word
    rows = cfi.filter((push | pop | swap) & done).select(
        "seq",
        "tid",
        "mm",
        addr=pl.col("addr") // _WORD * _WORD,
        word=pl.when(whole).then("value"),
        load=pl.when(pop).then(loaders["sspopchk"]).when(swap & whole).then(loaders["ssamoswap"]),
        found=pl.when(pop).then("value").otherwise("operand"),
    )
    return pl.concat([rows, others]).sort("seq") if others.height else rows


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
    """Judges the loads among the rows of `accesses`, which it takes in parts.

    Loads of words whose contents the run does not tell are left out, and those of what is not
    mapped: I4's. From part to part only the last row of each word is kept, and before each change
    of what is mapped.
    """

    def __init__(self, changes: Sequence[Change]) -> None:
        self._changes = changes
        self._marks = [Mark(c.mm, c.area, c.seq, number) for number, c in enumerate(changes)]
        self._times = pl.Series(sorted({m.seq for m in self._marks}), dtype=pl.UInt64)
        self._right: Counter[str] = Counter()
        self._last = pl.DataFrame(schema=_SCHEMA)
        self._wrong: list[pl.DataFrame] = []
        self._asked = [self._last]
        self._known = [self._last]

    def take(self, part: pl.DataFrame) -> None:
        rows = pl.concat([self._last, part])
        slot = ["addr"] if rows["mm"].n_unique() == 1 else ["mm", "addr"]
        rows = rows.with_columns(since=self._times.search_sorted(rows["seq"]))
        counts = rows["load"].drop_nulls().value_counts()
        self._right.update(dict(counts.iter_rows()))
        told = _of(rows, _open(rows), slot).with_columns(
            due=pl.col("word").shift().over(slot), due_seq=pl.col("seq").shift().over(slot)
        )
        loads = told.filter(pl.col("load").is_not_null())
        # A word that was touched since anything at all was mapped, unmapped or copied is a plain
        # case.
        touched = self._times.search_sorted(loads["due_seq"].fill_null(0)) == loads["since"]
        plain = touched & loads["due_seq"].is_not_null()
        self._wrong.append(_wrong(loads.filter(plain).drop("since")))
        self._asked.append(loads.filter(~plain).drop("since", "due", "due_seq"))
        # a row that the next one follows in the same word is not the last
        rows = rows.filter(~_followed(pl.col("mm", "addr", "since")))
        lasts = _lasts(rows, [*slot, "since"])
        self._known.append(lasts.select(*_SCHEMA))
        last = _lasts(lasts, slot).select(*_SCHEMA)
        self._last = last.with_columns(load=pl.lit(None, LOADER))

    def end(self) -> Loads:
        held = pl.concat(self._known).unique(["mm", "addr", "seq"]).sort("seq")
        asked = pl.concat(self._asked)
        found = [*self._wrong, _wrong(_trace_back(asked, held, self._marks, self._changes))]
        wrong = pl.concat(found).sort("seq")
        self._right.subtract(dict(wrong["load"].value_counts().iter_rows()))
        return Loads(dict(self._right), wrong)


_WORDS: Final = ("mm", "addr", "since", "word", "load", "found")


def _open(rows: pl.DataFrame) -> pl.DataFrame:
    """The words of loads that are more than the end of a call: mm and addr, each once.

    A pop right after the push that it pops found what was last written there. Both are left out;
    then those around them may be neighbours. So a call costs little, however many it makes itself.
    What is left out after a row must lie below it, or where it popped: so nothing is left out
    between a push and its pop that wrote to the same word.
    """
    rows = rows.select(_WORDS)
    addr, last = pl.col("addr"), pl.col("addr").shift()
    below = pl.when(pl.col("load").shift().is_null()).then(addr < last).otherwise(addr <= last)
    ends = (
        (pl.col("load").shift(-1) == "sspopchk")
        & pl.col("load").is_null()
        & (pl.col("word") == pl.col("found").shift(-1))
        & _followed(pl.col("mm", "addr", "since"))
        & ((pl.col("mm").eq_missing(pl.col("mm").shift()) & below) | last.is_null())
    ).fill_null(False)
    while True:
        left = rows.with_columns(ends=ends).filter(
            ~(pl.col("ends") | pl.col("ends").shift(fill_value=False))
        )
        shrunk = left.height < _SHRINKS * rows.height
        rows = left.drop("ends")
        if not shrunk:
            break
    return rows.filter(pl.col("load").is_not_null()).select("mm", "addr").unique()


# Leaving out ends once too few are left out at a time.
_SHRINKS: Final = 0.9


def _of(rows: pl.DataFrame, words: pl.DataFrame, slot: list[str]) -> pl.DataFrame:
    """All rows of some words."""
    if len(slot) == 1:
        return rows.filter(pl.col("addr").is_in(words["addr"].implode()))
    return rows.join(words, on=slot, how="semi", nulls_equal=True, maintain_order="left")


def _followed(key: pl.Expr) -> pl.Expr:
    """Whether the next row has the same key; not at the last row."""
    return pl.all_horizontal(key.eq_missing(key.shift(-1))) & (
        pl.int_range(pl.len()) < pl.len() - 1
    )


def _lasts(rows: pl.DataFrame, key: list[str]) -> pl.DataFrame:
    return rows.unique(key, keep="last", maintain_order=True)


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
