"""Calls on paths and sizes: which error comes first (fs/namei.c, fs/open.c, mm/shmem.c)."""

from __future__ import annotations

from typing import Any

import pytest
from stage import Stage, hold, table

from shstk.schemas.uapi import O_EXCL, O_RDWR, O_TMPFILE, O_TRUNC, O_WRONLY

NAMES = """
openat closed f 0                       EBADF
openat closed '' 0                      ENOENT  # getname, before the descriptor
openat closed bad 0                     EFAULT
openat closed long 0                    ENAMETOOLONG
openat file f 0                         ENOTDIR
openat cwd /tmp/none O_RDONLY           ENOENT
openat cwd /tmp/f/x O_RDONLY            ENOTDIR
openat cwd /tmp/d O_WRONLY              EISDIR
openat cwd /tmp/d O_RDONLY|O_CREAT      EISDIR
openat cwd bad O_CREAT|O_DIRECTORY      EINVAL  # before the path
openat cwd /tmp/f O_DIRECTORY           ENOTDIR
openat cwd /tmp/f O_CREAT|O_EXCL        EEXIST
openat cwd /tmp/l O_NOFOLLOW            ELOOP
openat cwd /tmp/loop O_RDONLY           ELOOP
openat cwd /tmp O_TMPFILE               EINVAL  # it needs write access
openat cwd /tmp 0o20000002              EINVAL  # and O_DIRECTORY
openat closed bad 0o20200100            EINVAL  # and no O_CREAT; before the path
openat cwd /tmp/f O_TMPFILE|O_RDWR      ENOTDIR
openat cwd /tmp/none O_TMPFILE|O_RDWR   ENOENT
openat cwd /tmp/shut O_TMPFILE|O_RDWR   EACCES
openat cwd /tmp O_TMPFILE|O_RDWR        ok
openat cwd name256 O_CREAT              ENAMETOOLONG
openat cwd /tmp/locked/x O_RDONLY       EACCES
fchmodat closed '' 0o600                ENOENT
fchmodat closed f 0o600                 EBADF
fchmodat file f 0o600                   ENOTDIR
fchmodat cwd bad 0o600                  EFAULT
fchmodat2 cwd /tmp/f 0o600 0x8000       EINVAL
fchmodat2 cwd /tmp/l 0o600 AT_SYMLINK_NOFOLLOW  EOPNOTSUPP
fchmodat2 file '' 0o600 AT_EMPTY_PATH   0
fchmod path 0o600                       EBADF
fchownat closed '' 0 0 0                ENOENT
fchownat closed '' 0 0 0x8000           EINVAL
fchownat cwd /tmp/f 0 0 0               EPERM
faccessat closed '' 0                   ENOENT
faccessat closed f 8                    EINVAL
faccessat2 cwd /tmp/f 8 0               EINVAL
faccessat2 cwd /tmp/f 0 0x8000          EINVAL
newfstatat closed '' room 0             ENOENT
newfstatat closed '' room 0x8000        EINVAL
newfstatat cwd /tmp/f bad 0             EFAULT
newfstatat file null room AT_EMPTY_PATH 0
statx cwd /tmp/f 0 0x80000000 room      EINVAL
statx cwd /tmp/f 0x6000 0 room          EINVAL
readlinkat cwd /tmp/l room 0            EINVAL
readlinkat cwd /tmp/l room -1           EINVAL
readlinkat cwd /tmp/f room 9            EINVAL
readlinkat file '' room 9               ENOENT  # and not EINVAL, for an empty path
readlinkat cwd /tmp/l bad 9             EFAULT
utimensat cwd null null 0               EFAULT
utimensat closed null null 0            EBADF
utimensat file null null AT_SYMLINK_NOFOLLOW EINVAL
utimensat cwd /tmp/none i64:0,0x3ffffffe,0,0x3ffffffe 0  0   # both UTIME_OMIT
utimensat cwd /tmp/none i64:0,0,0,0 0   ENOENT
utimensat cwd /tmp/f i64:0,-1,0,0 0     EINVAL
chdir ''                                ENOENT
chdir /tmp/f                            ENOTDIR
chdir /tmp/locked/x                     EACCES
fchdir closed                           EBADF
fchdir file                             ENOTDIR
chroot bad                              EFAULT
chroot long                             ENAMETOOLONG
chroot name256                          ENAMETOOLONG
chroot /tmp/none                        ENOENT
chroot /tmp/f                           ENOTDIR
chroot /tmp/loop                        ELOOP
chroot /tmp/locked/x                    EACCES
chroot /tmp                             EPERM   # the capability comes last
getcwd room 0                           ERANGE
getcwd bad 4096                         EFAULT
"""

