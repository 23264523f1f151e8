"""vset{i}vl{i}, the vector CSRs, reserved encodings, and the vector state in Python."""

import pytest
from guest import ECALL, Guest, csr
from test_vector_integer import MVV, VV, VX
from vector_guest import LMULS, State, execute, guest_with, is_illegal, op_v, registers, vlmax

from shstk.tracer import _core

VILL = 1 << 63
SUPPORTED = {(sew, lmul) for sew in (8, 16, 32, 64) for lmul in LMULS if sew <= 64 >> max(-lmul, 0)}


def vsetvli(rd: int, rs1: int, vtype: int) -> int:
    return 0x7057 | rd << 7 | rs1 << 15 | vtype << 20


def vsetivli(rd: int, avl: int, vtype: int) -> int:
    return 0xC0007057 | rd << 7 | avl << 15 | vtype << 20


def vsetvl(rd: int, rs1: int, rs2: int) -> int:
    return 0x80007057 | rd << 7 | rs1 << 15 | rs2 << 20


def configured(words: list[int], x: dict[int, int]) -> tuple[int, int, int]:
    """vl, vtype, x10."""
    guest = Guest([*words, ECALL], x={10: 99} | x).run_to_ecall()
    return *guest.hart.v_csrs()[1:3], guest.hart.x(10)


@pytest.mark.parametrize("vtype", [*range(256), 256, 1 << 10])
def test_every_vtype(vtype: int) -> None:
    sew, lmul = 8 << (vtype >> 3 & 7), (vtype & 7 ^ 4) - 4
    good = vtype < 256 and (sew, lmul) in SUPPORTED
    for avl in (0, 1, 5, 127, 1000, 2**64 - 1):
        vl = min(avl, vlmax(sew, lmul)) if good else 0
        expected = (vl, vtype if good else VILL, vl)
        assert configured([vsetvli(10, 11, vtype)], {11: avl}) == expected
        assert configured([vsetvl(10, 11, 12)], {11: avl, 12: vtype}) == expected
        if avl < 32 and vtype < 1024:
            assert configured([vsetivli(10, avl, vtype)], {}) == expected


def test_vsetvl_takes_all_bits_of_its_register() -> None:
    for vtype in (VILL, VILL | 0xD0, 1 << 32):
        assert configured([vsetvl(10, 11, 12)], {11: 4, 12: vtype}) == (0, VILL, 0)


def test_x0_asks_for_the_most_or_keeps_vl() -> None:
    assert configured([vsetvli(10, 0, 0xD0)], {})[0] == 4
    first = vsetvli(10, 11, 0xD0)  # e32, m1: as many elements as e64, m2
    assert configured([first, vsetvli(0, 0, 0xD9)], {11: 3}) == (3, 0xD9, 3)
    assert configured([first, vsetvli(0, 0, 0xD8)], {11: 3}) == (0, VILL, 3)
    assert configured([vsetvl(0, 11, 12), vsetvli(0, 0, 0xD0)], {12: VILL})[:2] == (0, VILL)


def test_vill_allows_only_what_does_not_depend_on_vtype() -> None:
    add = op_v(0, VV, 1, 2, 3)
    guest = Guest([vsetvl(0, 11, 12), add], x={12: VILL})
    assert guest.fault()[:3] == (2, add, add)


def test_csrs() -> None:
    words = [csr(1, 0, 0x008, 11), csr(1, 0, 0x00F, 12)]
    words += [csr(2, 20 + i, n, 0) for i, n in enumerate((0x008, 0x009, 0x00A, 0x00F, 0xC22))]
    guest = Guest([*words, ECALL], x={11: 2**64 - 1, 12: 0xFD}).run_to_ecall()
    assert [guest.hart.x(20 + i) for i in range(5)] == [127, 1, 2, 5, 16]
    for number in (0xC20, 0xC21, 0xC22):
        assert Guest([csr(1, 0, number, 11)]).fault()[0] == 2


