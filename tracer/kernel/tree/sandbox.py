"""The guest's file system: a tree of inodes that no path can escape.

With `--root DIR` it shows DIR read-only and keeps the guest's changes in memory. Without a root it
contains the program only. /dev, /proc, /tmp and the binds always exist. `walk` resolves symlinks
and `..` over inodes; in the host's tree it looks up one name in one known directory at a time.
"""

from __future__ import annotations

import stat
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from shstk.schemas import uapi
from shstk.schemas.errors import BadProgram
from shstk.schemas.uapi import (
    AT_EMPTY_PATH,
    AT_SYMLINK_NOFOLLOW,
    RESOLVE_BENEATH,
    RESOLVE_IN_ROOT,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    RESOLVE_NO_XDEV,
)
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.fs.inode import (
    DEV_BOUND,
    EXECUTE,
    NAME_MAX,
    Device,
    Directory,
    Inode,
    MagicLink,
    Origin,
    Regular,
    Symlink,
    path_ino,
)
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.proc.procfs import proc_root
from shstk.tracer.kernel.task import ROOT
from shstk.tracer.kernel.tree import keep
from shstk.tracer.kernel.tree.cachedtree import Answers, CachedTree
from shstk.tracer.kernel.tree.hosttree import HostTree, raw, text
from shstk.tracer.kernel.tree.mounts import Mount, program_mount

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

AT_FDCWD: Final = uapi.AT_FDCWD & 0xFFFF_FFFF
PATH_MAX: Final = 4096
SYMLINKS_MAX: Final = 40
STORAGE_MAX: Final = 1 << 30  # bytes that the guest's files may use, if nothing else is asked for

# name -> (mode, major * 256 + minor), from Linux's admin-guide/devices.txt
_DEVICES: Final = {
    "null": (0o666, 0x103),
    "zero": (0o666, 0x105),
    "full": (0o666, 0x107),
    "random": (0o666, 0x108),
    "urandom": (0o666, 0x109),
    "tty": (0o666, 0x500),
    "ptmx": (0o666, 0x502),
}
_DEV_LINKS: Final = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
}


@dataclass
class Found:
    """The result of a path lookup. `inode` is None if only the last component does not exist."""

    parent: Directory
    name: str  # in parent; ".", ".." and "" (the root) are not resolved
    inode: Inode | None
    must_be_dir: bool = False  # the path ended in a slash

    def existing(self) -> Inode:
        if self.inode is None:
            raise Errno("ENOENT")
        return self.inode


class ExecFile(NamedTuple):
    """A program, read and recorded as an input."""

    guest_path: str
    data: bytes
    inode: Regular
    input: int | None  # inputs.input; None for a file that the guest wrote


