"""Faults whose cause we know: `faulty CASE` dies in one way each; the cause, who pushed, and where.

Lines are named by their text in the source, so that the tests hold when it moves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from listings import threaded

from shstk.listing import build
from shstk.replay.explain import death, explain
from shstk.replay.explain.faults import faults
from shstk.replay.explain.text import text
from shstk.replay.run import Run
from shstk.replay.views import VIEWS
from shstk.schemas.errors import UsageError
from shstk.schemas.seq import pack
from shstk.tracer.record import RecordOptions, record

FIXTURES = Path(__file__).parents[2] / "fixtures"
SOURCES = {"faulty.c": FIXTURES / "programs" / "faulty.c", "guest.h": FIXTURES / "guest.h"}


@dataclass(frozen=True)
class Case:
    name: str
    kind: str
    cause: str
    function: str | None  # where it faulted
    line: tuple[str, str] | None = None  # the file, and the text of the line; None: no line told
    pusher: str | None = None
    rule: str | None = None
    kernel: str = "7.2"

    def __str__(self) -> str:
        return f"{self.name}-{self.kernel}"


CASES = (
    Case(
        "smashed",
        "mismatch",
        "smashed return address",
        "smashed",
        ("faulty.c", "} // smashed ends"),
        "smashed",
    ),
    Case(
        "longjmp",
        "mismatch",
        "longjmp keeps ssp",
        "longjmp_keeps_ssp",
        ("faulty.c", "} // longjmp_keeps_ssp ends"),
        "jump",
    ),
    Case(
        "extra-push",
        "mismatch",
        "unmatched push",
        "pushes_too_often",
        ("faulty.c", "} // pushes_too_often ends"),
        "pushes_too_often",
    ),
    Case(
        "extra-pop",
        "mismatch",
        "unmatched pop",
        "pops_too_often",
        ("faulty.c", "} // pops_too_often ends"),
        "start_c",
    ),
    Case(
        "two-tasks",
        "mismatch",
        "two tasks on one stack",
        "takes_its_turn",
        ("faulty.c", "return (int)sink;"),
        "takes_its_turn",
        rule="A5",
        kernel="v3",
    ),
    Case(
        "left-handler",
        "mismatch",
        "left a handler",
        "leaves_handler",
        ("faulty.c", "} // leaves_handler ends"),
        "jumps_out",
    ),
    Case("overflow", "no word", "overflow", "descend", ("faulty.c", "u64 descend(u64 n)")),
    Case("underflow", "no word", "underflow", "underflow", ("guest.h", ".word 0xcdc2c073")),
    Case(
        "unmapped",
        "no word",
        "stack was freed",
        "unmapped",
        ("faulty.c", "} // unmapped ends"),
    ),
    Case(
        "thread-off",
        "no word",
        "stack was freed",
        "thread_switches_off",
        ("faulty.c", "} // thread_switches_off ends"),
        rule="X5",
        kernel="v3",
    ),
    Case(
        "base-for-token",
        "no word",
        "base taken for token",
        "descend",
        ("faulty.c", "u64 descend(u64 n)"),
    ),
    Case(
        "null", "other", "null pointer", "null_pointer", ("faulty.c", "*(volatile u64 *)sink = 1")
    ),
    Case("store", "store", "store to a shadow stack", "fill", ("faulty.c", "words[i] = 0x4141")),
    Case(
        "ordinary-page",
        "ordinary page",
        "ssp astray",
        "on_new_stack",
        ("faulty.c", "u64 on_new_stack(void)"),
    ),
    Case(
        "exec",
        "off",
        "lock outlives exec",
        "reads_ssp",
        ("guest.h", 'csrr %0, 0x011"'),
        kernel="v26",
    ),
    Case("off", "off", "switched off", "reads_ssp", ("guest.h", 'csrr %0, 0x011"')),
    Case(
        "middle",
        "landing pad",
        "jump into the middle",
        "reads_ssp",
        ("faulty.c", "void reads_ssp(void)"),
    ),
    Case("label", "landing pad", "wrong label", "labelled"),
    Case("handler", "landing pad", "handler without lpad", "handler_without_pad"),
    Case("token", "bad sigreturn", "tampered pointer", None),
    Case("no-stack", "no delivery", "ssp astray", None),
    Case("full-signal", "no delivery", "no room for token", None),
    Case("full-fault", "no delivery", "no room for token", None),
    Case("full-overflow", "no delivery", "no room for token", None),
    Case("no-frame", "no delivery", "no room for frame", None),
    Case("zeroed-token", "bad sigreturn", "token gone", None),
    Case("ordinary-pointer", "bad sigreturn", "tampered pointer", None),
    Case("off-in-handler", "bad sigreturn", "switched off in a handler", None),
    Case("damaged-frame", "bad sigreturn", "damaged frame", None),
    Case("forged-frame", "bad sigreturn", "forged frame", None),
    Case("read-only", "no word", "made read-only", "descend"),
    Case("moved", "no word", "stack was moved", "moved_away"),
    Case("mapped-over", "ordinary page", "stack was mapped over", "mapped_over"),
    Case("discarded", "mismatch", "words discarded", "discarded"),
    Case("no-load", "other", "unreadable shadow stack", "load_without_permission"),
    Case("runs-stack", "fetch", "no code there", None),
    Case("misaligned", "misaligned", "misaligned", "swap_misaligned"),
    Case("swap-ordinary", "ordinary page", "swap elsewhere", "swap_on_ordinary_page"),
    Case("pop-ordinary", "ordinary page", "ssp astray", "pop_on_ordinary_page"),
    Case("amo", "store", "store to a shadow stack", "amo_to_shadow_stack"),
    Case("enable-fails", "off", "enabling failed", "reads_ssp"),
    Case("entered-off", "no word", "entered while off", "entered_while_off"),
    Case("underflow-above", "ordinary page", "underflow", "underflow_into_memory"),
    Case("no-lpad", "landing pad", "no lpad", "without_pad"),
    Case("odd-lpad", "landing pad", "misaligned lpad", "odd_pad"),
)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    folder = tmp_path_factory.mktemp("runs")

    def run(name: str, kernel: str = "7.2", *traces: str, program: str = "faulty") -> Run:
        out = folder / f"{program}-{name}-{kernel}-{'-'.join(traces)}.run"
        if not out.exists():
            record(
                RecordOptions(
                    program=str(FIXTURES / "bin" / f"{program}.elf"),
                    argv=(name,) if name else (),
                    out=out,
                    kernel=kernel,
                    **({"trace": frozenset(traces)} if traces else {}),
                )
            )
        return Run.open(out)

    return run


def line_of(file: str, text: str) -> int:
    lines = SOURCES[file].read_text().splitlines()
    found = [n for n, line in enumerate(lines, 1) if text in line]
    assert len(found) == 1, (file, text, found)
    return found[0]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_cause_place_and_pusher(case: Case, recorded: Callable[..., Run]) -> None:
    (found,) = explain(recorded(case.name, case.kernel))
    assert (found.kind, found.verdict.pattern) == (case.kind, case.cause)
    assert found.verdict.rule == case.rule
    assert (found.place.symbol if found.place else None) == case.function
    if case.line:
        assert found.place is not None
        assert found.place.file is not None
        assert Path(found.place.file).name == case.line[0]
        assert found.place.line == line_of(*case.line)
    pusher = found.writer.place if found.writer else None
    assert (pusher.symbol if pusher else None) == case.pusher


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_fault_ended_the_run(case: Case, recorded: Callable[..., Run]) -> None:
    run = recorded(case.name, case.kernel)
    dead = death(run)
    assert dead is not None
    found = dead.explained
    assert found is not None
    assert found == explain(run)[0]


def test_both_call_stacks(recorded: Callable[..., Run]) -> None:
    """After a longjmp they differ: the shadow stack has what the calls have no more."""
    (found,) = explain(recorded("longjmp"))
    assert [call.function for call in found.calls] == ["longjmp_keeps_ssp", "start_c"]
    places = [word.place.symbol if word.place else None for word in found.shadow_stack]
    assert places == ["jump", "jump", "jump", "longjmp_keeps_ssp", "start_c", "_start"]
    assert found.calls[0].site is not None
    assert found.calls[0].site.line == line_of("faulty.c", "cases[i].run();")


def test_what_moved_ssp(recorded: Callable[..., Run]) -> None:
    (found,) = explain(recorded("no-stack"))
    assert [m.reason for m in found.motions][-1] == "astray"
    last = found.motions[-1]
    assert last.after == 0x1000
    assert last.place is not None
    assert last.place.symbol == "signal_on_no_stack"


def test_the_handoff_that_put_two_tasks_on_one_stack(recorded: Callable[..., Run]) -> None:
    (found,) = explain(recorded("two-tasks", "v3"))
    assert found.writer is not None
    assert (found.fault.tid, found.writer.tid) == (101, 102)
    assert any("task 102 started with ssp" in line for line in found.verdict.evidence)
    assert death(recorded("two-tasks")) is None  # 7.2 gives each its own


def test_instructions_tell_who_overwrote_the_return_address(recorded: Callable[..., Run]) -> None:
    (blind,) = explain(recorded("smashed"))
    assert any("--trace insn --window" in line for line in blind.verdict.evidence)
    (told,) = explain(recorded("smashed", "7.2", "cfi", "flow", "insn"))
    line = line_of("faulty.c", "words[i] = 0x4141")
    assert any(
        "stored it" in text and "fill" in text and f"faulty.c:{line}" in text
        for text in told.verdict.evidence
    )


@pytest.mark.parametrize("name", ["longjmp", "smashed", "overflow", "extra-push", "two-tasks"])
def test_without_blocks_the_pushes_still_tell(name: str, recorded: Callable[..., Run]) -> None:
    case = next(c for c in CASES if c.name == name)
    (found,) = explain(recorded(name, case.kernel, "cfi"))
    near = {"longjmp": {"ssp too low"}, "extra-push": {"ssp too low", "unmatched push"}}
    assert found.verdict.pattern in near.get(name, {case.cause})
    assert (found.place.symbol if found.place else None) == case.function


def test_without_pushes_nothing_is_guessed(recorded: Callable[..., Run]) -> None:
    (found,) = explain(recorded("smashed", "7.2", "flow"))
    assert found.verdict.pattern == "not recorded"
    assert found.writer is None
    assert [call.function for call in found.calls] == ["smashed", "start_c"]
    (full,) = explain(recorded("overflow", "7.2", "flow"))
    assert full.verdict.pattern == "overflow"


def test_a_stripped_program(recorded: Callable[..., Run]) -> None:
    (found,) = explain(recorded("", program="longjmp"))
    assert found.verdict.pattern == "longjmp keeps ssp"
    assert str(found.place) == "longjmp.elf+0x1001b74"


def test_every_fault_of_the_probe_is_explained(recorded: Callable[..., Run]) -> None:
    """The real kernels' programs: 65 faults, of every kind; most are caught by a tracer."""
    run = recorded("", program="probe")
    found = explain(run, every=True)
    assert {e.kind for e in found} >= {
        *("mismatch", "landing pad", "bad sigreturn", "no delivery", "off", "no word"),
        *("ordinary page", "misaligned", "store", "fetch", "other"),
    }
    assert not [e for e in found if e.verdict.pattern == "unknown"]
    faults = {e.fault.seq for e in found}
    assert faults >= set(run.table("faults")["seq"])


