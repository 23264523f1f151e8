"""Slides, gathers, compress, moves: the manual's formulas, and its overlap constraints."""

import random

import pytest
from test_vector_integer import MVV, MVX, RS1, VD, VI, VS1, VS2, VV, VX, a_state, each
from vector_guest import SETTINGS, State, execute, is_illegal, op_v, registers, vlmax


def test_slides() -> None:
    for rng, sew, lmul in each(8, SETTINGS, "slides"):
        state, masked, top = a_state(rng, sew, lmul), rng.random() < 0.5, vlmax(sew, lmul)
        offset = rng.choice([0, 1, top - 1, top, 2**64 - 1, rng.randrange(2 * top)])
        state.x = {RS1: offset}
        a, active, vl = state.elements(VS2), state.active(masked), state.length
        up = [(i, a[i - offset]) for i in active if i >= offset]
        guest = execute(state, op_v(0x0E, VX, VD, VS2, RS1, masked))
        assert registers(guest) == state.with_elements(VD, sew, up)
        down = [(i, a[i + offset] if i + offset < top else 0) for i in active]
        guest = execute(state, op_v(0x0F, VX, VD, VS2, RS1, masked))
        assert registers(guest) == state.with_elements(VD, sew, down)
        guest = execute(state, op_v(0x0E, MVX, VD, VS2, RS1, masked))
        one = [(i, a[i - 1] if i else offset) for i in active]
        assert registers(guest) == state.with_elements(VD, sew, one)
        guest = execute(state, op_v(0x0F, MVX, VD, VS2, RS1, masked))
        one = [(i, a[i + 1] if i + 1 < vl else offset) for i in active]
        assert registers(guest) == state.with_elements(VD, sew, one)
        assert is_illegal(state, op_v(0x0E, VI, VS2, VS2, 1))
        assert is_illegal(state, op_v(0x0E, MVX, VS2, VS2, RS1))


def test_a_slide_down_may_overlap() -> None:
    state = State(bytes(range(256)) * 2, 8, 0)
    a = state.elements(VS2)
    guest = execute(state, op_v(0x0F, VI, VS2, VS2, 3))
    after = [(i, a[i + 3] if i < 13 else 0) for i in range(16)]
    assert registers(guest) == state.with_elements(VS2, 8, after)


def test_gathers() -> None:
    for rng, sew, lmul in each(6, SETTINGS, "gathers"):
        state, masked, top = a_state(rng, sew, lmul), rng.random() < 0.5, vlmax(sew, lmul)
        small = [(i, rng.choice([0, 1, top - 1, top, rng.randrange(256)])) for i in range(top)]
        state.v = state.with_elements(VS1, sew, small)
        a, active = state.elements(VS2), state.active(masked)
        index = state.elements(VS1)
        after = [(i, a[index[i]] if index[i] < top else 0) for i in active]
        guest = execute(state, op_v(0x0C, VV, VD, VS2, VS1, masked))
        assert registers(guest) == state.with_elements(VD, sew, after)
        assert is_illegal(state, op_v(0x0C, VV, VS1, VS2, VS1))
        state.x = {RS1: rng.choice([0, top - 1, top, 2**64 - 1])}
        value = a[state.x[RS1]] if state.x[RS1] < top else 0
        guest = execute(state, op_v(0x0C, VX, VD, VS2, RS1, masked))
        assert registers(guest) == state.with_elements(VD, sew, [(i, value) for i in active])
        word, emul = op_v(0x0E, VV, VD, VS2, VS1, masked), lmul + 4 - (sew.bit_length() - 1)
        if not -3 <= emul <= 3:
            assert is_illegal(state, word)
            continue
        index = state.elements(VS1, 16)
        after = [(i, a[index[i]] if index[i] < top else 0) for i in active]
        assert registers(execute(state, word)) == state.with_elements(VD, sew, after)


def test_compress() -> None:
    for rng, sew, lmul in each(6, SETTINGS, "compress"):
        state = a_state(rng, sew, lmul, vstart=False)
        a = state.elements(VS2)
        kept = [a[i] for i in range(state.length) if state.bit(5, i)]
        word = op_v(0x17, MVV, VD, VS2, 5)
        assert registers(execute(state, word)) == state.with_elements(VD, sew, enumerate(kept))
        state.vstart = 1
        assert is_illegal(state, word)


def test_moves() -> None:
    for rng, sew, lmul in each(4, SETTINGS, "moves"):
        state = a_state(rng, sew, lmul)
        assert state.x is not None
        value = state.x[RS1]
        guest = execute(state, op_v(0x10, MVX, 5, 0, RS1))  # vmv.s.x
        written = [(0, value)] if state.vstart < state.length else []
        assert registers(guest) == state.with_elements(5, sew, written)
        guest = execute(state, op_v(0x10, MVV, 10, 5, 0))  # vmv.x.s
        first = state.elements(5)[0]
        assert guest.hart.x(10) == (first - (first >> sew - 1 << sew)) % 2**64
        guest = execute(state, op_v(0x17, VX, VD, 0, RS1))  # vmv.v.x
        splat = [(i, value) for i in state.active(False)]
        assert registers(guest) == state.with_elements(VD, sew, splat)
        for n in (1, 2, 4, 8):  # vmv<n>r.v, by SEW from vstart on
            guest = execute(state, op_v(0x27, VI, VD, VS2, n - 1))
            size = sew // 8
            moved = enumerate(state.elements(VS2)[: 16 * n // size])
            assert registers(guest) == state.with_elements(
                VD, sew, [(i, v) for i, v in moved if i >= state.vstart]
            )


@pytest.mark.parametrize(("n", "vd", "vs2"), [(2, 3, 8), (4, 8, 6), (8, 4, 8)])
def test_whole_moves_are_aligned(n: int, vd: int, vs2: int) -> None:
    assert is_illegal(State(random.Random(1).randbytes(512)), op_v(0x27, VI, vd, vs2, n - 1))
