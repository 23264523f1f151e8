"""Vector loads and stores: element addresses, masks and tails, traps, permissions, the trace."""

import random

import pytest
from guest import DATA, ECALL, STACK, TEXT, Guest, R, W, X, addi, csr
from vector_guest import State, execute, guest_with, is_illegal, registers

from shstk.tracer import _core

LOAD, STORE = 0x07, 0x27
WIDTH = {8: 0, 16: 5, 32: 6, 64: 7}
UNIT, UNORDERED, STRIDED, ORDERED = 0, 1, 2, 3
END = DATA + 0x4000
BASE, STRIDE = 11, 12


def word(
    op: int, eew: int, mop: int, field: int = 0, *, nf: int = 1, masked: bool = False, vd: int = 8
) -> int:
    low = op | vd << 7 | WIDTH[eew] << 12 | BASE << 15 | field << 20
    return low | (not masked) << 25 | mop << 26 | nf - 1 << 29


def random_state(rng: random.Random, sew: int, lmul: int) -> State:
    return State(rng.randbytes(512), sew, lmul, vl=rng.choice([0, 1, 3, 1 << 20]))


def memory(guest: Guest) -> bytes:
    data = guest.space.read(DATA, 0x4000)
    assert data is not None
    return data


def loaded(state: State, code: int) -> tuple[bytes, bytes]:
    """The registers after the load, and the data in memory."""
    guest = guest_with(state, [code])
    data = random.Random(code).randbytes(0x4000)
    guest.space.write(DATA, data)
    return registers(guest.run_to_ecall()), data


CASES = [(eew, nf, sew, lmul) for eew in WIDTH for nf in (1, 2, 3, 8) for sew, lmul in
         ((8, 0), (16, 1), (32, -1), (64, 2), (64, 0), (8, -3))]  # fmt: skip


@pytest.mark.parametrize(("eew", "nf", "sew", "lmul"), CASES)
def test_addresses(eew: int, nf: int, sew: int, lmul: int) -> None:
    rng = random.Random(f"{eew} {nf} {sew} {lmul}")
    emul = lmul + eew.bit_length() - sew.bit_length()
    registers_each, size = 1 << max(emul, 0), eew // 8
    if not -3 <= emul <= 3 or registers_each * nf > 8:
        assert is_illegal(State(bytes(512), sew, lmul), word(LOAD, eew, UNIT, nf=nf))
        assert is_illegal(State(bytes(512), sew, lmul), word(STORE, eew, STRIDED, STRIDE, nf=nf))
        return
    for stride in (nf * size, 0, -24, 100):
        state, masked = random_state(rng, sew, lmul), rng.random() < 0.5
        base = DATA + 0x2000
        state.x = {BASE: base, STRIDE: stride}
        where = [
            (f, i, base + i * stride + f * size) for i in state.active(masked) for f in range(nf)
        ]
        code = word(LOAD, eew, STRIDED, STRIDE, nf=nf, masked=masked)
        after, data = loaded(state, code)
        expected = state
        for f, i, at in where:
            value = int.from_bytes(data[at - DATA :][:size], "little")
            step = expected.with_elements(8 + f * registers_each, eew, [(i, value)])
            expected = State(step, sew, lmul, state.vl)
        assert after == expected.v
        if stride == nf * size:
            assert loaded(state, word(LOAD, eew, UNIT, nf=nf, masked=masked))[0] == with_data(
                state, where, eew, registers_each, word(LOAD, eew, UNIT, nf=nf, masked=masked)
            )
        guest = execute(state, word(STORE, eew, STRIDED, STRIDE, nf=nf, masked=masked))
        stored = bytearray(0x4000)
        for f, i, at in where:
            element = state.elements(8 + f * registers_each, eew)[i]
            stored[at - DATA : at - DATA + size] = element.to_bytes(size, "little")
        assert memory(guest) == stored


