"""Every word that was written to a shadow stack: its value, its writer and its lifetime."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import polars as pl

from shstk.replay.derive.places import Mark, next_marks
from shstk.replay.derive.regions import Change
from shstk.replay.derive.rows import Area

if TYPE_CHECKING:
    from shstk.replay.facts import Facts

COLUMNS: Final = {
    "mm": "UInt32",
    "addr": "UInt64",
    "value": "UInt64",
    "writer": "String",
    "tid": "UInt32",
    "pc": "UInt64",
    "write_seq": "UInt64",
    "from_seq": "UInt64",
    "to_seq": "UInt64",
    "popped_seq": "UInt64",
}
_WORD: Final = 8
_BEGUN: Final = [name for name in COLUMNS if name not in ("to_seq", "popped_seq")]


class Word(NamedTuple):
    """A word as it was written. mm: where; a fork copies it. pc: None if the kernel wrote it."""

    seq: int
    tid: int | None
    mm: int | None
    addr: int
    value: int
    pc: int | None
    writer: str  # as in COLUMNS


def words(facts: Facts) -> pl.DataFrame:
    """One row per word and address space, by from_seq, with the columns of COLUMNS.

    A word is there from from_seq until to_seq (null: the run's end), when it is overwritten,
    unmapped, discarded or moved. popped_seq: the first sspopchk that popped it. A fork and an
    mremap copy the words not popped yet, with the same write_seq.
    """
    made = _writes(facts)
    marks = [Mark(c.mm, c.area, c.seq, 0) for c in facts.regions.changes]
    following = _following(facts, made)
    copies = _Copies(facts.regions.changes)
    fresh = _with_ends(made, following, marks)
    done = [fresh]
    while (copied := copies.of(fresh)).height:
        fresh = _with_ends(copied, following, marks)
        done.append(fresh)
    return pl.concat(done).select(*COLUMNS).sort("from_seq", "mm", "addr", maintain_order=True)


def _writes(facts: Facts) -> pl.DataFrame:
    kind = pl.col("kind").cast(pl.String)
    pushed = (
        facts.run.scan("cfi")
        .filter(kind.is_in(["sspush", "ssamoswap"]) & pl.col("fault").is_null())
        .select("seq", "tid", "mm", pl.col("addr") // 8 * 8, "value", "pc", kind.alias("writer"))
        .collect()
    )
    kernels = pl.DataFrame(list(of_kernel(facts)), schema=pushed.schema, orient="row")
    both = pl.concat([pushed, kernels]).rename({"seq": "write_seq"}).sort("write_seq")
    return both.with_columns(from_seq=pl.col("write_seq"))


def of_kernel(facts: Facts) -> Iterator[Word]:
    """The whole words of shadow stacks that the kernel wrote."""
    tokens = set(facts.run.table("signals")["token_addr"].drop_nulls())
    maps = {call.seq for call in facts.calls("map_shadow_stack")}
    for t in facts.transfers:
        range_ = Area(t.addr, max(t.size - _WORD, 0) if t.op == "swap" else t.size)
        if t.op == "read" or not facts.ledger.touches(t.mm, range_, t.seq):
            continue
        new = t.bytes[_WORD:] if t.op == "swap" else t.bytes
        if t.during in maps:
            writer = "map_shadow_stack"
        elif t.op == "swap":
            writer = "sigreturn"
        else:
            writer = "signal" if t.addr in tokens else "kernel"
        for addr in range(-(-t.addr // _WORD) * _WORD, range_.top - _WORD + 1, _WORD):
            value = int.from_bytes(new[addr - t.addr : addr - t.addr + _WORD], "little")
            yield Word(t.seq, t.tid, t.mm, addr, value, None, writer)


def _following(facts: Facts, writes: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """The writes and pops that may end a word, by the column that has their seq."""
    kind = pl.col("kind").cast(pl.String)
    pops = (
        facts.run.scan("cfi")
        .filter((kind == "sspopchk") & pl.col("fault").is_null())
        .select("mm", "addr", popped_seq="seq")
        .collect()
    )
    return {
        "next_seq": writes.select("mm", "addr", next_seq="write_seq").sort("next_seq"),
        "popped_seq": pops.sort("popped_seq"),
    }


def _with_ends(
    rows: pl.DataFrame, following: dict[str, pl.DataFrame], marks: list[Mark]
) -> pl.DataFrame:
    """Adds to_seq and popped_seq."""
    rows = rows.sort("from_seq", maintain_order=True)
    for name, events in following.items():
        rows = rows.join_asof(
            events,
            left_on="from_seq",
            right_on=name,
            by=["mm", "addr"],
            strategy="forward",
            allow_exact_matches=False,
            check_sortedness=False,
            coalesce=False,
        )
    marked = next_marks(rows.with_columns(seq="from_seq"), marks)
    end = pl.min_horizontal("next_seq", "mark_seq")
    popped = pl.when(pl.col("popped_seq") <= end.fill_null(2**64 - 1)).then("popped_seq")
    return marked.with_columns(to_seq=end, popped_seq=popped).select(*COLUMNS)


class _Copies:
    """Which words forks and mremaps copy, and to where."""

    def __init__(self, changes: Sequence[Change]) -> None:
        copies = [c for c in changes if c.kind == "copied"]
        # An mremap takes a word away from where it was, so it is the first one to take it.
        self._moves = [c for c in copies if c.mm == c.from_mm]
        self._marks = [
            Mark(c.from_mm, Area(c.area.base + c.shift, c.area.size), c.seq, number)
            for number, c in enumerate(self._moves)
        ]
        rows = [
            (c.seq, c.from_mm, c.mm, c.area.base, c.area.top) for c in copies if c.mm != c.from_mm
        ]
        schema = {"seq": pl.UInt64, "mm": pl.UInt32, "child": pl.UInt32}
        ranges = {"low": pl.UInt64, "high": pl.UInt64}
        self._ranges = pl.DataFrame(rows, schema={**schema, **ranges}, orient="row")
        forks = self._ranges.select(*schema).unique().sort("seq")
        self._forks = forks.with_columns(rank=pl.int_range(pl.len()).over("mm"))

    def of(self, words: pl.DataFrame) -> pl.DataFrame:
        """The copies of words with their ends: as they begin, without their ends."""
        return pl.concat([self._moved(words), self._forked(words)])

    def _moved(self, words: pl.DataFrame) -> pl.DataFrame:
        took = next_marks(words.with_columns(seq="from_seq"), self._marks)
        took = took.filter(pl.col("mark_seq") <= _end())
        shifts = pl.Series([-self._moves[n].shift for n in took["mark"]], dtype=pl.Int64)
        place = (pl.col("addr").cast(pl.Int128) + shifts).cast(pl.UInt64)
        return took.with_columns(addr=place, from_seq="mark_seq").select(_BEGUN)

    def _forked(self, words: pl.DataFrame) -> pl.DataFrame:
        """A word is copied by every fork of its address space while it stands."""
        first, last = (
            words.select("mm", seq=at)
            .with_row_index()
            .sort("seq")
            .join_asof(
                self._forks.select("mm", "rank", "seq"),
                on="seq",
                by="mm",
                check_sortedness=False,
            )
            .sort("index")["rank"]
            .fill_null(-1)
            for at in (pl.col("from_seq"), _end())
        )
        ranks = pl.int_ranges(pl.col("first") + 1, pl.col("last") + 1)
        held = words.with_columns(first=first, last=last).filter(pl.col("first") < pl.col("last"))
        pairs = held.with_columns(rank=ranks).explode("rank").join(self._forks, on=["mm", "rank"])
        within = pl.col("addr").is_between("low", "high", closed="left")
        copied = pairs.join(self._ranges, on=["seq", "mm", "child"]).filter(within)
        return copied.with_columns(mm="child", from_seq="seq").select(_BEGUN)


def _end() -> pl.Expr:
    """The last seq at which a word can be copied: what was popped is not."""
    return pl.min_horizontal("to_seq", pl.col("popped_seq") - 1).fill_null(2**64 - 1)
