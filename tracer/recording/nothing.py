"""The recorder of a guest that is executed and not recorded. It loads no Arrow."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from shstk.schemas.tables import TRACED
from shstk.schemas.values import TableRow, Values

if TYPE_CHECKING:
    from shstk.schemas.manifest import Manifest
    from shstk.tracer.recording.recorder import Buffers


class NullRecorder:
    """A recorder that discards everything."""

    keeps = False

    def __init__(self) -> None:
        self.module_of: Callable[[int, int], int | None] = lambda mm, pc: None
        self.open_rows: Callable[[], Iterable[TableRow]] = tuple
        self._inputs: dict[tuple[str, bytes, int], int] = {}

    def begin(self, manifest: Manifest) -> None:
        pass

    def row(self, table: str, /, **columns: Any) -> None:
        pass

    def add(self, table: str, values: Values) -> None:
        pass

    def drain(self, machine: Buffers) -> None:
        for name in TRACED:
            if machine.pending(name):
                machine.drain(name)

    def tick(self, machine: Buffers) -> None:
        pass

    def input(self, guest_path: str, data: bytes, mode: int, seq: int) -> int:
        return self._inputs.setdefault((guest_path, data, mode), len(self._inputs) + 1)

    def file(self, data: bytes) -> str:
        return ""

    def abandon(self, machine: Buffers | None = None) -> None:
        pass
