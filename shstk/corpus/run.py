"""A campaign's cells executed: those that are not done yet, committed in batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from shstk.corpus.campaign import HostLimits
from shstk.corpus.cell import Cell
from shstk.corpus.contents import tool_build
from shstk.corpus.execute import Job
from shstk.corpus.pool import Done, pool
from shstk.corpus.rows import FAILED
from shstk.corpus.store import Store

Work: TypeAlias = Callable[[Iterable[Job]], Iterator[Done]]

_BATCH: Final = 256  # rows
_SECONDS: Final = 2.0  # after which a smaller batch is committed


@dataclass(frozen=True)
class Keeping:
    """Which runs are kept: all, findings or none; and how many bytes of them."""

    which: str = "none"
    most: int = 1 << 30


@dataclass
class Progress:
    """failed: cells that have no results. found: cells with findings."""

    total: int
    done: int = 0
    executed: int = 0
    failed: int = 0
    found: int = 0

    def add(self, row: Mapping[str, Any]) -> None:
        self.done += 1
        self.executed += 1
        self.failed += row["outcome"] != "finished"
        self.found += row["causes"] > 0


def on_this_machine(workers: int, limits: HostLimits) -> Work:
    """Execute the cells in `workers` processes."""

    def work(jobs: Iterable[Job]) -> Iterator[Done]:
        with pool(workers, limits) as processes:
            yield from processes.work(jobs)

    return work


def keyed(cells: list[Cell]) -> dict[str, Cell]:
    """The cells by key, each once."""
    build = tool_build()
    return {cell.key(build): cell for cell in cells}


def run(
    cells: list[Cell],
    store: Store,
    *,
    work: Work,
    keeping: Keeping,
    retry: bool = False,
    part: slice = slice(None),
    kept: Store | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Execute the cells that are not in the store yet, and make all of them its plan.

    work: what executes them, and yields the result of each. retry: execute those again that
    failed. part: of the cells, which is all that is executed. kept: a store whose kept runs are
    judged instead of executing them again. What was done when this is interrupted, stays done.
    Raises CannotWrite.
    """
    plan = keyed(cells)
    store.write_plan(list(plan.values()), list(plan))
    done = store.done()
    again = {None, *(FAILED if retry else ())}
    mine = list(plan.items())[part]
    todo = {key: cell for key, cell in mine if done.get(key) in again}
    jobs = [
        Job(cell, key, kept.kept(cell.run) if kept else None, keeping.which)
        for key, cell in todo.items()
    ]
    progress = Progress(len(mine), done=len(mine) - len(todo))
    on_progress(progress)
    batch: list[dict[str, Any]] = []
    bytes_left = keeping.most - (store.kept_bytes() if keeping.which != "none" else 0)
    since = time.monotonic()
    try:
        for row, path in work(jobs):
            if path is not None and row["bytes"] <= bytes_left:
                store.keep(path)
                bytes_left -= row["bytes"]
            batch.append(row)
            progress.add(row)
            on_progress(progress)
            if len(batch) >= _BATCH or time.monotonic() - since >= _SECONDS:
                store.commit(batch)
                batch, since = [], time.monotonic()
    finally:
        store.commit(batch)
    return progress
