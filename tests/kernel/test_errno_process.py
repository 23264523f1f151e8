"""Calls about processes: which error comes first (kernel/sys.c, sched/syscalls.c, capability.c)."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from guest_run import run
from stage import Stage, hold, table

SCHEDULING = """
sched_setscheduler -1 0 null            EINVAL  # a negative pid, before the pointer
sched_setscheduler -1 0 bad             EINVAL
sched_setscheduler 0 -1 bad             EINVAL  # the policy, before the pointer
sched_setscheduler 0 0 null             EINVAL
sched_setscheduler 99999 0 bad          EFAULT  # the pointer, before the process
sched_setscheduler 99999 99 i32:0       ESRCH
sched_setscheduler 0 4 i32:0            EINVAL
sched_setscheduler 0 99 i32:0           EINVAL
sched_setscheduler 0 SCHED_OTHER i32:1  EINVAL
sched_setscheduler 0 SCHED_FIFO i32:0   EINVAL
sched_setscheduler 0 SCHED_FIFO i32:100 EINVAL
sched_setscheduler 0 SCHED_FIFO i32:-1  EINVAL
sched_setscheduler 0 SCHED_FIFO i32:1   EPERM
sched_setscheduler 0 SCHED_DEADLINE i32:0 EINVAL
sched_setscheduler 0 SCHED_BATCH i32:0  0
sched_setparam -1 bad                   EINVAL
sched_setparam 0 null                   EINVAL
sched_setparam 99999 bad                EFAULT
sched_setparam 99999 i32:0              ESRCH
sched_setparam 0 i32:5                  EINVAL
sched_getparam -1 bad                   EINVAL
sched_getparam 0 null                   EINVAL
sched_getparam 99999 bad                ESRCH
sched_getparam 0 bad                    EFAULT
sched_getscheduler -1                   EINVAL
sched_getscheduler 99999                ESRCH
sched_rr_get_interval -1 bad            EINVAL
sched_rr_get_interval 99999 bad         ESRCH
sched_rr_get_interval 0 bad             EFAULT
sched_get_priority_max 4                EINVAL
sched_get_priority_min -1               EINVAL
sched_get_priority_max SCHED_DEADLINE   0
sched_get_priority_max SCHED_EXT        0
sched_setaffinity 99999 8 bad           EFAULT
sched_setaffinity 99999 8 u64:1         ESRCH
sched_setaffinity -1 8 u64:1            ESRCH
sched_setaffinity 0 8 u64:0             EINVAL
sched_getaffinity 99999 4 bad           EINVAL
sched_getaffinity 99999 8 bad           ESRCH
sched_getaffinity 0 8 bad               EFAULT
sched_setattr 0 null 0                  EINVAL
sched_setattr -1 bad 0                  EINVAL
sched_setattr 0 bad 1                   EINVAL
sched_setattr 0 bad 0                   EFAULT
sched_setattr 99999 u32:47,0 0          E2BIG
sched_setattr 0 u32:4097 0              E2BIG
sched_setattr 99999 u64:48,0,0,0,0,0    ESRCH
sched_setattr 0 u32:48,-0,0,0,0,0,0,0,0,0,0,0 0 0
sched_setattr 0 u32:48,4,0,0,0,0,0,0,0,0,0,0 0  EINVAL
sched_setattr 0 u32:48,0,0x100,0,0,0,0,0,0,0,0,0 0  EINVAL
sched_setattr 0 u32:48,0,0x20,0,0,0,0,0,0,0,0,0 0   EINVAL      # utilization, in a short struct
sched_setattr 0 u32:48,6,0,0,0,0,0,0,0,0,0,0 0  EINVAL
sched_setattr 0 deadline 0              EPERM
sched_getattr -1 room 48 0              EINVAL
sched_getattr 0 null 48 0               EINVAL
sched_getattr 99999 room 47 0           EINVAL
sched_getattr 99999 room 4097 0         EINVAL
sched_getattr 99999 room 48 1           EINVAL
sched_getattr 99999 bad 48 0            ESRCH
sched_getattr 0 bad 48 0                EFAULT
getpriority -1 0                        EINVAL
getpriority 3 0                         EINVAL
getpriority PRIO_PROCESS 99999          ESRCH
getpriority PRIO_PROCESS -1             ESRCH
getpriority PRIO_PGRP 99999             ESRCH
getpriority PRIO_USER 99999             ESRCH
getpriority PRIO_USER 1000              20
setpriority 3 0 0                       EINVAL
setpriority PRIO_USER 99999 0           ESRCH
setpriority PRIO_PROCESS 0 -1           EACCES
setpriority PRIO_PROCESS 0 100          0
ioprio_set 9 0 0x2000                   EPERM   # the class, before everything: real time
ioprio_set 9 0 0x8000                   EINVAL
ioprio_set 9 0 0x4000                   EINVAL
ioprio_set 1 0 3                        EINVAL  # a level without a class
ioprio_set 1 99999 0                    ESRCH
ioprio_set 2 99999 0                    ESRCH
ioprio_set 3 99999 0                    ESRCH
ioprio_set 1 0 0x6000                   0
ioprio_get 0 0                          EINVAL
ioprio_get 4 0                          EINVAL
ioprio_get 1 99999                      ESRCH
ioprio_get 1 0                          0       # nothing was set
ioprio_get 3 0                          0x4004  # what follows from nice 0
membarrier 0 1 0                        EINVAL
membarrier 0 0 0                        0x27f
membarrier 3 0 0                        EINVAL
membarrier 0x80 0 0                     EINVAL  # without restartable sequences
membarrier 1 0 0                        0
membarrier 2 0 0                        0
membarrier 8 0 0                        EPERM   # it is not registered
membarrier 0x20 0 0                     EPERM
membarrier 0x200 0 0                    0
"""

IDENTITY = """
capget bad room                         EFAULT
capget u32:0,0 bad                      EINVAL
capget u32:0,0 null                     0
capget u32:0x20080522,0 bad             EFAULT
capget i32:0x20080522,-1 room           EINVAL
capget i32:0x20080522,99999 room        ESRCH
capget u32:0x19980330,0 room            0
capget u32:0x20071026,0 room            0
capset bad bad                          EFAULT
capset u32:0,0 bad                      EINVAL
capset i32:0x20080522,1 bad             EPERM   # another's, before the data
capset i32:0x20080522,-1 bad            EPERM
capset u32:0x20080522,0 bad             EFAULT
capset u32:0x20080522,0 u32:0,0,0,0,0,0         0
capset u32:0x20080522,0 u32:1,0,0,0,0,0         EPERM
capset u32:0x20080522,0 u32:0,0,0,0,0,0x100     EPERM
capset u32:0x20080522,0 u32:0,0,0,0,0,0x200     0       # no capability has this number
capset u32:0x19980330,0 u32:0,0,0               0
capset u32:0x19980330,0 u32:0,1,0               EPERM
setuid -1                               EINVAL
setgid -1                               EINVAL
setuid 0                                EPERM
setreuid -1 -1                          0
setresgid -1 -1 0                       EPERM
getresuid bad room room                 EFAULT
getgroups -1 bad                        EINVAL
getgroups 1 bad                         EFAULT
setgroups -1 bad                        EPERM
setpgid 0 -1                            EINVAL
setpgid 99999 0                         ESRCH
setpgid -1 0                            EINVAL  # the group, which is the pid
setpgid 0 99999                         EPERM
getpgid 99999                           ESRCH
getpgid -1                              ESRCH
getsid 99999                            ESRCH
syslog 3 null 8                         EINVAL
syslog 3 room -1                        EINVAL
syslog 3 wild 8                         EFAULT
syslog 3 room 8                         0       # the log is empty
syslog 10 null 0                        0x20000
syslog 2 room 8                         EPERM
syslog 99 room 8                        EPERM
setns closed 0                          EBADF
setns file 0                            EINVAL
uname bad                               EFAULT
sysinfo bad                             EFAULT
getcpu bad null                         EFAULT
getrandom bad 8 8                       EINVAL
getrandom room 8 6                      EINVAL
getrlimit 16 room                       EINVAL
getrlimit 0 bad                         EFAULT
setrlimit 99 bad                        EFAULT
setrlimit 99 u64:0,0                    EINVAL
setrlimit 7 u64:2,1                     EINVAL
setrlimit 7 u64:1,2000000               EPERM
setrlimit 6 u64:1,5000                  EPERM
prlimit64 99999 99 bad null             EFAULT  # the new limit is read first
prlimit64 99999 99 null null            ESRCH
prlimit64 -1 7 null null                ESRCH
prlimit64 0 99 null null                EINVAL
prlimit64 0 7 null bad                  EFAULT
getrusage 2 bad                         EINVAL
getrusage -2 bad                        EINVAL
getrusage 0 bad                         EFAULT
times bad                               EFAULT
"""

PRCTL = """
prctl 9999 0 0 0 0                      EINVAL
prctl PR_SET_PDEATHSIG 65 0 0 0         EINVAL
prctl PR_SET_PDEATHSIG -1 0 0 0         EINVAL
prctl PR_GET_PDEATHSIG bad 0 0 0        EFAULT
prctl PR_SET_DUMPABLE 2 0 0 0           EINVAL
prctl PR_SET_NAME bad 0 0 0             EFAULT
prctl PR_GET_NAME bad 0 0 0             EFAULT
prctl PR_SET_TIMING 1 0 0 0             EINVAL
prctl PR_GET_TIMING 0 0 0 0             0
prctl PR_CAPBSET_READ 41 0 0 0          EINVAL
prctl PR_CAPBSET_READ 40 0 0 0          1
prctl PR_CAPBSET_DROP 99 0 0 0          EPERM   # the capability, before its number
prctl PR_GET_SECUREBITS 0 0 0 0         0
prctl PR_SET_SECUREBITS 0 0 0 0         EPERM   # even if nothing changes
prctl PR_SET_SECUREBITS 1 0 0 0         EPERM
prctl PR_SET_SECUREBITS 0x100 0 0 0     0
prctl PR_SET_KEEPCAPS 2 0 0 0           EINVAL
prctl PR_SET_KEEPCAPS 1 0 0 0           0
prctl PR_SET_NO_NEW_PRIVS 0 0 0 0       EINVAL
prctl PR_SET_NO_NEW_PRIVS 2 0 0 0       EINVAL
prctl PR_SET_NO_NEW_PRIVS 1 0 0 1       EINVAL
prctl PR_GET_NO_NEW_PRIVS 0 1 0 0       EINVAL
prctl PR_GET_CHILD_SUBREAPER bad 0 0 0  EFAULT
prctl PR_GET_TID_ADDRESS bad 0 0 0      EFAULT
prctl PR_CAP_AMBIENT 5 0 0 0            EINVAL
prctl PR_CAP_AMBIENT 1 41 0 0           EINVAL
prctl PR_CAP_AMBIENT 1 0 0 1            EINVAL
prctl PR_CAP_AMBIENT 4 1 0 0            EINVAL  # CLEAR_ALL takes nothing
prctl PR_CAP_AMBIENT 4 0 0 0            0
prctl PR_CAP_AMBIENT 1 0 0 0            0
prctl PR_CAP_AMBIENT 2 0 0 0            EPERM
prctl PR_CAP_AMBIENT 3 0 0 0            0
prctl PR_SET_MM 1 0 0 0                 EPERM
prctl PR_SET_MM 1 0 0 1                 EINVAL
prctl PR_SET_THP_DISABLE 1 1 0 0        EINVAL
prctl PR_SET_THP_DISABLE 0 2 0 0        EINVAL
prctl PR_SET_THP_DISABLE 1 0 1 0        EINVAL
prctl PR_GET_THP_DISABLE 1 0 0 0        EINVAL
prctl PR_GET_AUXV room 8 1 0            EINVAL
prctl PR_GET_AUXV bad 8 0 0             EFAULT
prctl PR_GET_AUXV room 8 0 0            528
prctl PR_SET_IO_FLUSHER 5 0 0 0         EPERM
prctl PR_GET_IO_FLUSHER 0 0 0 0         EPERM
"""

SIGNALS = """
kill 99999 99                           ESRCH   # the process, before the signal
kill pid 65                             EINVAL
kill pid -1                             EINVAL
kill pid 0                              0
kill 0x80000000 0                       ESRCH
kill -99999 0                           ESRCH
tkill 0 99                              EINVAL
tkill 99999 99                          ESRCH
tkill pid 99                            EINVAL
tgkill 0 pid 0                          EINVAL
tgkill pid -1 0                         EINVAL
tgkill 99999 pid 0                      ESRCH
rt_sigaction 0 null null 8              EINVAL
rt_sigaction 65 null null 8             EINVAL
rt_sigaction 9 u64:0,0,0 null 8         EINVAL
rt_sigaction 9 null room 8              0
rt_sigaction 99 bad null 8              EFAULT
rt_sigaction 99 bad null 4              EINVAL
rt_sigaction 1 null bad 8               EFAULT
rt_sigprocmask 9 bad null 8             EFAULT  # the set, before how
rt_sigprocmask 9 u64:0 null 8           EINVAL
rt_sigprocmask 9 null null 8            0
rt_sigprocmask 0 bad null 4             EINVAL
rt_sigpending bad 9                     EINVAL
rt_sigpending bad 8                     EFAULT
rt_sigsuspend bad 4                     EINVAL
rt_sigsuspend bad 8                     EFAULT
rt_sigtimedwait bad null null 4         EINVAL
rt_sigtimedwait bad null null 8         EFAULT
rt_sigtimedwait u64:0 null bad 8        EFAULT
rt_sigtimedwait u64:0 null i64:-1,0 8   EINVAL
rt_sigtimedwait u64:0 null i64:0,1000000000 8   EINVAL
rt_sigtimedwait u64:0 null i64:0,0 8    EAGAIN
rt_sigqueueinfo 99999 99 bad            EFAULT
rt_sigqueueinfo 99999 1 kernels         EPERM   # what it pretends, before the process
rt_sigqueueinfo 99999 99 queued         ESRCH
rt_sigqueueinfo pid 65 queued           EINVAL
rt_tgsigqueueinfo 0 pid 1 bad           EFAULT
rt_tgsigqueueinfo 0 pid 1 kernels       EINVAL
rt_tgsigqueueinfo pid 99999 1 kernels   EPERM
rt_tgsigqueueinfo pid 99999 1 queued    ESRCH
sigaltstack bad null                    EFAULT
sigaltstack u64:0x1000,8,8192 null      EINVAL
sigaltstack u64:0x1000,0,2047 null      ENOMEM
sigaltstack null bad                    EFAULT
set_robust_list bad 23                  EINVAL
get_robust_list 99999 bad bad           ESRCH
get_robust_list 0 bad room              EFAULT
set_tid_address bad                     ok
wait4 0x80000000 null 0 null            ESRCH
wait4 -1 null 0x10 null                 EINVAL
wait4 -1 null 0 null                    ECHILD
waitid 0 0 null 0 null                  EINVAL  # it has to wait for something
waitid 0 0 null 0x10000004 null         EINVAL
waitid 9 1 null 4 null                  EINVAL
waitid 1 0 null 4 null                  EINVAL
waitid 2 -1 null 4 null                 EINVAL
execve bad null null                    EFAULT
execve '' null null                     ENOENT
execve /tmp/none bad null               ENOENT  # the file is opened before the arguments are read
execve /tmp/d null null                 EACCES
execve /tmp/f null null                 EACCES
execve /tmp/f/x null null               ENOTDIR
execveat cwd /tmp/f null null 0x8000    EINVAL
execveat closed '' null null 0          ENOENT
execveat closed f null null 0           EBADF
"""


def made() -> Stage:
    stage = Stage()
    attr = struct.pack("<IIQiI3Q", 48, 6, 0, 0, 0, 10**6, 10**7, 10**7)
    words = {"deadline": attr, "f": b"f\0"}
    words |= {"kernels": struct.pack("<iii", 1, 0, 0).ljust(128, b"\0")}
    words |= {"queued": struct.pack("<iii", 1, 0, -1).ljust(128, b"\0")}
    stage.words |= {name: stage.put(data) for name, data in words.items()}
    return stage


@pytest.fixture
def stage() -> Stage:
    return made()


@table(SCHEDULING + IDENTITY + PRCTL + SIGNALS)
def test_which_error_comes_first(line: str) -> None:
    hold(made, line)


def test_a_policy_is_kept_and_reset_on_fork(stage: Stage) -> None:
    """SCHED_RESET_ON_FORK can be set by everybody and cleared by no ordinary user."""
    assert stage.call("sched_setscheduler", 0, 3 | 0x4000_0000, struct.pack("<i", 0)) == 0
    assert stage.call("sched_getscheduler", 0) == 3 | 0x4000_0000
    assert stage.call("sched_setscheduler", 0, 3, struct.pack("<i", 0)) == "EPERM"
    child = stage.t.scheduling.forked()
    assert (child.policy, child.reset_on_fork) == (3, False)


def test_a_limit_allows_real_time(stage: Stage) -> None:
    stage.t.process.rlimits["RTPRIO"] = (10, 10)
    room = stage.words["room"]
    assert stage.call("sched_setscheduler", 0, 1, struct.pack("<i", 11)) == "EPERM"
    assert stage.call("sched_setscheduler", 0, 1, struct.pack("<i", 10)) == 0
    assert stage.call("sched_getparam", 0, room) == 0
    assert struct.unpack("<i", stage.get(room, 4)) == (10,)
    assert stage.call("sched_getattr", 0, room, 56, 0) == 0
    assert struct.unpack("<IIQiI", stage.get(room, 24)) == (56, 1, 0, 0, 10)


def test_a_wrong_size_of_attributes_is_answered_with_the_right_one(stage: Stage) -> None:
    attr = stage.put(struct.pack("<I", 47))
    assert stage.call("sched_setattr", 0, attr, 0) == "E2BIG"
    assert struct.unpack("<I", stage.get(attr, 4)) == (56,)


def test_a_private_barrier_works_once_it_is_registered(stage: Stage) -> None:
    for register, command in ((0x10, 8), (0x40, 0x20)):
        assert stage.call("membarrier", register, 0, 0) == 0
        assert stage.call("membarrier", command, 0, 0) == 0
    assert stage.call("membarrier", 4, 0, 0) == 0
    assert stage.call("membarrier", 0x200, 0, 0) == 0x54


def test_an_io_priority_is_kept(stage: Stage) -> None:
    assert stage.call("setpgid", 0, 0) == 0  # the shell of the group would be better
    assert stage.call("ioprio_set", 1, 0, 0x4007) == 0
    assert stage.call("ioprio_get", 1, 0) == 0x4007
    assert stage.call("ioprio_get", 2, 0) == 0x4007
    stage.call("ioprio_set", 1, 0, 0)
    stage.call("setpriority", 0, 0, 19)
    assert stage.call("ioprio_get", 2, 0) == 0x4007


def uname(stage: Stage) -> tuple[str, str]:
    room = stage.words["room"]
    assert stage.call("uname", room) == 0
    fields = [stage.get(room + 65 * n, 65).rstrip(b"\0").decode() for n in range(5)]
    return fields[2], fields[4]


@pytest.mark.parametrize(("kernel", "release"), [("7.2", "2.6.62"), ("v3", "2.6.72-v3")])
def test_a_personality_may_ask_for_an_old_release(kernel: str, release: str) -> None:
    stage = Stage(kernel)
    assert stage.call("personality", 0x20008) == 0
    assert stage.call("personality", 0xFFFF_FFFF) == 0x20008
    assert uname(stage) == (release, "riscv")
    assert stage.text("/proc/self/personality") == b"00020008\n"


def test_read_implies_exec(stage: Stage) -> None:
    stage.call("personality", 0x40_0000)
    area = stage.call("mmap", 0, 4096, 1, 0x22, -1, 0)
    found = stage.mm.vmas.find(area)
    assert found is not None
    assert found.prot == 5


def test_a_sticky_timeout_is_not_written_back(stage: Stage) -> None:
    timeout = stage.put(struct.pack("<qq", 1, 0))
    stage.start("ppoll", 0, 0, timeout, 0, 8)
    stage.idle(10**9)
    assert stage.retry("deadline") == 0
    assert struct.unpack("<qq", stage.get(timeout, 16)) == (0, 0)
    stage.call("personality", 0x400_0000)
    sticky = stage.put(struct.pack("<qq", 1, 0))
    stage.start("ppoll", 0, 0, sticky, 0, 8)
    stage.idle(10**9)
    assert stage.retry("deadline") == 0
    assert struct.unpack("<qq", stage.get(sticky, 16)) == (1, 0)


def slack(stage: Stage) -> Any:
    return stage.call("prctl", 30, 0, 0, 0, 0)


def test_timer_slack_is_kept_and_shown(stage: Stage) -> None:
    assert slack(stage) == 50_000
    assert stage.text("/proc/self/timerslack_ns") == b"50000\n"
    stage.call("prctl", 29, 7, 0, 0, 0)
    assert slack(stage) == 7
    fd = stage.open("/proc/self/timerslack_ns", 2)
    assert stage.write(fd, b"0x10") == "EINVAL"
    assert stage.write(fd, b"12\n") == 3
    assert slack(stage) == 12
    stage.call("prctl", 29, 0, 0, 0, 0)
    assert slack(stage) == 50_000


def test_a_child_that_has_execed_keeps_its_group() -> None:
    """A guest: setpgid of a child that executed another program is EACCES, of a child that leads a
    session EPERM."""
    again = """
        ld t0, 0(sp)
        li t1, 2
        beq t0, t1, idle
        sys 220, 0x4111, 0, 0, 0, 0
        beqz a0, child
        li a1, 0
        li a7, 154
        ecall
        report a0
        exit 0
    child: sys 221, path, argv, 0
        exit 1
    idle: exit 0
        .align 8
    argv: .dword path, path, 0
    path: .dword 0x74736575672f
    """
    assert run(again).words == [2**64 - 13]
    leads = """
        sys 220, 0x4111, 0, 0, 0, 0
        beqz a0, child
        li a1, 0
        li a7, 154
        ecall
        report a0
        exit 0
    child: sys 157
        exit 0
    """
    assert run(leads).words == [2**64 - 1]


def test_huge_pages_are_turned_off(stage: Stage) -> None:
    for how, kept in (((1, 0), 1), ((1, 2), 3), ((0, 0), 0)):
        assert stage.call("prctl", 41, *how, 0, 0) == 0
        assert stage.call("prctl", 42, 0, 0, 0, 0) == kept
