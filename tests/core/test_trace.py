"""Budgets and trace tables: exact preemption, and the same rows with any slices."""

import itertools
import random

import pytest
from guest import (
    DATA,
    ECALL,
    SSPOPCHK_RA,
    SSPUSH_RA,
    TEXT,
    Guest,
    R,
    W,
    X,
    addi,
    b_type,
    i_type,
    jal,
    jalr,
    lpad,
    r_type,
    s_type,
    sd,
    ssrdp,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from shstk.schemas import tables as schemas
from shstk.schemas import vocabulary
from shstk.tracer import _core

CFI, FLOW, INSN = _core.TRACE_CFI, _core.TRACE_FLOW, _core.TRACE_INSN
ALL = CFI | FLOW | INSN
TABLES = {"cfi": CFI, "flow": FLOW, "code": FLOW, "insn": INSN}
FORMATS = {"u8": "B", "u32": "I", "u64": "Q", "kind": "B"}


def program(seed: int) -> Guest:
    """Random arithmetic, memory accesses, branches, calls with pushes, stores to text."""
    rng = random.Random(seed)
    words = []
    for _ in range(60):
        rd, rs1, rs2 = rng.randrange(12, 18), rng.randrange(12, 18), rng.randrange(12, 18)
        words.append(
            rng.choice(
                [
                    addi(rd, rs1, rng.randrange(-2048, 2048)),
                    r_type(0x02000033, rd, rs1, rs2),
                    sd(rs2, 10, rng.randrange(0, 64) * 8),
                    i_type(0x3003, rd, 10, rng.randrange(0, 64) * 8),
                    b_type(0x1063, rs1, rs2, rng.randrange(1, 12) * 4),
                    b_type(0x4063, rs1, rs2, rng.randrange(-6, 12) * 4),
                    jal(1, rng.randrange(2, 10) * 4),
                    s_type(0x2023, 11, rs2, rng.randrange(0, 60) * 4) if rng.random() < 0.1 else 1,
                    SSPUSH_RA,
                    SSPOPCHK_RA if rng.random() < 0.3 else ssrdp(rd),
                    lpad(0),
                    0x0001,
                ]
            )
        )
    guest = Guest([*words, ECALL], sse=True, lpe=True, trace=0, x={10: DATA, 11: TEXT})
    guest.space.map(TEXT, 0x1000, R | W | X)
    data = b"".join(w.to_bytes(4 if w & 3 == 3 else 2, "little") for w in [*words, ECALL])
    guest.space.write(TEXT, data)
    for register in range(12, 18):
        guest.hart.set_x(register, rng.choice([0, 1, rng.getrandbits(64), addi(12, 12, 1)]))
    return guest


def execute(seed: int, trace: int, slices: list[int], total: int = 400) -> tuple[object, ...]:
    """The outcome and every row, with the budget split into the given slices, repeated."""
    guest = program(seed)
    guest.machine.trace = trace
    stop, done = _core.STOP_BUDGET, 0
    while stop == _core.STOP_BUDGET and done < total:
        budget = min(slices[0], total - done)
        slices = slices[1:] + slices[:1]
        stop = guest.run(budget)
        if stop == _core.STOP_BUDGET:
            assert guest.machine.icount == done + budget
        done = guest.machine.icount
    tables = {name: guest.rows(name) for name, bit in TABLES.items() if trace & bit}
    outcome = (stop, guest.machine.icount, guest.hart.state(), guest.hart.fault())
    return outcome, tables, guest.space.read(DATA, 0x1000), guest.space.read(TEXT, 0x1000)


@given(st.integers(0, 2**32), st.lists(st.integers(1, 40), min_size=1, max_size=6))
@settings(max_examples=150, deadline=None)
def test_slices_leave_no_trace(seed: int, slices: list[int]) -> None:
    whole = execute(seed, ALL, [1000])
    assert execute(seed, ALL, slices) == whole
    assert execute(seed, ALL, [1]) == whole


@given(st.integers(0, 2**32), st.integers(0, 7))
@settings(max_examples=100, deadline=None)
def test_what_is_recorded_changes_nothing_else(seed: int, trace: int) -> None:
    outcome, tables, *memory = execute(seed, ALL, [1000])
    some, part, *part_memory = execute(seed, trace, [1000])
    assert (some, part_memory) == (outcome, memory)
    assert part == {name: tables[name] for name, bit in TABLES.items() if trace & bit}


@given(st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_blocks_expand_to_the_instructions(seed: int) -> None:
    _, tables, *_ = execute(seed, ALL, [7])
    code = {row["block"]: row for row in tables["code"]}
    flow, insn = tables["flow"], tables["insn"]
    starts = {row["seq"] for row in flow}
    assert starts <= {row["seq"] for row in insn} | {insn[-1]["seq"] + 2**20 if insn else 2**20}
    pcs = {row["seq"]: row["pc"] for row in insn}
    for row in flow:
        assert pcs.get(row["seq"], code[row["block"]]["pc"]) == code[row["block"]]["pc"]
    for before, after in itertools.pairwise(insn):
        if after["seq"] not in starts:
            assert after["pc"] - before["pc"] == (4 if before["word"] & 3 == 3 else 2)


def test_a_loop() -> None:
    words = [addi(10, 0, 2), addi(11, 11, 3), addi(10, 10, -1), b_type(0x1063, 10, 0, -8), ECALL]
    guest = Guest(words, trace=ALL).run_to_ecall()
    assert [(r["seq"] >> 20, r["block"]) for r in guest.rows("flow")] == [(1, 1), (5, 2), (8, 3)]
    code = guest.machine.drain("code")
    assert code["block"].tolist() == [1, 2, 3]
    assert [pc - TEXT for pc in code["pc"]] == [0, 4, 16]
    assert code["length"].tolist() == [16, 12, 4]
    assert code["bytes_offset"].tolist() == [0, 16, 28, 32]
    assert bytes(code["bytes"])[16:28] == b"".join(w.to_bytes(4, "little") for w in words[1:4])
    insn = guest.rows("insn")
    assert [(r["seq"] >> 20, r["pc"] - TEXT) for r in insn[3:5]] == [(4, 12), (5, 4)]
    assert [(r["word"], r["rd"], r["rd_value"]) for r in insn[:2]] == [
        (words[0], 10, 2),
        (words[1], 11, 3),
    ]
    assert (insn[-1]["word"], insn[-1]["rd"]) == (ECALL, 255)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        (i_type(0x2003, 10, 11, 0), (10, 0xFFFFFFFF_80000001, DATA, 0x80000001, 4)),
        (i_type(0x0003, 0, 11, 0), (255, 0, DATA, 1, 1)),
        (i_type(0x3007, 2, 11, 0), (34, 0x80000001, DATA, 0x80000001, 8)),
        (s_type(0x1023, 11, 12, 2), (255, 0, DATA + 2, 0x5678, 2)),
        (r_type(0x0000202F, 10, 11, 12), (10, 0xFFFFFFFF_80000001, DATA, 0x92345679, 4)),
        (SSPUSH_RA, (255, 0, 0x41FF8, 0x77, 8)),
        (jal(1, 4), (1, TEXT + 4, 0, 0, 0)),
        (jalr(0, 1, TEXT + 4 - 0x77), (255, 0, 0, 0, 0)),
    ],
)
def test_instruction_rows(word: int, expected: tuple[int, ...]) -> None:
    guest = Guest([word, ECALL], sse=True, trace=INSN, x={1: 0x77, 11: DATA, 12: 0x12345678})
    guest.space.write(DATA, (0x80000001).to_bytes(8, "little"))
    if word & 0x7F == 0x67:
        guest.hart.set_x(1, TEXT + 4)
        word = jalr(0, 1)
        guest.space.write(TEXT, word.to_bytes(4, "little"), force=True)
    row = guest.run_to_ecall().rows("insn")[0]
    names = ("rd", "rd_value", "mem_addr", "mem_value", "mem_size")
    assert tuple(row[name] for name in names) == expected
    assert (row["seq"], row["word"], row["ssp"]) == (1 << 20, word, guest.hart.ssp)