MAKING_AND_REMOVING = """
mkdirat closed '' 0o755         ENOENT
mkdirat closed d 0o755          EBADF
mkdirat cwd /tmp/d 0o755        EEXIST
mkdirat cwd / 0o755             EEXIST
mkdirat cwd /tmp/f/d 0o755      ENOTDIR
mkdirat cwd /tmp/none/d 0o755   ENOENT
mkdirat cwd name256 0o755       ENAMETOOLONG
mknodat cwd /tmp/n 0o040644 0   EPERM   # S_IFDIR
mknodat cwd /tmp/n 0o120644 0   EINVAL  # S_IFLNK
mknodat cwd /tmp/f 0o020644 0   EEXIST
mknodat cwd /tmp/n 0o020644 0x103 EPERM
mknodat cwd /tmp/n 0o060644 0   EPERM
mknodat cwd /tmp/n 0o140644 0   0       # a socket may be made
symlinkat '' cwd /tmp/n         ENOENT
symlinkat /x cwd /tmp/f         EEXIST
symlinkat bad cwd /tmp/n        EFAULT
linkat cwd /tmp/f cwd /tmp/n 0x8000     EINVAL
linkat closed '' cwd /tmp/n 0           ENOENT
linkat cwd /tmp/none cwd /tmp/f 0       ENOENT
linkat cwd /tmp/f cwd /tmp/f 0          EEXIST
linkat cwd /tmp/d cwd /tmp/n 0          EPERM
linkat cwd /proc/meminfo cwd /tmp/n 0   EXDEV
linkat cwd /proc cwd /tmp/n 0           EXDEV
linkat file '' cwd /tmp/n AT_EMPTY_PATH 0
unlinkat cwd /tmp/f 0x8000              EINVAL
unlinkat closed '' 0                    ENOENT
unlinkat cwd / 0                        EISDIR
unlinkat cwd /tmp/d 0                   EISDIR
unlinkat cwd /tmp/d/. 0                 EISDIR
unlinkat cwd /tmp/f AT_REMOVEDIR        ENOTDIR
unlinkat cwd /tmp AT_REMOVEDIR          EBUSY
unlinkat cwd /tmp/d/. AT_REMOVEDIR      EINVAL
unlinkat cwd /tmp/d/.. AT_REMOVEDIR     ENOTEMPTY
unlinkat cwd /tmp/full AT_REMOVEDIR     ENOTEMPTY
unlinkat cwd /tmp/shut/sub 0            EACCES  # may_delete: the parent, before what it is
unlinkat cwd /tmp/shut/none 0           ENOENT
renameat2 cwd /tmp/f cwd /tmp/n 8       EINVAL
renameat2 cwd /tmp/f cwd /tmp/n 3       EINVAL
renameat2 closed '' cwd /tmp/n 0        ENOENT
renameat2 cwd /tmp/none cwd /tmp/n 0    ENOENT
renameat2 cwd /tmp/none cwd /proc/n 0   EXDEV   # before the old name is looked up
renameat2 cwd /tmp/none cwd /tmp/d/. 0  EBUSY
renameat2 cwd /tmp/f cwd /tmp/d/.. 1    EEXIST  # RENAME_NOREPLACE
renameat2 cwd /tmp/f cwd /tmp/d 1       EEXIST
renameat2 cwd /tmp/f cwd /tmp/n 2       ENOENT  # RENAME_EXCHANGE
renameat2 cwd /tmp/f cwd /tmp/n/ 0      ENOTDIR
renameat2 cwd /tmp/f cwd /tmp/d 0       EISDIR
renameat2 cwd /tmp/d cwd /tmp/f 0       ENOTDIR
renameat2 cwd /tmp/d cwd /tmp/full 0    ENOTEMPTY
renameat2 cwd /tmp/full cwd /tmp/full/x 0       EINVAL
renameat2 cwd /tmp/full/in cwd /tmp/full 0      ENOTEMPTY
renameat2 cwd /tmp/full/in cwd /tmp/full 2      EINVAL
renameat2 cwd /tmp/shut/sub cwd /tmp/n 0        EACCES
"""

