"""Files that are packed by gzip, zstd, xz, lz4 or bzip2: kernels, and what recorders wrote."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from shstk.schemas.errors import ShstkError


class Damaged(ShstkError):
    """A packed file can't be unpacked; `what` names it."""


def is_packed(head: bytes) -> bool:
    """Whether a file that begins so is packed. head: at least 6 bytes."""
    return head.startswith(tuple(_PACKERS))


def unpacked(path: Path, data: bytes) -> bytes:
    """The data, or what is packed in it. path: for the message. Raises Damaged."""
    for magic, unpack in _PACKERS.items():
        if data.startswith(magic):
            try:
                return unpack(data)
            except (OSError, *ERRORS) as error:
                raise Damaged(f"{path} is damaged: {error}") from error
    return data


def opened(path: Path) -> Any:
    """The file, or what is packed in it, as a binary file. Raises OSError; reading, also ERRORS."""
    with path.open("rb") as file:
        head = file.read(6)
    for magic, unpack in _OPENERS.items():
        if head.startswith(magic):
            return unpack(path)
    return path.open("rb")


def _piped(codec: str, path: Path) -> io.BufferedReader:
    return io.BufferedReader(pa.input_stream(str(path), compression=codec))


def _unzstd(data: bytes) -> bytes:
    return _streamed(data, "zstd")


def _unlz4(data: bytes) -> bytes:
    return _streamed(data, "lz4")


def _streamed(data: bytes, codec: str) -> bytes:
    with pa.input_stream(pa.BufferReader(data), compression=codec) as stream:
        unpacked: bytes = stream.read()
        return unpacked


def _gunzip(data: bytes) -> bytes:
    return zlib.decompressobj(wbits=31).decompress(data)  # what follows the stream is ignored


ERRORS: Final = (EOFError, ValueError, zlib.error, lzma.LZMAError, pa.ArrowException)
_OPENERS: Final[dict[bytes, Callable[[Path], Any]]] = {
    b"\x1f\x8b": gzip.open,
    b"\x28\xb5\x2f\xfd": partial(_piped, "zstd"),
    b"\xfd7zXZ\0": lzma.open,
    b"\x04\x22\x4d\x18": partial(_piped, "lz4"),
    b"BZh": bz2.open,
}
_PACKERS: Final[dict[bytes, Callable[[bytes], bytes]]] = {
    b"\x1f\x8b": _gunzip,
    b"\x28\xb5\x2f\xfd": _unzstd,
    b"\xfd7zXZ\0": lzma.decompress,
    b"\x04\x22\x4d\x18": _unlz4,
    b"BZh": bz2.decompress,
}
