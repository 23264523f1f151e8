"""Who shares what: kcmp, unshare; and handles of files."""

from __future__ import annotations

import struct

import pytest
from direct import Direct

VM, FS, FILES, SIGHAND, THREAD, SYSVSEM = 0x100, 0x200, 0x400, 0x800, 0x10000, 0x40000
SIGCHLD = 17
(FILE, MM, TABLE, DIRECTORY, HANDLERS, IO, UNDO, EPOLL) = range(8)


@pytest.fixture
def d() -> Direct:
    return Direct()


def test_what_a_fork_and_a_clone_share(d: Direct) -> None:
    pid = d.t.pid
    fork = d.clone(SIGCHLD).pid
    vm = d.clone(VM | FS | FILES | SIGHAND | SIGCHLD).pid
    kinds = (MM, TABLE, DIRECTORY, HANDLERS)
    assert [d.call("kcmp", pid, vm, kind) for kind in kinds] == [0] * 4
    assert {d.call("kcmp", pid, fork, kind) for kind in kinds} <= {1, 2}
    assert d.call("kcmp", pid, fork, IO) == d.call("kcmp", pid, fork, UNDO) == 0


def test_files_are_compared_in_one_order(d: Direct) -> None:
    pid, (r, w) = d.t.pid, d.pipe()
    again = d.call("dup", r)
    assert d.call("kcmp", pid, pid, FILE, r, again) == 0
    assert {d.call("kcmp", pid, pid, FILE, r, w), d.call("kcmp", pid, pid, FILE, w, again)} == {
        1,
        2,
    }
    epoll = d.call("epoll_create1", 0)
    d.call("epoll_ctl", epoll, 1, r, bytes(12))
    assert d.call("kcmp", pid, pid, EPOLL, again, struct.pack("<3I", epoll, r, 0)) == 0
    assert d.call("kcmp", pid, pid, EPOLL, again, struct.pack("<3I", epoll, w, 0)) == "ENOENT"
    assert d.call("kcmp", pid, pid, EPOLL, again, struct.pack("<3I", w, r, 0)) == "EINVAL"


def test_what_kcmp_refuses(d: Direct) -> None:
    pid, child = d.t.pid, d.clone(SIGCHLD)
    assert d.call("kcmp", pid, 9999, MM) == "ESRCH"
    assert d.call("kcmp", pid, pid, 8) == "EINVAL"
    assert d.call("kcmp", pid, pid, FILE, 0, 9999) == "EBADF"
    child.process.dumpable = 0
    assert d.call("kcmp", pid, child.pid, MM) == "EPERM"


def test_files_and_directory_are_parted(d: Direct) -> None:
    child = d.clone(VM | FS | FILES | SIGCHLD)
    assert d.call("unshare", FS | FILES, task=child) == 0
    d.call("mkdirat", -100, b"/d\0", 0o755)
    assert d.call("chdir", b"/d\0", task=child) == 0
    assert d.call("close", 0, task=child) == 0
    assert d.t.fs.cwd is not child.fs.cwd
    assert d.call("fcntl", 0, 1) == 0


def test_an_undo_list_ends_as_at_an_exit(d: Direct) -> None:
    number = d.call("semget", 0, 1, 0o600)
    d.call("semop", number, struct.pack("<Hhh", 0, 3, 0o10000), 1)
    assert d.call("unshare", SYSVSEM) == 0
    assert d.call("semctl", number, 0, 12, 0) == 0


@pytest.mark.parametrize(
    ("flags", "answer"),
    [
        (0, 0),
        (VM | SIGHAND | THREAD, 0),  # it is alone
        (0x4000, "EINVAL"),
        (0x2000_0000, "EPERM"),  # CLONE_NEWPID
        (0x1000_0000, "EPERM"),  # CLONE_NEWUSER
        (0x10_0000, "EPERM"),  # UNSHARE_EMPTY_MNTNS
    ],
)
def test_what_is_refused(d: Direct, flags: int, answer: int | str) -> None:
    assert d.call("unshare", flags) == answer


def test_an_empty_mount_namespace_is_unknown_before_7_1() -> None:
    assert Direct(kernel="7.0").call("unshare", 0x10_0000) == "EINVAL"


@pytest.mark.parametrize("shared", [VM, VM | SIGHAND, VM | SIGHAND | THREAD])
def test_what_is_shared_stays_so(d: Direct, shared: int) -> None:
    d.clone(shared | (0 if shared & THREAD else SIGCHLD), d.room(64))
    last = max(bit for bit in (VM, SIGHAND, THREAD) if bit & shared)
    assert d.call("unshare", last) == "EINVAL"
    assert [w for w in d.k.warnings if "namespaces" in w] == []


def test_a_handle_names_an_inode(d: Direct) -> None:
    d.save("/f", b"x")
    d.call("linkat", -100, b"/f\0", -100, b"/g\0", 0)

    def handle(path: str, room: int = 128, flags: int = 0) -> object:
        at, mount = d.put(struct.pack("<Ii", room, 0) + bytes(128)), d.room(8)
        answer = d.call("name_to_handle_at", -100, path.encode() + b"\0", at, mount, flags)
        return d.get(at, 20) if answer == 0 else (answer, *struct.unpack("<I", d.get(at, 4)))

    assert handle("/f") == handle("/g") != handle("/")
    assert handle("/f", room=11) == ("EOVERFLOW", 12)
    assert handle("/f", room=129) == ("EINVAL", 129)
    assert handle("/f", flags=0x100) == ("EINVAL", 128)
    assert handle("/none") == ("ENOENT", 128)
    assert handle("/proc/self/stat") == ("EOPNOTSUPP", 128)
