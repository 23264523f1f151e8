"""fcntl: errors, owners and their signals, leases, seals, the size of a pipe."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from stage import Stage, hold, table

from shstk.schemas import uapi
from shstk.schemas.uapi import O_NONBLOCK, O_RDONLY, O_RDWR, O_WRONLY, PAGE
from shstk.tracer.kernel.call import RESTART, Wait

SIGUSR1, SIGIO, SIGRTMIN = 10, 29, 34
O_ASYNC, O_DIRECT = uapi.O_ASYNC, uapi.O_DIRECT

ERRORS = """
fcntl closed 9999 0                     EBADF
fcntl file 9999 0                       EINVAL
fcntl path 9999 0                       EBADF   # check_fcntl_cmd, before the command
fcntl path F_SETFL 0                    EBADF
fcntl path F_GETFL 0                    ok
fcntl path F_GETFD 0                    0
fcntl path F_GETLK bad                  EBADF
fcntl file F_DUPFD -1                   EINVAL
fcntl file F_DUPFD 1024                 EINVAL
fcntl file F_DUPFD_QUERY closed         EBADF
fcntl file F_DUPFD_QUERY file           1
fcntl file F_DUPFD_QUERY rdonly         0
fcntl file F_CREATED_QUERY 0            0
fcntl devnull F_SETFL O_DIRECT          EINVAL
fcntl unix F_SETFL O_DIRECT             EINVAL
fcntl pipe_w F_SETFL O_DIRECT           0
fcntl file F_SETFL O_DIRECT             0
fcntl file F_SETLK bad                  EFAULT
fcntl file F_SETLK type9                EINVAL
fcntl file F_SETLK whence9              EINVAL
fcntl file F_SETLK before0              EINVAL
fcntl file F_SETLK past_end             EOVERFLOW
fcntl rdonly F_SETLK wrlck              EBADF
fcntl wronly F_SETLK rdlck              EBADF
fcntl rdonly F_OFD_SETLK wrlck_pid      EBADF   # the access mode, before l_pid
fcntl file F_OFD_SETLK wrlck_pid        EINVAL
fcntl file F_GETLK unlck                EINVAL
fcntl rdonly F_GETLK wrlck              0
fcntl file F_SETOWN 99999               ESRCH
fcntl file F_SETOWN -99999              ESRCH
fcntl file F_SETOWN 0x80000000          EINVAL
fcntl file F_SETOWN pid                 0
fcntl file F_GETOWN 0                   0
fcntl file F_SETOWN_EX bad              EFAULT
fcntl file F_SETOWN_EX i32:3,0          EINVAL
fcntl file F_SETOWN_EX i32:-1,0         EINVAL
fcntl file F_SETOWN_EX i32:0,99999      ESRCH
fcntl file F_GETOWN_EX bad              EFAULT
fcntl file F_GETOWNER_UIDS bad          EFAULT
fcntl file F_SETSIG 65                  EINVAL
fcntl file F_SETSIG -1                  EINVAL
fcntl file F_SETSIG 64                  0
fcntl file F_GETSIG 0                   0
fcntl file F_SETLEASE 3                 EINVAL
fcntl dir F_SETLEASE F_RDLCK            EINVAL
fcntl pipe_r F_SETLEASE F_RDLCK         EINVAL
fcntl devnull F_SETLEASE F_RDLCK        EINVAL
fcntl rdonly F_SETLEASE F_RDLCK         EAGAIN  # the file is open for writing
fcntl rdonly F_SETLEASE F_UNLCK         EAGAIN  # there is none
fcntl rdonly F_GETLEASE 0               2
fcntl pipe_r F_GETLEASE 0               2
fcntl file F_GETPIPE_SZ 0               EBADF
fcntl unix F_SETPIPE_SZ 4096            EBADF
fcntl pipe_r F_GETPIPE_SZ 0             65536
fcntl pipe_r F_SETPIPE_SZ 0             4096
fcntl pipe_r F_SETPIPE_SZ 5000          8192
fcntl pipe_r F_SETPIPE_SZ 1048576       1048576
fcntl pipe_r F_SETPIPE_SZ 1048577       EPERM
fcntl pipe_r F_SETPIPE_SZ 0x80000001    EINVAL
fcntl memfd F_GET_SEALS 0               1       # F_SEAL_SEAL: MFD_ALLOW_SEALING was not given
fcntl file F_GET_SEALS 0                1
fcntl pipe_r F_GET_SEALS 0              EINVAL
fcntl rdonly F_ADD_SEALS 0x100          EPERM
fcntl file F_ADD_SEALS 0x100            EINVAL
fcntl memfd F_ADD_SEALS 0               EPERM
fcntl file F_GET_RW_HINT bad            EFAULT
fcntl file F_SET_RW_HINT u64:6          EINVAL
fcntl file F_SET_RW_HINT u64:5          0
flock closed 3                          EINVAL  # the operation, before the descriptor
flock closed 1                          EBADF
flock path 1                            EBADF
flock file 0                            EINVAL
flock file 33                           0       # LOCK_MAND is ignored
dup closed                              EBADF
dup3 file file 0                        EINVAL
dup3 closed 5 0x1                       EINVAL
dup3 closed 5 0                         EBADF
dup3 file 1024 0                        EBADF
close closed                            EBADF
close_range 5 4 0                       EINVAL
close_range 3 4 8                       EINVAL
pipe2 bad 0                             EFAULT
pipe2 bad 1                             EINVAL
eventfd2 0 2                            EINVAL
epoll_create1 1                         EINVAL
inotify_init1 1                         EINVAL
inotify_add_watch closed '' 1           EBADF
inotify_add_watch file /tmp 1           EINVAL
inotify_add_watch closed /tmp 0         EINVAL
inotify_add_watch inotify bad 1         EFAULT
inotify_add_watch inotify '' 1          ENOENT
inotify_add_watch inotify /tmp/f 0x01000001 ENOTDIR
inotify_rm_watch closed 1               EBADF
inotify_rm_watch file 1                 EINVAL
inotify_rm_watch inotify 1              EINVAL
signalfd4 closed bad 9 0                EINVAL
signalfd4 closed bad 8 1                EFAULT
signalfd4 closed u64:0 8 1              EINVAL
signalfd4 closed u64:0 8 0              EBADF
signalfd4 file u64:0 8 0                EINVAL
timerfd_create 2 0                      EINVAL
timerfd_create 1 2                      EINVAL
timerfd_create 11 0                     EINVAL  # CLOCK_TAI
timerfd_create 9 0                      EPERM   # CLOCK_BOOTTIME_ALARM
timerfd_settime closed 0 bad 0          EFAULT  # the time is read first
timerfd_settime closed 8 i64:0,0,0,0 0  EINVAL
timerfd_settime closed 0 i64:0,-1,0,0 0 EINVAL
timerfd_settime closed 0 i64:0,0,0,1000000000 0  EINVAL
timerfd_settime closed 0 i64:0,0,0,0 0  EBADF
timerfd_settime file 0 i64:0,0,0,0 0    EINVAL
timerfd_settime timerfd 3 i64:0,0,0,0 0 0
timerfd_settime timerfd 0 i64:0,0,0,0 bad EFAULT
timerfd_gettime closed bad              EBADF
timerfd_gettime file room               EINVAL
timerfd_gettime timerfd bad             EFAULT
"""


def flock(kind: int, whence: int = 0, start: int = 0, length: int = 0, pid: int = 0) -> bytes:
    return struct.pack("<hh4xqqi4x", kind, whence, start, length, pid)


def made() -> Stage:
    stage = Stage()
    rows = {"type9": flock(9), "whence9": flock(0, 9), "before0": flock(1, 0, -1)}
    rows |= {"past_end": flock(1, 0, 2**63 - 1, 2), "unlck": flock(2)}
    rows |= {"rdlck": flock(0), "wrlck": flock(1), "wrlck_pid": flock(1, pid=5)}
    stage.words |= {name: stage.put(data) for name, data in rows.items()}
    return stage


@pytest.fixture
def stage() -> Stage:
    return made()


@table(ERRORS)
def test_which_error_comes_first(line: str) -> None:
    hold(made, line)


# Owners and their signals.


def pending(stage: Stage) -> list[tuple[int, int]]:
    """Signals of the task and its process: (signo, si_code)."""
    infos = [*stage.t.pending, *stage.t.process.pending]
    return [(info.signo, info.code) for info in infos]


def test_an_owner_is_a_thread_a_process_or_a_group(stage: Stage) -> None:
    fd, room, pid = stage.words["unix"], stage.words["room"], stage.t.pid
    assert stage.call("setpgid", 0, 0) == 0
    for kind, plain in ((0, pid), (1, pid), (2, -pid)):
        assert stage.call("fcntl", fd, uapi.F_SETOWN_EX, struct.pack("<ii", kind, pid)) == 0
        assert stage.call("fcntl", fd, uapi.F_GETOWN_EX, room) == 0
        assert struct.unpack("<ii", stage.get(room, 8)) == (kind, pid)
        assert stage.call("fcntl", fd, uapi.F_GETOWN, 0) == plain
    assert stage.call("fcntl", fd, uapi.F_SETOWN, -pid) == 0
    assert stage.call("fcntl", fd, uapi.F_GETOWN_EX, room) == 0
    assert struct.unpack("<ii", stage.get(room, 8)) == (2, pid)


@pytest.mark.parametrize(
    ("signal", "told"),
    [(0, (SIGIO, 0x80)), (SIGUSR1, (SIGUSR1, 1)), (SIGIO, (SIGIO, 1)), (SIGRTMIN, (SIGRTMIN, 1))],
)
def test_the_signal_may_be_chosen_and_then_says_more(
    stage: Stage, signal: int, told: tuple[int, int]
) -> None:
    """SI_KERNEL for SIGIO by default, else POLL_IN with si_band and si_fd."""
    stage.t.sigmask = 2**64 - 1
    reader, writer = stage.words["pipe_r"], stage.words["pipe_w"]
    assert stage.call("fcntl", reader, uapi.F_SETOWN, stage.t.pid) == 0
    assert stage.call("fcntl", reader, uapi.F_SETSIG, signal) == 0
    assert stage.call("fcntl", reader, uapi.F_GETSIG, 0) == signal
    assert stage.call("fcntl", reader, uapi.F_SETFL, O_ASYNC) == 0
    stage.write(writer, b"x")
    assert pending(stage) == [told]
    if signal:
        (info,) = stage.t.process.pending
        assert info.fields == struct.pack("<qi", 0x41, reader)


# Leases.


class Leased:
    """/tmp/leased, open once; opened(flags) is another open, which may wait."""

    def __init__(self, flags: int, kind: int) -> None:
        self.stage = stage = Stage()
        stage.save("/tmp/leased", b"")
        stage.t.sigmask = 2**64 - 1
        self.fd = stage.open("/tmp/leased", flags)
        assert self.lease(kind) == 0

    def lease(self, kind: int) -> Any:
        return self.stage.call("fcntl", self.fd, uapi.F_SETLEASE, kind)

    def held(self) -> Any:
        return self.stage.call("fcntl", self.fd, uapi.F_GETLEASE, 0)

    def opened(self, flags: int) -> Any:
        return self.stage.start("openat", -100, b"/tmp/leased\0", flags, 0)


RDLCK, WRLCK, UNLCK = uapi.F_RDLCK, uapi.F_WRLCK, uapi.F_UNLCK


def test_a_lease_that_nothing_conflicts_with() -> None:
    leased = Leased(O_RDONLY, RDLCK)
    assert leased.held() == RDLCK
    assert isinstance(leased.opened(O_RDONLY), int)
    assert leased.lease(WRLCK) == "EAGAIN"  # it is open twice
    assert leased.lease(UNLCK) == 0
    assert leased.held() == UNLCK


@pytest.mark.parametrize(
    ("mode", "kind", "other", "becomes"),
    [
        (O_RDONLY, RDLCK, O_WRONLY, UNLCK),
        (O_RDONLY, WRLCK, O_RDONLY, RDLCK),
        (O_RDWR, WRLCK, O_RDWR, UNLCK),
    ],
)
def test_the_holder_is_told_and_the_open_waits(
    mode: int, kind: int, other: int, becomes: int
) -> None:
    leased = Leased(mode, kind)
    stage = leased.stage
    assert leased.opened(other | O_NONBLOCK) == "EAGAIN"
    assert pending(stage) == [(SIGIO, 0x80)]
    assert leased.held() == becomes
    assert isinstance(leased.opened(other), Wait)
    saved = stage.pending, stage.t.blocked
    assert leased.lease(becomes) == 0
    stage.pending, stage.t.blocked = saved
    assert isinstance(stage.retry(), int)


def test_a_lease_that_is_not_given_back_ends_after_45_seconds() -> None:
    leased = Leased(O_RDONLY, RDLCK)
    wait = leased.opened(O_WRONLY)
    assert isinstance(wait, Wait)
    assert wait.deadline_ns == leased.stage.k.now_ns() + 45 * 10**9
    assert leased.stage.retry("signal") is RESTART
    leased.stage.idle(45 * 10**9)
    assert isinstance(leased.stage.retry("deadline"), int)
    assert leased.held() == UNLCK


def test_closing_gives_a_lease_back_and_truncate_breaks_one() -> None:
    leased = Leased(O_RDONLY, RDLCK)
    assert isinstance(leased.stage.start("truncate", b"/tmp/leased\0", 0), Wait)
    leased.stage.call("close", leased.fd)
    assert leased.stage.call("truncate", b"/tmp/leased\0", 0) == 0


# Seals.


def sealed(stage: Stage, flags: int, seals: int, data: bytes = b"data") -> int:
    fd = stage.call("memfd_create", b"m\0", flags)
    assert isinstance(fd, int)
    assert stage.write(fd, data) == len(data)
    assert stage.call("fcntl", fd, uapi.F_ADD_SEALS, seals) == 0
    return fd


def test_seals_refuse_what_they_say(stage: Stage) -> None:
    still = sealed(stage, 2, uapi.F_SEAL_WRITE)
    assert stage.call("pwrite64", still, b"x", 1, 0) == "EPERM"
    assert stage.call("fallocate", still, 3, 0, 4) == "EPERM"
    assert stage.call("mmap", 0, PAGE, 3, uapi.MAP_SHARED, still, 0) == "EPERM"
    area = stage.call("mmap", 0, PAGE, 1, uapi.MAP_SHARED, still, 0)
    assert stage.call("mprotect", area, PAGE, 3) == "EACCES"
    small = sealed(stage, 2, uapi.F_SEAL_GROW)
    assert stage.call("ftruncate", small, 5) == "EPERM"
    assert stage.call("fallocate", small, 0, 0, 5) == "EPERM"
    assert stage.call("pwrite64", small, b"12345", 5, 0) == "EPERM"
    assert stage.call("pwrite64", small, b"1234", 4, 0) == 4
    assert stage.call("ftruncate", small, 0) == 0
    large = sealed(stage, 2, uapi.F_SEAL_SHRINK | uapi.F_SEAL_SEAL)
    assert stage.call("ftruncate", large, 3) == "EPERM"
    assert stage.call("ftruncate", large, 5) == 0
    assert stage.call("fcntl", large, uapi.F_ADD_SEALS, uapi.F_SEAL_GROW) == "EPERM"
    assert stage.call("fcntl", large, uapi.F_GET_SEALS, 0) == 3


def test_a_write_past_a_sealed_size_ends_with_the_last_whole_page(stage: Stage) -> None:
    fd = sealed(stage, 2, uapi.F_SEAL_GROW, bytes(2 * PAGE))
    data = stage.put(b"x" * (2 * PAGE + 1))
    assert stage.call("pwrite64", fd, data, 2 * PAGE + 1, 0) == 2 * PAGE
    assert stage.call("pwrite64", fd, data, 10, 2 * PAGE) == "EPERM"


def test_a_writable_mapping_keeps_a_file_from_being_sealed(stage: Stage) -> None:
    fd = sealed(stage, 2, uapi.F_SEAL_GROW)
    area = stage.call("mmap", 0, PAGE, 3, uapi.MAP_SHARED, fd, 0)
    assert stage.call("fcntl", fd, uapi.F_ADD_SEALS, uapi.F_SEAL_WRITE) == "EBUSY"
    assert stage.call("fcntl", fd, uapi.F_ADD_SEALS, uapi.F_SEAL_FUTURE_WRITE) == 0
    assert stage.call("munmap", area, PAGE) == 0
    stage.call("mmap", 0, PAGE, 3, uapi.MAP_PRIVATE, fd, 0)  # never writes to the file
    assert stage.call("fcntl", fd, uapi.F_ADD_SEALS, uapi.F_SEAL_WRITE) == 0


def test_who_may_execute_can_be_sealed(stage: Stage) -> None:
    fd = sealed(stage, 8, 0)  # MFD_NOEXEC_SEAL
    assert stage.call("fcntl", fd, uapi.F_GET_SEALS, 0) == uapi.F_SEAL_EXEC
    assert stage.call("fchmod", fd, 0o777) == "EPERM"
    assert stage.call("fchmod", fd, 0o600) == 0
    both = sealed(stage, 2 | 16, uapi.F_SEAL_EXEC)  # executable: no longer writable either
    assert stage.call("fcntl", both, uapi.F_GET_SEALS, 0) == 0x3E


# Pipes.


def test_a_pipe_grows_and_shrinks_by_pages(stage: Stage) -> None:
    reader, writer = stage.pipe(O_NONBLOCK)
    assert stage.call("fcntl", writer, uapi.F_SETPIPE_SZ, 2 * PAGE) == 2 * PAGE
    assert stage.write(writer, bytes(3 * PAGE)) == 2 * PAGE
    assert stage.write(writer, b"x") == "EAGAIN"
    assert stage.call("fcntl", writer, uapi.F_SETPIPE_SZ, PAGE) == "EBUSY"
    assert stage.call("fcntl", reader, uapi.F_SETPIPE_SZ, 4 * PAGE) == 4 * PAGE
    assert stage.write(writer, bytes(3 * PAGE)) == 2 * PAGE
    assert len(stage.read(reader, 3 * PAGE)) == 3 * PAGE
    assert stage.call("fcntl", writer, uapi.F_SETPIPE_SZ, PAGE) == PAGE


def test_a_write_that_does_not_fit_the_last_page_takes_one_of_its_own(stage: Stage) -> None:
    """A pipe of 16 pages is full after 16 writes of 3000 bytes."""
    _, writer = stage.pipe(O_NONBLOCK)
    answers = [stage.write(writer, bytes(3000)) for _ in range(17)]
    assert answers == [3000] * 16 + ["EAGAIN"]
    assert stage.write(writer, bytes(1000)) == 1000


def test_a_packet_is_read_whole_or_cut_off(stage: Stage) -> None:
    reader, writer = stage.pipe(O_DIRECT | O_NONBLOCK)
    stage.write(writer, b"first")
    stage.write(writer, b"second")
    assert stage.read(reader, 3) == b"fir"
    assert stage.read(reader, 100) == b"second"
    assert stage.read(reader, 100) == "EAGAIN"


def test_the_open_that_created_a_file_says_so(stage: Stage) -> None:
    for created in (1, 0):
        fd = stage.open("/tmp/new", uapi.O_CREAT)
        assert stage.call("fcntl", fd, uapi.F_CREATED_QUERY, 0) == created
