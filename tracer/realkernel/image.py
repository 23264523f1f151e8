"""The bytes of a kernel, as QEMU boots it: a raw Image, taken out of whatever it is packed in."""

from __future__ import annotations

import hashlib
import lzma
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pyarrow as pa

from shstk.schemas.errors import ShstkError

_RISCV: Final = (0x30, b"RISCV\0\0\0")  # magic of Documentation/arch/riscv/boot-image-header.rst
_BANNER: Final = re.compile(rb"Linux version [0-9]+\.[0-9]+[^\0\n]{10,400}")
_ZIMG: Final = struct.Struct("<4x4sII8x32s")  # EFI_ZBOOT: magic, payload's offset and size, packer


class BadImage(ShstkError):
    """A kernel can't be read, or can't be recorded; `what` names the file."""


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


def read(path: Path) -> bytes:
    """The raw Image. Raises BadImage."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadImage(
            f"{path}: {error.strerror or error}", "give the Image of a kernel"
        ) from error
    data = unpacked(path, data)
    at, magic = _RISCV
    if data[at : at + len(magic)] != magic:
        what = "an ELF file" if data.startswith(b"\x7fELF") else "not an Image of a riscv64 kernel"
        raise BadImage(
            f"{path} is {what}",
            "give arch/riscv/boot/Image (or vmlinuz of a riscv64 package), also packed by gzip,"
            " zstd or xz; a vmlinux goes to --vmlinux",
        )
    return data


def unpacked(path: Path, data: bytes) -> bytes:
    """The data, or what is packed in it. Raises BadImage."""
    if data[:2] == b"MZ" and data[4:8] == b"zimg":
        _, offset, size, _ = _ZIMG.unpack_from(data)
        data = data[offset : offset + size]
    for magic, unpack in _PACKERS.items():
        if data.startswith(magic):
            try:
                return unpack(data)
            except (OSError, zlib.error, lzma.LZMAError, pa.ArrowException) as error:
                raise BadImage(f"{path} is damaged: {error}") from error
    return data


def banner(image: bytes) -> str:
    """linux_banner, as `uname -a` and the console show it; empty if there is none."""
    found = _BANNER.search(image)
    return found[0].decode("ascii", "replace").strip() if found else ""


def sha256(image: bytes) -> str:
    return hashlib.sha256(image).hexdigest()