def with_data(
    state: State, where: list[tuple[int, int, int]], eew: int, each: int, code: int
) -> bytes:
    data, v = random.Random(code).randbytes(0x4000), state
    for f, i, at in where:
        value = int.from_bytes(data[at - DATA :][: eew // 8], "little")
        v = State(v.with_elements(8 + f * each, eew, [(i, value)]), state.sew, state.lmul, state.vl)
    return v.v


@pytest.mark.parametrize("mop", [UNORDERED, ORDERED])
@pytest.mark.parametrize("eew", WIDTH)
def test_indices_are_unsigned_byte_offsets(mop: int, eew: int) -> None:
    state = State(random.Random(eew).randbytes(512), 32, 0, x={BASE: DATA})
    offsets = [0xFE, 3, 0, 0xFE]
    state.v = state.with_elements(16, eew, enumerate(offsets))
    after, data = loaded(state, word(LOAD, eew, mop, 16))
    values = [int.from_bytes(data[at : at + 4], "little") for at in offsets]
    assert after == state.with_elements(8, 32, enumerate(values))
    guest = execute(state, word(STORE, eew, mop, 16))
    stored = bytearray(0x4000)
    for at, value in zip(offsets, state.elements(8), strict=False):  # in order: the last store wins
        stored[at : at + 4] = value.to_bytes(4, "little")
    assert memory(guest) == stored


def test_a_trap_says_which_element() -> None:
    state = State(random.Random(1).randbytes(512), 32, 1, x={BASE: END - 12})
    for code, cause in ((word(LOAD, 32, UNIT), 13), (word(STORE, 32, UNIT), 15)):
        guest = guest_with(state, [code])
        assert guest.fault() == (cause, END, code, END, 0, 0)
        assert (guest.hart.pc, guest.hart.v_csrs()[:2]) == (TEXT, (3, 8))
        guest.space.map(
            END, 0x1000, R | W
        )  # as a handler may do; the instruction resumes at vstart
        guest.run_to_ecall()
        assert guest.hart.v_csrs()[0] == 0
    assert guest.space.read(END - 12, 32) == state.v[128:160]


def test_stores_before_vstart_are_not_made_again() -> None:
    state = State(b"\7" * 512, 8, 0, vstart=5, x={BASE: DATA})
    guest = execute(state, word(STORE, 8, UNIT))
    assert memory(guest)[:17] == bytes(5) + b"\7" * 11 + b"\0"


def test_fault_only_first() -> None:
    state = State(bytes(512), 32, 2, x={BASE: END - 20})
    guest = execute(state, word(LOAD, 32, UNIT, 16))
    assert guest.hart.v_csrs()[1] == 5
    state.x = {BASE: END}
    assert guest_with(state, [word(LOAD, 32, UNIT, 16)]).fault()[0] == 13
    state.v, state.x = b"\xfe" * 512, {BASE: END - 4}  # element 0 is masked off, element 1 faults
    guest = execute(state, word(LOAD, 32, UNIT, 16, masked=True))
    assert guest.hart.v_csrs()[1] == 1


@pytest.mark.parametrize("mop", [UNIT, STRIDED, UNORDERED])
def test_shadow_stacks_take_no_vector_stores(mop: int) -> None:
    state = State(bytes(512), 64, 0, x={BASE: STACK, STRIDE: 8})
    code = word(STORE, 64, mop, 0 if mop == UNIT else STRIDE if mop == STRIDED else 16)
    assert guest_with(state, [code]).fault() == (7, STACK, code, STACK, 0, 0)
    execute(state, word(LOAD, 64, UNIT))  # they can be read


def test_a_store_to_read_only_text() -> None:
    state = State(bytes(512), 64, 0, x={BASE: TEXT})
    assert guest_with(state, [word(STORE, 64, UNIT)]).fault()[:2] == (15, TEXT)


def test_a_store_to_the_code_that_runs() -> None:
    state = State(addi(10, 0, 7).to_bytes(4, "little") * 128, 32, 0, vl=1, x={BASE: TEXT + 4})
    guest = guest_with(state, [word(STORE, 32, UNIT), addi(10, 0, 1), ECALL])
    guest.space.protect(TEXT, 0x1000, R | W | X)
    assert guest.run_to_ecall().hart.x(10) == 7


def test_masks_take_whole_bytes() -> None:
    state = State(b"\xa5" * 512, 8, 0, vl=11, x={BASE: DATA})
    assert memory(execute(state, word(STORE, 8, UNIT, 11)))[:4] == b"\xa5\xa5\0\0"


@pytest.mark.parametrize("n", [1, 2, 4, 8])
def test_whole_registers_need_no_vtype(n: int) -> None:
    state = State(random.Random(n).randbytes(512), x={BASE: DATA})
    guest = guest_with(state, [word(STORE, 8, UNIT, 8, nf=n), word(LOAD, 64, UNIT, 8, nf=n, vd=16)])
    guest.hart.set_v_csrs(0, 0, 1 << 63, 0)
    guest.run_to_ecall()
    assert memory(guest)[: 16 * n + 1] == state.v[128 : 128 + 16 * n] + b"\0"
    assert registers(guest)[256 : 256 + 16 * n] == state.v[128 : 128 + 16 * n]
    if n > 1:
        assert is_illegal(State(bytes(512)), word(LOAD, 8, UNIT, 8, nf=n, vd=n - 1))


@pytest.mark.parametrize(
    "code",
    [
        word(LOAD, 8, UNIT, 8, nf=3),  # three whole registers
        word(LOAD, 8, UNIT, 4),
        word(LOAD, 16, UNIT, 11),  # a mask has bytes
        word(STORE, 8, UNIT, 16),  # a store that is fault-only-first
        word(LOAD, 8, UNIT) | 1 << 28,  # mew
        word(LOAD, 8, UNIT, masked=True, vd=0),
        word(STORE, 8, UNIT, masked=True, vd=0),
        word(LOAD, 8, UNIT, nf=8, vd=28),  # past v31
        word(LOAD, 8, UNORDERED, 9, nf=2),  # a segment over its indices
    ],
)
def test_reserved(code: int) -> None:
    assert is_illegal(State(bytes(512), 8, 0, x={BASE: DATA}), code)


def test_the_trace_has_the_first_element() -> None:
    code = word(LOAD, 32, STRIDED, STRIDE)
    load = Guest([0x0D007057 | BASE << 7, code, word(STORE, 32, UNIT), csr(2, 10, 0xC20, 0), ECALL],
                 trace=_core.TRACE_INSN, x={BASE: 4, STRIDE: 8})  # fmt: skip
    load.hart.set_x(BASE, DATA + 4)
    load.space.write(DATA + 4, b"\1\2\3\4" + bytes(4) + b"\5\6\7\x08")
    load.hart.set_v_csrs(0, 4, 0xD0, 0)
    load.hart.pc = TEXT + 4
    load.run_to_ecall()
    rows = [(r["rd"], r["rd_value"], r["mem_addr"], r["mem_value"], r["mem_size"])
            for r in load.rows("insn")]  # fmt: skip
    assert rows[0] == (64 + 8, 0x0807060504030201, DATA + 4, 0x04030201, 4)
    assert rows[1] == (255, 0, DATA + 4, 0x04030201, 4)
    assert rows[2][:2] == (10, 4)
