"""The bytes of a kernel, as QEMU boots it: a raw Image, taken out of whatever it is packed in."""

from __future__ import annotations

import hashlib
import re
import struct
from pathlib import Path
from typing import Final

from shstk.schemas.errors import ShstkError
from shstk.tracer.packed import unpacked

_RISCV: Final = (0x30, b"RISCV\0\0\0")  # magic of Documentation/arch/riscv/boot-image-header.rst
_BANNER: Final = re.compile(rb"Linux version [0-9]+\.[0-9]+[^\0\n]{10,400}")
_ZIMG: Final = struct.Struct("<4x4sII8x32s")  # EFI_ZBOOT: magic, payload's offset and size, packer


class BadImage(ShstkError):
    """A kernel can't be read, or can't be recorded; `what` names the file."""


def read(path: Path) -> bytes:
    """The raw Image. Raises BadImage, Damaged."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadImage(
            f"{path}: {error.strerror or error}", "give the Image of a kernel"
        ) from error
    data = unpacked(path, _payload(data))
    at, magic = _RISCV
    if data[at : at + len(magic)] != magic:
        what = "an ELF file" if data.startswith(b"\x7fELF") else "not an Image of a riscv64 kernel"
        raise BadImage(
            f"{path} is {what}",
            "give arch/riscv/boot/Image (or vmlinuz of a riscv64 package), also packed by gzip,"
            " zstd or xz; a vmlinux goes to --vmlinux",
        )
    return data


def _payload(data: bytes) -> bytes:
    """What an EFI_ZBOOT image has packed, or the data."""
    if len(data) < _ZIMG.size or data[:2] != b"MZ" or data[4:8] != b"zimg":
        return data
    _, offset, size, _ = _ZIMG.unpack_from(data)
    return data[offset : offset + size]


def banner(image: bytes) -> str:
    """linux_banner, as `uname -a` and the console show it; empty if there is none."""
    found = _BANNER.search(image)
    return found[0].decode("ascii", "replace").strip() if found else ""


def sha256(image: bytes) -> str:
    return hashlib.sha256(image).hexdigest()
