"""read, write and their families: which error comes first (fs/read_write.c, fs/splice.c)."""

from __future__ import annotations

import struct

import pytest
from stage import Stage, hold, table

READ_AND_WRITE = """
read closed bad 1               EBADF
read path room 1                EBADF
read wronly wild 1              EBADF   # the access mode, before the address
read epoll wild 1               EINVAL  # FMODE_CAN_READ, before the address
read file wild 1                EFAULT
read file room -1               EFAULT  # access_ok fails before the length is looked at
read file bad 1                 EFAULT
read file bad 0                 0
read file wild 0                EFAULT
read dir room 1                 EISDIR
read dir room 0                 EISDIR
read eventfd room 0             EINVAL
read eventfd room 7             EINVAL
read signalfd room 127          EINVAL
read timerfd room 7             EINVAL
read pipe_r bad 0               0
read pipe_w room 1              EBADF
write closed bad 1              EBADF
write rdonly wild 1             EBADF
write inotify room 1            EBADF   # open for reading only
write timerfd room 8            EINVAL
write signalfd room 8           EINVAL
write epoll room 8              EINVAL
write file bad 1                EFAULT
write file bad 0                0
write devnull bad 1             1       # it never reads what is written
write devnull wild 1            EFAULT
write eventfd bad 4             EINVAL  # the length, before the bytes
write eventfd bad 8             EFAULT
write eventfd i64:-1 8          EINVAL
write pipe_r room 1             EBADF
write dir room 1                EBADF
"""

AT_AN_OFFSET = """
pread64 closed room 1 -1        EINVAL  # the offset, before the descriptor
pread64 closed room 1 0         EBADF
pread64 pipe_w room 1 0         ESPIPE  # whether it has offsets, before the access mode
pread64 wronly room 1 0         EBADF
pread64 tty room 1 0            ESPIPE
pread64 unix room 1 0           ESPIPE
pread64 eventfd room 8 0        ESPIPE
pread64 dir room 1 0            EISDIR
pread64 file room 1 0x7fffffffffffffff EINVAL
pwrite64 closed room 1 -1       EINVAL
pwrite64 pipe_r room 1 0        ESPIPE
pwrite64 rdonly room 1 0        EBADF
pwrite64 file bad 1 0           EFAULT
lseek closed 0 0                EBADF
lseek pipe_r 0 99               EINVAL  # whence, before whether it can seek
lseek pipe_r 0 0                ESPIPE
lseek unix 0 0                  ESPIPE
lseek tty 0 0                   ESPIPE
lseek eventfd 5 0               0       # noop_llseek
lseek file -1 0                 EINVAL
lseek file 0x7fffffffffffffff 2 EINVAL
lseek file 10 3                 ENXIO
lseek path 0 0                  EBADF
"""

VECTORS = """
readv closed bad 1              EBADF
readv wronly bad 1              EFAULT  # import_iovec, before the access mode
readv wronly iov 1              EBADF
readv file iov 1025             EINVAL
readv file iov -1               EINVAL
readv file long 1               EINVAL
readv file wild_iov 1           EFAULT
readv dir empty 1               0       # unlike read, nothing is nothing
readv eventfd empty 1           0
readv file null 0               0
writev rdonly bad 1             EFAULT
writev rdonly iov 1             EBADF
writev file long 1              EINVAL
preadv closed iov 1 -1 0        EINVAL
preadv pipe_r iov 1 0 0         ESPIPE
preadv2 pipe_r iov 1 0 0 0      ESPIPE
preadv2 closed iov 1 -1 0 -1    EBADF
preadv2 file iov 1 0 0 -1       EOPNOTSUPP
preadv2 file empty 1 0 0 -1     0       # the flags come last
preadv2 file iov 1 0 0 RWF_APPEND|RWF_NOAPPEND EINVAL
preadv2 file iov 1 0 0 RWF_ATOMIC EOPNOTSUPP
preadv2 pipe_r iov 1 -1 0 RWF_NOWAIT EAGAIN
preadv2 file iov 1 0 0 RWF_NOWAIT EOPNOTSUPP    # tmpfs
preadv2 proc iov 1 0 0 RWF_NOWAIT EOPNOTSUPP
pwritev2 file iov 1 0 0 RWF_DONTCACHE EOPNOTSUPP
pwritev2 pipe_w iov 1 0 0 0     ESPIPE
pwritev2 pipe_w iov 1 0 0 -1    ESPIPE
pwritev2 file iov 1 -2 0 0      EINVAL
pwritev2 rdonly iov 1 0 0 -1    EBADF
pwritev2 file bad 1 0 0 -1      EFAULT
pwritev2 file iov 1 0 0 0x8000  EOPNOTSUPP
"""

