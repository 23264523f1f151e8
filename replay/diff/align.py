"""Align two sequences of numbers: find the runs that both contain, in order.

Equal ends are trimmed first. Then elements that occur exactly once on each side become anchors
(patience diff). Stretches without an anchor go through Myers' greedy algorithm, in rounds of a
bounded number of edits, so time and memory stay linear however different the sequences are.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

# Edits that one round of Myers' algorithm looks ahead; its memory grows with the square.
ROUND: Final = 128


class Run(NamedTuple):
    """a[i:i+n] == b[j:j+n]"""

    i: int
    j: int
    n: int


class Gap(NamedTuple):
    """The elements between two runs: a[i:i_end] and b[j:j_end], not both empty."""

    i: int
    i_end: int
    j: int
    j_end: int


def align(a: Sequence[int], b: Sequence[int]) -> list[Run]:
    """The runs common to both, in order; runs that are adjacent on both sides are merged."""
    joined: list[Run] = []
    for run in _runs(a, b):
        last = joined[-1] if joined else None
        if last and last.i + last.n == run.i and last.j + last.n == run.j:
            joined[-1] = Run(last.i, last.j, last.n + run.n)
        else:
            joined.append(run)
    return joined


def gaps(runs: Sequence[Run], a_length: int, b_length: int) -> Iterator[Gap]:
    """The elements outside the runs, in order."""
    i = j = 0
    for run in [*runs, Run(a_length, b_length, 0)]:
        if i < run.i or j < run.j:
            yield Gap(i, run.i, j, run.j)
        i, j = run.i + run.n, run.j + run.n


def _runs(a: Sequence[int], b: Sequence[int]) -> Iterator[Run]:
    todo = [(Gap(0, len(a), 0, len(b)), True)]  # the flag: whether to search it for anchors
    while todo:
        (i, i_end, j, j_end), fresh = todo.pop()
        begin = i
        while i < i_end and j < j_end and a[i] == b[j]:
            i, j = i + 1, j + 1
        if i > begin:
            yield Run(begin, j - (i - begin), i - begin)
        if i == i_end or j == j_end:
            continue
        if a[i_end - 1] == b[j_end - 1]:
            n = 1
            while i_end - n > i and j_end - n > j and a[i_end - n - 1] == b[j_end - n - 1]:
                n += 1
            # the common end goes back on the stack, to be yielded after what precedes it
            todo.append((Gap(i_end - n, i_end, j_end - n, j_end), False))
            todo.append((Gap(i, i_end - n, j, j_end - n), fresh))
            continue
        if fresh:
            if set(a[i:i_end]).isdisjoint(b[j:j_end]):
                continue
            if anchors := _anchors(a[i:i_end], b[j:j_end]):
                cuts = [(i + x, j + y) for x, y in anchors]
                parts = zip([(i, j), *cuts], [*cuts, (i_end, j_end)], strict=True)
                todo += [(Gap(x, u, y, v), True) for (x, y), (u, v) in parts][::-1]
                continue
        runs, x, y = _round(a, i, i_end, b, j, j_end)
        yield from runs
        todo.append((Gap(x, i_end, y, j_end), False))


def _anchors(a: Sequence[int], b: Sequence[int]) -> list[tuple[int, int]]:
    """Positions of elements that occur once in each: the longest chain in the same order."""
    once_b = {value for value, count in Counter(b).items() if count == 1}
    once = {value for value, count in Counter(a).items() if count == 1} & once_b
    if not once:
        return []
    where = {value: y for y, value in enumerate(b) if value in once}
    pairs = [(x, where[value]) for x, value in enumerate(a) if value in once]
    ends: list[int] = []  # for each length, the lowest last y of an increasing chain
    tips: list[int] = []  # the pair that has this y
    before: list[int] = []  # for each pair, its predecessor in the chain
    for at, (_, y) in enumerate(pairs):
        length = bisect_left(ends, y)
        before.append(tips[length - 1] if length else -1)
        ends[length : length + 1] = [y]
        tips[length : length + 1] = [at]
    chain = []
    at = tips[-1]
    while at >= 0:
        chain.append(pairs[at])
        at = before[at]
    return chain[::-1]


def _round(
    a: Sequence[int], i: int, i_end: int, b: Sequence[int], j: int, j_end: int
) -> tuple[list[Run], int, int]:
    """Myers' greedy search, at most ROUND edits: the runs found, and the positions reached."""
    width, height = i_end - i, j_end - j
    reached = {1: 0}  # by diagonal x - y
    steps: list[dict[int, int]] = []
    for edits in range(ROUND + 1):
        steps.append(dict(reached))
        for k in range(-edits, edits + 1, 2):
            down = k == -edits or (k != edits and reached[k - 1] < reached[k + 1])
            x = reached[k + 1] if down else reached[k - 1] + 1
            y = x - k
            while y >= 0 and x < width and y < height and a[i + x] == b[j + y]:
                x, y = x + 1, y + 1
            reached[k] = x
            if x >= width and y >= height:
                return _traced(steps, k, x, i, j), i_end, j_end
    inside = [k for k in range(-ROUND, ROUND + 1, 2) if reached[k] <= width]
    inside = [k for k in inside if 0 <= reached[k] - k <= height]
    k = max(inside, key=lambda k: 2 * reached[k] - k)
    x = reached[k]
    return _traced(steps, k, x, i, j), i + x, j + x - k


def _traced(steps: list[dict[int, int]], k: int, x: int, i: int, j: int) -> list[Run]:
    """The runs on the path that led to x on diagonal k."""
    runs = []
    for edits in range(len(steps) - 1, -1, -1):
        reached = steps[edits]
        if edits == 0:
            start = 0
        else:
            down = k == -edits or (k != edits and reached[k - 1] < reached[k + 1])
            start = reached[k + 1] if down else reached[k - 1] + 1
        if x > start:
            runs.append(Run(i + start, j + start - k, x - start))
        if edits:
            k = k + 1 if down else k - 1
            x = reached[k]
    return runs[::-1]
