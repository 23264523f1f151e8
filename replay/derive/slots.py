"""What stands in each word of the shadow stacks: who wrote it last, and what a pop should find.

A word is a slot of an address space. Its writers are cfi rows and kernel_memory rows; map, unmap
and discard clear it, remap moves it, and a fork child inherits what the parent's held at the fork.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from replay.derive.places import Mark, last_marks
from replay.derive.rows import Area, Mapping, Rows, Transfer
from replay.derive.stacks import Copied, Stack
from schemas.uapi import PAGE

if TYPE_CHECKING:
    import polars as pl

_WORD: Final = 8
_SOFTWARE_CHECK: Final = 18  # a pop that faults so has read its word
_CLEARS, _ENDS, _MOVES, _FORKS = range(4)  # what a mark does to a slot


def accesses(
    cfi: pl.LazyFrame,
    transfers: Rows[Transfer],
    stacks: list[Stack],
    share: tuple[int, int] = (0, 1),
) -> pl.DataFrame:
    """Pops from and writes to shadow-stack words, in seq order.

    share: (i, n), only every n-th word of a page, from the i-th; remaps and forks leave a word in
    its share. Columns: seq u64, tid u32, mm u32, addr u64 (8-byte aligned), word u64 (popped or
    written; null: not wholly known), pop bool.
    """
    import polars as pl

    kind = pl.col("kind").cast(pl.String)
    done = pl.col("fault").is_null() | ((kind == "sspopchk") & (pl.col("fault") == _SOFTWARE_CHECK))
    mine = pl.col("addr") % PAGE // _WORD % share[1] == share[0]
    rows = (
        cfi.filter(kind.is_in(["sspush", "sspopchk", "ssamoswap"]) & done & mine)
        .select(
            "seq",
            "tid",
            "mm",
            addr=pl.col("addr") // _WORD * _WORD,
            # only ssamoswap.w can stand at half a word
            word=pl.when(pl.col("addr") % _WORD == 0).then("value"),
            pop=kind == "sspopchk",
        )
        .collect()
    )
    kernels = list(_written(transfers, stacks))
    written = pl.DataFrame(kernels, schema=rows.schema, orient="row").filter(mine)
    return pl.concat([rows, written]).sort("seq") if written.height else rows


def _written(
    transfers: Rows[Transfer], stacks: list[Stack]
) -> Iterator[tuple[int, int | None, int | None, int, int | None, bool]]:
    """The words of shadow stacks that the kernel wrote."""
    areas: dict[int | None, list[Area]] = {}
    for stack in stacks:
        areas.setdefault(stack.mm, []).append(stack.area)
    for t in transfers:
        new = t.bytes[_WORD:] if t.op == "swap" else t.bytes
        touched = Area(t.addr, len(new))
        if t.op == "read" or not any(a.overlaps(touched) for a in areas.get(t.mm, ())):
            continue
        for addr in range(t.addr // _WORD * _WORD, touched.top, _WORD):
            word = new[addr - t.addr : addr - t.addr + _WORD] if addr >= t.addr else b""
            whole = int.from_bytes(word, "little") if len(word) == _WORD else None
            yield t.seq, t.tid, t.mm, addr, whole, False


_OPS: Final = {"map": _CLEARS, "discard": _CLEARS, "unmap": _ENDS}


def wrong_pops(rows: pl.DataFrame, mappings: Rows[Mapping], forks: Rows[Copied]) -> pl.DataFrame:
    """The pops among `accesses` that did not find what should stand there.

    Adds due u64 (what should) and due_seq u64 (who wrote it; null: nobody, so 0). Pops of words
    whose contents the run does not tell are left out, and those of what is not mapped: I4's.
    """
    import polars as pl

    marks = [*_marks(mappings), *(Mark(f.mm, Area(0, 2**64 - 1), f.seq, _FORKS) for f in forks)]
    times = pl.Series(sorted({m.seq for m in marks}), dtype=pl.UInt64)
    slot = ["addr"] if rows["mm"].n_unique() == 1 else ["mm", "addr"]
    pops = rows.with_columns(
        due=pl.col("word").shift().over(slot), due_seq=pl.col("seq").shift().over(slot)
    ).filter("pop")
    # A word that was touched since anything at all was mapped, unmapped or copied is a plain case.
    since = times.search_sorted(pops["due_seq"].fill_null(0))
    plain = (since == times.search_sorted(pops["seq"])) & pops["due_seq"].is_not_null()
    rest = pops.filter(~plain).drop("due", "due_seq")
    found = pl.concat([pops.filter(plain), _trace_back(rest, rows, marks, mappings, forks)])
    return found.filter(pl.col("due") != pl.col("word")).sort("seq")


def _marks(mappings: Rows[Mapping]) -> Iterator[Mark]:
    for m in mappings:
        if not m.done or m.start is None:
            continue
        if m.op in _OPS:
            yield Mark(m.mm, m.area, m.seq, _OPS[m.op])
        elif m.op == "remap" and m.old_start is not None:
            kept = min(m.old_length or 0, m.length)
            yield Mark(m.mm, Area(m.old_start, m.old_length or 0), m.seq, _ENDS)
            yield Mark(m.mm, Area(m.start + kept, m.length - kept), m.seq, _CLEARS)
            yield Mark(m.mm, Area(m.start, kept), m.seq, _MOVES)


def _trace_back(
    pops: pl.DataFrame,
    rows: pl.DataFrame,
    marks: list[Mark],
    mappings: Rows[Mapping],
    forks: Rows[Copied],
) -> pl.DataFrame:
    """Follows each pop's word back through remaps and forks to who wrote it last."""
    import polars as pl

    origin = {f.seq: f.from_mm for f in forks}
    shifts = {m.seq: (m.old_start or 0) - (m.start or 0) for m in mappings if m.op == "remap"}
    known = rows.select("mm", "addr", due="word", due_seq="seq", at="seq")
    nobody = pl.lit(None, pl.UInt64)
    done = [pops.clear().with_columns(due=nobody, due_seq=nobody)]
    asked = pops.with_columns(then=pl.col("seq"), home=pl.col("mm"), slot=pl.col("addr"))
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
        cleared = (~written & (pl.col("mark") == _CLEARS)).fill_null(False)
        onward = (~written & (pl.col("mark") > _ENDS)).fill_null(False)
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
            (origin[at], addr) if mark == _FORKS else (mm, addr + shifts[at])
            for mm, addr, at, mark in earlier.select("mm", "addr", "mark_seq", "mark").iter_rows()
        ]
        place = pl.DataFrame(places, schema={"mm": pl.UInt32, "addr": pl.UInt64}, orient="row")
        asked = earlier.select(asked.columns).with_columns(
            mm=place["mm"], addr=place["addr"], seq=earlier["mark_seq"]
        )
    return pl.concat(done)
