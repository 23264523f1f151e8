"""Alignment: whatever it finds is common and in order, and it loses little against the best."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from shstk.replay.diff.align import ROUND, Gap, Run, align, gaps

SEQUENCES = st.lists(st.integers(0, 6), max_size=40)


@given(SEQUENCES, SEQUENCES)
def test_what_it_finds_stands_in_both_in_order(a: list[int], b: list[int]) -> None:
    i = j = 0
    for run in align(a, b):
        assert run.n > 0
        assert (run.i >= i, run.j >= j) == (True, True)
        assert a[run.i : run.i + run.n] == b[run.j : run.j + run.n]
        i, j = run.i + run.n, run.j + run.n
    assert (i <= len(a), j <= len(b)) == (True, True)


@given(SEQUENCES, SEQUENCES)
def test_runs_and_gaps_make_up_the_whole(a: list[int], b: list[int]) -> None:
    runs = align(a, b)
    left = list(gaps(runs, len(a), len(b)))
    assert sum(run.n for run in runs) + sum(g.i_end - g.i for g in left) == len(a)
    assert sum(run.n for run in runs) + sum(g.j_end - g.j for g in left) == len(b)


@given(SEQUENCES, SEQUENCES, SEQUENCES)
def test_equal_ends_are_always_found(a: list[int], b: list[int], ends: list[int]) -> None:
    found = align([*ends, *a, *ends], [*ends, *b, *ends])
    assert sum(run.n for run in found) >= 2 * len(ends)


@given(SEQUENCES)
def test_equal_sequences_have_no_gap(a: list[int]) -> None:
    assert not list(gaps(align(a, a), len(a), len(a)))


def test_one_more_and_one_less() -> None:
    assert align([1, 2, 3, 4], [1, 2, 9, 3, 4]) == [Run(0, 0, 2), Run(2, 3, 2)]
    assert list(gaps([Run(0, 0, 2), Run(2, 3, 2)], 4, 5)) == [Gap(2, 2, 2, 3)]


def test_a_loop_that_one_ran_more_often() -> None:
    """No element occurs once, and more must be passed over than one round looks ahead."""
    a = [1, 2] * (2 * ROUND) + [3, 3]
    b = [1, 2] * 10 + [3, 3]
    assert sum(run.n for run in align(a, b)) == len(b)


def test_long_sequences_without_anything_in_common_take_no_time() -> None:
    start = time.monotonic()
    assert align([1] * 300_000, [2] * 300_000) == []
    assert time.monotonic() - start < 5


def test_long_repetitive_sequences_stay_linear() -> None:
    start = time.monotonic()
    a = [i * i % 7 for i in range(40_000)]
    b = [i * i * i % 5 for i in range(40_000)]
    assert sum(run.n for run in align(a, b)) > 5_000
    assert time.monotonic() - start < 20