def test_one_fault_by_its_position(recorded: Callable[..., Run]) -> None:
    run = recorded("handler")
    first, last = explain(run, every=True)
    assert explain(run) == [last]
    assert explain(run, first.fault.seq) == [first]
    assert explain(run, pack(first.fault.icount, 0)) == [first]
    assert (first.fault.fatal, first.fault.caught, last.fault.fatal) == (False, True, True)
    with pytest.raises(UsageError, match=r"no fault at 5\.0"):
        explain(run, pack(5, 0))


def test_the_view_has_them_as_rows(recorded: Callable[..., Run]) -> None:
    (row,) = VIEWS["fault_causes"].build(recorded("two-tasks", "v3")).rows(named=True)
    assert (row["tid"], row["kind"], row["signal"], row["fatal"]) == (
        101,
        "mismatch",
        "SIGSEGV",
        True,
    )
    assert row["place"].startswith("takes_its_turn+")
    assert row["line"] == line_of("faulty.c", "return (int)sink;")
    assert (row["written_by"], row["written_in"]) == (102, "takes_its_turn")
    assert (row["cause"], row["rule"]) == ("two tasks on one stack", "A5")


@pytest.mark.parametrize(
    ("case", "code", "cause"),
    [("full-fault", "SEGV_CPERR", "never pushed"), ("full-overflow", "SEGV_MAPERR", "overflow")],
)
def test_a_fault_whose_handler_had_no_room_for_its_token(
    case: str, code: str, cause: str, recorded: Callable[..., Run]
) -> None:
    """The task dies of the SIGSEGV that the kernel forces, and not of the exception's."""
    raised, forced = explain(recorded(case), every=True)
    assert (raised.verdict.pattern, raised.fault.fatal, raised.fault.caught) == (
        cause,
        False,
        False,
    )
    assert "killed by SIGSEGV (SI_KERNEL)" in text(forced)
    assert "raised SIGSEGV" in text(raised)
    assert f"the signal was SIGSEGV ({code})" in forced.verdict.evidence[0]
    assert forced.verdict.sentence.startswith("the shadow stack was full when the signal was")


