"""A short run of the fuzzer; longer ones are run by hand, see fuzz_executor.py."""

import pytest
from fuzz_executor import run_one

from shstk.tracer import _core


@pytest.mark.parametrize("seed", range(40))
def test_hostile_guests_stay_inside(seed: int) -> None:
    icount, seen = run_one(seed)
    assert icount > 0
    if not _core.native_obstacle():
        assert run_one(seed, after=0) == (icount, seen)


def test_a_seed_gives_the_same_run() -> None:
    assert run_one(7) == run_one(7)
