"""The extensions of isa/*.inc and of schemas/extensions.py have the same names."""

from __future__ import annotations

import pytest
from guest import ECALL, Guest, i_type, r_type

from shstk.schemas.extensions import CPUS, DEFAULT_CPU, EXTENSIONS, OPTIONAL, optional_of
from shstk.tracer import _core

ILLEGAL = 2
MUL, SH1ADD, CLZ, CZERO, ADD = 0x02000033, 0x20002033, 0x60001013, 0x0E005033, 0x33
C_MUL, C_SEXT_B = 0x9C41, 0x9C65


def test_every_extension_that_has_instructions_has_its_row() -> None:
    assert set(_core.EXTENSIONS) <= set(EXTENSIONS)
    assert len(set(_core.EXTENSIONS)) == len(_core.EXTENSIONS)


def test_what_cpu_leaves_out_is_known_to_the_core() -> None:
    assert set(OPTIONAL) <= set(_core.EXTENSIONS)
    with pytest.raises(ValueError, match="no such extension"):
        _core.Machine(without=["zicfoo"])


def test_a_cpu_is_rv64gc_and_any_of_the_optional_extensions() -> None:
    assert {"rv64gc", "rv64gc_zicfiss", "rv64gc_zicfilp", "rv64gc_zicfiss_zicfilp"} <= set(CPUS)
    assert len({optional_of(cpu) for cpu in CPUS}) == 2 ** len(OPTIONAL)
    assert (optional_of(CPUS[0]), optional_of(DEFAULT_CPU)) == (set(), set(OPTIONAL))


def test_no_two_extensions_share_a_bit_of_hwprobe_but_f_and_d() -> None:
    bits = [e.hwprobe for name, e in EXTENSIONS.items() if e.hwprobe and name != "d"]
    assert len(set(bits)) == len(bits)


@pytest.mark.parametrize(
    ("word", "without"),
    [
        (r_type(MUL, 10, 11, 12), "m"),
        (r_type(SH1ADD, 10, 11, 12), "zba"),
        (i_type(CLZ, 10, 11), "zbb"),
        (r_type(CZERO, 10, 11, 12), "zicond"),
        (C_MUL, "m"),
        (C_SEXT_B, "zbb"),
    ],
)
def test_without_an_extension_its_instructions_are_illegal(word: int, without: str) -> None:
    """The compressed forms too: their expansion is missing."""

    def run(*without: str) -> Guest:
        return Guest((word, ECALL), without=without)

    others = [name for name in _core.EXTENSIONS if name not in (without, "i")]
    run().run_to_ecall()
    run(*others).run_to_ecall()
    assert run(without).fault()[0] == ILLEGAL
