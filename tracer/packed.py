"""Files that are packed by gzip, zstd, xz, lz4 or bzip2: kernels, and what recorders wrote."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

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
            except (OSError, EOFError, ValueError, *_ERRORS) as error:
                raise Damaged(f"{path} is damaged: {error}") from error
    return data


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


_ERRORS: Final = (zlib.error, lzma.LZMAError, pa.ArrowException)
_PACKERS: Final[dict[bytes, Callable[[bytes], bytes]]] = {
    b"\x1f\x8b": _gunzip,
    b"\x28\xb5\x2f\xfd": _unzstd,
    b"\xfd7zXZ\0": lzma.decompress,
    b"\x04\x22\x4d\x18": _unlz4,
    b"BZh": bz2.decompress,
}
