"""The table of system calls: a row of it says all of a call, in words that are known."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shstk.replay import decode
from shstk.schemas.argument_types import COMMANDS, ENUMS, FLAGS
from shstk.schemas.syscalls import BY_NUMBER, SYSCALLS, Argument, Syscall, name_of, parse

WORDS = st.text(string.ascii_lowercase + string.digits + "_", min_size=1)
ARGUMENTS = st.lists(st.builds(Argument, WORDS, WORDS), max_size=6).map(tuple)


@given(st.builds(Syscall, st.integers(0), WORDS, ARGUMENTS, WORDS))
def test_a_row_says_all_of_a_call(call: Syscall) -> None:
    assert parse(str(call)) == call


def test_names_and_numbers_are_used_once() -> None:
    assert {call.name: call for call in BY_NUMBER.values()} == SYSCALLS
    assert list(BY_NUMBER) == sorted(BY_NUMBER)
    assert name_of(56) == "openat"
    assert name_of(1000) == "syscall_1000"


@pytest.mark.parametrize("call", SYSCALLS.values(), ids=lambda call: call.name)
def test_every_argument_has_a_name_and_a_type_that_can_be_shown(call: Syscall) -> None:
    names = [argument.name for argument in call.arguments]
    assert len(set(names)) == len(names) <= 6
    assert all(name.isidentifier() for name in names)
    for argument in call.arguments:
        assert all(decode.argument(argument.type, value) for value in (0, 1, 4096, 2**64 - 1))
    assert call.returns in ("int", "fd", "pid", "ptr", "time")


def test_every_type_is_used() -> None:
    used = {argument.type for call in SYSCALLS.values() for argument in call.arguments}
    used |= {
        type
        for call in COMMANDS.values()
        for types in call.types.values()
        for type in types.values()
    }
    assert {*FLAGS, *ENUMS} <= used
