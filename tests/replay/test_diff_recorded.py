"""Diffs of recorded programs under pairs of revisions: the known change is named first.

What is known stands in the reference's table of scenarios (SC1 to SC13) and its list of switches.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from shstk.replay.diff.compare import Diff, Options, diff
from shstk.replay.diff.report import summary
from shstk.replay.diff.wording import lines, where
from shstk.replay.run import Run
from shstk.tracer.record import RecordOptions, record

PROGRAMS = Path(__file__).parents[2] / "fixtures" / "bin"
EXIT_THREAD = "7.2,release_hook=exit_thread"
ALLOCATED = "clone #1 of main: shadow stack allocated in B ({}), not in A"
LEFT = "left until the address space goes"
LEAKED = f"its shadow stack at exit: {LEFT} in A, released{{}} in B"
SIZES = "prctl(PR_SET_SHADOW_STACK_STATUS) of main: shadow stack of {} in A, of {} in B"
CLEARED = " before clear_child_tid"
RETURNS = "map_shadow_stack returns the token's address in A, the base in B"

# program, A, B, the first difference; empty: none.
KNOWN = [
    ("sc1", "v3", "v6", ALLOCATED.format("8M")),
    ("sc1", "v6", "7.0", f"the exit of main/clone#1: {LEAKED.format(CLEARED)}"),
    ("sc1", "7.0", "7.2", SIZES.format("8M", "4M")),
    ("sc1", "7.2", "7.3", SIZES.format("4M", "1M")),
    (
        "sc1",
        "7.2",
        EXIT_THREAD,
        f"the exit of main/clone#1: its shadow stack at exit: released{CLEARED} in A, {LEFT} in B",
    ),
    ("sc2", "v3", "v6", ALLOCATED.format("132K")),
    ("sc3", "v3", "v6", ""),
    ("sc4", "v6", "7.0", f"the exit of main/clone#1: {LEAKED.format('')}"),
    ("sc5", "v3", "v6", "clone #1 of main: shadow stack allocated in A (8M), not in B"),
    ("sc6", "v3", "v6", ALLOCATED.format("64K")),
    (
        "sc6",
        "v6",
        "7.0",
        "clone #1 of main: the failed child's shadow stack unmapped in A, not in B",
    ),
    (
        "sc7",
        "v3",
        "v6",
        "clone #1 of main: the caller's own shadow stack unmapped in A, not in B",
    ),
    ("sc10", "v3", "v6", ALLOCATED.format("8M")),
    ("sc11", "v3", "v6", ""),
    (
        "sc11",
        "7.0,exec_lock=kept",
        "7.0",
        "prctl(PR_SET_SHADOW_STACK_STATUS) of main: PR_SET_SHADOW_STACK_STATUS is refused"
        " (exec kept the lock) in A, works (exec cleared the lock) in B",
    ),
    ("sc12", "v26", "7.0", f"map_shadow_stack of main: {RETURNS}"),
    ("sc12", "7.0", "7.2", ""),
    (
        "sc13",
        "v3",
        "v6",
        "prctl(PR_SET_SHADOW_STACK_STATUS) of main/clone#1:"
        " main's shadow stack unmapped in A, not in B",
    ),
    (
        "x6",
        "v6",
        "7.0",
        f"execve of main/clone#1: its shadow stack at exec: {LEFT} in A, released in B",
    ),
    (
        "signals",
        "v6,sigframe=fixed",
        "v6",
        "SIGUSR1(delivery) of main: the signal frame keeps ss_ptr in a field before the"
        " floating-point registers, ucontext+432 in A, in an extension header, ucontext+960 in B",
    ),
    ("a1", "v3", "7.3", ""),
    ("a2", "v6", "7.3", ""),
    ("pthread-off", "v6", "7.3", ""),
]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    folder = tmp_path_factory.mktemp("runs")

    @cache
    def run(
        program: str, kernel: str, seed: int = 0, quantum: tuple[int, int] = (10000, 50000)
    ) -> Run:
        options = RecordOptions(
            program=str(PROGRAMS / f"{program}.elf"),
            out=folder / f"{program}-{kernel}-{seed}-{quantum[0]}.run",
            kernel=kernel,
            seed=seed,
            quantum=quantum,
            cpu="rv64gc" if program == "a1" else "rv64gc_zicfiss_zicfilp",
        )
        record(options)
        return Run.open(options.out)  # type: ignore[arg-type]

    return run


def told(found: Diff) -> list[str]:
    return [
        f"{where(each, found.a, found.b)}: {lines(each, found.a, found.b)[0]}"
        for each in found.differences
    ]


@pytest.mark.parametrize(("program", "a", "b", "first"), KNOWN)
def test_the_known_change_comes_first(
    program: str, a: str, b: str, first: str, recorded: Callable[..., Run]
) -> None:
    found = diff(recorded(program, a), recorded(program, b), Options())
    assert found.same == (not first)
    assert told(found)[:1] == ([first] if first else [])
    for each in found.differences:
        assert lines(each, found.a, found.b), "a difference of which nothing is told"


@pytest.mark.parametrize(
    ("program", "a", "b", "everything"),
    [
        (
            "sc12",
            "v26",
            "7.0",
            [f"map_shadow_stack of main: {RETURNS}", "write of main: output: "],
        ),
        ("sc4", "7.0", "7.2", [SIZES.format("8M", "4M")]),
        ("x3", "v6", "7.0", [f"the exit of main/clone#2: {LEAKED.format('')}"]),
        (
            "pthread-pie",
            "v3",
            "v6",
            [
                ALLOCATED.format("8M"),
                "the start of main/clone#1: starts at its parent's ssp in A,"
                " at the top of its own stack in B",
                "the exit of main/clone#1: its shadow stack at exit: it has none in A,"
                f" {LEFT} in B",
            ],
        ),
    ],
)
def test_and_nothing_besides(
    program: str, a: str, b: str, everything: list[str], recorded: Callable[..., Run]
) -> None:
    found = told(diff(recorded(program, a), recorded(program, b), Options()))
    assert len(found) == len(everything)
    for line, wanted in zip(found, everything, strict=True):
        assert line.startswith(wanted)


@pytest.mark.parametrize("program", ["taking-turns", "processes", "signals", "x5", "pthread-pie"])
@pytest.mark.parametrize(("seed", "quantum"), [(7, (10000, 50000)), (9, (200, 900))])
def test_other_schedules_are_no_difference(
    program: str, seed: int, quantum: tuple[int, int], recorded: Callable[..., Run]
) -> None:
    found = diff(recorded(program, "7.2"), recorded(program, "7.2", seed, quantum), Options())
    assert found.same, told(found)


def test_a_deadlock_is_told_by_who_waits_in_it(recorded: Callable[..., Run]) -> None:
    well = recorded("lock-order", "7.2")
    stuck = recorded("lock-order", "7.2", 0, (20, 60))
    assert (well.manifest.ending, stuck.manifest.ending) == ("exited", "deadlock")
    found = diff(well, stuck, Options())
    assert "in B it never returns from futex: no task can run any more" in " ".join(told(found))


def test_another_build_of_a_program_does_the_same(recorded: Callable[..., Run]) -> None:
    """Static against position-independent: every address differs, nothing that is done does."""
    found = diff(recorded("pthread-pads", "7.2"), recorded("pthread-pie", "7.2"), Options())
    assert summary(found).startswith(
        "the programs differ: /pthread-pads.elf in A, /pthread-pie.elf in B; "
    )
    assert [line for line in told(found) if "prctl" not in line] == []


def test_different_programs_get_a_sensible_answer(recorded: Callable[..., Run]) -> None:
    found = diff(recorded("sc1", "7.2"), recorded("sc12", "7.2"), Options())
    assert summary(found).startswith("the programs differ: /sc1.elf in A, /sc12.elf in B; ")
    assert not found.same


@pytest.mark.parametrize("instructions", [100, 3000, 6000])
def test_a_run_that_was_cut_short_is_compared_as_far_as_it_goes(
    instructions: int, recorded: Callable[..., Run], tmp_path: Path
) -> None:
    program = str(PROGRAMS / "taking-turns.elf")
    out = tmp_path / "cut.run"
    record(RecordOptions(program=program, out=out, max_instructions=instructions))
    found = diff(recorded("taking-turns", "7.2"), Run.open(out), Options())
    assert found.same, told(found)
    assert "B was cut short (limit)" in summary(found)
    other = diff(recorded("taking-turns", "v6"), Run.open(out), Options())
    assert told(other)[0] == SIZES.format("8M", "4M")
