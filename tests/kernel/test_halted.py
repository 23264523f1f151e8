"""What a guest could make without end: a call, kernel steps, warnings."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import pytest
from direct import Direct
from guest_run import Result, run

from shstk.tracer.kernel.kernel import WARNINGS_MAX, Halted

SIZE = 1 << 24
# openat(AT_FDCWD, "/dev/ptmx", O_RDWR), then a write of 16 MiB that nobody reads.
LONG = f"""
    sys 222, 0x10000000, {SIZE}, 3, 0x32, -1, 0
    sys 56, -100, path, 2
    mv a0, a0
    li a1, 0x10000000
    li a2, {SIZE}
    li a7, 64
    ecall
    exit 0
path: .dword 0x6d74702f7665642f, 0x78
"""


def after(asked: int) -> Callable[[], str | None]:
    """Ends the run when it was asked that often."""
    times = count()
    return lambda: "timeout" if next(times) >= asked else None


def calls(result: Result) -> list[tuple[str, int | None]]:
    return [(row["name"], row["ret"]) for row in result.rows("syscalls")]


def test_a_timeout_ends_a_long_call() -> None:
    result = run(LONG, poll=after(20))
    assert result.ending == "timeout"
    *earlier, last = calls(result)
    assert [name for name, _ in earlier] == ["mmap", "openat"]
    assert last == ("write", None)
    assert result.rows("syscalls")[-1]["outcome"] == "run_ended"


def test_a_run_ends_where_its_kernel_has_no_more_steps() -> None:
    """Positions leave room for 2^20 steps at an instruction."""
    k = Direct().k
    with pytest.raises(Halted, match="steps"):
        all(k.seq() for _ in range(1 << 20))
    assert k.warnings == ["the kernel took 1048576 steps after instruction 0: the run ends there"]


def test_warnings_have_an_end() -> None:
    k = Direct().k
    for n in range(3000):
        k.warn(f"system call {n} is unknown")
    assert len(k.warnings) == WARNINGS_MAX + 1
    assert k.warnings[-1] == "there were more warnings"
