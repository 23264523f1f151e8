"""Inodes: the guest's files as plain data in memory, filled from a tree of the host on demand.

A tree of the host is never written while the guest runs. What the guest changes stays in these
objects, and that is the whole copy-on-write overlay: a directory's `entries` take precedence over
those of the host. Where the user asked for it, keep.py writes the changes to the host at the end of
the run. What the guest reads from the host's tree is recorded as an input at that moment (`see`).
"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from shstk.schemas.uapi import F_SEAL_SEAL
from shstk.tracer._core import Pages
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.task import UID
from shstk.tracer.kernel.time.clock import EPOCH_NS
from shstk.tracer.kernel.tree.hosttree import Tree, raw

if TYPE_CHECKING:
    from shstk.tracer.kernel.fs.epoll import Interest
    from shstk.tracer.kernel.fs.fsnotify import Watch
    from shstk.tracer.kernel.fs.leases import Lease
    from shstk.tracer.kernel.fs.locks import Lock
    from shstk.tracer.kernel.kernel import Kernel

NAME_MAX: Final = 255
# Device numbers of the file systems; they are anonymous, as those of tmpfs and overlayfs are.
DEV_ROOT, DEV_PROC, DEV_ANON, DEV_SHMEM, DEV_BOUND = 0x1E, 0x16, 0x0F, 0x01, 0x40

READ, WRITE, EXECUTE = 4, 2, 1
_HOLE: Final = 1 << 20  # bytes


def path_ino(path: str) -> int:
    """An inode number that is the same in every run: a hash of the path, above those of new_ino."""
    digest = hashlib.sha256(path.encode("utf-8", "surrogateescape")).digest()
    return 1 << 32 | int.from_bytes(digest[:5], "little") << 8


class Origin(NamedTuple):
    """Where the contents of an inode come from, and its path in the guest."""

    tree: Tree
    path: str  # relative to tree.root
    guest_path: str


@dataclass(eq=False)
class Inode:
    ino: int
    mode: int  # with the S_IFMT bits
    origin: Origin | None = None
    input: int | None = None  # inputs.input, as long as the contents are that input's
    nlink: int = 1
    atime: int = EPOCH_NS  # ns since 1970; all inputs have the time of the boot
    mtime: int = EPOCH_NS
    ctime: int = EPOCH_NS
    dev: int = DEV_ROOT
    rdev: int = 0
    read_only: bool = False  # bound without :rw
    mount: bool = False  # can't be removed or renamed
    write_hint: int = 0  # F_SET_RW_HINT
    uid: int = UID  # and gid
    place: tuple[Directory, str] | None = None  # the name it was last linked under
    locks: list[Lock] = field(default_factory=list)
    watches: list[Watch] = field(default_factory=list)
    interests: list[Interest] = field(default_factory=list)  # of epolls, EPOLLEXCLUSIVE's last

    @property
    def size(self) -> int:
        return 0

    def contents(self) -> bytes:
        """The bytes that an input row stores."""
        return b""

    def see(self, k: Kernel | None) -> None:
        """Record the inode as an input: the guest is about to read it. k is None before the run,
        when the reader is not the guest."""
        if k is not None and self.origin is not None and self.input is None:
            name = raw(self.origin.guest_path).decode("utf-8", "backslashreplace")
            self.input = k.rec.input(name, self.contents(), self.mode, k.here())

    def permit(self, want: int) -> None:
        """want: READ, WRITE, EXECUTE. The guest owns nearly every file; others are root's."""
        if want & WRITE and self.read_only:
            raise Errno("EROFS")
        if want & ~(self.mode >> 6 if self.uid == UID else self.mode):
            raise Errno("EACCES")

    def changed(self, now: int, contents: bool = False) -> None:
        """now: ns since 1970. contents: the contents changed too, not just the metadata."""
        self.ctime = now
        if contents:
            self.mtime = now


