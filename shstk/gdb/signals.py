"""Signals as the remote protocol numbers them: gdb's include/gdb/signals.def, the same for every
target. Linux numbers half of them otherwise."""

from __future__ import annotations

from typing import Final

from shstk.schemas.uapi import SIGNALS

_OTHERWISE: Final = {
    "SIGBUS": 10, "SIGUSR1": 30, "SIGUSR2": 31, "SIGCHLD": 20, "SIGCONT": 19, "SIGSTOP": 17,
    "SIGTSTP": 18, "SIGURG": 16, "SIGIO": 23, "SIGPWR": 32, "SIGSYS": 12,
    "SIGSTKFLT": 143,  # not known to gdb
}  # fmt: skip
_TO_GDB: Final = {
    **{SIGNALS[name]: number for name, number in _OTHERWISE.items()},
    **{number: number + 12 for number in range(33, 64)},
    32: 77,
    64: 78,
}


def to_gdb(number: int) -> int:
    return _TO_GDB.get(number, number)


def from_gdb(numbers: frozenset[int]) -> frozenset[int]:
    """The signals of Linux among them."""
    return frozenset(number for number in range(1, 65) if to_gdb(number) in numbers)
