"""Calls about memory, and futexes: which error comes first (mm/mmap.c, mprotect.c, msync.c,
kernel/futex)."""

from __future__ import annotations

import struct

import pytest
from stage import Stage, hold, table

from shstk.schemas.uapi import MAP_SHARED, PAGE

MAPPING = """
mmap null 0 3 0x22 -1 1                 EINVAL  # an offset that isn't a page's, before everything
mmap null 0 3 MAP_PRIVATE closed 0      EBADF   # the descriptor, before the length
mmap null 0 3 MAP_PRIVATE path 0        EBADF
mmap null 0 PROT_READ MAP_PRIVATE wronly 0      EINVAL  # the length, before the file's mode
mmap null -1 PROT_READ MAP_PRIVATE wronly 0     ENOMEM
mmap null 4096 PROT_READ MAP_PRIVATE wronly 0   EACCES
mmap null 4096 PROT_READ MAP_SHARED wronly 0    EACCES
mmap null 4096 PROT_WRITE MAP_SHARED rdonly 0   EACCES
mmap null 4096 PROT_WRITE MAP_PRIVATE rdonly 0  ok
mmap null 4096 PROT_READ MAP_SHARED rdonly 0    ok
mmap null 4096 PROT_READ 0 file 0       EINVAL  # neither shared nor private
mmap null 4096 PROT_READ 0x20 -1 0      EINVAL
mmap null 4096 3 0x23 -1 0              EINVAL  # MAP_SHARED_VALIDATE is for files
mmap null 4096 3 0x283 file 0           EOPNOTSUPP      # flags that only it checks
mmap null 4096 3 0x281 file 0           ok
mmap null 4096 3 0x121 -1 0             EINVAL  # shared memory can't grow down
mmap null 4096 3 0x102 file 0           EINVAL
mmap null 4096 3 0x40022 -1 0           ENOMEM  # the pool of huge pages is empty
mmap null 4096 3 0x40002 file 0         EINVAL
mmap null 4096 3 MAP_PRIVATE pipe_r 0   ENODEV
mmap null 4096 3 MAP_PRIVATE pipe_w 0   EACCES
mmap null 4096 1 MAP_PRIVATE dir 0      ENODEV
mmap null 4096 1 MAP_SHARED eventfd 0   ENODEV
mmap null 4096 1 MAP_PRIVATE unix 0     ENODEV
mmap null 4096 1 MAP_SHARED file 0x7ffffffffffff000     EOVERFLOW
mmap 1 4096 3 0x32 -1 0                 EINVAL  # MAP_FIXED, not at a page
mmap 0 4096 3 0x32 -1 0                 EPERM   # below vm.mmap_min_addr
mmap room 4096 1 0x100002 wronly 0      EINVAL
mmap page 4096 1 0x100002 wronly 0      EEXIST  # the place, before the file's mode
munmap 1 4096                           EINVAL
munmap page 0                           EINVAL
munmap page -1                          EINVAL
munmap wild 4096                        EINVAL
mprotect 1 4096 1                       EINVAL
mprotect page 0 0x100                   0       # nothing is checked for nothing
mprotect page -1 0x100                  ENOMEM  # the range, before the protection
mprotect page 4096 0x100                EINVAL
mprotect page 4096 0x03000001           EINVAL
mprotect 0 4096 1                       ENOMEM
mprotect page 8192 1                    ENOMEM
mprotect shared 4096 3                  EACCES  # the file is open for reading only
mprotect private 4096 3                 0
msync page 4096 8                       EINVAL
msync page 4096 5                       EINVAL  # MS_ASYNC and MS_SYNC
msync 1 4096 4                          EINVAL
msync 0 4096 4                          ENOMEM
msync page 8192 4                       ENOMEM
msync page -1 4                         ENOMEM
msync page 0 4                          0
msync page 4096 0                       0
mincore 1 4096 room                     EINVAL
mincore page 8192 room                  ENOMEM
mincore page 4096 bad                   EFAULT
process_vm_readv 99999 bad 1 bad 1 1    EINVAL  # the flags first
process_vm_readv 99999 bad 1 bad 1 0    EFAULT
process_vm_readv 99999 iov 1025 iov 1 0 EINVAL
process_vm_readv 99999 empty 1 bad 1 0  0       # nothing to copy: the rest is not looked at
process_vm_readv 99999 iov 1 empty 1 0  0
process_vm_readv 99999 iov 1 iov 1 0    ESRCH
process_vm_writev pid iov 1 nowhere 1 0 EFAULT
"""

