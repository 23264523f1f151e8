"""Workers, and what becomes of a cell whose worker hangs or dies."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

from shstk.corpus import worker
from shstk.corpus.campaign import HostLimits
from shstk.corpus.execute import Job, row_of
from shstk.schemas.errors import CannotWrite, ShstkError

_ATTEMPTS: Final = 3  # the kernel may have killed a worker for what another one took
# Cells after which a worker is replaced. Its objects do not grow, but what the allocators of polars
# and pyarrow hold does: 60 MiB in 5,000 cells. A start costs what a few cells cost.
_RENEWED: Final = 1000
_STARTS: Final = 10  # in a row that may fail
_WORDS: Final = 200  # characters of a worker's last line
_REFUSED: Final = ("std::bad_alloc", "memory allocation of", "MemoryError")
_PREFIX: Final = "shstk-corpus-"


class Done(NamedTuple):
    """The row of a cell, and its run, if it is to be kept; it is deleted after that."""

    row: dict[str, Any]
    run: Path | None


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    pipe: Connection
    scratch: Path
    confined: bool
    ready: bool = False
    cells: int = 0
    job: Job | None = None
    deadline: float = field(default=float("inf"))


class Pool:
    """Processes that execute cells, each within the limits. They stay for the next `work`."""

    def __init__(self, base: Path, workers: int, limits: HostLimits, renewed: int) -> None:
        """base: a folder for the runs. renewed: cells after which a worker is replaced."""
        self._base, self._most, self._limits, self._renewed = base, workers, limits, renewed
        self._names, self._workers = count(), list[_Worker]()

    def work(self, jobs: Iterable[Job]) -> Iterator[Done]:
        """Execute jobs, and yield the result of each, in the order in which they end."""
        todo, attempts, stillborn = deque(jobs), dict[str, int](), 0
        while todo or any(one.job for one in self._workers):
            self._hand_out(todo)
            for one in self._waited_for():
                result = _result(one)
                if isinstance(result, Done):
                    yield result
                    if result.run is not None:
                        shutil.rmtree(result.run, ignore_errors=True)
                elif result is not None:
                    self._workers.remove(one)
                    stillborn = 0 if one.ready else stillborn + 1
                    if stillborn == _STARTS:
                        how = "ran out of memory" if result == "memory" else result
                        raise ShstkError(
                            f"a worker {how} before it began, {_STARTS} times",
                            "limits.memory may be too small",
                        )
                    if one.job is None:
                        continue
                    key = one.job.key
                    attempts[key] = attempts.get(key, 0) + 1
                    if result in ("timeout", "memory"):
                        yield Done(row_of(one.job, result), None)
                    elif attempts[key] < _ATTEMPTS:
                        todo.appendleft(one.job)
                    else:
                        yield Done(row_of(one.job, "died", result), None)

    def close(self) -> None:
        for one in self._workers:
            _end(one)
        self._workers.clear()

    def _hand_out(self, todo: deque[Job]) -> None:
        for one in [one for one in self._workers if one.cells >= self._renewed and not one.job]:
            self._workers.remove(one)
            _end(one)
        busy = sum(one.job is not None for one in self._workers)
        while len(self._workers) < min(self._most, busy + len(todo)):
            self._start(todo)
        for one in list(self._workers):
            if one.confined and one.job is None and todo and todo[0].cell.image:
                self._workers.remove(one)
                _end(one)
                self._start(todo)
            elif one.ready and one.job is None and todo:
                one.job = todo.popleft()
                one.deadline = time.monotonic() + self._limits.seconds
                with suppress(OSError):  # it has died: its pipe's end tells
                    one.pipe.send(one.job)

    def _start(self, todo: Iterable[Job]) -> None:
        """A worker for these jobs. One that boots Images is not confined: QEMU is the wall."""
        confined = not any(job.cell.image for job in todo)
        scratch = self._base / str(next(self._names))
        self._workers.append(_started(scratch, self._limits, confined))

    def _waited_for(self) -> list[_Worker]:
        """All workers, after one of them has something to tell, or has reached its deadline."""
        nearest = min((one.deadline for one in self._workers), default=float("inf"))
        wait([one.pipe for one in self._workers], max(0.0, min(nearest - time.monotonic(), 60.0)))
        return list(self._workers)


@contextmanager
def pool(workers: int, limits: HostLimits, renewed: int = _RENEWED) -> Iterator[Pool]:
    """A pool that ends with the block."""
    with _scratch() as base:
        made = Pool(base, workers, limits, renewed)
        try:
            yield made
        finally:
            made.close()


def _started(scratch: Path, limits: HostLimits, confined: bool) -> _Worker:
    """Not by multiprocessing: its children import the main module again, which may be Ray's."""
    scratch.mkdir()
    ours, its = Pipe()
    command = [sys.executable, "-P", "-m", worker.__name__]
    command += [str(its.fileno()), str(scratch), str(limits.memory)]
    command += ["confined"] if confined else ["free"]
    # Ctrl-C reaches the worker too, which inherits this mask.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with _last_words(scratch).open("wb") as words:
            process = subprocess.Popen(
                command,
                pass_fds=(its.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=words,
            )
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    its.close()  # so that the pipe ends with the worker
    return _Worker(process, ours, scratch, confined)


def _result(one: _Worker) -> Done | str | None:
    """What a worker has to tell; how it ended, if it did; None if it is at work, or idle."""
    try:
        if one.pipe.poll():
            row = one.pipe.recv()
            one.ready = True
            if row is None:
                return None
            one.job, one.deadline = None, float("inf")
            one.cells += 1
            run = one.scratch / f"{row['run']}.run"
            return Done(row, run if run.is_dir() else None)
    except (EOFError, ConnectionResetError):
        with suppress(subprocess.TimeoutExpired):  # its pipe ended a little before
            one.process.wait(1)
        how = _how(one)
        _end(one)
        return how
    if time.monotonic() < one.deadline:
        return None
    _end(one)
    return "timeout"


def _end(one: _Worker) -> None:
    one.process.kill()
    one.process.wait()
    one.pipe.close()
    shutil.rmtree(one.scratch, ignore_errors=True)
    _last_words(one.scratch).unlink(missing_ok=True)


def _how(one: _Worker) -> str:
    """How a worker ended: `memory`, if C++ or Rust was refused memory and gave up."""
    words = _last_words(one.scratch).read_text(errors="replace").strip()
    if any(refused in words for refused in _REFUSED):
        return "memory"
    code = one.process.returncode or 0
    try:
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
    except ValueError:
        how = f"was killed by signal {-code}"
    last = words.rpartition("\n")[2].strip()
    return f"{how}: {last[:_WORDS]}" if last else how


def _last_words(scratch: Path) -> Path:
    """What a worker wrote to stderr."""
    return scratch.with_suffix(".stderr")


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder for the runs, which is removed in the end."""
    _swept()
    with tempfile.TemporaryDirectory(prefix=_PREFIX, ignore_cleanup_errors=True) as made:
        base = Path(made)
        with (base / "lock.new").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            (base / "lock.new").rename(base / "lock")
            yield base


@contextmanager
def shared(name: str) -> Iterator[Path]:
    """A folder that processes of this machine share. It is removed after the last has ended."""
    folder = Path(tempfile.gettempdir()) / f"{_PREFIX}{os.getuid()}-{name}"
    while (lock := _held(folder)) is None:
        pass
    with lock:
        yield folder
    _swept()


def _held(folder: Path) -> BinaryIO | None:
    """The lock of a shared folder; None if a process that was the last has just removed it."""
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise CannotWrite(f"{folder} is another user's")
    try:
        lock = (folder / "lock").open("ab")
        fcntl.flock(lock, fcntl.LOCK_SH)
        if os.path.samestat(os.fstat(lock.fileno()), (folder / "lock").stat()):
            return lock
        lock.close()
    except FileNotFoundError:
        pass
    return None


def _swept() -> None:
    """Remove the folders whose processes have ended: nobody holds their lock."""
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        try:
            with (left / "lock").open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
        except OSError:
            continue  # it is in use, another user's, or just being made