BETWEEN_FILES = """
sendfile closed closed bad 1    EFAULT  # the offset is read first
sendfile closed closed null 1   EBADF
sendfile file wronly null 1     EBADF
sendfile closed pipe_r u64:0 1  ESPIPE
sendfile closed file i64:-1 1   EINVAL
sendfile rdonly file null 1     EBADF
sendfile append file null 1     EINVAL
sendfile file pipe_r null 1     EINVAL  # the input can't seek
sendfile pipe_w pipe_r null 1   EINVAL  # a pipe has no splice_read
sendfile file dir null 1        EINVAL
sendfile eventfd file null 8    EINVAL
sendfile file file readonly 1   EFAULT
sendfile pipe_w file null 4     4
copy_file_range closed null file null 1 0   EBADF
copy_file_range file null closed null 1 -1  EBADF
copy_file_range file bad file null 1 -1     EFAULT
copy_file_range wronly null file null 1 -1  EINVAL
copy_file_range dir null rdonly null 1 0    EISDIR
copy_file_range pipe_r null file null 1 0   EINVAL
copy_file_range wronly null file null 1 0   EBADF
copy_file_range file null rdonly null 1 0   EBADF
copy_file_range file null append null 1 0   EBADF
copy_file_range file null memfd null 1 0    EXDEV
copy_file_range file u64:0 file u64:0xfffffffffffffff8 16 0   EOVERFLOW
copy_file_range file u64:0 file u64:5 10 0  EINVAL  # they overlap
copy_file_range file u64:10 file u64:12 10 0    0   # at the end, there is nothing to overlap
"""


def made() -> Stage:
    stage = Stage()
    room, wild = stage.words["room"], stage.words["wild"]
    for name, part in {"iov": (room, 1), "empty": (room, 0), "long": (room, 1 << 63)}.items():
        stage.words[name] = stage.put(struct.pack("<QQ", *part) * 2)
    stage.words["wild_iov"] = stage.put(struct.pack("<QQ", wild, 1))
    return stage


@pytest.fixture
def stage() -> Stage:
    return made()


@table(READ_AND_WRITE + AT_AN_OFFSET + VECTORS + BETWEEN_FILES)
def test_which_error_comes_first(line: str) -> None:
    hold(made, line)


def test_a_readers_absence_is_noticed_before_a_bad_address(stage: Stage) -> None:
    stage.t.sigmask = 2**64 - 1
    stage.call("close", stage.words["pipe_r"])
    assert stage.call("write", stage.words["pipe_w"], 8, 1) == "EPIPE"
    assert [info.signo for info in stage.t.pending] == [13]
    assert stage.call("write", stage.words["pipe_w"], 8, 0) == 0


def test_sendfile_stores_the_offset_even_after_an_error(stage: Stage) -> None:
    """do_sendfile has moved the bytes by the time the offset turns out to be read-only."""
    out = stage.open("/tmp/out", 0o101)
    at = stage.words["readonly"]
    assert stage.call("sendfile", out, stage.words["rdonly"], at, 4) == "EFAULT"
    assert stage.text("/tmp/out") == b"0123"


def test_a_write_may_ask_to_append_or_not_to(stage: Stage) -> None:
    def pwritev2(fd: int, data: bytes, offset: int, flags: int) -> None:
        iov = struct.pack("<QQ", stage.put(data), len(data))
        assert stage.call("pwritev2", fd, iov, 1, offset, 0, flags) == len(data)

    pwritev2(stage.words["file"], b"end", 0, 0x10)
    assert stage.text("/tmp/f") == b"0123456789end"
    pwritev2(stage.words["append"], b"AB", 1, 0x20)
    assert stage.text("/tmp/f") == b"0AB3456789end"
    pwritev2(stage.words["append"], b"!", -1, 0)
    assert stage.text("/tmp/f") == b"0AB3456789end!"
