"""Something is wrong in the second run, or in the record: executing again tells what, and where."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from replaying import (
    PROGRAMS,
    Row,
    edited,
    files,
    first_difference,
    recorded,
    rewritten,
    rows,
    tables,
    with_rows,
)

from shstk.replay.disagreement import Disagreement
from shstk.replay.run import Run
from shstk.rerun.compare import Alarm, replay
from shstk.schemas.manifest import U64
from shstk.schemas.syscalls import SYSCALLS
from shstk.schemas.uapi import FUTEX_WAKE
from shstk.tracer.guest import Guest
from shstk.tracer.kernel.call import Args, Outcome
from shstk.tracer.kernel.kernel import Kernel
from shstk.tracer.kernel.table import CALLS
from shstk.tracer.kernel.task import Task
from shstk.tracer.recording.recorder import Recorder, trace_bits
from shstk.tracer.rerun.setup import set_up_again

NR_FUTEX = SYSCALLS["futex"].number
Plant = tuple[int, Callable[[Guest], None]]


@pytest.fixture(scope="module")
def turns(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Threads that wait for each other by futex, and switch often."""
    out = tmp_path_factory.mktemp("turns") / "a.run"
    return recorded(out, PROGRAMS / "taking-turns.elf", quantum=(200, 400))


def ringing(guest: Guest, plants: Iterable[Plant]) -> list[Alarm]:
    return [(icount, partial(act, guest)) for icount, act in plants]


def disagreement(run: Run, plants: Iterable[Plant] = ()) -> Disagreement:
    result = replay(run, alarms=lambda guest: ringing(guest, plants))
    assert result.disagreement is not None
    found = result.disagreement
    before = {name: rows(run, name) for name in result.agreed}
    for name, count in result.agreed.items():
        assert all(row["seq"] < found.at.seq for row in before[name][:count]) or name == "syscalls"
    return found


def disturbed(run: Run, out: Path, plants: Iterable[Plant]) -> Run:
    """What the second run does, recorded."""
    rec = Recorder(out)
    bits = trace_bits(run.manifest.traced)
    assert run.path is not None
    guest = set_up_again(
        run.path,
        run.manifest,
        lambda table: rows(run, table),
        rec,
        bits,
        max_instructions=2 * run.manifest.icount,
    )
    ending = guest.run(ringing(guest, plants))
    icount = U64(guest.machine.icount)
    return Run.open(rec.seal(replace(run.manifest, ending=ending, icount=icount, tables={})))


def flip(register: int, bit: int) -> Callable[[Guest], None]:
    def act(guest: Guest) -> None:
        task = guest.k.sched.last
        assert task is not None
        task.hart.set_x(register, task.hart.x(register) ^ 1 << bit)

    return act


@pytest.mark.parametrize(
    ("icount", "register", "bit"),
    [(50, 2, 4), (1000, 10, 0), (2222, 8, 3), (4000, 15, 0), (5555, 9, 63), (7777, 2, 3)],
)
def test_a_register(turns: Run, tmp_path: Path, icount: int, register: int, bit: int) -> None:
    plant = [(icount, flip(register, bit))]
    expected = first_difference(turns, disturbed(turns, tmp_path / "d.run", plant))
    if expected is None:
        assert replay(turns, alarms=lambda guest: ringing(guest, plant)).disagreement is None
        return
    found = disagreement(turns, plant)
    assert found.at.seq == expected > icount * 2**20
    assert found.agreed is not None
    assert found.agreed.seq < found.at.seq