@dataclass(eq=False)
class Regular(Inode):
    """data: Pages once it was mapped. None: in the host's tree, not read yet.

    began: the bytes that its pages began with.
    """

    data: bytes | bytearray | Pages | None = b""
    began: bytes | None = None
    readers: int = 0  # descriptions that can only read (i_readcount)
    writers: int = 0  # descriptions that can write (i_writecount)
    leases: list[Lease] = field(default_factory=list)
    linkable: bool = False  # O_TMPFILE without O_EXCL made it, and it has no name yet
    seals: int = F_SEAL_SEAL  # no more can be added, unless memfd_create allowed it

    def permit_write(self, k: Kernel) -> None:
        """get_write_access(). Errno ETXTBSY: a process executes the file."""
        if any(mm.program is self for mm in k.mms.values()):
            raise Errno("ETXTBSY")

    @property
    def size(self) -> int:
        return self.data.size if isinstance(self.data, Pages) else len(self.contents())

    def contents(self) -> bytes | bytearray:  # type: ignore[override]
        if self.data is None:
            self.data = self.read_again()
        return self.data.read(0, self.data.size) if isinstance(self.data, Pages) else self.data

    def read_again(self) -> bytes:
        assert self.origin is not None
        return self.origin.tree.read(self.origin.path)

    def read(self, offset: int, n: int) -> bytes:
        if isinstance(self.data, Pages):
            return self.data.read(offset, n)
        return bytes(self.contents()[offset : offset + n])

    def own(self, k: Kernel) -> bytearray | Pages:
        """Detach the contents from the input: they are about to be changed."""
        self.see(k)
        if not isinstance(self.data, bytearray | Pages):
            self.data = bytearray(self.contents())
        self.origin = self.input = None
        return self.data

    def store(self, k: Kernel, offset: int, data: bytes) -> None:
        """Write within the file. Errno ENOSPC."""
        mine = self.own(k)
        if not isinstance(mine, Pages):
            mine[offset : offset + len(data)] = data
        elif not mine.write(offset, data):
            raise Errno("ENOSPC")

    def clear(self, k: Kernel, offset: int, n: int) -> None:
        """Zero a range in the file. Errno ENOSPC."""
        mine = self.own(k)
        if not isinstance(mine, Pages):
            mine[offset : offset + n] = bytes(n)
        elif not mine.clear(offset, n):
            raise Errno("ENOSPC")

    def truncate(self, k: Kernel, size: int) -> None:
        """Cut the file, or extend it with zeros."""
        mine = self.own(k)
        if size - self.size > _HOLE:
            mine = self.pages(k)  # which keep no zeros
        if isinstance(mine, Pages):
            cut = size < mine.size
            mine.resize(size)
            for mm in k.mms.values() if cut else ():
                mm.file_cut(self)
        elif size < len(mine):
            del mine[size:]
        else:
            mine.extend(bytes(size - len(mine)))

    def pages(self, k: Kernel) -> Pages:
        """The contents, for a mapping."""
        self.see(k)
        if not isinstance(self.data, Pages):
            self.began = bytes(self.contents())
            self.data = Pages(k.machine, self.began)
        return self.data


def clean(inode: Inode) -> None:
    """Write back what was stored through mappings: the next store sets the times again."""
    if isinstance(inode, Regular) and isinstance(inode.data, Pages):
        inode.data.clean()


@dataclass(eq=False)
class Symlink(Inode):
    target: str = ""

    @property
    def size(self) -> int:
        return len(raw(self.target))

    def contents(self) -> bytes:
        return raw(self.target)

    def read(self) -> str:
        """What readlink(2) returns."""
        return self.target


class MagicLink(Symlink):
    """A link of /proc that resolves to an object, not to a path."""

    def jump(self, k: Kernel | None) -> Inode:
        raise NotImplementedError


@dataclass(eq=False)
class Device(Inode):
    """A character device; devices.py implements each."""


@dataclass(eq=False)
class Directory(Inode):
    name: str = ""
    parent: Directory = field(default=None, repr=False)  # type: ignore[assignment]
    entries: dict[str, Inode | None] = field(default_factory=dict)  # None: a negative entry

    def __post_init__(self) -> None:
        if self.parent is None:
            self.parent = self

    @property
    def size(self) -> int:
        return 4096

    def path(self) -> str:
        """Absolute in the guest."""
        parts: list[str] = []
        here = self
        while here.parent is not here:
            parts.append(here.name)
            here = here.parent
        return "/" + "/".join(reversed(parts))

    def child_path(self, name: str) -> str:
        return f"{self.path().rstrip('/')}/{name}"

    def lookup(self, k: Kernel | None, name: str) -> Inode | None:
        if name not in self.entries and self.origin is not None:
            self.entries[name] = self._from_host(self.origin, name)
        return self.entries.get(name)

    def _from_host(self, origin: Origin, name: str) -> Inode | None:
        path = os.path.join(origin.path, name)
        mode = origin.tree.mode(path)
        if mode is None:
            return None
        guest_path = self.child_path(name)
        ino = path_ino(guest_path)
        child = Origin(origin.tree, path, guest_path)
        common: dict[str, Any] = {
            "dev": self.dev,
            "read_only": self.read_only,
            "place": (self, name),
        }
        match stat.S_IFMT(mode):
            case stat.S_IFREG:
                return Regular(ino, mode, child, data=None, **common)
            case stat.S_IFLNK:
                return Symlink(ino, mode, child, target=origin.tree.target(path), **common)
            case stat.S_IFDIR:
                return Directory(ino, mode, child, name=name, parent=self, **common)
        return None  # the guest doesn't see sockets, pipes and devices of the host

    def names(self, k: Kernel) -> list[str]:
        """Sorted."""
        names = set(self.origin.tree.names(self.origin.path)) if self.origin else set()
        names |= self.entries.keys()
        gone = {name for name, inode in self.entries.items() if inode is None}
        return sorted(names - gone)

    def contents(self) -> bytes:
        """The host's names, each NUL-terminated; empty if the host refuses to list it."""
        assert self.origin is not None
        try:
            names = self.origin.tree.names(self.origin.path)
        except Errno:
            return b""
        return b"".join(raw(name) + b"\0" for name in sorted(names))

    def link(self, name: str, inode: Inode, now: int) -> None:
        if self.nlink == 0:
            raise Errno("ENOENT")
        self._permit_change(name)
        inode.dev = self.dev
        self.entries[name] = inode
        inode.place = self, name
        if isinstance(inode, Directory):
            inode.name, inode.parent = name, self
        self.changed(now, contents=True)

    def unlink(self, name: str, now: int) -> None:
        self._permit_change(name)
        self.entries[name] = None
        self.changed(now, contents=True)

    def _permit_change(self, name: str) -> None:
        self.permit(WRITE | EXECUTE)
        old = self.entries.get(name)
        if old is not None and old.mount:
            raise Errno("EBUSY")
