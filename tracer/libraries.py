"""Finds the libraries of a program as ld.so(8) does, without running it.

The order is that of glibc: LD_LIBRARY_PATH, DT_RUNPATH of the object that needs the library,
/etc/ld.so.cache, the default directories.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from shstk.tracer import elf

DIRECTORIES: Final = ("/lib/riscv64-linux-gnu", "/usr/lib/riscv64-linux-gnu", "/lib", "/usr/lib")
CACHE: Final = "/etc/ld.so.cache"
_MAGIC: Final = b"glibc-ld.so.cache1.1"
_HEADER: Final = struct.Struct("<20sII20x")  # magic, entries, bytes of strings
_ENTRY: Final = struct.Struct("<iIIIQ")  # flags, name, path (offsets in the file), OS, hwcap

Read = Callable[[str], bytes | None]


def needed(
    program: str, data: bytes, environ: Mapping[str, str], read: Read
) -> Iterator[tuple[str, bytes | None]]:
    """(path, bytes) of every library that a program loads, once each; (name, None) for a library
    that is not found.

    read: the bytes of a file in the guest, None if there is none.
    """
    cache = read_cache(read(CACHE) or b"")
    everywhere = environ.get("LD_LIBRARY_PATH", "").replace(";", ":").split(":")
    preloaded = environ.get("LD_PRELOAD", "").replace(":", " ").split()
    waiting = [(program, data)]
    known = set()
    while waiting:
        asker, image = waiting.pop()
        names, runpath = elf.dynamic(image)
        origin = asker.rpartition("/")[0]
        for name in (*preloaded, *names):
            if name in known:
                continue
            known.add(name)
            folders = [f.replace("${ORIGIN}", "$ORIGIN") for f in (*everywhere, *runpath) if f]
            paths = [f"{f.replace('$ORIGIN', origin)}/{name}" for f in folders]
            paths += cache.get(name, []) + [f"{f}/{name}" for f in DIRECTORIES]
            for path in [name] if "/" in name else paths:
                if (found := read(path)) is not None:
                    waiting.append((path, found))
                    yield path, found
                    break
            else:
                yield name, None


def read_cache(data: bytes) -> dict[str, list[str]]:
    """ld.so.cache in its new format: name -> paths. Empty for anything else."""
    found: dict[str, list[str]] = {}
    if len(data) < _HEADER.size or not data.startswith(_MAGIC):
        return found
    _, count, _ = _HEADER.unpack_from(data)
    room = (len(data) - _HEADER.size) // _ENTRY.size
    for i in range(min(count, room)):
        _, name, path, _, _ = _ENTRY.unpack_from(data, _HEADER.size + i * _ENTRY.size)
        found.setdefault(_string(data, name), []).append(_string(data, path))
    return found


def _string(data: bytes, at: int) -> str:
    return data[at : data.find(b"\0", at)].decode("utf-8", "surrogateescape")
