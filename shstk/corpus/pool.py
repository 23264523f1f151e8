"""Workers, and what becomes of a cell whose worker hangs or dies."""

from __future__ import annotations

import fcntl
import multiprocessing
import shutil
import signal
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, Final, NamedTuple

from shstk.corpus import worker
from shstk.corpus.campaign import HostLimits
from shstk.corpus.execute import Job, row_of
from shstk.schemas.errors import ShstkError

_ATTEMPTS: Final = 3  # the kernel may have killed a worker for what another one took
_STARTS: Final = 10  # in a row that may fail
_PREFIX: Final = "shstk-corpus-"


class Done(NamedTuple):
    """The row of a cell, and its run, if it is to be kept; it is deleted after that."""

    row: dict[str, Any]
    run: Path | None


@dataclass
class _Worker:
    process: SpawnProcess
    pipe: Connection
    scratch: Path
    ready: bool = False
    job: Job | None = None
    deadline: float = field(default=float("inf"))


def work(jobs: Iterable[Job], workers: int, limits: HostLimits) -> Iterator[Done]:
    """Execute jobs, and yield the result of each, in the order in which they end."""
    todo, attempts = deque(jobs), dict[str, int]()
    with _scratch() as base:
        names, pool, stillborn = count(), list[_Worker](), 0
        try:
            while todo or any(one.job for one in pool):
                busy = sum(one.job is not None for one in pool)
                while len(pool) < min(workers, busy + len(todo)):
                    pool.append(_started(base / str(next(names)), limits))
                for one in pool:
                    if one.ready and one.job is None and todo:
                        one.job = todo.popleft()
                        one.deadline = time.monotonic() + limits.seconds
                        with suppress(OSError):  # it has died: its pipe's end tells
                            one.pipe.send(one.job)
                nearest = min((one.deadline for one in pool), default=float("inf"))
                left = max(0.0, min(nearest - time.monotonic(), 60.0))
                wait([one.pipe for one in pool], left)
                for one in list(pool):
                    result = _result(one)
                    if isinstance(result, Done):
                        yield result
                        if result.run is not None:
                            shutil.rmtree(result.run, ignore_errors=True)
                    elif result is not None:
                        pool.remove(one)
                        stillborn = 0 if one.ready else stillborn + 1
                        if stillborn == _STARTS:
                            raise ShstkError(
                                f"a worker {result} before it began, {_STARTS} times",
                                "limits.memory may be too small",
                            )
                        if one.job is None:
                            continue
                        key = one.job.key
                        attempts[key] = attempts.get(key, 0) + 1
                        if result != "timeout" and attempts[key] < _ATTEMPTS:
                            todo.appendleft(one.job)
                        elif result == "timeout":
                            yield Done(row_of(one.job, result), None)
                        else:
                            yield Done(row_of(one.job, "died", result), None)
        finally:
            for one in pool:
                _end(one)


def _started(scratch: Path, limits: HostLimits) -> _Worker:
    scratch.mkdir()
    context = multiprocessing.get_context("spawn")  # the threads of Polars do not survive a fork
    ours, its = context.Pipe()
    process = context.Process(target=worker.main, args=(its, scratch, limits.memory), daemon=True)
    # It inherits the mask: a Ctrl-C before it ignores SIGINT would print a traceback.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    its.close()  # so that the pipe ends with the worker
    return _Worker(process, ours, scratch)


def _result(one: _Worker) -> Done | str | None:
    """What a worker has to tell; how it ended, if it did; None if it is at work, or idle."""
    try:
        if one.pipe.poll():
            row = one.pipe.recv()
            one.ready = True
            if row is None:
                return None
            one.job, one.deadline = None, float("inf")
            run = one.scratch / f"{row['run']}.run"
            return Done(row, run if run.is_dir() else None)
    except (EOFError, ConnectionResetError):
        one.process.join(1)
        _end(one)
        return _how(one)
    if time.monotonic() < one.deadline:
        return None
    _end(one)
    return "timeout"


def _end(one: _Worker) -> None:
    one.process.kill()
    one.process.join()
    one.pipe.close()
    shutil.rmtree(one.scratch, ignore_errors=True)


def _how(one: _Worker) -> str:
    code = one.process.exitcode or 0
    if code >= 0:
        return f"exited with {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder for the runs. One that a killed driver left is removed: nobody holds its lock."""
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        try:
            with (left / "lock").open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
        except OSError:
            continue  # it is in use, another user's, or just being made
    with tempfile.TemporaryDirectory(prefix=_PREFIX, ignore_cleanup_errors=True) as made:
        base = Path(made)
        with (base / "lock.new").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            (base / "lock.new").rename(base / "lock")
            yield base
