"""Rows that go to disk while a recording is read, so that it may be larger than memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from shstk.tracer.importers.rows import BATCH, Positions, Row, packed
from shstk.tracer.importers.seal import About, manifest_of
from shstk.tracer.recording.rundir import Partial


class Stream(Positions):
    """Whole rows only. Those of the executor's tables come in order; others may be late, as a
    call's, which is known at its end. A context: what was written is removed unless it is sealed.
    """

    def __init__(self, out: Path, force: bool) -> None:
        """Raises CannotWrite."""
        super().__init__()
        self._partial = Partial.create(out, force)
        self._force = force
        self._waiting: dict[str, list[Row]] = {}
        self.counts: Counter[str] = Counter()  # rows, by table

    def put(self, table: str, **columns: Any) -> None:
        """Raises BadRecording, CannotWrite."""
        rows = self._waiting.setdefault(table, [])
        rows.append(columns)
        if len(rows) >= BATCH:
            self._flush(table)

    def _flush(self, table: str) -> None:
        rows = self._waiting.pop(table)
        self._partial.append(table, packed(table, rows))
        self.counts[table] += len(rows)

    def seal(self, about: About, files: Iterable[bytes] = ()) -> Path:
        """Write the run. files: the bytes of its inputs. Raises UsageError (about.kernel),
        BadRecording, CannotWrite."""
        manifest = manifest_of(about, self.icount)
        for table in list(self._waiting):
            self._flush(table)
        for data in files:
            self._partial.add_file(data)
        self._partial.close_streams()
        return self._partial.seal(manifest, self.counts, self._force)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: object, __: TracebackType | None
    ) -> None:
        if kind is not None and self._partial.path.exists():
            self._partial.discard()
