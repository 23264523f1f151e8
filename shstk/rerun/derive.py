"""Makes the instruction tables that a run does not hold, by executing it again.

All that the run does hold is compared meanwhile: what comes from an execution that differs is not
what happened, and nobody gets to see it.
"""

from __future__ import annotations

import functools
import hashlib
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypedDict, Unpack

from shstk.replay.run import CannotDerive, Run
from shstk.schemas import seq as positions
from shstk.schemas.errors import BadRun, ShstkError
from shstk.schemas.manifest import NAME
from shstk.schemas.tables import DERIVABLE, MAX_SIZE, tables_of
from shstk.tracer.rerun.derived_cache import DerivedCache
from shstk.tracer.rerun.user_cache import user_cache

if TYPE_CHECKING:
    import pyarrow as pa

    from shstk.replay.hold import Hold
    from shstk.tracer.recording.tablefile import TableFile

_KEEP: Final = f"--trace {','.join(DERIVABLE)} keeps them in a run"


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=2)


class Deriving(TypedDict, total=False):
    """How tables are made.

    cache: the directory for those of all runs, if not the user's. on_progress: gets the icount now
    and then. done: called after an execution. warn: gets why tables can't be made. most: bytes of a
    run's tables; more are not made.
    """

    cache: Path | None
    on_progress: Callable[[int], None]
    done: Callable[[], None]
    warn: Callable[[str], None]
    most: int


class Deriver:
    """The `derive` of a run."""

    def __init__(self, **how: Unpack[Deriving]) -> None:
        self._directory = how.get("cache") or user_cache("derived")
        self._on_progress = how.get("on_progress")
        self._done = how.get("done", lambda: None)
        self._warn = how.get("warn", _warn)
        self._most = how.get("most", MAX_SIZE)
        self._caches: dict[Path, DerivedCache] = {}  # each keeps its tables from being removed

    def __call__(self, run: Run, tables: Collection[str]) -> Mapping[str, Path]:
        try:
            return self._tables(run, tables)
        except CannotDerive as error:
            self._warn(f"{run.name}: no {' and '.join(sorted(tables))} rows: {error}")
            raise

    def call_memory(self, run: Run, execute: bool = True) -> Path | None:
        """Rows of kernel_memory with what system calls read and `log` shows; None: there are none,
        or they are not in the cache and `execute` is false. Raises CannotDerive."""
        if not execute and self._cache(run).tables(_calls()) is None:
            return None
        return self._made(run, {_calls()}).get("kernel_memory")

    def _tables(self, run: Run, tables: Collection[str]) -> Mapping[str, Path]:
        return self._made(
            run, {word for word in DERIVABLE for table in tables if table in _tables_of(word)}
        )

    def _made(self, run: Run, words: Collection[str]) -> Mapping[str, Path]:
        cache = self._cache(run)
        made: dict[str, Path] = {}
        lacking = []
        for word in sorted(words):
            if (found := cache.tables(word)) is None:
                lacking.append(word)
            else:
                made |= found
        if lacking:
            if why := cache.why:
                raise CannotDerive(why)
            self._execute(run, lacking, cache)
            for word in lacking:
                made |= cache.tables(word) or {}
        return made

    def _cache(self, run: Run) -> DerivedCache:
        path = run.path
        if path is None:
            raise BadRun(f"{run.name} is in memory only: it cannot be executed")
        if path not in self._caches:
            manifest = (path / NAME).read_bytes()
            self._caches[path] = DerivedCache(self._directory, manifest)
        return self._caches[path]

    def _execute(self, run: Run, words: Sequence[str], cache: DerivedCache) -> None:
        try:
            with cache.work() as work:
                self._write(run, words, work)
                for word in words:
                    cache.add(word, work / word)
        except _Differs as error:
            cache.refuse(str(error))
            raise
        except OSError as error:
            raise CannotDerive(f"they can't be written: {error.strerror or error}") from error
        except MemoryError as error:
            raise CannotDerive("executing the run again takes more memory than there is") from error
        finally:
            self._done()

    def _write(self, run: Run, words: Sequence[str], work: Path) -> None:
        # What is in the cache already is read without loading the tracer.
        from shstk.rerun.call_memory import CallMemory
        from shstk.rerun.compare import replay
        from shstk.tracer.recording.tablefile import TableFile

        files: dict[str, TableFile] = {}
        for word in words:
            (work / word).mkdir()
            for table in _tables_of(word):
                files[table] = TableFile(table, work / word, hashed=False)
        traced = {table: files[table] for table in tables_of(words)}
        watching = [CallMemory(files["kernel_memory"])] if _calls() in words else []
        try:
            result = replay(
                run,
                trace={*words} & {*DERIVABLE},
                plugins=watching,
                sink=lambda hold: _Keeping(hold, traced, self._most),
                on_progress=self._on_progress,
            )
        except (CannotDerive, OSError, MemoryError):
            raise
        except ShstkError as error:
            raise CannotDerive(f"the run can't be executed again: {error.what}") from error
        except Exception as error:
            raise _Differs(
                f"executing the run again fails ({type(error).__name__}: {error}); {_KEEP}"
            ) from error
        if found := result.disagreement:
            at = f"{positions.show(found.at.seq)} ({found.at.table})"
            raise _Differs(f"executed again, the run disagrees at {at}; {_KEEP}")
        for plugin in watching:
            plugin.flush()
        for file in files.values():
            file.finish()


def _tables_of(word: str) -> tuple[str, ...]:
    return ("kernel_memory",) if word == _calls() else tables_of((word,))


@functools.cache
def _calls() -> str:
    """A word besides those of DERIVABLE: what system calls read. What is noted depends on log."""
    log = sorted((Path(__file__).parents[1] / "log").glob("*.py"))
    files = [*log, Path(__file__).with_name("call_memory.py")]
    return "calls-" + hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()[:16]


class _Differs(CannotDerive):
    """It would differ again."""


class _Keeping:
    """A sink that writes the rows of some tables to files, and has the others compared."""

    def __init__(self, hold: Hold, files: Mapping[str, TableFile], most: int) -> None:
        self._hold = hold
        self._files = files
        self._most = most
        self.mark, self.close_streams = hold.mark, hold.close_streams
        self.add_file = hold.add_file

    def append(self, table: str, batch: pa.RecordBatch) -> None:
        if table not in self._files:
            self._hold.append(table, batch)
            return
        self._files[table].append(batch)
        if sum(file.size for file in self._files.values()) > self._most:
            raise CannotDerive(f"they take more than {self._most >> 30} GiB; use a window")
