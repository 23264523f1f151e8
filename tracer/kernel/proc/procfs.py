"""/proc: directories and links that come to be when looked up; proctext.py has the texts."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.fs.inode import DEV_PROC, Directory, Inode, MagicLink, Symlink, path_ino
from shstk.tracer.kernel.proc.proctext import SYSCTLS, SYSTEM_TEXTS, TASK_TEXTS
from shstk.tracer.kernel.task import Task

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel

_DIRECTORY: Final = stat.S_IFDIR | 0o555
_LINK: Final = stat.S_IFLNK | 0o777
_TEXT: Final = stat.S_IFREG | 0o444


@dataclass(eq=False)
class ProcFile(Inode):
    """A file whose text is written when it is read. tid: whose; 0 for the system's."""

    name: str = ""
    tid: int = 0


@dataclass(eq=False)
class ProcDirectory(Directory):
    """Nothing can be made or removed in it. tid: the task it shows, if any."""

    tid: int = 0

    def link(self, name: str, inode: Inode, now: int) -> None:
        raise Errno("EACCES")

    def unlink(self, name: str, now: int) -> None:
        raise Errno("EPERM")

    def names(self, k: Kernel) -> list[str]:
        return sorted(self.entries)

    def file(self, name: str, mode: int = _TEXT) -> ProcFile:
        ino = path_ino(self.child_path(name))
        return ProcFile(ino, mode, dev=DEV_PROC, name=name, tid=self.tid)

    def symlink(self, name: str, target: str) -> Symlink:
        return Symlink(path_ino(self.child_path(name)), _LINK, dev=DEV_PROC, target=target)

    def task(self, k: Kernel) -> Task:
        """Errno ESRCH once it is gone."""
        task = k.tasks.get(self.tid)
        if task is None:
            raise Errno("ESRCH")
        return task


class ProcLink(MagicLink):
    """exe, cwd, root and fd/N: leads to the object itself, whatever its name has become."""

    object: Inode

    def jump(self, k: Kernel | None) -> Inode:
        return self.object


def _magic(directory: ProcDirectory, name: str, target: str, leads_to: Inode) -> ProcLink:
    ino = path_ino(directory.child_path(name))
    link = ProcLink(ino, _LINK, dev=DEV_PROC, target=target)
    link.object = leads_to
    return link


def _subdirectory(kind: type[ProcDirectory], parent: Directory, name: str, tid: int) -> Directory:
    ino = path_ino(parent.child_path(name))
    return kind(ino, _DIRECTORY, dev=DEV_PROC, name=name, parent=parent, tid=tid)


class ProcRoot(ProcDirectory):
    def lookup(self, k: Kernel | None, name: str) -> Inode | None:
        if k is None:
            return None
        current = k.current
        if name == "self":
            return self.symlink(name, str(current.pid))
        if name == "thread-self":
            return self.symlink(name, f"{current.pid}/task/{current.tid}")
        if name == "mounts":
            return self.symlink(name, "self/mounts")
        if name in SYSTEM_TEXTS:
            return self.file(name)
        # A thread's number works too, though it is not listed.
        if name.isdecimal() and int(name) in k.tasks:
            return _subdirectory(ProcTask, self, name, int(name))
        return self.entries.get(name)

    def names(self, k: Kernel) -> list[str]:
        fixed = {*self.entries, *SYSTEM_TEXTS, "self", "thread-self", "mounts"}
        return [str(pid) for pid in sorted(k.processes)] + sorted(fixed)


class ProcTask(ProcDirectory):
    """/proc/PID and /proc/PID/task/TID."""

    def lookup(self, k: Kernel | None, name: str) -> Inode | None:
        assert k is not None
        task = self.task(k)
        if name in TASK_TEXTS:
            return self.file(name, stat.S_IFREG | TASK_TEXTS[name].mode)
        if name == "mem":
            return self.file(name, stat.S_IFREG | 0o600)
        match name:
            case "exe":
                return self._exe(k, task)
            case "cwd":
                return _magic(self, name, task.fs.cwd.path(), task.fs.cwd)
            case "root":
                return _magic(self, name, "/", k.sandbox.root)
            case "fd":
                return _subdirectory(ProcFds, self, name, self.tid)
            case "task" if not isinstance(self.parent, ProcThreads):
                return _subdirectory(ProcThreads, self, name, self.tid)
        return None

    def _exe(self, k: Kernel, task: Task) -> Inode | None:
        """None once the address space is gone."""
        path = task.process.exe
        parts = path.strip("/").split("/")
        here: Inode | None = k.sandbox.root if task.mm is not None else None
        for part in parts:
            here = here.lookup(k, part) if isinstance(here, Directory) else None
        return None if here is None else _magic(self, "exe", path, here)

    def names(self, k: Kernel) -> list[str]:
        inner = isinstance(self.parent, ProcThreads)
        return sorted(
            {*TASK_TEXTS, "mem", "exe", "cwd", "root", "fd", *(() if inner else ("task",))}
        )


class ProcThreads(ProcDirectory):
    def lookup(self, k: Kernel | None, name: str) -> Inode | None:
        assert k is not None
        return _subdirectory(ProcTask, self, name, int(name)) if name in self.names(k) else None

    def names(self, k: Kernel) -> list[str]:
        return [str(tid) for tid in sorted(t.tid for t in self.task(k).process.tasks)]


class ProcFds(ProcDirectory):
    def lookup(self, k: Kernel | None, name: str) -> Inode | None:
        assert k is not None
        file = self.task(k).files.slots.get(int(name)) if name.isdecimal() else None
        return None if file is None else _magic(self, name, file.path, file.inode)

    def names(self, k: Kernel) -> list[str]:
        return [str(fd) for fd in sorted(self.task(k).files.slots)]


def proc_root(root: Directory) -> Directory:
    """/proc, to be put into `root`."""
    proc = ProcRoot(path_ino("/proc"), _DIRECTORY, dev=DEV_PROC, name="proc", parent=root)
    for path in SYSCTLS:
        here: ProcDirectory = proc
        *folders, name = path.split("/")
        for folder in folders:
            below = here.entries.get(folder)
            if below is None:
                below = here.entries[folder] = _subdirectory(ProcDirectory, here, folder, 0)
            assert isinstance(below, ProcDirectory)
            here = below
        file = here.file(name)
        file.name = path
        here.entries[name] = file
    return proc
