"""The trace for Perfetto, read back as its UI reads it: tracks, nested slices, arrows, instants."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TrackEvent

import shstk
from shstk.cli import cli
from shstk.schemas.errors import BadRun, OutputExists
from shstk.timeline.model import Slice
from shstk.timeline.perfetto import nested

sys.path.insert(0, str(Path(__file__).parents[1] / "kernel"))

import riscv_asm

FIXTURES = Path(__file__).parents[2] / "fixtures" / "bin"


@dataclass
class Shown:
    """A slice or an instant, with the names of its track and of the tracks above."""

    track: tuple[str, ...]
    name: str
    category: str
    begin: int
    end: int | None
    details: dict[str, str]
    flows: list[int]


@dataclass
class Picture:
    slices: list[Shown] = field(default_factory=list)
    instants: list[Shown] = field(default_factory=list)
    counters: dict[tuple[str, ...], list[tuple[int, int]]] = field(default_factory=dict)

    def on(self, *track: str) -> list[Shown]:
        return [s for s in self.slices if s.track == track]

    def arrow(self, number: int) -> list[Shown]:
        ends = [s for s in self.slices + self.instants if number in s.flows]
        return sorted(ends, key=lambda s: s.begin)


def read(path: Path) -> Picture:
    """Raises if a slice ends that was not begun, or never does, or time runs backwards."""
    trace = Trace()
    trace.ParseFromString(path.read_bytes())
    names: dict[int, tuple[str, ...]] = {0: ()}
    open_: dict[int, list[Shown]] = {}
    times: dict[int, int] = {}
    picture = Picture()
    for packet in trace.packet:
        if packet.HasField("track_descriptor"):
            told = packet.track_descriptor
            assert told.uuid not in names
            name = told.name or told.thread.thread_name or told.process.process_name
            names[told.uuid] = (*names[told.parent_uuid], name)
            continue
        event, at = packet.track_event, packet.timestamp
        track = names[event.track_uuid]
        if event.type == TrackEvent.TYPE_COUNTER:
            picture.counters.setdefault(track, []).append((at, event.counter_value))
            continue
        if event.type == TrackEvent.TYPE_SLICE_END:
            open_[event.track_uuid].pop().end = at
        else:
            details = {note.name: note.string_value for note in event.debug_annotations}
            (category,) = event.categories
            shown = Shown(track, event.name, category, at, None, details, list(event.flow_ids))
            if event.type == TrackEvent.TYPE_INSTANT:
                picture.instants.append(shown)
                continue
            open_.setdefault(event.track_uuid, []).append(shown)
            picture.slices.append(shown)
        assert at >= times.get(event.track_uuid, 0)
        times[event.track_uuid] = at
    assert not any(open_.values())
    return picture


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Picture]:
    folder = tmp_path_factory.mktemp("timelines")

    def picture(guest: str, kernel: str) -> Picture:
        out = folder / f"{guest}-{kernel}.pftrace"
        if not out.exists():
            run = folder / f"{guest}-{kernel}.run"
            own = FIXTURES / f"{guest}.elf"
            program = own if own.exists() else Path(shstk.__file__).parent / f"guests/{guest}.elf"
            shstk.record(program, out=run, kernel=kernel)
            shstk.write_timeline(run, out)
        return read(out)

    return picture


def test_under_v3_all_threads_are_on_one_stack(pictures: Callable[[str, str], Picture]) -> None:
    v3 = pictures("pthread", "v3")
    (life,) = [s for s in v3.slices if s.category == "shadow stack"]
    assert life.details["owner"] == "task 100"
    stays = [s for s in v3.slices if s.category == "stay"]
    assert [s.name for s in stays] == [
        "task 100",
        *(f"task {tid} on task 100's" for tid in (101, 102, 103, 104)),
    ]
    assert {s.track[:2] for s in stays} == {life.track}


def test_a_released_kernel_gives_each_its_own(pictures: Callable[[str, str], Picture]) -> None:
    now = pictures("pthread", "7.2")
    lives = [s for s in now.slices if s.category == "shadow stack"]
    assert [s.name for s in lives] == [f"task {tid}'s" for tid in range(100, 105)]
    assert lives[1].details["allocated by"].startswith("clone of 100 at ")
    assert lives[1].details["freed by"].startswith("exit of 101 at ")
    for tid, life in zip(range(100, 105), lives, strict=True):
        (stay,) = now.on(*life.track, f"{tid} on it")
        assert life.begin <= stay.begin < stay.end <= life.end


def test_arrows(pictures: Callable[[str, str], Picture]) -> None:
    """From a clone to its child, from a release to the wake-up after it."""
    now = pictures("pthread", "7.2")
    clones = [s for s in now.on("process 100", "100 (first task)") if s.name == "clone"]
    assert len(clones) == 4
    for clone, tid in zip(clones, range(101, 105), strict=True):
        begin, end = now.arrow(*clone.flows)
        assert begin is clone
        assert (end.name, end.track[-1]) == ("first return to user mode", f"{tid} (thread)")
    freed = [i for i in now.instants if i.category == "release" and i.flows]
    assert len(freed) == 4
    for release in freed:
        _, wake = now.arrow(*release.flows)
        assert (wake.name, wake.track) == ("futex_wake", release.track)


def test_a_signal_and_its_return(pictures: Callable[[str, str], Picture]) -> None:
    now = pictures("signals", "7.2")
    handlers = [s for s in now.slices if s.category == "handler"]
    assert handlers
    delivered = [i for i in now.instants if i.category == "signals" and i.name != "sigreturn"]
    both = [now.arrow(number) for i in delivered for number in i.flows]
    assert both
    assert all(back.name == "sigreturn" and back.track == it.track for it, back in both)


def test_the_place_of_what_happens_is_its_icount(pictures: Callable[[str, str], Picture]) -> None:
    v3 = pictures("pthread", "v3")
    for shown in v3.slices + v3.instants:
        icount, n = map(int, shown.details["at"].split("."))
        assert shown.begin == icount * 1000 + n


def test_findings_carry_rule_and_text(pictures: Callable[[str, str], Picture]) -> None:
    found = [i for i in pictures("pthread", "v3").instants if i.category == "finding"]
    first = next(i for i in found if i.name == "A7 thread-starts-at-its-top")
    assert first.track[-1] == "101 (thread)"
    assert first.details["expected"] == "the top of a shadow stack of its own"
    assert first.details["source"]
    assert not [i for i in pictures("pthread", "7.2").instants if i.category == "finding"]


def test_the_depth_is_that_of_the_pushes(pictures: Callable[[str, str], Picture]) -> None:
    depth = pictures("pthread", "7.2").counters[
        "process 100", "101 (thread)", "101 shadow stack depth"
    ]
    assert depth[0][1] == 0
    assert max(value for _, value in depth) == 104  # as `shstk stacks` says


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


SLEEPS = """
    sys 220, 17, 0, 0, 0, 0
    bnez a0, parent
    sys 101, rest, 0
    sys 93, 0