@pytest.mark.parametrize(
    ("word", "sew", "lmul"),
    [
        (op_v(0x00, VV, 1, 2, 4), 32, 1),  # a group that is not aligned
        (op_v(0x00, VV, 0, 2, 4, masked=True), 32, 0),  # over its own mask
        (op_v(0x00, VV, 8, 0, 4, masked=True), 32, 0),  # the mask as data, too
        (op_v(0x30, MVV, 8, 8, 12), 32, 0),  # 2*SEW over the low part of a source
        (op_v(0x30, MVV, 8, 12, 14), 64, 0),  # wider than ELEN
        (op_v(0x30, MVV, 8, 16, 24), 32, 3),  # more than eight registers
        (op_v(0x2C, VV, 9, 8, 12), 32, 0),  # narrowed into the high part
        (op_v(0x18, VV, 9, 8, 12), 32, 1),  # a mask into the high part
        (op_v(0x10, VV, 0, 8, 12, masked=True), 32, 0),  # vadc to v0
        (op_v(0x3D, MVV, 8, 9, 12), 32, 0),  # vwmacc: v9 as SEW and as a part of vd
        (op_v(0x3C, 1, 8, 9, 12), 32, 0),  # vfwmacc, too
        (op_v(0x2A, MVV, 8, 8, 12), 32, 0),  # no such funct6
        (op_v(0x00, 1, 8, 12, 16), 16, 0),  # vfadd of halves: there is no Zvfh
        (op_v(0x13, 1, 8, 12, 1), 32, 0),  # no such unary
    ],
)
def test_reserved(word: int, sew: int, lmul: int) -> None:
    assert is_illegal(State(bytes(512), sew, lmul), word)


@pytest.mark.parametrize(
    "word",
    [
        op_v(0x30, MVV, 8, 9, 12),  # 2*SEW over the high part
        op_v(0x2C, VV, 8, 8, 12),  # narrowed into the low part
        op_v(0x18, VV, 0, 8, 12, masked=True),  # a mask over the mask
    ],
)
def test_overlaps_that_are_allowed(word: int) -> None:
    execute(State(bytes(512), 32, 0), word)


def test_a_reserved_rounding_mode_makes_all_of_floating_point_illegal() -> None:
    for word in (op_v(0, 1, 8, 9, 10), op_v(0x17, 5, 8, 0, 1), op_v(0x10, 1, 1, 8, 0)):
        assert is_illegal(State(bytes(512), 64, fcsr=5 << 5), word)


def test_tails_and_what_is_masked_off_stay_whatever_the_policy() -> None:
    for policy in (0, 0x40, 0x80, 0xC0):
        state = State(b"\x55" * 512, 8, 0, vl=4)
        guest = guest_with(state, [op_v(0, VV, 8, 9, 10, masked=True)])
        guest.hart.set_v_csrs(0, 4, policy, 0)
        guest.run_to_ecall()
        assert registers(guest) == state.with_elements(8, 8, [(0, 0xAA), (2, 0xAA)])


def test_the_hash_knows_vectors_once_they_are_used() -> None:
    guest, plain = Guest([csr(2, 0, 0xC20, 0), ECALL]), Guest()
    assert (guest.hart.v_used, guest.hart.state_hash()) == (False, plain.hart.state_hash())
    guest.run_to_ecall()
    assert guest.hart.v_used
    first = guest.hart.state_hash()
    guest.hart.set_v(31, bytes(15) + b"\1")
    assert guest.hart.state_hash() != first


def test_state_and_copies() -> None:
    state = State(bytes(range(256)) * 2, 16, 1, vl=7, vstart=3, vcsr=5)
    guest = guest_with(state, [])
    other = _core.Hart(guest.machine)
    other.restore(guest.hart.state())
    for hart in (other, guest.hart.copy()):
        assert b"".join(hart.v(i) for i in range(32)) == state.v
        assert hart.v_csrs() == (3, 7, 9, 5)
        assert hart.v_used
        assert hart.state_hash() == guest.hart.state_hash()
    other.v_used = False
    assert (other.v(3), other.v_csrs()) == (bytes(16), (0, 0, 0, 0))
    other.discard_v()
    assert (other.v(3), other.v_csrs()) == (b"\xff" * 16, (0, 0, VILL, 0))


def test_switched_off() -> None:
    for word in (op_v(0, VX, 1, 2, 3), csr(2, 0, 0xC22, 0)):
        guest = Guest([word])
        guest.hart.v_enabled = False
        assert guest.fault()[:3] == (2, word, word)
        assert not guest.hart.v_used
