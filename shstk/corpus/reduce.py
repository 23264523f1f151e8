"""The least that still shows a cause.

It is searched in this order, each step with what the ones before it found: the default quantum, the
smallest seed, the fewest arguments, the shortest input, and the fewest switches that show the cause
on top of a revision that does not. Every trial is a recorded and judged run. A real kernel's Image
has no switches and no quantum.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

from shstk.corpus.campaign import HostLimits
from shstk.corpus.cell import Cell
from shstk.corpus.contents import contents_of
from shstk.corpus.execute import Job
from shstk.corpus.pool import Pool, pool
from shstk.corpus.store import Store
from shstk.schemas.errors import ShstkError, UsageError
from shstk.schemas.machine import QUANTUM
from shstk.schemas.revisions import COMPARED, resolve

T = TypeVar("T")
_SEEDS: Final = 100  # that are tried
_LONGER: Final = 10  # times the campaign's cell
_LETTERS: Final = 256  # of an argument or of the input: of more, no single ones are left out


@dataclass(frozen=True)
class Reduced:
    """cell: shows the cause with the least. clean: the revision that does not, and switches: which
    of the cell's kernel show it there; both empty if every revision of COMPARED shows it, and for
    an image. tried: runs."""

    cell: Cell
    clean: str
    switches: tuple[str, ...]
    tried: int


def reduce(
    store: Store,
    cause: str,
    out: Path,
    *,
    clean: str | None = None,
    patience: float = 60.0,
    on_trial: Callable[[int], None] = lambda tried: None,
) -> Reduced:
    """cause: the first digits of its id. out: where a shorter input is written. clean: the revision
    that has the switches otherwise; by default the last of COMPARED that does not show the cause.
    patience: seconds, added to ten times what the cell took, after which a trial hangs.

    Raises UsageError if the campaign has no such cause, and ShstkError if it does not show again.
    """
    cell, seconds, wanted = _first(store, cause)
    if cell.image and clean:
        raise UsageError(f"{cell.image.name} is an Image: it has no switches", "without --clean")
    with pool(1, HostLimits(_LONGER * seconds + patience)) as processes:
        return _reduced(cell, _Trials(processes, wanted, on_trial), out, clean)


def _reduced(cell: Cell, shows: _Trials, out: Path, clean: str | None) -> Reduced:
    if not shows(cell):
        raise ShstkError(
            f"cause {shows.cause} does not show in what the campaign ran",
            "the program, or shstk, has changed since: run the campaign again",
        )
    if cell.quantum != QUANTUM and shows(replace(cell, quantum=QUANTUM)):
        cell = replace(cell, quantum=QUANTUM)
    cell = next(
        smaller
        for seed in (*range(min(cell.seed, _SEEDS)), cell.seed)
        if (smaller := replace(cell, seed=seed)) == cell or shows(smaller)
    )
    cell = _with_fewer_arguments(cell, shows)
    cell = _with_less_input(cell, shows, out)
    under, switches = ("", ()) if cell.image else _switches(cell, shows, clean)
    if switches:
        cell = replace(cell, kernel=",".join([under, *switches]))
    return Reduced(cell, under, switches, shows.tried)


def least(items: Sequence[T], shows: Callable[[Sequence[T]], bool]) -> list[T]:
    """Delta debugging (Zeller's ddmin): items of which none can be left out. All show it."""
    left, parts = list(items), 2
    while left:
        size = -(-len(left) // parts)
        chunks = [left[at : at + size] for at in range(0, len(left), size)]
        for number in range(len(chunks)):
            rest = [item for n, chunk in enumerate(chunks) if n != number for item in chunk]
            if shows(rest):
                left, parts = rest, max(parts - 1, 2)
                break
        else:
            if size == 1:
                return left
            parts = min(2 * parts, len(left))
    return left


class _Trials:
    """Whether a cell shows the cause; each cell is executed once."""

    def __init__(self, processes: Pool, cause: str, on_trial: Callable[[int], None]) -> None:
        self._processes, self.cause, self._on_trial = processes, cause, on_trial
        self._known: dict[str, bool] = {}

    @property
    def tried(self) -> int:
        return len(self._known)

    def __call__(self, cell: Cell) -> bool:
        key = cell.run
        if key not in self._known:
            (done,) = self._processes.work([Job(cell, key)])
            self._known[key] = any(found["cause"] == self.cause for found in done.row["findings"])
            self._on_trial(self.tried)
        return self._known[key]


def _first(store: Store, cause: str) -> tuple[Cell, float, str]:
    """The cell that shows a cause with the fewest arguments and the smallest seed, a model's rather
    than an image's; the seconds that it took; the cause."""
    found = store.findings.filter("root").select("key", "cause").unique().collect()
    ids = sorted({name for name in found["cause"] if name.startswith(cause)})
    if len(ids) != 1:
        what = f"{len(ids)} causes begin with" if ids else "no cause is"
        raise UsageError(f"{store.where}: {what} {cause!r}", "shstk corpus report lists them")
    cells = [store.plan[key] for key in found.filter(cause=ids[0])["key"]]
    first = min(cells, key=lambda c: (c.image is not None, len(c.subject.argv), c.seed, c.run))
    (seconds,) = store.cells.filter(run=first.run).select("seconds").collect()["seconds"].head(1)
    return first, seconds, ids[0]


def _with_fewer_arguments(cell: Cell, shows: Callable[[Cell], bool]) -> Cell:
    """First whole arguments are left out, then letters of those that remain."""

    def having(words: Sequence[str]) -> Cell:
        return replace(cell, subject=replace(cell.subject, argv=tuple(words)))

    words = least(cell.subject.argv, lambda some: shows(having(some)))
    for at, word in enumerate(words):
        before, after = words[:at], words[at + 1 :]

        def shorter(
            letters: Sequence[str], before: list[str] = before, after: list[str] = after
        ) -> bool:
            return shows(having([*before, "".join(letters), *after]))

        if len(word) <= _LETTERS:
            words[at] = "".join(least(word, shorter))
    return having(words)


def _with_less_input(cell: Cell, shows: Callable[[Cell], bool], out: Path) -> Cell:
    """First lines are left out, then bytes. The input is written to `out`, if it became shorter."""
    if not cell.subject.stdin:
        return cell
    whole = Path(cell.subject.stdin).read_bytes()

    def having(data: bytes, file: Path) -> Cell:
        file.write_bytes(data)
        subject = replace(cell.subject, stdin=str(file.absolute()))
        return replace(cell, subject=replace(subject, contents=contents_of(subject)))

    with tempfile.TemporaryDirectory(prefix="shstk-reduce-") as scratch:
        trial = Path(scratch) / "input"
        lines = whole.splitlines(keepends=True)
        lines = least(lines, lambda some: shows(having(b"".join(some), trial)))
        data = b"".join(lines)
        if len(data) <= _LETTERS:
            data = bytes(least(data, lambda some: shows(having(bytes(some), trial))))
    return having(data, out) if data != whole else cell


def _switches(
    cell: Cell, shows: Callable[[Cell], bool], clean: str | None
) -> tuple[str, tuple[str, ...]]:
    """A revision without the cause, and the fewest switches of the cell's kernel that show it."""
    under = [clean] if clean else reversed(COMPARED)
    found = next((name for name in under if not shows(replace(cell, kernel=name))), "")
    if not found:
        if clean:
            raise UsageError(f"{clean} shows the cause too", "choose another with --clean")
        return "", ()
    theirs, ours = resolve(found).settings, resolve(cell.kernel).settings
    differing = [f"{n}={ours[n].value}" for n in ours if ours[n].value != theirs[n].value]

    def having(switches: Sequence[str]) -> Cell:
        return replace(cell, kernel=resolve(",".join([found, *switches])).name)

    if not shows(having(differing)):  # it is judged by another intent there
        return found, ()
    return found, tuple(least(differing, lambda some: shows(having(some))))