def test_a_signal_from_elsewhere_is_not_the_exceptions() -> None:
    """A breakpoint that a handler caught, and at the same instruction a SIGTERM that kills."""
    run = threaded(
        """30 t1 sspopchk 0x10234 fault=18
   t1 fault 18 tval=3 signo=SIGSEGV code=SEGV_CPERR expected=0x10234 found=0x666
   t1 deliver SIGSEGV token code=SEGV_CPERR handler=0x10400
   t1 fatal SIGTERM code=0
   t1 exit_begin 15
   t1 mm_dropped 0
```"""
    )
    (fault,) = faults(run)
    assert (fault.fatal, fault.caught) == (False, True)


def test_an_exec_that_fails_past_its_point_of_no_return() -> None:
    run = threaded(
        """30 t1 execve(0, 0, 0) = -ENOEXEC {
   exec_begin
   exec_done -8
   fatal SIGSEGV code=0x80
   exit_begin 11
   mm_dropped 0
   }
```"""
    )
    (found,) = explain(run)
    assert (found.kind, found.verdict.pattern) == ("exec", "exec failed")
    assert "ENOEXEC" in found.verdict.sentence


def test_no_fault() -> None:
    assert explain(threaded()) == []
    assert explain(threaded(), every=True) == []
    assert death(threaded()) is None


@pytest.mark.parametrize(
    "fault",
    [
        "fault 13 tval=G address=G pc=0x10400 word=0x0005_3503 signo=SIGSEGV code=SEGV_MAPERR",
        "fault 15 tval=G address=G pc=0x10400 word=0xce10_4073 signo=SIGSEGV code=SEGV_MAPERR",
    ],
)
def test_a_guard_region(fault: str, tmp_path: Path) -> None:
    text = f"""```run
G = 0x7fff_f000_0000
S1 = 4K@G
t1 boot
10 t1 map_shadow_stack(0, 4K, 0) = G {{ map S1 ss }}
11 t1 madvise(G, 4K, MADV_GUARD_INSTALL) = 0 {{ discard S1 flags=MADV_GUARD_INSTALL }}
20 t1 {fault} si_addr=G
   t1 fatal SIGSEGV code=SEGV_MAPERR si_addr=G
   t1 exit_begin 11; t1 mm_dropped 0
```"""
    (tmp_path / "a.md").write_text(text)
    run = Run.open(build(tmp_path / "a.md", tmp_path / "a.run"))
    [found] = explain(run)
    assert found.verdict.pattern == "guard region"
