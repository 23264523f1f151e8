"""Every word that was written to a shadow stack: its value, its writer and its lifetime."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from shstk.replay.derive.places import Mark, next_marks
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


def words(facts: Facts) -> pl.DataFrame:
    """One row per word and address space, by from_seq, with the columns of COLUMNS.

    A word is there from from_seq until to_seq (null: the run's end), when it is overwritten,
    unmapped, discarded or moved. popped_seq: the first sspopchk that popped it. A fork and an
    mremap copy the words not popped yet, with the same write_seq.
    """
    made = _writes(facts)
    marks = _marks(facts)
    following = _following(facts, made)
    done = [_with_ends(made, following, marks)]
    for seq, source, target, area, shift in _copies(facts):
        standing = pl.concat(
            [
                part.filter(
                    (pl.col("mm") == source)
                    & pl.col("addr").is_between(area.base, area.top, closed="left")
                    & (pl.col("from_seq") < seq)
                    & (pl.col("to_seq").fill_null(2**64 - 1) >= seq)
                    & (pl.col("popped_seq").fill_null(2**64 - 1) > seq)
                )
                for part in done
            ]
        )
        if standing.height:
            copied = standing.drop("to_seq", "popped_seq").with_columns(
                mm=pl.lit(target, pl.UInt32),
                addr=(pl.col("addr").cast(pl.Int128) + shift).cast(pl.UInt64),
                from_seq=pl.lit(seq, pl.UInt64),
            )
            done.append(_with_ends(copied, following, marks))
    return pl.concat(done).select(*COLUMNS).sort("from_seq", "mm", "addr", maintain_order=True)


def _writes(facts: Facts) -> pl.DataFrame:
    kind = pl.col("kind").cast(pl.String)
    pushed = (
        facts.run.scan("cfi")
        .filter(kind.is_in(["sspush", "ssamoswap"]) & pl.col("fault").is_null())
        .select("mm", pl.col("addr") // 8 * 8, "value", kind.alias("writer"), "tid", "pc", "seq")
        .collect()
    )
    kernels = pl.DataFrame(list(_kernels(facts)), schema=pushed.schema, orient="row")
    both = pl.concat([pushed, kernels]).rename({"seq": "write_seq"}).sort("write_seq")
    return both.with_columns(from_seq=pl.col("write_seq"))


def _kernels(facts: Facts) -> Iterator[tuple[Any, ...]]:
    """The whole words of shadow stacks that the kernel wrote."""
    tokens = set(facts.run.table("signals")["token_addr"].drop_nulls())
    maps = {call.seq for call in facts.calls("map_shadow_stack")}
    for t in facts.transfers:
        new = t.bytes[_WORD:] if t.op == "swap" else t.bytes
        range_ = Area(t.addr, len(new))
        if t.op == "read" or not facts.ledger.touches(t.mm, range_, t.seq):
            continue
        if t.during in maps:
            writer = "map_shadow_stack"
        elif t.op == "swap":
            writer = "sigreturn"
        else:
            writer = "signal" if t.addr in tokens else "kernel"
        for addr in range(-(-t.addr // _WORD) * _WORD, range_.top - _WORD + 1, _WORD):
            word = int.from_bytes(new[addr - t.addr : addr - t.addr + _WORD], "little")
            yield t.mm, addr, word, writer, t.tid, None, t.seq


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


def _marks(facts: Facts) -> list[Mark]:
    """What ends words; the number has no meaning."""
    return [Mark(c.mm, c.area, c.seq, 0) for c in facts.regions.changes]


def _copies(facts: Facts) -> Iterator[tuple[int, int | None, int | None, Area, int]]:
    """(seq, from which mm, to which, what, by how far it moves) of forks and mremaps, in order."""
    for c in facts.regions.changes:
        if c.kind == "copied":
            source = Area(c.area.base + c.shift, c.area.size)
            yield c.seq, c.from_mm, c.mm, source, -c.shift
