"""Runs of recorders that cannot see everything: what is not evaluated, what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import shstk
from shstk.__main__ import run
from shstk.listing import build, build_run
from shstk.replay.check import check
from shstk.replay.run import Run
from shstk.schemas.manifest import Provenance

LISTING = """```run
kernel 7.2
recorder {recorder}
observed {observed}
S1 = 4M@0x7fff_f000_0000
S2 = 4M@0x7fff_e000_0000
0.1   t1 boot mm1
10    t1 prctl(PR_SET_SHADOW_STACK_STATUS, 1) = 0 {{ map S1 ss }}
20    t1 clone(CLONE_VM|CLONE_THREAD|CLONE_SIGHAND) = 2 {{ map S2 ss; t2 created ssp=S2.top }}
      t2 first_user
30    t2 exit(0) {{ exit_begin 0; mm_dropped 1 }}
```
"""
STATE = "task_events[lifetimes] clones syscalls"


def judged(observed: str, recorder: str = "ftrace") -> dict[str, str]:
    return outcomes(build_run(LISTING.format(recorder=recorder, observed=observed)))


def outcomes(run: Run) -> dict[str, str]:
    """Of each rule: violated, satisfied, or why it was not evaluated."""
    return {r.rule.id: r.not_evaluated or r.outcome for r in check(run).results}


def test_what_was_not_observed_is_named() -> None:
    seen = judged(STATE)
    assert seen["P6"] == "not observable by ftrace: mappings[shadow_stack]"
    both = "task_events[mm_dropped], mappings[shadow_stack]"
    assert seen["X1"] == f"not observable by ftrace: {both}"
    assert seen["Z1"] == "not observable by ftrace: cfi"
    assert seen["P9"].startswith("no PR_LOCK_SHADOW_STACK_STATUS")


def test_a_leak_is_found_by_those_rows_that_were_observed() -> None:
    few = f"{STATE} task_events[mm_dropped] mappings[shadow_stack]"
    assert judged(few)["A5"] == "satisfied"
    assert judged(few)["X1"] == "violated"
    assert judged(few)["V2"] == "not observable by ftrace: mappings"


def test_what_is_satisfied_in_part_is_marked(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    listing = tmp_path / "few.md"
    listing.write_text(LISTING.format(recorder="ftrace", observed=f"{STATE} mappings"))
    made = str(build(listing, tmp_path / "few.run"))
    assert run(["check", made, "--select", "A5,A6"]) == 0
    said = capfd.readouterr().out
    assert "satisfied:\n  A5 thread-gets-own-stack  1*\n  A6 thread-stack-size      1\n" in said
    assert "satisfied as far as the recorder could see (-v tells what it could not): A5\n" in said
    run(["check", made, "--select", "A5", "-v"])
    why = "not observable by ftrace: kernel_memory"
    assert f"* in part:\n  A5 thread-gets-own-stack  {why}\n" in capfd.readouterr().out
    run(["check", made, "--select", "A5", "--format", "json"])
    (report,) = json.loads(capfd.readouterr().out)
    assert report["satisfied"][0]["unseen"] == ["not observable by ftrace: kernel_memory"]


def test_a_column_that_one_recording_lacks_has_a_reason() -> None:
    whole = build_run(LISTING.format(recorder="qemu", observed=f"{STATE} mappings"))
    seen = whole.manifest.provenance
    blind = {"mappings.start": "no symbol do_mmap", "clones": "no symbol kernel_clone"}
    made = Run.from_tables(
        replace(whole.manifest, provenance=replace(seen, blind=blind)),
        {name: whole.arrow(name) for name in whole.names},
    )
    found = outcomes(made)
    assert found["V3"] == "not observable by qemu: mappings.start: no symbol do_mmap"
    assert found["P9"] == "not observable by qemu: clones: no symbol kernel_clone"


def test_several_harts_have_no_one_order_of_switches() -> None:
    one = """```run
recorded
recorder qemu
smp {smp}
0.1  t1 boot mm1
1    t1 switch start -
10   t1 exit_group(0) {{ exit_begin 0; mm_dropped 0 }}
```
"""
    assert outcomes(build_run(one.format(smp=1)))["R6"] == "satisfied"
    found = outcomes(build_run(one.format(smp=2)))
    why = "not observable on 2 harts at once: one order of switches"
    assert (found["R5"], found["R6"]) == (why, why)


@pytest.fixture
def imported(tmp_path: Path) -> Path:
    listing = tmp_path / "imported.md"
    listing.write_text(LISTING.format(recorder="ftrace", observed=STATE))
    return build(listing, tmp_path / "imported.run")


@pytest.mark.parametrize(
    "command", [[], ["--kernel", "7.3", "-o", "x"], ["--trace", "insn", "--window", "1..2"]]
)
def test_it_is_not_executed_again(
    imported: Path, command: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["replay", str(imported), *command]) == 3
    said = capfd.readouterr().err
    assert "was recorded by ftrace: it cannot be executed again" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    "command",
    ["stacks", "log", "info", "export -o {}.exported", "explain-fault", "check --select P9"],
)
def test_the_other_commands_work_on_it(imported: Path, command: str) -> None:
    name, *words = command.format(imported).split()
    assert run([name, str(imported), *words]) == 0


def test_info_says_who_recorded_it(imported: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["info", str(imported)]) == 0
    said = capfd.readouterr().out
    assert "recorded by  ftrace\nobserved     task_events[lifetimes]\n" in said


def test_a_run_of_the_model_observed_everything() -> None:
    assert Provenance().observed is None
    assert not Provenance().real
    assert shstk.open(build_run("```run\n0.1 t1 boot\n```")).manifest.provenance == Provenance(
        recorder="listing"
    )


STATUS_OFF = """```run
recorder {recorder}
S1 = 4K@0x7fff_f000_0000
0.1  t1 boot mm1
10   t1 prctl(PR_SET_SHADOW_STACK_STATUS, 1) = 0 {{ map S1 ss; map 4K@0x7000_0000 }}
20   t1 sspush 0x10234 pc=0x10000
21   t1 sspush 0x10234 pc=0x10004 addr=0x7000_0ff8 ssp_before=0x7000_1000 ssp_after=0x7000_0ff8
22   t1 ssp_write 0x7000_1004 pc=0x10008
25   t1 prctl(PR_SET_SHADOW_STACK_STATUS, 0) = 0 ssp_exit=0
30   t1 fault 13 address=S1.top-8 word=0x00053503
31   t1 fault 15 tval=S1.top-8 address=S1.top-8 word=0x00b53023
```
"""
CAUSED: dict[str, str] = {
    "Z8": "QEMU executes shadow-stack instructions on an ordinary page",
    "Z4": "QEMU keeps ssp's low bits",
    "F4": "QEMU raises page faults on a touched shadow-stack page while SSE is 0",
    "F3": "QEMU raises page faults on a touched shadow-stack page while SSE is 0",
}


def test_what_qemu_does_otherwise_than_the_isa_is_named_and_not_charged(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "off.md").write_text(STATUS_OFF.format(recorder="qemu"))
    made = str(build(tmp_path / "off.md", tmp_path / "off.run"))
    assert run(["check", made, "--select", ",".join(CAUSED), "--format", "json"]) == 0
    (report,) = json.loads(capfd.readouterr().out)
    assert report["findings"] == []
    told = {one["rule"]: one["why"] for one in report["deviations"]}
    assert told.keys() == CAUSED.keys()
    assert all(told[rule].startswith(why) for rule, why in CAUSED.items())
    run(["check", made, "--select", "Z4"])
    said = capfd.readouterr().out
    assert "Z4 writes-set-ssp: not the kernel's, 1 that the emulator explains\n  22.0" in said
    assert "no findings; 1 that the emulator explains; 0 rules satisfied, 1 not evaluated" in said
    frame = shstk.check(made, select=["Z4"]).findings
    assert frame["outcome"].to_list() == ["deviation", "not evaluated"]


def test_the_same_of_a_kernel_is_a_violation() -> None:
    found = outcomes(build_run(STATUS_OFF.format(recorder="model")))
    assert {found[rule] for rule in CAUSED} == {"violated"}