class Sandbox:
    """The tree, and the state that all files of a run share.

    mounts: the trees of the host; the root comes first, if there is one. stdin: the contents of
    descriptor 0. Raises BadProgram.
    """

    def __init__(self, mounts: tuple[Mount, ...] = (), stdin: bytes = b"") -> None:
        self.mounts: list[Mount] = []  # manifest.trees
        self.answers = Answers()
        self.stdin = stdin
        self.storage = STORAGE_MAX
        self.stored = 0  # bytes in the guest's own files
        self._inos = 0
        self._given: dict[str, str] = {}  # PROGRAM, by its path in the guest
        self._kept: list[tuple[Inode, HostTree, HostTree | None]] = []
        origin = None
        if mounts and mounts[0].kind == "root":
            origin = Origin(self._cached(mounts[0]), "", "/")
        self.root = Directory(path_ino("/"), stat.S_IFDIR | 0o755, origin, mount=True)
        self.cwd = self.root
        if origin is not None:
            self._keep(self.root, mounts[0])
        self._mount("dev", self._directory("dev", 0o755))
        for name, (bits, rdev) in _DEVICES.items():
            device = Device(path_ino(f"/dev/{name}"), stat.S_IFCHR | bits, rdev=rdev, uid=ROOT)
            self.dev.entries[name] = device
        for name, target in _DEV_LINKS.items():
            ino = path_ino(f"/dev/{name}")
            self.dev.entries[name] = Symlink(ino, stat.S_IFLNK | 0o777, target=target)
        for name, bits in {"shm": 0o1777, "pts": 0o755}.items():
            ino = path_ino(f"/dev/{name}")
            self.dev.entries[name] = Directory(ino, stat.S_IFDIR | bits, name=name, parent=self.dev)
        self._mount("proc", proc_root(self.root))
        if origin is None or not origin.tree.mode("tmp"):
            self._mount("tmp", self._directory("tmp", 0o1777))
        for mount in mounts:
            if mount.kind == "bind":
                self._bind(mount)
            elif mount.kind == "program":
                self._put(mount)

    @property
    def dev(self) -> Directory:
        found = self.root.entries["dev"]
        assert isinstance(found, Directory)
        return found

    @property
    def pts(self) -> Directory:
        found = self.dev.entries["pts"]
        assert isinstance(found, Directory)
        return found

    def _directory(self, name: str, bits: int) -> Directory:
        ino = path_ino(f"/{name}")
        return Directory(ino, stat.S_IFDIR | bits, name=name, parent=self.root)

    def _cached(self, mount: Mount) -> CachedTree:
        self.mounts.append(mount)
        return CachedTree(len(self.mounts) - 1, mount.guest, mount.tree, self.answers)

    def _keep(self, inode: Inode, mount: Mount) -> None:
        if mount.kept is not None:
            self._kept.append((inode, mount.kept, mount.beneath))

    def _mount(self, name: str, directory: Directory) -> None:
        directory.mount = True
        self.root.entries[name] = directory

    def _bind(self, mount: Mount) -> None:
        *folders, name = [part for part in mount.guest.split("/") if part] or [""]
        if not name or {".", ".."} & {name, *folders}:
            raise BadProgram(
                f"{mount.option}: not a path in the guest", "give an absolute path below /"
            )
        here = self.root
        for folder in folders:
            inode = self._look(here, folder)
            if inode is None:
                ino = path_ino(here.child_path(folder))
                inode = Directory(ino, stat.S_IFDIR | 0o755, name=folder, parent=here, mount=True)
                here.entries[folder] = inode
            if not isinstance(inode, Directory):
                raise BadProgram(f"{mount.option}: {folder} is not a directory in the guest")
            here = inode
        inode = self._bound(mount, here, name)
        here.entries[name] = inode
        self._keep(inode, mount)

    def _bound(self, mount: Mount, parent: Directory, name: str) -> Inode:
        dev = DEV_BOUND + sum(other.kind == "bind" for other in self.mounts)
        tree = self._cached(mount)
        mode = tree.mode("")
        guest = parent.child_path(name)
        common: dict[str, Any] = {"dev": dev, "read_only": not mount.writable, "mount": True}
        origin = Origin(tree, "", guest)
        if mode is not None and stat.S_ISDIR(mode):
            mode = stat.S_IFDIR | 0o755
            return Directory(path_ino(guest), mode, origin, name=name, parent=parent, **common)
        if mode is not None and stat.S_ISREG(mode):
            return Regular(path_ino(guest), mode, origin, data=None, **common)
        raise BadProgram(f"{mount.option}: not a file or directory on the host")

    def _put(self, mount: Mount) -> None:
        """Add the program, with fixed permission bits: the host's differ between checkouts."""
        ino, mode = path_ino(mount.guest), stat.S_IFREG | 0o755
        origin = Origin(self._cached(mount), "", mount.guest)
        self.root.entries[mount.guest[1:]] = Regular(ino, mode, origin, data=None)

    def _look(self, directory: Directory, path: str) -> Inode | None:
        try:
            return walk(None, self.root, directory, path).inode
        except Errno:
            return None

    def _probe(self, path: str) -> Inode | None:
        """Look a path up in a separate sandbox, so that the queries are not recorded."""
        probe = Sandbox(tuple(self.mounts))
        return probe._look(probe.root, path)

    def enter(self, path: str) -> None:
        """Set the working directory of the first process. Raises BadProgram."""
        found = self._probe(path)
        if not isinstance(found, Directory):
            raise BadProgram(f"--cwd {path}: no such directory in the guest")
        cwd = self._look(self.root, found.path())
        assert isinstance(cwd, Directory)
        self.cwd = cwd

    def keep(self, k: Kernel) -> None:
        """After the run: write the changes to the host, for mounts that keep them."""
        for inode, host, beneath in self._kept:
            keep.keep(k, inode, host, beneath)

    def place(self, program: str, folders: Iterable[str] = ()) -> str:
        """The path of PROGRAM in the guest.

        The root is searched first (for a bare name, also its `folders`). Otherwise it is a file of
        the host, which is added to the guest's /. Raises BadProgram.
        """
        inside = ["/" + program.lstrip("/")]
        if "/" not in program:
            inside += [f"{folder}/{program}" for folder in folders]
        for path in inside:
            if self.root.origin is not None and isinstance(self._probe(path), Regular):
                return path
        mount = program_mount(program, self.root.origin is not None)
        self._put(mount)
        self._given[mount.guest] = program
        return mount.guest

    def given(self, path: str) -> str:
        """The name of a guest's file for a message: as the user gave it, if it is PROGRAM."""
        return self._given.get(path, path)

    def new_ino(self) -> int:
        self._inos += 1
        return self._inos

    def charge(self, growth: int) -> None:
        """Account for a file of the guest that is about to grow by `growth` bytes. Errno ENOSPC."""
        if growth > 0 and self.stored + growth > self.storage:
            raise Errno("ENOSPC")
        self.stored += growth


