"""The initramfs that QEMU gives the kernel: a newc cpio."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shstk.tracer.realkernel.image import BadImage

INIT: Final = "/.shstk/init"
_START: Final = "/.shstk/start"
_STDIN: Final = "/.shstk/stdin"
_STRINGS: Final = 64 << 10  # of init.c
_MOST: Final = 4096
_DEVICES: Final = (
    ("console", 5, 1),
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
)


@dataclass(frozen=True)
class Job:
    """What init is to start."""

    program: str  # path in the guest
    argv: tuple[str, ...]
    environ: tuple[str, ...] = ()
    cwd: str = "/"
    stdin: bytes = b""
    uid: int = 1000
    pids_max: int | None = None

    def start_file(self) -> bytes:
        """Raises BadImage: it doesn't fit."""
        words = (self.cwd, self.program, *self.argv, *self.environ)
        text = b"".join(os.fsencode(word) + b"\0" for word in words)
        if len(text) > _STRINGS or max(len(self.argv), len(self.environ)) > _MOST:
            raise BadImage(
                "the arguments and the environment are too long to be handed to a real kernel",
                f"they may have {_STRINGS} bytes together, and {_MOST} words each",
            )
        return (
            struct.pack("<4I", len(self.argv), len(self.environ), self.uid, self.pids_max or 0)
            + text
        )


def build(
    job: Job,
    files: Iterable[tuple[str, bytes]] = (),
    root: Path | None = None,
    binds: Iterable[tuple[str | Path, str, bool]] = (),
) -> bytes:
    """The archive: what is below `root`, with `binds` (path on the host, path in the guest, is
    writable) and `files` (path in the guest, bytes), which are executable. Raises OSError,
    BadImage."""
    archive = _Archive()
    for name in ("dev", "proc", "tmp"):
        archive.directory(name, 0o1777 if name == "tmp" else 0o755)
    for name, major, minor in _DEVICES:
        archive.add(f"dev/{name}", stat.S_IFCHR | 0o666, device=(major, minor))
    if root is not None:
        archive.tree(root, "")
    for host, guest, _ in binds:
        archive.bind(Path(host), guest)
    for path, data in files:
        archive.file(path, data, 0o755)
    archive.file(INIT, Path(__file__).with_name("init.elf").read_bytes(), 0o755)
    archive.file(_START, job.start_file(), 0o644)
    archive.file(_STDIN, job.stdin, 0o644)
    return archive.end()


class _Archive:
    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._names: set[str] = set()

    def add(
        self, name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)
    ) -> None:
        self._names.add(name)
        number = len(self._parts) + 1
        links = 2 if stat.S_ISDIR(mode) else 1
        encoded = os.fsencode(name) + b"\0"
        fields = (number, mode, 0, 0, links, 0, len(data), 0, 0, *device, len(encoded), 0)
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
        self._parts.append(_padded(head) + _padded(data))

    def directory(self, name: str, mode: int) -> None:
        if name not in self._names:
            self.add(name, stat.S_IFDIR | mode)

    def parents(self, name: str) -> None:
        """The directories that `name` lies in."""
        parts = name.split("/")
        for depth in range(1, len(parts)):
            self.directory("/".join(parts[:depth]), 0o755)

    def file(self, path: str, data: bytes, mode: int) -> None:
        """With the directories that it lies in; one that is there already is replaced."""
        name = path.strip("/")
        self.parents(name)
        self.add(name, stat.S_IFREG | mode, data)

    def bind(self, host: Path, guest: str) -> None:
        if host.is_dir():
            self.tree(host, guest.strip("/") + "/")
        else:
            self.file(guest, host.read_bytes(), stat.S_IMODE(host.stat().st_mode))

    def tree(self, root: Path, under: str) -> None:
        self.parents(under)
        for path in _below(root):
            name = under + os.fsdecode(os.path.relpath(path, root))
            mode = path.lstat().st_mode
            if stat.S_ISDIR(mode):
                self.directory(name, stat.S_IMODE(mode) | 0o700)
            elif stat.S_ISLNK(mode):
                self.add(name, mode, os.fsencode(path.readlink()))
            elif stat.S_ISREG(mode):
                self.add(name, mode, path.read_bytes())

    def end(self) -> bytes:
        self.add("TRAILER!!!", 0)
        return b"".join(self._parts)


def _below(root: Path) -> Iterator[Path]:
    """Everything below a directory, each directory before what is in it, sorted: the same tree
    gives the same bytes."""
    for path in sorted(root.iterdir()):
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _below(path)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
