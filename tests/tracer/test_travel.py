"""A guest that goes to and fro is, at each place, what it was on the way; its traps are all there
are."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl
import pytest

from shstk.replay.run import Run
from shstk.rerun.guest import set_up
from shstk.schemas.seq import STEPS
from shstk.schemas.uapi import CLONE_THREAD
from shstk.tracer._core import USE_LOAD, USE_STORE
from shstk.tracer.record import RecordOptions, record
from shstk.tracer.recording.nothing import NullRecorder
from shstk.tracer.rerun.checkpoint_cache import CheckpointCache
from shstk.tracer.rerun.travel import Trap, Traps, Traveller, Watch
from shstk.tracer.tier import why_interpreted

FIXTURES = Path(__file__).parents[2] / "fixtures/bin"
PROGRAMS = ("pthread-pads", "processes", "signals", "taking-turns")
TIERS = ("interpreter", *(("native",) if not why_interpreted() else ()))
LAST = 6_000  # the places that are tried


@dataclass(frozen=True)
class Known:
    """A run with its instructions."""

    run: Run

    def traveller(self, tier: str = "interpreter") -> Traveller:
        return Traveller(set_up(self.run, NullRecorder(), tier=tier), CheckpointCache(None, b""))

    @cached_property
    def end(self) -> int:
        return min(LAST, self.run.manifest.icount - 1)

    @cached_property
    def truth(self) -> list[object]:
        """The state at each place, on one way forward."""
        guest, states = self.traveller(), []
        for place in range(self.end + 1):
            guest.go(place)
            states.append(state(guest))
        return states

    @cached_property
    def main(self) -> tuple[int, int]:
        """pid and mm of the first process."""
        first = self.run.table("sched").row(0, named=True)
        return first["tid"], first["mm"]

    @cached_property
    def threads(self) -> list[int]:
        """Those of the first process. A vfork child, which has its memory too, is none."""
        clones = self.run.table("clones")
        threads = clones.filter((pl.col("flags") & CLONE_THREAD != 0) & (pl.col("ret") > 0))
        return [self.main[0], *threads["child_tid"]]

    @cached_property
    def instructions(self) -> pl.DataFrame:
        """Of the first process's address space, with the place before each."""
        place = (pl.col("seq") // STEPS).cast(pl.Int64) - 1
        own = pl.col("tid").is_in(self.threads) & (pl.col("mm") == self.main[1])
        return self.run.table("insn").with_columns(place=place).filter(own & (place < self.end))

    def at(self, pc: int) -> list[int]:
        return self.instructions.filter(pl.col("pc") == pc)["place"].to_list()

    def accesses(self, first: int, last: int) -> list[int]:
        """The places before instructions that access these bytes, or whose call stores to them."""
        rows = self.instructions.filter(
            (pl.col("mem_addr") <= last) & (pl.col("mem_addr") + pl.col("mem_size") > first)
        )
        kernel = self.run.table("kernel_memory").filter(
            (pl.col("mm") == self.main[1])
            & pl.col("tid").is_in(self.threads)
            & (pl.col("op") != "read")
            & (pl.col("seq") < (self.end + 1) * STEPS)
            & (pl.col("seq") >= STEPS)
            & (pl.col("addr") <= last)
            & (pl.col("addr") + pl.col("bytes").bin.size() > first)
        )
        return sorted({*rows["place"], *(kernel["seq"] // STEPS - 1)})


def state(guest: Traveller) -> object:
    """Who is next, every task's registers, and a hash over the memory of its stacks."""
    next_one = guest.next_task
    return (
        guest.icount,
        next_one and next_one.tid,
        [(t.tid, t.state, t.hart.state(), at_ssp(t)) for t in guest.k.tasks.values()],
    )


def at_ssp(task: object) -> object:
    mm, hart = task.mm, task.hart  # type: ignore[attr-defined]
    return mm and (mm.space.read(hart.ssp, 64, True), mm.space.read(hart.x(2), 256, True))


@pytest.fixture(scope="module", params=PROGRAMS)
def known(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Known:
    out = tmp_path_factory.mktemp("runs") / "x.run"
    record(
        RecordOptions(
            str(FIXTURES / f"{request.param}.elf"),
            out=out,
            trace=frozenset({"insn"}),
            max_instructions=20_000,
            quantum=(100, 900),
        )
    )
    return Known(Run.open(out))


def forwards(guest: Traveller, end: int) -> list[tuple[int, Trap]]:
    """(place, trap) of every trap from here to `end`."""
    found = []
    while (trap := guest.forward(end)) is not None:
        found.append((guest.icount, trap))
    return found


def backwards(guest: Traveller) -> list[tuple[int, Trap]]:
    found = []
    while (trap := guest.backward(0)) is not None:
        found.append((guest.icount, trap))
    return found[::-1]


def test_each_place_is_what_it_was_on_the_way(known: Known) -> None:
    rng = random.Random(1)
    guest = known.traveller()
    for place in rng.sample(range(known.end + 1), 40):
        guest.go(place)
        assert state(guest) == known.truth[place]


@pytest.mark.parametrize("tier", TIERS)
def test_it_stops_before_each_instruction_at_a_break(known: Known, tier: str) -> None:
    rng = random.Random(2)
    often = Counter(known.instructions["pc"])
    pcs = rng.sample([pc for pc, times in sorted(often.items()) if 2 < times < 30], 3)
    guest = known.traveller(tier)
    guest.traps = {known.main[0]: Traps(tuple(pcs))}
    expected = sorted(place for pc in pcs for place in known.at(pc) if place)
    found = forwards(guest, known.end)
    assert [place for place, _ in found] == expected
    assert all(trap.address is None for _, trap in found)
    assert [place for place, _ in backwards(guest)] == expected
    assert guest.icount == 0


@pytest.mark.parametrize("tier", TIERS)
def test_it_stops_at_each_access_to_a_watched_word(known: Known, tier: str) -> None:
    rng = random.Random(3)
    used = known.instructions.filter(pl.col("mem_size") == 8)["mem_addr"]
    words = [word for word, times in sorted(Counter(used).items()) if 2 < times < 40]
    for word in rng.sample(words, 3):
        guest = known.traveller(tier)
        watch = Watch(word, word + 7, USE_LOAD | USE_STORE)
        guest.traps = {known.main[0]: Traps((), (watch,))}
        expected = known.accesses(word, word + 7)
        found = forwards(guest, known.end)
        assert [place for place, _ in found] == expected
        before = backwards(guest)
        assert [place for place, _ in before] == expected
        addresses = [trap.address for _, trap in before]
        assert addresses == [trap.address for _, trap in found]
        assert all(address is not None and address > word - 8 for address in addresses)


def test_a_pop_is_no_write_of_the_word(known: Known) -> None:
    """sspopchk reads a word that sspush wrote, and both are shadow-stack accesses."""
    cfi = known.run.table("cfi").filter(pl.col("seq") < known.end * STEPS)
    pops = cfi.filter((pl.col("kind") == "sspopchk") & (pl.col("mm") == known.main[1]))
    if pops.is_empty():
        pytest.skip("it pops nothing so early")
    word = pops["addr"][0]
    pushed = cfi.filter((pl.col("addr") == word) & (pl.col("kind") == "sspush"))
    guest = known.traveller()
    guest.traps = {known.main[0]: Traps((), (Watch(word, word + 7, USE_STORE),))}
    stores = [place for place, _ in forwards(guest, known.end)]
    assert {*(pushed["seq"] // STEPS - 1)} <= {*stores}
    assert not {*stores} & {*(pops["seq"] // STEPS - 1)}


def test_what_poll_raises_leaves_the_guest_at_a_place(known: Known) -> None:
    class Stop(Exception):
        pass

    def poll() -> None:
        if guest.icount > known.end // 2:
            raise Stop

    guest = Traveller(set_up(known.run, NullRecorder()), CheckpointCache(None, b""), poll)
    with pytest.raises(Stop):
        guest.forward(known.end)
    assert state(guest) == known.truth[guest.icount]
