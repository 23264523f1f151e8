"""The rules about signals, faults, ptrace and hwprobe, on programs that have each of their cases.

tests/realkernel checks that the probe's results are those of a real kernel.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from shstk.replay.check import check
from shstk.replay.run import Run
from shstk.tracer.record import RecordOptions, record

PROGRAMS = Path(__file__).parents[2] / "fixtures" / "bin"
# Program and argument → the rules that have instances there.
SEEN = {
    ("probe", "signal"): {"G1", "G2", "G3", "G4", "F1", "F3"},
    ("probe", "faults"): {"F1", "F2", "F3", "F5", "F6", "F7", "T1"},
    ("probe", "regset"): {"T1"},
    ("probe", "env"): {"H1"},
    ("faulty", "handler"): {"F2", "G5", "N1"},
}


def recorded(program: str, argument: str, kernel: str, out: Path, *more: str) -> Run:
    trace = frozenset({"cfi", "flow", *more})
    elf = str(PROGRAMS / f"{program}.elf")
    record(RecordOptions(program=elf, argv=(argument,), out=out, kernel=kernel, trace=trace))
    return Run.open(out)


@pytest.mark.parametrize("kernel", ["v3", "7.2"])
@pytest.mark.parametrize(("program", "argument"), SEEN)
def test_the_rules_have_instances_and_no_findings(
    program: str, argument: str, kernel: str, tmp_path: Path
) -> None:
    run = recorded(program, argument, kernel, tmp_path / "a.run")
    rules = sorted(SEEN[program, argument])
    found = check(run, expect="revision", select=rules).findings
    assert dict(found.select("rule", "outcome").cast({"outcome": str}).rows()) == dict.fromkeys(
        rules, "satisfied"
    ), found.select("rule", "outcome", "note").rows()


def test_loads_from_shadow_stacks_are_counted_by_insn(tmp_path: Path) -> None:
    run = recorded("probe", "faults", "7.2", tmp_path / "a.run", "insn")
    found = check(run, select=["F3", "F4"]).findings.select("rule", "outcome", "checked").rows()
    assert found == [("F3", "satisfied", 6), ("F4", "satisfied", 3)]


def test_a_run_judged_by_the_other_layout(tmp_path: Path) -> None:
    run = recorded("signals", "", "v3", tmp_path / "a.run")
    assert check(run, expect="revision", select=["G3", "G4"]).clean
    found = check(run, expect="revision", as_="7.2", select=["G3"]).violated
    expected = [("the fp registers, 260 bytes", "not all stored")] * 4
    assert found.select("expected", "actual").rows() == expected


def test_sigreturns_reads_are_recorded(tmp_path: Path) -> None:
    """The frame as the kernel read it, part by part, within the call."""
    run = recorded("signals", "", "7.2", tmp_path / "a.run")
    first = run.table("signals").filter(kind="sigreturn").row(0, named=True)
    taken = run.table("kernel_memory").filter(during=first["sigreturn_seq"], op="read")
    ucontext = first["frame"] + 128
    parts = [(addr - ucontext, len(data)) for addr, data in taken.select("addr", "bytes").rows()]
    headers = [(952, 8), (960, 8), (968, 8)]
    assert parts == [(40, 8), (176, 256), (432, 260), (948, 4), *headers, (16, 24)]