def test_a_register_in_a_full_trace_is_found_at_the_instruction(tmp_path: Path) -> None:
    run = recorded(
        tmp_path / "a.run", PROGRAMS / "signals.elf", trace=frozenset({"cfi", "flow", "insn"})
    )
    # addi a, b, imm: reads b = sp
    insns = rows(run, "insn")
    at = next(
        i
        for i, row in enumerate(insns)
        if row["word"] & 3 == 3 and row["word"] & 0x7F == 0x13 and row["word"] >> 15 & 31 == 2
    )
    found = disagreement(run, [(insns[at]["seq"] // 2**20 - 1, flip(2, 4))])
    insn = insns[at]
    assert (found.at.table, found.at.seq, found.at.pc) == ("insn", insn["seq"], insn["pc"])
    assert found.columns == ("rd_value",)
    assert found.now is not None
    assert found.now["rd_value"] ^ insn["rd_value"] != 0
    assert found.agreed is not None
    assert found.agreed.seq >= insns[at - 1]["seq"]


def test_a_call_s_result(turns: Run, tmp_path: Path) -> None:
    calls = rows(turns, "syscalls")
    for at in (3, len(calls) // 2, len(calls) - 3):
        call = calls[at]
        assert call["ret"] is not None
        run = edited(turns, tmp_path / f"{at}.run", "syscalls", at, ret=call["ret"] ^ 1)
        found = disagreement(run)
        assert (found.at.table, found.columns) == ("syscalls", ("ret",))
        assert (found.at.began, found.at.seq) == (call["seq"], call["seq_end"])
        assert (found.at.tid, found.at.pc) == (call["tid"], call["pc"])
        assert found.recorded is not None
        assert found.now == call == {**found.recorded, "ret": call["ret"]}


def test_a_lost_wake_up(turns: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lost: list[int] = []
    wake = Kernel.wake

    def losing(k: Kernel, task: Task, why: str = "key") -> None:
        blocked = task.blocked
        waits = blocked is not None and any(
            isinstance(key, tuple) and "futex" in key for key in blocked.keys
        )
        if waits and why == "key" and not lost:
            lost.append(k.machine.icount)
            return
        wake(k, task, why)

    monkeypatch.setattr(Kernel, "wake", losing)
    expected = first_difference(turns, disturbed(turns, tmp_path / "d.run", []))
    assert lost
    lost.clear()
    found = disagreement(turns)
    assert found.at.seq == expected
    assert found.at.seq // 2**20 >= lost[0]
    assert found.at.table == "sched"


def test_a_wake_up_that_tells_less(turns: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """FUTEX_WAKE returns how many it woke: the call itself is where it differs."""
    real = CALLS[NR_FUTEX]
    done: list[int] = []

    def none_woken(k: Kernel, task: Task, args: Args) -> Outcome:
        outcome = real.handler(k, task, args)
        if args[1] & 0x7F == FUTEX_WAKE and outcome and not done:
            assert k.during is not None
            done.append(k.during)
            return 0
        return outcome

    monkeypatch.setitem(CALLS, NR_FUTEX, real._replace(handler=none_woken))
    found = disagreement(turns)
    assert (found.at.table, found.at.began) == ("syscalls", done[0])
    assert found.columns == ("ret", "state_hash")


@pytest.mark.parametrize("table", ["kernel_memory", "output"])
def test_a_byte(turns: Run, tmp_path: Path, table: str) -> None:
    at, row = next((i, r) for i, r in enumerate(rows(turns, table)) if len(r["bytes"]) > 2)
    changed = row["bytes"][:1] + bytes([row["bytes"][1] ^ 0x20]) + row["bytes"][2:]
    found = disagreement(edited(turns, tmp_path / "b.run", table, at, bytes=changed))
    assert (found.at.table, found.at.seq, found.columns) == (table, row["seq"], ("bytes",))


def test_a_row_that_never_was(turns: Run, tmp_path: Path) -> None:
    switches = rows(turns, "sched")
    gone = switches.pop(len(switches) // 2)
    run = rewritten(turns, tmp_path / "r.run", with_rows(turns, "sched", switches))
    found = disagreement(run)
    assert (found.at.table, found.at.seq, found.columns) == ("sched", gone["seq"], ("seq",))
    assert found.now == gone


def test_rows_behind_the_end(turns: Run, tmp_path: Path) -> None:
    switches = rows(turns, "sched")
    extra = {**switches[-1], "seq": (turns.manifest.icount + 5) * 2**20}
    run = rewritten(turns, tmp_path / "r.run", with_rows(turns, "sched", [*switches, extra]))
    found = disagreement(run)
    assert (found.at.table, found.recorded, found.now) == ("sched", extra, None)


def test_another_program(turns: Run, tmp_path: Path) -> None:
    """One instruction of it: the first block that holds it tells."""
    blocks = rows(turns, "code")
    block = blocks[len(blocks) // 2]
    program = (PROGRAMS / "taking-turns.elf").read_bytes()
    assert program.count(block["bytes"]) >= 1
    where = program.index(block["bytes"])
    patched = bytearray(program)
    patched[where : where + 2] = b"\x01\x00"  # c.nop
    changed = bytes(patched)
    old, new = (hashlib.sha256(data).hexdigest() for data in (program, changed))

    def renamed(row: Row) -> Row:
        return {**row, "sha256": new} if row["sha256"] == old else row

    together = {
        **tables(turns),
        "inputs": with_rows(turns, "inputs", map(renamed, rows(turns, "inputs")))["inputs"],
        "tree": with_rows(turns, "tree", map(renamed, rows(turns, "tree")))["tree"],
    }
    contents = [changed if data == program else data for data in files(turns)]
    found = disagreement(rewritten(turns, tmp_path / "p.run", together, contents))
    assert (found.at.table, found.at.seq) == ("code", found.at.began)
    assert found.columns[-1] == "bytes"
    assert found.recorded is not None
    assert found.recorded["bytes"] in program


@pytest.mark.parametrize(
    ("field", "value"),
    [("exit_status", 256), ("warnings", ("no",)), ("ending", "killed"), ("auxv", ((33, 0),))],
)
def test_what_the_manifest_says_of_the_end(
    turns: Run, tmp_path: Path, field: str, value: object
) -> None:
    run = rewritten(turns, tmp_path / "m.run", tables(turns), **{field: value})
    found = disagreement(run)
    assert (found.at.table, found.columns) == ("manifest", (field,))


@pytest.mark.parametrize("by", [-1, 1, 1000])
def test_another_length(turns: Run, tmp_path: Path, by: int) -> None:
    icount = U64(turns.manifest.icount + by)
    found = disagreement(rewritten(turns, tmp_path / "m.run", tables(turns), icount=icount))
    assert found.at.seq >= (turns.manifest.icount - 1) * 2**20


@pytest.mark.parametrize("field", ["seed", "quantum", "argv", "environ", "cpu"])
def test_other_inputs(turns: Run, tmp_path: Path, field: str) -> None:
    value = {
        "seed": U64(99),
        "quantum": (100, 110),
        "argv": ("taking-turns.elf", "more"),
        "environ": ("A=1",),
        "cpu": "rv64gc",
    }[field]
    found = disagreement(rewritten(turns, tmp_path / "m.run", tables(turns), **{field: value}))
    assert found.at.table != "manifest"


def test_a_second_run_that_breaks_the_model(turns: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """What went wrong before it is told, not the defect; without it the defect is."""
    calls = rows(turns, "syscalls")
    end_call = Kernel.end_call

    def breaking(k: Kernel, task: Task, outcome: str, ret: int | None) -> None:
        if k.machine.icount > 6000 and outcome != "run_ended":
            raise RuntimeError("a defect")
        end_call(k, task, outcome, ret)

    monkeypatch.setattr(Kernel, "end_call", breaking)
    with pytest.raises(RuntimeError, match="a defect"):
        replay(turns)
    found = disagreement(turns, [(3000, flip(2, 4))])
    assert 3000 < found.at.seq // 2**20 < 6000
    assert calls[-1]["seq"] // 2**20 > 6000
