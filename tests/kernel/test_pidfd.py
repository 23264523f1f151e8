"""pidfds: open, poll, wait, signal, take a descriptor; and clones that make one."""

from __future__ import annotations

import struct

import pytest
from direct import Direct
from guest_run import Result, run
from test_processes import clone3, returned

from shstk.tracer.kernel.call import Wait

CLONE_PIDFD, PARENT_SETTID, SIGCHLD, THREAD = 0x1000, 0x100000, 17, 0x10F00
AUTOREAP, NNP, AUTOKILL = 1 << 34, 1 << 35, 1 << 36
NONBLOCK, PIDFD_THREAD = 0o4000, 0o200
P_PIDFD, WNOHANG, WEXITED = 3, 1, 4
POLLIN, POLLHUP = 1, 0x10
EBADF, ECHILD, EAGAIN, EFAULT, EINVAL, EMFILE = -9, -10, -11, -14, -22, -24
GET_INFO = 0xC048FF0B  # with the size of the second version: 72


@pytest.fixture
def d() -> Direct:
    return Direct()


def polled(d: Direct, fd: int) -> int:
    entry = d.put(struct.pack("<iHH", fd, POLLIN, 0))
    timeout = d.put(bytes(16))
    d.call("ppoll", entry, 1, timeout, 0, 8)
    return int.from_bytes(d.get(entry + 6, 2), "little")


def test_opening(d: Direct) -> None:
    pid = d.t.pid
    fd = d.call("pidfd_open", pid, 0)
    assert d.call("fcntl", fd, 1) == 1, "close-on-exec"
    assert d.call("fcntl", d.call("pidfd_open", pid, NONBLOCK | PIDFD_THREAD), 3) == 0o4202
    assert d.call("pidfd_open", pid, 1) == "EINVAL"
    assert d.call("pidfd_open", -1, 0) == "EINVAL"
    assert d.call("pidfd_open", 9999, 0) == "ESRCH"
    thread = d.clone(THREAD, d.room(64)).tid
    assert d.call("pidfd_open", thread, 0) == "ENOENT"
    assert isinstance(d.call("pidfd_open", thread, PIDFD_THREAD), int)
    assert d.text(f"/proc/self/fdinfo/{fd}").endswith(b"Pid:\t100\nNSpid:\t100\n")
    assert d.read(fd) == "EINVAL"


def test_a_process_is_waited_for_by_its_pidfd(d: Direct) -> None:
    pid = d.clone(SIGCHLD).pid
    fd = d.call("pidfd_open", pid, 0)
    info = d.room(128)
    assert polled(d, fd) == 0
    assert isinstance(d.start("waitid", P_PIDFD, fd, info, WEXITED), Wait)
    assert d.call("waitid", P_PIDFD, fd, info, WEXITED | WNOHANG) == 0
    d.call("exit_group", 7, task=d.k.tasks[pid])
    assert polled(d, fd) == POLLIN
    assert d.call("waitid", P_PIDFD, fd, info, WEXITED) == 0
    assert struct.unpack("<7i", d.get(info, 28)) == (SIGCHLD, 0, 1, 0, pid, 1000, 7)
    assert polled(d, fd) == POLLIN | POLLHUP
    assert d.call("waitid", P_PIDFD, fd, info, WEXITED) == "ECHILD"
    assert d.call("pidfd_send_signal", fd, 0, 0, 0) == "ESRCH"
    assert b"Pid:\t-1\n" in d.text(f"/proc/self/fdinfo/{fd}")


def test_a_nonblocking_one_is_not_waited_for(d: Direct) -> None:
    fd = d.call("pidfd_open", d.clone(SIGCHLD).pid, NONBLOCK)
    assert d.call("waitid", P_PIDFD, fd, 0, WEXITED) == "EAGAIN"
    assert d.call("waitid", P_PIDFD, fd, 0, WEXITED | WNOHANG) == 0


def test_what_waitid_refuses(d: Direct) -> None:
    assert d.call("waitid", P_PIDFD, -1, 0, WEXITED) == "EINVAL"
    assert d.call("waitid", P_PIDFD, 0, 0, WEXITED) == "EBADF"
    assert d.call("waitid", P_PIDFD, d.call("pidfd_open", d.t.pid, 0), 0, WEXITED) == "ECHILD"
    assert d.call("waitid", 4, 1, 0, WEXITED) == "EINVAL"