parent:
    sys 260, -1, 0, 0, 0
    sys 94, 0
    .align 8
rest: .dword 0, 5000000
"""


def test_virtual_time_jumps_while_every_task_waits(tmp_path: Path) -> None:
    program = tmp_path / "sleeps"
    program.write_bytes(riscv_asm.program(SLEEPS))
    run = shstk.record(program, out=tmp_path / "a.run").path
    shstk.write_timeline(run, tmp_path / "a.pftrace", virtual_time=True)
    times = [ns for _, ns in read(tmp_path / "a.pftrace").counters[("virtual time",)]]
    _, child, parent = times  # the three switches
    assert 5_000_000 <= parent - child < 6_000_000
    shstk.write_timeline(run, tmp_path / "b.pftrace")
    assert ("virtual time",) not in read(tmp_path / "b.pftrace").counters


def test_virtual_time_of_a_run_that_cannot_be_executed(tmp_path: Path) -> None:
    listing = Path(__file__).parents[1] / "rules/A1.md"
    built = shstk.build(listing, tmp_path / "a.run", run="mapped")
    with pytest.raises(BadRun, match="no program"):
        shstk.write_timeline(built, tmp_path / "a.pftrace", virtual_time=True)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shstk.record(FIXTURES / "longjmp.elf", out="a.run")
    assert invoke("timeline", "a.run").exit_code == 0
    whole = read(Path("a.pftrace"))
    again = invoke("timeline", "a.run")
    assert isinstance(again.exception, OutputExists)
    assert invoke("timeline", "a.run", "-o", "b.pftrace").exit_code == 0
    assert Path("a.pftrace").read_bytes() == Path("b.pftrace").read_bytes()

    few = invoke("timeline", "a.run", "-o", "few.pftrace", "--limit", "2")
    assert "function calls, none of which lasts longer than" in few.stderr
    kept = [s for s in read(Path("few.pftrace")).slices if s.category == "function"]
    assert len(kept) == 2
    lasting = sorted(s.end - s.begin for s in whole.slices if s.category == "function")
    assert sorted(s.end - s.begin for s in kept) == lasting[-2:]

    invoke("timeline", "a.run", "-o", "part.pftrace", "--window", "100..200")
    part = read(Path("part.pftrace"))
    assert part.slices
    assert all(100_000 <= s.begin <= s.end <= 200_000 for s in part.slices)
    beyond = invoke("timeline", "a.run", "-o", "beyond.pftrace", "--window", "999999999..+5")
    assert "--window 999999999.0..: the run ends at" in str(beyond.exception)
    assert not Path("beyond.pftrace").exists()


def test_an_unwritable_place_leaves_nothing(tmp_path: Path) -> None:
    run = tmp_path / "a.run"
    shstk.record(FIXTURES / "longjmp.elf", out=run)
    result = invoke("timeline", str(run), "-o", str(tmp_path / "none" / "a.pftrace"))
    assert "cannot write to" in str(result.exception)
    assert [p.name for p in tmp_path.iterdir()] == ["a.run"]


@given(
    st.lists(
        st.tuples(st.integers(0, 60), st.integers(0, 60) | st.none(), st.booleans()), max_size=12
    )
)
def test_slices_of_a_track_nest(spans: list[tuple[int, int | None, bool]]) -> None:
    """Whatever overlaps: every end belongs to the last begin, time never runs backwards, and each
    slice begins where it did."""
    slices = [
        Slice(1, begin, None if length is None else begin + length, "x", "y", yields=yields)
        for begin, length, yields in spans
    ]
    open_, now, begun = 0, 0, []
    for seq, it in nested(slices, 200):
        assert seq >= now
        now = seq
        open_ += 1 if it else -1
        assert open_ >= 0
        if it:
            assert seq == it.begin
            begun.append(it)
    assert open_ == 0
    assert sorted(map(id, begun)) == sorted(map(id, slices))


def test_perfettos_own_importer_has_no_errors(tmp_path: Path) -> None:
    shell = shutil.which("trace_processor_shell")
    if shell is None:
        pytest.skip("no trace_processor_shell on PATH: it is not on PyPI, see https://perfetto.dev")
    run = tmp_path / "a.run"
    shstk.record(FIXTURES / "longjmp.elf", out=run)
    shstk.write_timeline(run, tmp_path / "a.pftrace")
    query = tmp_path / "q.sql"
    query.write_text("select name, value from stats where severity = 'error' and value > 0;")
    out = subprocess.run(
        [shell, "-q", query, tmp_path / "a.pftrace"], capture_output=True, text=True, check=True
    )
    assert out.stdout.splitlines()[1:] == []