FUTEXES = """
futex odd 1 1 null null 0               EINVAL  # FUTEX_WAKE, not at a word
futex wild 129 1 null null 0            EFAULT
futex bad 1 1 null null 0               EFAULT  # an unmapped page
futex bad 129 1 null null 0             0       # private: the address alone counts
futex none_at 1 1 null null 0           EFAULT  # PROT_NONE
futex readonly 1 1 null null 0          EFAULT  # private memory that never changes
futex shared 1 1 null null 0            0       # a file's may
futex past_end 1 1 null null 0          EFAULT  # a page that the file no longer has
futex room 1 1 null null 0              0
futex room 10 1 null null 0             EINVAL  # an empty set of bits
futex bad 10 1 null null 0              EINVAL
futex bad 0 0 bad null 0                EFAULT  # the timeout is read first
futex odd 0 0 i64:0,1000000000 null 0   EINVAL
futex bad 0 0 i64:-1,0 null 0           EINVAL
futex odd 0 1 null null 0               EINVAL
futex bad 0 1 null null 0               EFAULT
futex room 0 1 null null 0              EAGAIN
futex room 128 1 null null 0            EAGAIN
futex room 256 1 null null 0            ENOSYS  # CLOCK_REALTIME is WAIT_BITSET's
futex room 265 1 null null -1           EAGAIN
futex room 9 1 null null 0              EINVAL
futex odd 3 -1 0 room 0                 EINVAL
futex room 3 0 -1 room 0                EINVAL
futex odd 3 0 0 room 0                  EINVAL
futex bad 3 0 0 room 0                  EFAULT
futex room 3 0 0 bad 0                  EFAULT
futex room 4 0 0 odd 1                  EINVAL  # both addresses, before the comparison
futex room 4 0 0 room 1                 EAGAIN
futex room 5 1 1 odd 0                  EINVAL
futex room 5 1 1 bad 0xf0000000         EFAULT
futex room 5 1 1 room 0x70000000        ENOSYS
futex room 6 0 null null 0              ENOSYS
futex room 99 0 null null 0             ENOSYS
"""


def made() -> Stage:
    stage = Stage()
    words = stage.words
    words["odd"] = words["room"] + 2
    rdonly = stage.words["rdonly"]
    words["shared"] = stage.call("mmap", 0, PAGE, 1, MAP_SHARED, rdonly, 0)
    words["past_end"] = stage.call("mmap", 0, 2 * PAGE, 1, MAP_SHARED, rdonly, 0) + PAGE
    words["private"] = stage.call("mmap", 0, PAGE, 1, 2, rdonly, 0)
    words["none_at"] = stage.call("mmap", 0, PAGE, 0, 0x22, -1, 0)
    parts = {"iov": (words["room"], 8), "empty": (words["room"], 0), "nowhere": (8, 8)}
    words |= {name: stage.put(struct.pack("<QQ", *part)) for name, part in parts.items()}
    words["page"] = stage.call("mmap", 0, 2 * PAGE, 3, 0x22, -1, 0)
    assert stage.call("munmap", words["page"] + PAGE, PAGE) == 0
    return stage


@pytest.fixture
def stage() -> Stage:
    return made()


@table(MAPPING + FUTEXES)
def test_which_error_comes_first(line: str) -> None:
    hold(made, line)


def test_priority_inheritance_is_refused_aloud(stage: Stage) -> None:
    assert stage.call("futex", stage.words["room"], 6, 0, 0, 0, 0) == "ENOSYS"
    assert stage.k.warnings == ["futex met a limit of the model: no priority inheritance"]


def test_private_and_shared_waits_never_meet(stage: Stage) -> None:
    word = stage.words["room"]
    for wait, wake in ((128, 1), (0, 129)):
        stage.start("futex", word, wait, 0, 0, 0, 0)
        blocked = stage.t.blocked
        assert blocked is not None
        assert stage.call("futex", word, wake, 1, 0, 0, 0) == 0