def test_a_thread_s_end_hangs_up_its_own(d: Direct) -> None:
    tid = d.clone(THREAD, d.room(64)).tid
    fd = d.call("pidfd_open", tid, PIDFD_THREAD)
    whole = d.call("pidfd_open", d.t.pid, 0)
    assert polled(d, fd) == 0
    d.call("exit", 0, task=d.k.tasks[tid])
    assert (polled(d, fd), polled(d, whole)) == (POLLIN | POLLHUP, 0)


def test_signals(d: Direct) -> None:
    pid = d.clone(SIGCHLD).pid
    fd = d.call("pidfd_open", pid, 0)
    info = struct.pack("<iiiiii", 10, 0, -1, 0, d.t.pid, 1000).ljust(128, b"\0")
    process = d.k.processes[pid]
    process.leader.sigmask = 0x3FF << 1
    assert d.call("pidfd_send_signal", fd, 10, info, 0) == 0
    assert d.call("pidfd_send_signal", fd, 11, info, 0) == "EINVAL"
    assert d.call("pidfd_send_signal", fd, 3, 0, 1) == 0
    assert [(i.signo, i.code) for i in process.pending] == [(10, -1)]
    assert [(i.signo, i.code) for i in process.leader.pending] == [(3, -6)], "to the thread"
    kernels = struct.pack("<iii", 10, 0, 1).ljust(128, b"\0")
    assert d.call("pidfd_send_signal", fd, 10, kernels, 0) == "EPERM"
    assert d.call("pidfd_send_signal", fd, 10, 0, 3) == "EINVAL"
    assert d.call("pidfd_send_signal", fd, 65, 0, 0) == "EINVAL"
    assert d.call("pidfd_send_signal", 0, 10, 0, 0) == "EBADF"
    assert d.call("pidfd_send_signal", -10000, 0, 0, 0) == 0, "PIDFD_SELF_THREAD"
    assert d.call("pidfd_send_signal", fd, 0, 0, 4) == "ESRCH", "no process group has its pid"


def test_a_descriptor_is_taken(d: Direct) -> None:
    r, w = d.pipe()
    pid = d.clone(SIGCHLD).pid
    process = d.k.processes[pid]
    fd = d.call("pidfd_open", pid, 0)
    theirs = d.call("dup", w, task=process.leader)
    mine = d.call("pidfd_getfd", fd, theirs, 0)
    assert d.call("fcntl", mine, 1) == 1, "close-on-exec"
    d.write(mine, b"x")
    assert d.read(r) == b"x"
    assert d.call("pidfd_getfd", fd, 99, 0) == "EBADF"
    assert d.call("pidfd_getfd", fd, 0, 1) == "EINVAL"
    process.dumpable = 0
    assert d.call("pidfd_getfd", fd, 0, 0) == "EPERM"
    d.call("exit_group", 0, task=process.leader)
    process.dumpable = 1
    assert d.call("pidfd_getfd", fd, 0, 0) == "ESRCH"


def test_the_exit_status_of_one_that_was_reaped(d: Direct) -> None:
    pid = d.clone(SIGCHLD).pid
    fd = d.call("pidfd_open", pid, 0)
    info = d.put(bytes(72))
    assert d.call("ioctl", fd, GET_INFO, info) == 0
    mask, _, told, tgid, ppid = struct.unpack_from("<QQIII", d.get(info, 72))
    assert (mask, told, tgid, ppid) == (7, pid, pid, d.t.pid)
    d.call("exit_group", 3, task=d.k.tasks[pid])
    d.call("wait4", pid, 0, 0, 0)
    info = d.put(bytes(72))
    assert d.call("ioctl", fd, GET_INFO, info) == "ESRCH"
    info = d.put((8).to_bytes(72, "little"))
    assert d.call("ioctl", fd, GET_INFO, info) == 0
    assert struct.unpack_from("<Q52xi", d.get(info, 72)) == (8 | 4, 3 << 8)
    assert d.call("ioctl", fd, 0xFF05, 0) == "EOPNOTSUPP"
    assert d.call("ioctl", fd, 0x5401, 0) == "ENOTTY"