SIZES = """
truncate '' -1                  EINVAL  # the length, before the path
truncate /tmp/d 0               EISDIR
truncate /dev/null 0            EINVAL
truncate /tmp/mine 0            EACCES
truncate /tmp/none 0            ENOENT
truncate bad 0                  EFAULT
ftruncate closed -1             EINVAL
ftruncate closed 0              EBADF
ftruncate rdonly 0              EINVAL
ftruncate pipe_w 0              EINVAL
fallocate closed 0 -1 1         EBADF
fallocate rdonly 0 -1 1         EINVAL
fallocate rdonly 0 0 0          EINVAL
fallocate rdonly 0 0 -1         EINVAL
fallocate rdonly 2 0 1          EOPNOTSUPP      # a hole, without FALLOC_FL_KEEP_SIZE
fallocate rdonly 9 0 1          EOPNOTSUPP
fallocate rdonly 0x100 0 1      EOPNOTSUPP
fallocate rdonly 0 0 1          EBADF
fallocate pipe_w 0 0 1          ESPIPE
fallocate devnull 0 0 1         ENODEV
fallocate unix 0 0 1            ENODEV
fallocate pipe_w 0 1 0x7fffffffffffffff ESPIPE
fallocate file 0 1 0x7fffffffffffffff   EFBIG
fallocate file 1 1 0x7fffffffffffffff   EFBIG
fallocate file 0x10 0 1         EOPNOTSUPP      # tmpfs zeroes no range
fallocate file 1 0 4096         0
fallocate file 3 0 4096         0
fsync closed                    EBADF
fsync path                      EBADF
fsync dir                       0
fsync devnull                   EINVAL
fdatasync devnull               EINVAL
fdatasync pipe_r                EINVAL
fdatasync unix                  EINVAL
fdatasync proc                  EINVAL
fdatasync rdonly                0
syncfs pipe_r                   0
syncfs path                     EBADF
sync_file_range closed -1 0 8   EBADF
sync_file_range file 0 0 8      EINVAL
sync_file_range file -1 1 0     EINVAL
sync_file_range file 0 -1 0     EINVAL
sync_file_range file 1 0x7fffffffffffffff 0     EINVAL
sync_file_range pipe_r 0 1 8    EINVAL
sync_file_range pipe_r 0 1 0    ESPIPE
sync_file_range devnull 0 1 0   ESPIPE
sync_file_range dir 0 1 0       0
readahead wronly 0 1            EBADF
readahead pipe_r 0 1            EINVAL
readahead dir 0 1               EINVAL
readahead file 0 -1             EINVAL
fadvise64 closed 0 0 9          EBADF
fadvise64 pipe_r 0 -1 9         ESPIPE
fadvise64 file 0 -1 0           EINVAL
fadvise64 file 0 0 6            EINVAL
fadvise64 file 0 0 5            0
getdents64 closed room 100      EBADF
getdents64 file room 100        ENOTDIR
getdents64 dir room 1           EINVAL
getdents64 dir bad 100          EFAULT
memfd_create bad 0x20           EINVAL
memfd_create bad 0              EFAULT
memfd_create name256 0          EINVAL
memfd_create /m 0x18            EINVAL  # MFD_EXEC and MFD_NOEXEC_SEAL
"""


