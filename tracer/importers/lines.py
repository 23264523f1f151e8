"""The lines of a text that a recorder wrote, which may be packed, and larger than memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from shstk.schemas.errors import BadRecording
from shstk.tracer.packed import ERRORS, opened

_LONGEST: Final = 1 << 20  # bytes of a line


class Lines:
    """Each line with its number, without its end. Bytes are characters: no text is invalid.

    cut: once all are read, whether the last had no end: its writer was cut off within it, so it is
    left out. Iterating raises BadRecording.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cut = False

    def __iter__(self) -> Iterator[tuple[int, str]]:
        try:
            with opened(self.path) as file:
                yield from self._read(file)
        except OSError as error:
            raise BadRecording(f"{self.path}: {error.strerror or error}") from error
        except ERRORS as error:
            raise BadRecording(f"{self.path} is damaged: {error}") from error

    def _read(self, file: Any) -> Iterator[tuple[int, str]]:
        number = 0
        while line := file.readline(_LONGEST):
            number += 1
            if not line.endswith(b"\n"):
                if len(line) == _LONGEST:
                    raise BadRecording(f"{self.path}:{number}: a line of 1 MiB or more")
                self.cut = True
                return
            yield number, line[:-1].decode("latin-1")
