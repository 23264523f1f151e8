"""The processes that the guest sees but that are not modelled: root's init, and the shell."""

from __future__ import annotations

import struct

import pytest
from direct import Direct
from guest_run import run
from stage import Stage, hold, table

INIT, SHELL = 1, 99

# An ordinary user may look at init, and at nothing that is in it; the shell is its own.
CALLS = """
kill 1 0                        EPERM
kill 1 65                       EINVAL  # the signal, before the permission
kill 1 9                        EPERM
kill 1 18                       EPERM   # SIGCONT, but init is of another session
kill 99 9                       0       # nothing comes of it
kill -1 0                       0
tkill 1 9                       EPERM
tgkill 1 1 0                    EPERM
tgkill 99 1 0                   ESRCH
rt_sigqueueinfo 1 9 queued      EPERM
rt_sigqueueinfo 99 9 queued     0
getpgid 1                       1
getsid 1                        1
getpgid 99                      99
setpgid 1 0                     ESRCH   # not a child
setpgid 0 1                     EPERM   # a group of another session
setpgid 0 99                    0
getpriority PRIO_PROCESS 1      20
setpriority PRIO_PROCESS 1 5    EPERM
setpriority PRIO_PROCESS 99 5   0
setpriority PRIO_PGRP 1 5       EPERM
ioprio_get 1 1                  0
ioprio_set 1 1 0x4000           EPERM
sched_getscheduler 1            0
sched_setscheduler 1 3 i32:0    EPERM
sched_setscheduler 1 99 i32:0   EINVAL
sched_getaffinity 1 8 room      8
sched_setaffinity 1 8 u64:0     EPERM
prlimit64 1 99 null null        EPERM   # the permission, before the resource
prlimit64 99 7 null room        0
capget i32:0x20080522,1 room    0
capset i32:0x20080522,1 bad     EPERM
get_robust_list 1 room room     EPERM
kcmp 1 pid 0 0 0                EPERM
process_vm_readv 1 iov 1 iov 1 0        EPERM
ptrace 16 1 0 0                 EPERM   # PTRACE_ATTACH
ptrace 7 1 0 0                  ESRCH   # PTRACE_CONT: it is not traced
pidfd_open 1 0                  ok
waitid 1 1 null 4 null          ECHILD
wait4 99 null 0 null            ECHILD
fcntl file F_SETOWN 1           0
openat cwd /proc/1/status 0     ok
openat cwd /proc/1/environ 0    EACCES
openat cwd /proc/1/mem 0        EACCES
openat cwd /proc/1/fd 0         EACCES
readlinkat cwd /proc/1/exe room 100     EACCES
openat cwd /proc/99/environ 0   ok
openat cwd /proc/2 0            ENOENT
"""


def made() -> Stage:
    stage = Stage()
    iov = struct.pack("<QQ", stage.words["room"], 8)
    queued = struct.pack("<iii", 1, 0, -1).ljust(128, b"\0")
    stage.words |= {"iov": stage.put(iov), "queued": stage.put(queued)}
    return stage


@table(CALLS)
def test_what_a_user_may_do_to_them(line: str) -> None:
    hold(made, line)


@pytest.fixture
def d() -> Direct:
    return Direct()


def test_the_first_process_has_a_parent(d: Direct) -> None:
    """A program that has parent 1 takes itself for an orphan, and a daemon."""
    assert d.call("getppid") == SHELL
    assert b"PPid:\t99\n" in d.text("/proc/self/status")
    assert d.text("/proc/99/stat").startswith(b"99 (sh) S 1 99 99 ")
    assert d.text("/proc/1/comm") == b"init\n"
    assert b"Uid:\t0\t0\t0\t0\n" in d.text("/proc/1/status")


def test_init_has_all_capabilities(d: Direct) -> None:
    has = d.room(24)
    assert d.call("capget", struct.pack("<Ii", 0x20080522, 1), has) == 0
    assert struct.unpack("<6I", d.get(has, 24)) == (2**32 - 1, 2**32 - 1, 0, 0x1FF, 0x1FF, 0)
    assert b"CapEff:\t000001ffffffffff\n" in d.text("/proc/1/status")


def test_an_orphan_is_inits(d: Direct) -> None:
    """Its parent's end makes init its parent, which reaps it at once."""
    result = run("""
        sys 220, 17, 0, 0, 0, 0
        bnez a0, first
        sys 220, 17, 0, 0, 0, 0
        bnez a0, middle
        sys 101, nap, 0
        sys 173
        report a0
        exit 3
    middle:
        exit 0
    first:
        sys 260, -1, 0, 0, 0
        sys 101, nap, 0
        sys 101, nap, 0
        sys 260, -1, 0, 0, 0
        report a0
        exit 0
        .align 8
    nap: .dword 0, 1000000
    """)
    assert result.words == [INIT, 2**64 - 10]
    reaped = [e for e in result.rows("task_events") if e["kind"] == "reaped"]
    assert [e["status"] for e in reaped] == [0, 3 << 8, 0]


def test_devices_and_proc_are_roots(d: Direct) -> None:
    for path, owner in (("/dev/null", 0), ("/proc/meminfo", 0), ("/proc/self/stat", 1000)):
        at = d.room(128)
        assert d.at("newfstatat", path, at, 0) == 0
        assert struct.unpack_from("<II", d.get(at, 128), 24) == (owner, owner)
    assert d.at("fchmodat", "/dev/null", 0o600) == "EPERM"
    assert isinstance(d.open("/dev/null", 2), int)