def walk(
    k: Kernel | None,
    root: Directory,
    start: Directory,
    path: str,
    follow: bool = True,
    resolve: int = 0,
) -> Found:
    """Resolve a path from `start`, or from the root if it is absolute.

    follow: resolve the last component too, if it is a symlink. resolve: openat2's RESOLVE_*. k is
    None before the run, when nothing is recorded and /proc has no tasks.

    Errno: ENOENT, ENOTDIR, EACCES, ELOOP, ENAMETOOLONG; EXDEV for a step that `resolve` forbids.
    """
    if not path:
        raise Errno("ENOENT")
    if len(raw(path)) >= PATH_MAX:
        raise Errno("ENAMETOOLONG")
    if resolve & RESOLVE_IN_ROOT:
        root = start
    if resolve & RESOLVE_BENEATH and path.startswith("/"):
        raise Errno("EXDEV")
    parent = start
    here: Inode | None = root if path.startswith("/") else start
    assert here is not None
    device = here.dev
    name, links = "", 0
    must_be_dir = path.endswith("/")
    names = deque(part for part in path.split("/") if part)
    while names:
        part = names.popleft()
        if here is None:
            raise Errno("ENOENT")
        if not isinstance(here, Directory):
            raise Errno("ENOTDIR")
        here.permit(EXECUTE)
        parent, name = here, part
        if part == ".":
            continue
        if part == "..":
            if resolve & RESOLVE_BENEATH and parent is start:
                raise Errno("EXDEV")
            if not resolve & RESOLVE_IN_ROOT or parent is not start:
                here = parent.parent
            _stay(resolve, here, device)
            continue
        if len(raw(part)) > NAME_MAX:
            raise Errno("ENAMETOOLONG")
        here = parent.lookup(k, part)
        if isinstance(here, Symlink) and (names or follow or must_be_dir):
            links += 1
            if links > SYMLINKS_MAX:
                raise Errno("ELOOP")
            if resolve & _no_link(here):
                raise Errno("ELOOP")
            if isinstance(here, MagicLink):
                here = here.jump(k)
                if resolve & (RESOLVE_BENEATH | RESOLVE_IN_ROOT):
                    raise Errno("EXDEV")
                _stay(resolve, here, device)
                continue
            if resolve & RESOLVE_BENEATH and here.target.startswith("/"):
                raise Errno("EXDEV")
            here.see(k)
            must_be_dir = must_be_dir or (not names and here.target.endswith("/"))
            names.extendleft(p for p in reversed(here.target.split("/")) if p)
            here = root if here.target.startswith("/") else parent
            name = "."
        _stay(resolve, here, device)
    if must_be_dir and here is not None and not isinstance(here, Directory):
        raise Errno("ENOTDIR")
    return Found(parent, name, here, must_be_dir)


