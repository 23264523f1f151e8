"""Digests of what a cell depends on: the contents of files and trees, and the tool itself."""

from __future__ import annotations

import hashlib
import os
import stat
from functools import cache
from pathlib import Path

from shstk import replay, schemas, tracer
from shstk.corpus.cell import Subject
from shstk.corpus.image import Image
from shstk.tracer import _core
from shstk.tracer.realkernel import qemu
from shstk.tracer.realkernel.build import SOURCES


def contents(program: Path, stdin: Path | None, root: Path | None, binds: tuple[Path, ...]) -> str:
    """The digest of a subject's inputs. program: its file on the host. Raises OSError."""
    whole = hashlib.sha256(_file(program, _stamp(program)).encode())
    for path in (stdin, root, *binds):
        whole.update(b"\0" + (digest(path).encode() if path is not None else b"-"))
    return whole.hexdigest()


def contents_of(subject: Subject) -> str:
    """What `contents` of a subject should be now."""
    root = Path(subject.root) if subject.root else None
    program = root / subject.program.lstrip("/") if root else Path(subject.program)
    stdin = Path(subject.stdin) if subject.stdin else None
    return contents(program, stdin, root, tuple(Path(host) for host, _ in subject.binds))


def contents_of_image(image: Image) -> str:
    """What `contents` of an image should be now. Raises NoQemu and OSError."""
    whole = hashlib.sha256(qemu.find(image.qemu).name.encode())
    for path in image.paths:
        whole.update(b"\0" + (digest(Path(path)).encode() if path else b"-"))
    return whole.hexdigest()


@cache
def tool_build() -> str:
    """The digest of the code that records and judges. A machine that compiled the C++ part with
    another compiler has another."""
    whole = hashlib.sha256(Path(_core.__file__ or "").read_bytes())
    for package in (schemas, tracer, replay):
        for folder in package.__path__:
            for file in sorted(Path(folder).rglob("*.py")):
                whole.update(f"\0{file.relative_to(folder)}\0".encode() + file.read_bytes())
    for file in sorted((*SOURCES.glob("*.[ch]"), *SOURCES.parent.glob("*.elf"))):
        whole.update(f"\0{file.name}\0".encode() + file.read_bytes())  # QEMU's plugin, and init
    return whole.hexdigest()[:16]


def digest(path: Path) -> str:
    """Of a file or a tree. Raises OSError."""
    return _tree(path) if path.is_dir() else _file(path, _stamp(path))


@cache
def _tree(folder: Path) -> str:
    """Names, permissions, bytes, and where links point; a tree is read once in a process."""
    whole = hashlib.sha256()
    for place, names, files in os.walk(folder):
        names.sort()
        for name in sorted([*names, *files]):
            path = Path(place) / name
            mode = path.lstat().st_mode
            whole.update(f"\0{path.relative_to(folder)}\0{mode:o}\0".encode(errors="replace"))
            if stat.S_ISLNK(mode):
                whole.update(os.readlink(path).encode(errors="replace"))
            elif stat.S_ISREG(mode):
                whole.update(_file(path, _stamp(path)).encode())
    return whole.hexdigest()


def _stamp(path: Path) -> tuple[int, ...]:
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


@cache
def _file(path: Path, stamp: tuple[int, ...]) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