def made() -> Stage:
    stage = Stage()
    stage.words |= {"f": stage.put(b"f\0"), "d": stage.put(b"d\0")}
    stage.words |= {"long": stage.put(b"x" * 5000 + b"\0")}
    stage.words |= {"name256": stage.put(b"n" * 256 + b"\0")}
    stage.call("symlinkat", b"f\0", -100, b"/tmp/l\0")
    stage.call("symlinkat", b"loop\0", -100, b"/tmp/loop\0")
    for name in ("full", "full/in", "locked", "locked/x", "shut", "shut/sub"):
        assert stage.at("mkdirat", f"/tmp/{name}", 0o755) == 0
    stage.save("/tmp/mine", b"")
    for name, mode in {"mine": 0o444, "locked": 0o600, "shut": 0o555}.items():
        stage.at("fchmodat", f"/tmp/{name}", mode)
    return stage


@pytest.fixture
def stage() -> Stage:
    return made()


@table(NAMES + MAKING_AND_REMOVING + SIZES)
def test_which_error_comes_first(line: str) -> None:
    hold(made, line)


def test_a_hole_reads_as_zeros_and_keeps_the_size(stage: Stage) -> None:
    assert stage.call("fallocate", stage.words["file"], 3, 2, 3) == 0
    assert stage.call("fallocate", stage.words["file"], 3, 8, 4096) == 0
    assert stage.text("/tmp/f") == b"01" + bytes(3) + b"567" + bytes(2)


def test_a_descriptor_is_taken_before_the_path_is_walked(stage: Stage) -> None:
    stage.t.process.rlimits["NOFILE"] = (max(stage.t.files.slots) + 1, 4096)
    assert stage.open("/tmp/new", 0o102) == "EMFILE"
    assert stage.open("/tmp/none/new") == "EMFILE"
    assert stage.stat("/tmp/new") == "ENOENT"


def test_a_program_that_runs_is_not_written_to(stage: Stage) -> None:
    answers: list[Any] = [stage.open("/guest", flags) for flags in (O_WRONLY, O_RDWR, O_TRUNC)]
    assert answers == ["ETXTBSY"] * 3
    assert stage.call("truncate", b"/guest\0", 0) == "ETXTBSY"
    assert isinstance(stage.open("/guest"), int)


def test_a_file_that_is_open_for_writing_is_not_run(stage: Stage) -> None:
    stage.at("fchmodat", "/tmp/f", 0o755)
    assert stage.at("execveat", "/tmp/f", 0, 0, 0) == "ETXTBSY"
    for name in ("file", "wronly", "append"):
        stage.call("close", stage.words[name])
    assert stage.at("execveat", "/tmp/f", 0, 0, 0) == "ENOEXEC"


def test_a_file_without_a_name_can_be_given_one(stage: Stage) -> None:
    """O_TMPFILE; O_EXCL forbids it."""
    for excl, answer in ((0, 0), (O_EXCL, "ENOENT")):
        fd = stage.open("/tmp/d", O_TMPFILE | O_RDWR | excl, 0o640)
        assert stage.write(fd, b"kept") == 4
        assert stage.call("getdents64", stage.words["dir"], stage.words["room"], 4096) == 48
        name = f"/tmp/named{excl}"
        link = f"/proc/self/fd/{fd}\0".encode()
        assert stage.call("linkat", -100, link, -100, name.encode() + b"\0", 0x400) == answer
        assert stage.text(name) == (b"kept" if not excl else "ENOENT")
        assert stage.call("lseek", stage.words["dir"], 0, 0) == 0