def test_another_hart_in_between_begins_a_new_row() -> None:
    words = [addi(10, 10, 1)] * 4 + [ECALL]
    guest = Guest(words, trace=FLOW)
    other = guest.hart.copy()
    guest.run(budget=2)
    other.run(guest.space, 1, 2, 1)
    guest.run_to_ecall()
    assert [(r["seq"] >> 20, r["tid"], r["block"]) for r in guest.rows("flow")] == [
        (1, 1, 1),
        (3, 2, 1),
        (4, 1, 2),
    ]
    assert [r["pc"] - TEXT for r in guest.rows("code")] == [0, 8]


def test_after_a_fault_the_instruction_begins_a_row() -> None:
    load = i_type(0x3003, 10, 11)
    guest = Guest([addi(0, 0, 0), load, ECALL], trace=FLOW, x={11: 0x90000})
    guest.fault()
    guest.space.map(0x90000, 0x1000, R)
    guest.run_to_ecall()
    assert [(r["seq"] >> 20, r["block"]) for r in guest.rows("flow")] == [(1, 1), (3, 2)]
    assert [r["pc"] - TEXT for r in guest.rows("code")] == [0, 4]


def test_blocks_that_are_decoded_again_unchanged_keep_their_ids() -> None:
    guest = Guest([addi(10, 0, 1), ECALL], trace=FLOW).run_to_ecall()
    same = guest.space.read(TEXT, 8)
    guest.space.write(TEXT, same, force=True)
    guest.hart.pc = TEXT
    guest.run_to_ecall()
    assert [r["block"] for r in guest.rows("flow")] == [1, 1]
    assert len(guest.rows("code")) == 1


