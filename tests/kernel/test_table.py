"""Handlers are registered by names from schemas, each once."""

from __future__ import annotations

import pytest

from shstk.schemas.syscalls import SYSCALLS
from shstk.tracer.kernel.call import Call
from shstk.tracer.kernel.table import CALLS, gather


def _nothing(k: object, t: object, a: object) -> int:
    return 0


def test_every_handler_has_the_number_of_its_name() -> None:
    assert all(SYSCALLS[call.name].number == number for number, call in CALLS.items())


def test_a_name_that_schemas_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match=r"schemas/syscalls\.py has no call 'opennat'"):
        gather([Call("opennat", _nothing)])


def test_two_handlers_for_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two rows for call 'openat'"):
        gather([Call("openat", _nothing), Call("openat", _nothing)])
