"""The files that gdb may read of a guest: those it has read or maps, and /proc of its processes.

gdb finds programs, libraries and symbols by vFile:open of guest paths, and `info proc mappings`
reads /proc/PID/maps.
"""

from __future__ import annotations

import os
import posixpath
import stat
import struct
from functools import cached_property
from typing import TYPE_CHECKING, Final

from shstk.gdb.packets import SIZE, escaped
from shstk.schemas.errors import BadRun
from shstk.tracer.kernel.proc.proctext import TASK_TEXTS

if TYPE_CHECKING:
    from shstk.gdb.target import Target
    from shstk.tracer.kernel.task import Task

_ENOENT, _EBADF, _EINVAL, _EROFS = 2, 9, 22, 30  # as in gdb's File-I/O protocol
_WRITES: Final = 3  # O_WRONLY | O_RDWR
_STAT: Final = struct.Struct(">IIIIIIIQQQIII")  # struct stat of that protocol
_REGULAR: Final = 0o100444
_LINKS: Final = 40  # on one path; more are a circle


class Files:
    """Open files by descriptor. Requests and answers are those of vFile packets."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._open: dict[int, bytes] = {}
        self._next = 3

    def answer(self, request: bytes) -> bytes:
        """The reply to vFile:REQUEST; empty for what is not supported."""
        operation, _, text = request.partition(b":")
        words = text.split(b",")
        try:
            match operation:
                case b"setfs":
                    return b"F0"
                case b"open":
                    return self._opened(_path(words[0]), int(words[1], 16))
                case b"pread":
                    fd, count, offset = (int(word, 16) for word in words)
                    return self._read(fd, count, offset)
                case b"fstat":
                    return self._stat(int(words[0], 16))
                case b"close":
                    known = self._open.pop(int(words[0], 16), None) is not None
                    return b"F0" if known else _failed(_EBADF)
                case b"readlink":
                    target = self._link(_path(words[0]))
                    return _failed(_EINVAL) if target is None else _data(target)
                case b"pwrite" | b"unlink":
                    return _failed(_EROFS)
        except (ValueError, IndexError):
            return _failed(_EINVAL)
        return b""

    def _opened(self, path: str, flags: int) -> bytes:
        if flags & _WRITES:
            return _failed(_EROFS)
        data = self._contents(path)
        if data is None:
            return _failed(_ENOENT)
        fd, self._next = self._next, self._next + 1
        self._open[fd] = data
        return b"F%x" % fd

    def _read(self, fd: int, count: int, offset: int) -> bytes:
        if fd not in self._open:
            return _failed(_EBADF)
        return _data(self._open[fd][offset : offset + min(count, SIZE // 2 - 64)])

    def _stat(self, fd: int) -> bytes:
        if fd not in self._open:
            return _failed(_EBADF)
        size = len(self._open[fd])
        blocks = -(-size // 512)
        return _data(_STAT.pack(0, 0, _REGULAR, 1, 0, 0, 0, size, 4096, blocks, 0, 0, 0))

    def _contents(self, path: str) -> bytes | None:
        if path.startswith("/proc/"):
            return self._proc(path)
        path = self._followed(path)
        data = self._mapped(path)
        return self._recorded(path) if data is None else data

    def _mapped(self, path: str) -> bytes | None:
        """A file that a process maps at this place: the guest may have written it itself."""
        for mm in self._target.guest.k.mms.values():
            for vma in mm.vmas:
                if vma.file is not None and vma.file.path == path:
                    return bytes(vma.file.inode.contents())
        return None

    def _recorded(self, path: str) -> bytes | None:
        """A file of the host that the guest has read, earlier or later."""
        sha256, mode = self._inputs.get(path, ("", 0))
        return self._input(sha256) if stat.S_ISREG(mode) else None

    def _followed(self, path: str) -> str:
        """Where a path leads, by the links of the host that the guest has followed."""
        for _ in range(_LINKS):
            names = posixpath.normpath("/" + path.lstrip("/")).split("/")
            for end in range(2, len(names) + 1):
                link = "/".join(names[:end])
                target = self._links.get(link)
                if target is not None:
                    path = posixpath.join(posixpath.dirname(link), target, *names[end:])
                    break
            else:
                return "/".join(names)
        return path

    @cached_property
    def _links(self) -> dict[str, str]:
        links = {}
        for path, (sha256, mode) in self._inputs.items():
            target = self._input(sha256) if stat.S_ISLNK(mode) else None
            if target is not None:
                links[path] = os.fsdecode(target)
        return links

    def _input(self, sha256: str) -> bytes | None:
        try:
            return self._target.run.file(sha256)
        except BadRun:
            return None

    @cached_property
    def _inputs(self) -> dict[str, tuple[str, int]]:
        """Hash and mode by path."""
        rows = self._target.run.table("inputs").select("guest_path", "sha256", "mode").iter_rows()
        return {posixpath.normpath(path): (sha256, mode) for path, sha256, mode in rows}

    def _proc(self, path: str) -> bytes | None:
        """A text of /proc/PID or /proc/PID/task/TID. To read it must not change the guest."""
        task, name = self._in_proc(path)
        if task is None or name not in TASK_TEXTS:
            return None
        mm = task.mm
        peak = mm.rss_peak if mm else 0
        text = TASK_TEXTS[name].write(self._target.guest.k, task)
        if mm:
            mm.rss_peak = peak  # is what was seen when somebody looked
        return text

    def _link(self, path: str) -> bytes | None:
        task, name = self._in_proc(path)
        if task is not None and name == "exe":
            return task.process.exe.encode()
        if task is not None and name == "cwd":
            return task.fs.cwd.path().encode()
        return None

    def _in_proc(self, path: str) -> tuple[Task | None, str]:
        words = path.split("/")[2:]
        if len(words) == 4 and words[1] == "task":
            words = words[2:]
        if len(words) != 2 or not words[0].isdecimal():
            return None, ""
        return self._target.task(int(words[0])), os.path.basename(words[1])


def _path(text: bytes) -> str:
    return bytes.fromhex(text.decode()).decode("utf-8", "surrogateescape")


def _failed(errno: int) -> bytes:
    return b"F-1,%x" % errno


def _data(data: bytes) -> bytes:
    return b"F%x;" % len(data) + escaped(data)