def test_a_full_buffer_stops_the_run_and_loses_nothing() -> None:
    words = [addi(10, 10, 1), jal(0, -4)]
    total = 1_500_001
    flushed, seqs = 0, []
    guest = Guest(words, trace=INSN | FLOW | CFI)
    while guest.machine.icount < total:
        stop = guest.run(total - guest.machine.icount)
        assert stop in (_core.STOP_BUDGET, _core.STOP_FLUSH)
        flushed += stop == _core.STOP_FLUSH
        seqs += guest.machine.drain("insn")["seq"].tolist()
        guest.machine.drain("flow")
    assert flushed == 2
    assert [seq >> 20 for seq in seqs] == list(range(1, total + 1))


def test_drained_rows_stay_when_the_buffers_are_used_again() -> None:
    guest = Guest([ssrdp(10), jal(0, -4)], sse=True, trace=CFI)
    guest.run(10)
    first = guest.machine.drain("cfi")["seq"]
    guest.run(10)
    second = guest.machine.drain("cfi")["seq"]
    assert [s >> 20 for s in first] == [1, 3, 5, 7, 9]
    assert [s >> 20 for s in second] == [11, 13, 15, 17, 19]
    del first
    guest.run(10)
    assert [s >> 20 for s in second] == [11, 13, 15, 17, 19]


@pytest.mark.parametrize("name", TABLES)
def test_the_columns_are_those_of_the_schemas(name: str) -> None:
    bit, columns = _core.TABLES[name]
    assert bit == TABLES[name]
    expected: dict[str, str] = {}
    for column in schemas.TABLES[name].columns:
        if column.base == "bytes":
            expected |= {f"{column.name}_offset": "i", column.name: "B"}
        elif column.name != "module":  # the kernel model knows it
            expected[column.name] = FORMATS[column.base]
    assert list(columns.items()) == list(expected.items())


def test_the_kinds_are_those_of_the_schemas() -> None:
    assert _core.CFI_KINDS == vocabulary.CFI_KINDS


def test_pending_and_names() -> None:
    guest = Guest([ssrdp(10), ECALL], sse=True, trace=ALL).run_to_ecall()
    assert [guest.machine.pending(t) for t in TABLES] == [1, 1, 1, 2]
    drained = guest.machine.drain("cfi")
    assert {name: column.format for name, column in drained.items()} == _core.TABLES["cfi"][1]
    assert [guest.machine.pending(t) for t in TABLES] == [0, 1, 1, 2]
    assert len(guest.machine.drain("cfi")["seq"]) == 0
    for method in (guest.machine.pending, guest.machine.drain):
        with pytest.raises(ValueError, match="no such table"):
            method("memory")


@pytest.mark.parametrize("budget", [0, 1, 2, 3])
def test_budget_is_exact_at_faults_and_ecalls(budget: int) -> None:
    guest = Guest([addi(10, 10, 1), addi(10, 10, 1), ECALL])
    stop = guest.run(budget)
    assert stop == (_core.STOP_ECALL if budget == 3 else _core.STOP_BUDGET)
    assert (guest.machine.icount, guest.hart.pc) == (budget, TEXT + min(budget, 2) * 4)
    nowhere = Guest()
    nowhere.hart.pc = 0x90000
    assert nowhere.run(0) == _core.STOP_BUDGET
    assert nowhere.run(1) == _core.STOP_FAULT
    assert nowhere.machine.icount == 1


def test_a_space_of_another_machine_is_refused() -> None:
    guest, other = Guest([ECALL]), Guest([ECALL])
    with pytest.raises(ValueError, match="belong to different machines"):
        guest.hart.run(other.space, 1, 1, 1)


def test_states_go_back_and_forth() -> None:
    guest = program(3)
    guest.run(20)
    state, digest = guest.hart.state(), guest.hart.state_hash()
    copy = _core.Hart(guest.machine)
    copy.restore(state)
    assert (copy.state(), copy.state_hash(), copy.pc) == (state, digest, guest.hart.pc)
    for change in (
        lambda h: h.set_x(31, h.x(31) ^ 1),
        lambda h: h.set_f(0, h.f(0) ^ 1),
        lambda h: setattr(h, "fcsr", h.fcsr ^ 1),
        lambda h: setattr(h, "ssp", h.ssp ^ 8),
        lambda h: setattr(h, "pc", h.pc ^ 2),
    ):
        copy.restore(state)
        change(copy)
        assert copy.state_hash() != digest
    with pytest.raises(ValueError, match="state"):
        copy.restore(state[:-1])


def test_only_the_tables_that_are_asked_for() -> None:
    for name, bit in TABLES.items():
        guest = Guest([ssrdp(10), ECALL], sse=True, trace=bit).run_to_ecall()
        waiting = {table for table in TABLES if guest.machine.pending(table)}
        assert waiting == ({"flow", "code"} if bit == FLOW else {name})


def test_flow_that_is_turned_on_later_has_its_code() -> None:
    guest = Guest([addi(10, 10, 1), jal(0, -4)], trace=INSN)
    guest.run(4)
    guest.machine.trace = FLOW
    guest.run(4)
    assert [r["block"] for r in guest.rows("flow")] == [1, 1]
    assert [r["pc"] - TEXT for r in guest.rows("code")] == [0]