def _no_link(link: Symlink) -> int:
    """The RESOLVE_* bits that forbid to follow it."""
    return RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS * isinstance(link, MagicLink)


def _stay(resolve: int, here: Inode | None, device: int) -> None:
    """RESOLVE_NO_XDEV: a file system is one mount."""
    if resolve & RESOLVE_NO_XDEV and here is not None and here.dev != device:
        raise Errno("EXDEV")


def start_of(t: Task, dirfd: int) -> Directory:
    """The directory that a relative path is resolved from."""
    if dirfd & 0xFFFF_FFFF == AT_FDCWD:
        return t.fs.cwd
    inode = t.files.get(dirfd, path_only=True).inode
    if not isinstance(inode, Directory):
        raise Errno("ENOTDIR")
    return inode


def find(k: Kernel, t: Task, dirfd: int, path: str, follow: bool = True, resolve: int = 0) -> Found:
    """Resolve a path relative to `dirfd`, as the *at calls do. An empty path is refused before the
    descriptor is looked at (getname)."""
    if not path:
        raise Errno("ENOENT")
    scoped = resolve & (RESOLVE_BENEATH | RESOLVE_IN_ROOT)
    start = t.fs.cwd if path.startswith("/") and not scoped else start_of(t, dirfd)
    return walk(k, k.sandbox.root, start, path, follow, resolve)


def get_path(k: Kernel, t: Task, addr: int) -> str:
    return text(usermem.get_cstr(k, t, addr, PATH_MAX))


def find_at(k: Kernel, t: Task, dirfd: int, addr: int, flags: int) -> Inode:
    """The inode of (dirfd, path, AT_* flags). AT_EMPTY_PATH selects that of the descriptor."""
    path = "" if addr == 0 and flags & AT_EMPTY_PATH else get_path(k, t, addr)
    if not path and flags & AT_EMPTY_PATH:
        if dirfd & 0xFFFF_FFFF == AT_FDCWD:
            return t.fs.cwd
        return t.files.get(dirfd, path_only=True).inode
    return find(k, t, dirfd, path, follow=not flags & AT_SYMLINK_NOFOLLOW).existing()


def open_exec(k: Kernel, t: Task, path: str, dirfd: int = AT_FDCWD, flags: int = 0) -> ExecFile:
    """Read a program for execve or execveat.

    Errno: those of `walk`; EACCES (not a regular file, or not executable); ELOOP (a symlink with
    AT_SYMLINK_NOFOLLOW); ETXTBSY (open for writing); EINVAL (flags).
    """
    if flags & 0xFFFF_FFFF & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH):
        raise Errno("EINVAL")
    guest_path = path
    if not path and flags & AT_EMPTY_PATH:
        file = t.files.get(dirfd, path_only=True)
        inode, guest_path = file.inode, file.path
    else:
        found = find(k, t, dirfd, path, follow=not flags & AT_SYMLINK_NOFOLLOW)
        inode = found.existing()
        if isinstance(inode, Symlink):
            raise Errno("ELOOP")
        if inode is found.parent.entries.get(found.name):
            guest_path = found.parent.child_path(found.name)
        elif isinstance(link := found.parent.lookup(k, found.name), MagicLink):
            guest_path = link.target  # /proc/self/exe: use the path of the file
    if not isinstance(inode, Regular):
        raise Errno("EACCES")
    inode.permit(EXECUTE)
    if inode.writers:
        raise Errno("ETXTBSY")
    inode.see(k)
    return ExecFile(guest_path, bytes(inode.contents()), inode, inode.input)
