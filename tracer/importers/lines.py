"""The lines of a text that a recorder wrote, which may be packed, and larger than memory."""

from __future__ import annotations

import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from shstk.schemas.errors import BadRecording

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
            with _opened(self.path) as file:
                yield from self._read(file)
        except OSError as error:
            raise BadRecording(f"{self.path}: {error.strerror or error}") from error
        except (EOFError, zlib.error, lzma.LZMAError, pa.ArrowException) as error:
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


def _opened(path: Path) -> Any:
    with path.open("rb") as file:
        head = file.read(6)
    for magic, unpacking in _PACKERS.items():
        if head.startswith(magic):
            return unpacking(path)
    return path.open("rb")


def _zstd(path: Path) -> io.BufferedReader:
    return io.BufferedReader(pa.input_stream(str(path), compression="zstd"))


_PACKERS: Final[dict[bytes, Callable[[Path], Any]]] = {
    b"\x1f\x8b": gzip.open,
    b"\x28\xb5\x2f\xfd": _zstd,
    b"\xfd7zXZ\0": lzma.open,
}
