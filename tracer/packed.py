"""Files that are packed by gzip, zstd or xz: kernels, and what recorders wrote."""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pyarrow as pa

from shstk.schemas.errors import ShstkError


class Damaged(ShstkError):
    """A packed file can't be unpacked; `what` names it."""


def unpacked(path: Path, data: bytes) -> bytes:
    """The data, or what is packed in it. path: for the message. Raises Damaged."""
    for magic, unpack in _PACKERS.items():
        if data.startswith(magic):
            try:
                return unpack(data)
            except (OSError, zlib.error, lzma.LZMAError, pa.ArrowException) as error:
                raise Damaged(f"{path} is damaged: {error}") from error
    return data


def _unzstd(data: bytes) -> bytes:
    with pa.input_stream(pa.BufferReader(data), compression="zstd") as stream:
        unpacked: bytes = stream.read()
        return unpacked


def _gunzip(data: bytes) -> bytes:
    return zlib.decompressobj(wbits=31).decompress(data)  # what follows the stream is ignored


_PACKERS: Final[dict[bytes, Callable[[bytes], bytes]]] = {
    b"\x1f\x8b": _gunzip,
    b"\x28\xb5\x2f\xfd": _unzstd,
    b"\xfd7zXZ\0": lzma.decompress,
}