def test_pidfds_of_one_process_are_one_inode(d: Direct) -> None:
    first, second = (d.call("pidfd_open", d.t.pid, 0) for _ in range(2))
    at = [d.room(128), d.room(128)]
    d.call("fstat", first, at[0])
    d.call("fstat", second, at[1])
    assert d.get(at[0], 16) == d.get(at[1], 16)


WORDS = "\npidfd: .dword -1\nlimit: .dword 3, 3\n"


def cloned(before: str = "", after: str = "", kernel: str = "7.2", **fields: int | str) -> Result:
    text = clone3(**({"pidfd": "pidfd"} | fields)).replace("sys 94, 0\n", f"{after}\nsys 94, 0\n")
    return run(before + text + WORDS, kernel)


def test_a_clone_stores_the_pidfd_of_its_child() -> None:
    wait = f"li s0, pidfd\nlw a1, 0(s0)\nreport a1\nli a0, {P_PIDFD}\nli a2, 0\nli a3, 4\n"
    result = cloned(after=f"{wait}li a4, 0\nsys 95\nreport a0\n", flags=CLONE_PIDFD, exit_signal=17)
    assert result.words == [3, 0]


LATE = [
    ("sys 261, 0, 7, limit, 0\n", {}, EMFILE),  # RLIMIT_NOFILE
    ("", {"pidfd": 8}, EFAULT),
    ("", {"flags": CLONE_PIDFD | 1 << 33, "cgroup": 0}, EBADF),  # CLONE_INTO_CGROUP
    ("", {"flags": CLONE_PIDFD | PARENT_SETTID, "parent_tid": "pidfd"}, EINVAL),
]


@pytest.mark.parametrize(("before", "fields", "errno"), LATE)
def test_a_clone_that_gets_no_pidfd_fails(
    before: str, fields: dict[str, int | str], errno: int
) -> None:
    known = {"flags": CLONE_PIDFD, "exit_signal": SIGCHLD}
    opened = "sys 434, 100, 0\nreport a0\nsys 261, 0, 7, free, 0\nsys 434, 100, 0\nreport a0\n"
    result = cloned(before, opened, **known | fields)
    (clone,) = result.rows("clones")
    assert (clone["ret"], clone["child_tid"]) == (errno, None)


def test_a_failed_clone_gives_its_descriptor_back() -> None:
    result = cloned(after="sys 434, 100, 0\nreport a0\n", flags=CLONE_PIDFD, pidfd=8)
    assert result.words == [3]


def test_closing_an_autokill_pidfd_kills() -> None:
    """7.1: its last reference; one from pidfd_open is another file."""
    flags = CLONE_PIDFD | AUTOREAP | NNP | AUTOKILL
    looping = clone3(flags=flags, pidfd="pidfd").replace("child: sys 93, 0", "child: j child")
    text = looping.replace("sys 94, 0\n", "sys 57, 3\nsys 94, 0\n", 1) + WORDS
    result = run(text)
    assert result.ending == "exited"
    ended = [row["status"] for row in result.rows("task_events") if row["kind"] == "exit_begin"]
    assert sorted(ended) == [0, 9]


@pytest.mark.parametrize(
    ("flags", "errno"),
    [
        (CLONE_PIDFD | AUTOREAP | AUTOKILL, -1),  # without CLONE_NNP
        (CLONE_PIDFD | NNP | AUTOKILL, EINVAL),  # without CLONE_AUTOREAP
    ],
)
def test_what_autokill_needs(flags: int, errno: int) -> None:
    assert returned(cloned(flags=flags), "clone3") == [errno]


@pytest.mark.parametrize("flag", [AUTOREAP, NNP, 1 << 37])
def test_the_flags_of_7_1_are_unknown_before(flag: int) -> None:
    assert returned(cloned(flags=flag, kernel="7.0"), "clone3") == [EINVAL]
    assert returned(cloned(flags=flag, kernel="7.0,clone3_flags=empty_mntns"), "clone3") != [EINVAL]
