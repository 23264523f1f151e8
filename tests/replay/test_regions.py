"""What was mapped where and which shadow stack it was, against a model that replays every page."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from shstk.replay.derive.history import History
from shstk.replay.derive.regions import Regions
from shstk.replay.derive.rows import Call, Copied, Mapping, Rows
from shstk.replay.derive.stacks import Ledger
from shstk.schemas.uapi import MADV_DONTFORK, PROT_READ, PROT_WRITE

PAGE = 4096
BASE = 2**63 - 4 * PAGE  # across the border of signed numbers
PAGES = 10
SPACES = 3
ENOMEM = -12

PLACE, COUNT, MM = st.integers(0, PAGES - 1), st.integers(1, 5), st.integers(0, SPACES)
STEPS = st.one_of(
    st.tuples(st.sampled_from(["map", "ss"]), MM, PLACE, COUNT),
    st.tuples(st.just("unmap"), MM, PLACE, COUNT),
    st.tuples(st.just("protect"), MM, PLACE, COUNT),
    st.tuples(st.just("dontfork"), MM, PLACE, COUNT),
    st.tuples(st.just("remap"), MM, PLACE, COUNT, COUNT, st.none() | PLACE),
    st.tuples(st.just("fork"), MM),
    st.tuples(st.just("end"), st.integers(1, SPACES)),
)


@dataclass(frozen=True)
class Page:
    """origin: seq of the operation that put it here. made: of the first one."""

    origin: int
    made: int
    source: int | None
    shadow_stack: bool
    prot: int = PROT_READ | PROT_WRITE
    dontfork: bool = False


class Model:
    """Address spaces as dictionaries of pages, and the rows that a recorder writes of them."""

    def __init__(self) -> None:
        self.spaces: dict[int, dict[int, Page]] = {1: {}}
        self.mappings: list[Mapping] = []
        self.forks: list[Copied] = []
        self.advice: list[Call] = []
        self.ends: dict[int, int] = {}
        self.was: list[tuple[int, dict[int, dict[int, Page]]]] = []

    def step(self, seq: int, op: str, mm: int, *args: int | None) -> None:
        living = [each for each in self.spaces if each not in self.ends]
        if living:
            mm = living[mm % len(living)]
            getattr(self, f"_{op}")(seq, mm, *args)
            self.was.append((seq, {mm: dict(space) for mm, space in self.spaces.items()}))

    def _row(self, seq: int, mm: int, op: str, page: int, count: int, **more: int | None) -> None:
        row = Mapping(
            seq, 7, mm, op, None, 0, BASE + page * PAGE, count * PAGE, None, None, 0, False, 0, 3
        )
        self.mappings.append(replace(row, **more))  # type: ignore[arg-type]

    def _map(self, seq: int, mm: int, page: int, count: int, ss: bool = False) -> None:
        self._row(seq, mm, "map", page, count, shadow_stack=ss)
        for at in range(page, page + count):
            self.spaces[mm][at] = Page(seq, seq, None, ss)

    def _ss(self, seq: int, mm: int, page: int, count: int) -> None:
        self._map(seq, mm, page, count, True)

    def _unmap(self, seq: int, mm: int, page: int, count: int) -> None:
        self._row(seq, mm, "unmap", page, count)
        for at in range(page, page + count):
            self.spaces[mm].pop(at, None)

    def _protect(self, seq: int, mm: int, page: int, count: int) -> None:
        space = self.spaces[mm]
        ret = 0
        for at in range(page, page + count):
            if at not in space:
                ret = ENOMEM
                break
            space[at] = replace(space[at], prot=PROT_READ)
        self._row(seq, mm, "protect", page, count, prot=PROT_READ, ret=ret)

    def _dontfork(self, seq: int, mm: int, page: int, count: int) -> None:
        space, pages = self.spaces[mm], range(page, page + count)
        ret = 0 if all(at in space for at in pages) else ENOMEM
        args = (BASE + page * PAGE, count * PAGE, MADV_DONTFORK, 0, 0)
        self.advice.append(Call(seq, 7, mm, None, 233, *args, ret, "returned", None, None))
        for at in pages:
            if at in space:
                space[at] = replace(space[at], dontfork=True)

    def _remap(
        self, seq: int, mm: int, page: int, old: int, new: int, to: int | None = None
    ) -> None:
        """In place if `to` is None. The kernel refuses what would overlap, and what is not one
        area; areas of several origins may have been merged into one."""
        space, kept = self.spaces[mm], min(old, new)
        start = page if to is None else to
        whole = [space.get(at) for at in range(page, page + old)]
        kinds = {(p.shadow_stack, p.prot, p.dontfork) if p else None for p in whole}
        grows = range(page + old, page + new)
        overlaps = to is not None and page < to + new and to < page + old
        blocked = to is None and any(at in space for at in grows)
        if None in whole or len(kinds) > 1 or overlaps or blocked:
            self._row(seq, mm, "remap", start, new, ret=-14, old_start=BASE + page * PAGE)
            return
        self._row(seq, mm, "remap", start, new, old_start=BASE + page * PAGE, old_length=old * PAGE)
        moved = [p for p in whole[:kept] if p]
        moved += [moved[-1]] * (new - kept)
        for at in range(page, page + old):
            del space[at]
        for i, p in enumerate(moved):
            there = p if to is None else replace(p, origin=seq, source=p.origin)
            space[start + i] = there

    def _fork(self, seq: int, mm: int) -> None:
        child = len(self.spaces) + 1
        if child <= SPACES:
            self.forks.append(Copied(seq, 7, child, mm))
            self.spaces[child] = {
                at: replace(p, origin=seq, source=p.origin)
                for at, p in self.spaces[mm].items()
                if not p.dontfork
            }

    def _end(self, seq: int, mm: int) -> None:
        self.ends[mm] = seq
        self.spaces[mm] = {}

    def regions(self) -> Regions:
        return Regions(Rows(self.mappings), Rows(self.forks), self.ends, Rows(self.advice))


def modelled(steps: list) -> Model:  # type: ignore[type-arg]
    model = Model()
    model.step(1, "ss", 0, 1, PAGES - 2)
    for i, step in enumerate(steps):
        model.step(10 + 2 * i, *step)
    return model


@settings(max_examples=200, deadline=None)
@given(st.lists(STEPS, min_size=15, max_size=40))
def test_every_page_is_what_the_model_says_at_every_time(steps: list) -> None:  # type: ignore[type-arg]
    model = modelled(steps)
    regions = model.regions()
    ledger = Ledger(History(), regions, Rows(model.mappings), Rows(model.forks))
    asked = []
    for seq, spaces in model.was:
        for mm in range(1, SPACES + 1):
            space = spaces.get(mm, {})
            standing = {
                at: stack
                for stack in ledger.stacks
                if stack.mm == mm
                for area in stack.standing(seq)
                for at in range((area.base - BASE) // PAGE, (area.top - BASE) // PAGE)
            }
            for at in range(-1, 2 * PAGES):
                page, address = space.get(at), BASE + at * PAGE
                region = regions.at(mm, address, seq)
                assert (region is None) == (page is None)
                if region and page:
                    of = region.origin.of
                    found = (region.origin.seq, region.made_seq, of.seq if of else None)
                    assert found == (page.origin, page.made, page.source)
                    assert (region.shadow_stack, region.prot) == (page.shadow_stack, page.prot)
                shadow = page is not None and page.shadow_stack
                assert (at in standing) == shadow
                asked.append((mm, address, seq + 1, at in standing, standing.get(at)))
            check_ranges(regions, mm, space, seq)
    rows = pl.DataFrame(
        [(mm, addr, seq, i) for i, (mm, addr, seq, *_) in enumerate(asked)],
        schema={"mm": pl.UInt32, "addr": pl.UInt64, "seq": pl.UInt64, "i": pl.UInt32},
        orient="row",
    )
    for row in ledger.marked(rows).iter_rows(named=True):
        stands_ = row["mark"] is not None and row["gone"] is None
        assert (ledger.stacks[row["mark"]] if stands_ else None) is asked[row["i"]][4]
        here = ledger.last(row["mm"], row["addr"], row["seq"])
        assert here == (None if row["mark"] is None else ledger.stacks[row["mark"]], row["gone"])


def check_ranges(regions: Regions, mm: int, space: dict[int, Page], seq: int) -> None:
    edge = BASE + PAGES // 2 * PAGE
    every = [r for r in regions.all if r.mm == mm and r.from_seq <= seq and not r.over(seq)]
    below = sorted(r.end for r in every if r.end <= edge)
    above = sorted(r.start for r in every if r.start > edge)
    found = regions.around(mm, edge, seq)
    assert found[0] is None if not below else found[0] and found[0].end == below[-1]
    assert found[1] is None if not above else found[1] and found[1].start == above[0]
    inside = regions.within(mm, BASE, edge, seq)
    assert inside == sorted((r for r in every if r.start < edge), key=lambda r: r.start)
    pages = [at for r in inside for at in range((r.start - BASE) // PAGE, (r.end - BASE) // PAGE)]
    assert [at for at in pages if at < PAGES // 2] == sorted(at for at in space if at < PAGES // 2)


def test_ten_thousand_areas_and_as_many_questions() -> None:
    count = 10_000
    rows = [mapped(2 * i, BASE - 2 * i * PAGE, PAGE) for i in range(1, count)]
    rows += [mapped(2 * i, BASE - 2 * i * PAGE, PAGE, "unmap") for i in range(count, 2 * count)]
    start = time.process_time()
    regions = Regions(Rows(rows), Rows(()), {})
    for i in range(1, count):
        address = BASE - 2 * i * PAGE
        found = regions.at(1, address, 2 * count)
        assert found
        assert found.from_seq == 2 * i
        assert len(regions.within(1, address, address + 3 * PAGE, 2 * count)) == 1 + (i > 1)
        assert regions.around(1, address + PAGE, 2 * count)[0] == found
    assert time.process_time() - start < 20  # 1 s where it was written; n² takes minutes


def mapped(seq: int, start: int, length: int, op: str = "map") -> Mapping:
    return Mapping(seq, 7, 1, op, None, 0, start, length, None, None, 0, op == "map", 0, 3)
