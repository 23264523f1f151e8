"""Many schedules of one program: each seed is recorded, judged and deleted."""

from __future__ import annotations

import hashlib
import multiprocessing
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

from shstk.replay.check import Report, check
from shstk.replay.ending import Ending
from shstk.replay.rules.outcome import Result, Rule
from shstk.replay.rules.own import catalogue
from shstk.replay.run import Run
from shstk.schemas.errors import ShstkError
from shstk.schemas.tables import MAX_SIZE
from shstk.tracer.guest import set_up
from shstk.tracer.options import GuestOptions
from shstk.tracer.record import record_guest

_CTRL_C: Final = 0.2  # seconds in which a Ctrl-C reaches all processes of the terminal


@dataclass(frozen=True)
class Judging:
    """How to judge each run: the arguments of `shstk.check`."""

    expect: str = "intent"
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    rules_from: tuple[Path, ...] = ()
    as_: str | None = None

    def __call__(self, run: Run) -> Report:
        """The report on a run."""
        return check(
            run,
            expect=self.expect,
            as_=self.as_,
            select=self.select,
            ignore=self.ignore,
            rules=_rules(self.rules_from),
        )


@dataclass(frozen=True)
class Tried:
    """The outcome of one seed.

    ending: in a few words; died: where, if it did not exit. failed: a signal killed the program, or
    it deadlocked. schedule, output: hashes; equal hashes mean that the tasks were scheduled alike,
    or that the program wrote the same bytes. violated: the results of the violated rules.
    """

    seed: int
    ending: str
    died: Ending | None
    failed: bool
    schedule: str
    output: str
    violated: tuple[Result, ...]

    @property
    def found(self) -> bool:
        return self.failed or bool(self.violated)


def explore(
    options: GuestOptions,
    seeds: range,
    judging: Judging,
    jobs: int = 1,
    max_size: int | None = MAX_SIZE,
) -> Iterator[Tried]:
    """Yield a Tried for each seed, in the order of `seeds`; later seeds are run only on demand.

    options: of the guest; its own seed is not used. jobs: runs at a time, each in a process.
    """  # fmt: skip
    _rules(judging.rules_from)  # what a process sends back refers to their modules
    if jobs == 1:
        for seed in seeds:
            yield attempt(replace(options, seed=seed), judging, max_size)
        return
    # Spawn, because the threads of Polars do not survive a fork.
    pool = ProcessPoolExecutor(
        jobs, multiprocessing.get_context("spawn"), initializer=_let_ctrl_c_end_it
    )
    try:
        ahead = (_submit(pool, replace(options, seed=seed), judging, max_size) for seed in seeds)
        waiting: list[Future[Tried]] = list(islice(ahead, 2 * jobs))
        while waiting:
            yield waiting.pop(0).result()
            waiting += islice(ahead, 1)
    except BrokenProcessPool as error:
        time.sleep(_CTRL_C)  # the terminal interrupts this process too: it ends here
        raise ShstkError(
            "a process that ran a seed was killed", "memory may have run out: try --jobs 1"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def attempt(options: GuestOptions, judging: Judging, max_size: int | None = MAX_SIZE) -> Tried:
    """Record and judge one seed."""
    with tempfile.TemporaryDirectory(prefix="shstk-explore-") as scratch:
        out = Path(scratch) / "seed.run"
        result = record_guest(
            partial(set_up, options), out, trace=("cfi",), force=False, max_size=max_size
        )
        run = Run.open(out, verify=False)
        report = judging(run)
        return Tried(
            seed=options.seed,
            ending=result.describe(),
            died=report.ended,
            failed=result.ending in ("killed", "deadlock"),
            schedule=_values(run, "sched"),
            output=written(run),
            violated=tuple(report.of("violated")),
        )


@cache
def _rules(files: tuple[Path, ...]) -> dict[str, Rule]:
    return catalogue(files)


def _submit(
    pool: ProcessPoolExecutor, options: GuestOptions, judging: Judging, max_size: int | None
) -> Future[Tried]:
    """A process that this starts inherits the signal mask: Ctrl-C waits for its initializer."""
    with _ctrl_c_waits():
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return pool.submit(attempt, options, judging, max_size)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


@contextmanager
def _ctrl_c_waits() -> Iterator[None]:
    """Raises the KeyboardInterrupt at the end. The signal mask of one thread is not enough: the
    kernel may deliver SIGINT to another thread, and Python runs its handler in the main one."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pending: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, _: pending.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if pending:
        raise KeyboardInterrupt


def _let_ctrl_c_end_it() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _values(run: Run, table: str) -> str:
    entry = run.manifest.tables.get(table)
    return entry.content_sha256 if entry else ""


def written(run: Run) -> str:
    """Hashes of the bytes written to each descriptor, however they were split into writes."""
    wrote: dict[int, Any] = {}
    for fd, data in run.table("output").select("fd", "bytes").iter_rows():
        wrote.setdefault(fd, hashlib.sha256()).update(data)
    return " ".join(f"{fd}:{wrote[fd].hexdigest()}" for fd in sorted(wrote))
