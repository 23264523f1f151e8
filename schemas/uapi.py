"""Constants of the Linux and RISC-V interfaces that more than one part uses.

Each is defined once, under its name in the kernel's headers. argument_types.py selects the
constants of a system call argument by prefix: a constant added to such a family is shown by name
wherever arguments are shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

PAGE: Final = 4096

# linux/sched.h
CLONE_VM: Final = 0x100
CLONE_FS: Final = 0x200
CLONE_FILES: Final = 0x400
CLONE_SIGHAND: Final = 0x800
CLONE_PIDFD: Final = 0x1000
CLONE_PTRACE: Final = 0x2000
CLONE_VFORK: Final = 0x4000
CLONE_PARENT: Final = 0x8000
CLONE_THREAD: Final = 0x10000
CLONE_NEWNS: Final = 0x20000
CLONE_SYSVSEM: Final = 0x40000
CLONE_SETTLS: Final = 0x80000
CLONE_PARENT_SETTID: Final = 0x100000
CLONE_CHILD_CLEARTID: Final = 0x200000
CLONE_DETACHED: Final = 0x400000
CLONE_UNTRACED: Final = 0x800000
CLONE_CHILD_SETTID: Final = 0x1000000
CLONE_NEWCGROUP: Final = 0x2000000
CLONE_NEWUTS: Final = 0x4000000
CLONE_NEWIPC: Final = 0x8000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000
CLONE_IO: Final = 0x80000000
CLONE_CLEAR_SIGHAND: Final = 0x100000000
CLONE_INTO_CGROUP: Final = 0x200000000
CLONE_AUTOREAP: Final = 0x400000000
CLONE_NNP: Final = 0x800000000
CLONE_PIDFD_AUTOKILL: Final = 0x1000000000
CLONE_EMPTY_MNTNS: Final = 0x2000000000
CSIGNAL: Final = 0xFF  # of clone's flags: the signal to the parent at exit
# clone's flags -> the call whose part it plays; RISC-V has neither as a call of its own.
CLONED_AS: Final = {CLONE_VM | CLONE_VFORK: "vfork", 0: "fork"}

SCHED_OTHER: Final = 0
SCHED_FIFO: Final = 1
SCHED_RR: Final = 2
SCHED_BATCH: Final = 3
SCHED_IDLE: Final = 5
SCHED_DEADLINE: Final = 6
SCHED_EXT: Final = 7

# linux/mman.h
PROT_READ: Final = 1
PROT_WRITE: Final = 2
PROT_EXEC: Final = 4
PROT_GROWSDOWN: Final = 0x0100_0000
PROT_GROWSUP: Final = 0x0200_0000

MAP_SHARED: Final = 1
MAP_PRIVATE: Final = 2
MAP_SHARED_VALIDATE: Final = 3
MAP_TYPE: Final = 0xF  # the bits that hold one of the three
MAP_FIXED: Final = 0x10
MAP_ANONYMOUS: Final = 0x20
MAP_GROWSDOWN: Final = 0x100
MAP_DENYWRITE: Final = 0x800
MAP_LOCKED: Final = 0x2000
MAP_NORESERVE: Final = 0x4000
MAP_POPULATE: Final = 0x8000
MAP_NONBLOCK: Final = 0x10000
MAP_STACK: Final = 0x20000
MAP_HUGETLB: Final = 0x40000
MAP_FIXED_NOREPLACE: Final = 0x100000

MS_ASYNC: Final = 1
MS_INVALIDATE: Final = 2
MS_SYNC: Final = 4

MREMAP_MAYMOVE: Final = 1
MREMAP_FIXED: Final = 2
MREMAP_DONTUNMAP: Final = 4

MADV_NORMAL: Final = 0
MADV_RANDOM: Final = 1
MADV_SEQUENTIAL: Final = 2
MADV_WILLNEED: Final = 3
MADV_DONTNEED: Final = 4
MADV_FREE: Final = 8
MADV_REMOVE: Final = 9
MADV_DONTFORK: Final = 10
MADV_DOFORK: Final = 11
MADV_MERGEABLE: Final = 12
MADV_UNMERGEABLE: Final = 13
MADV_HUGEPAGE: Final = 14
MADV_NOHUGEPAGE: Final = 15
MADV_DONTDUMP: Final = 16
MADV_DODUMP: Final = 17
MADV_WIPEONFORK: Final = 18
MADV_KEEPONFORK: Final = 19
MADV_COLD: Final = 20
MADV_PAGEOUT: Final = 21
MADV_POPULATE_READ: Final = 22
MADV_POPULATE_WRITE: Final = 23
MADV_DONTNEED_LOCKED: Final = 24
MADV_COLLAPSE: Final = 25
MADV_GUARD_INSTALL: Final = 102
MADV_GUARD_REMOVE: Final = 103

MCL_CURRENT: Final = 1
MCL_FUTURE: Final = 2
MCL_ONFAULT: Final = 4

MLOCK_ONFAULT: Final = 1

SHADOW_STACK_SET_TOKEN: Final = 1

# asm-generic/fcntl.h, linux/fcntl.h
O_ACCMODE: Final = 3  # the bits that hold one of the three
O_RDONLY: Final = 0
O_WRONLY: Final = 1
O_RDWR: Final = 2
O_CREAT: Final = 0o100
O_EXCL: Final = 0o200
O_NOCTTY: Final = 0o400
O_TRUNC: Final = 0o1000
O_APPEND: Final = 0o2000
O_NONBLOCK: Final = 0o4000
O_ASYNC: Final = 0o20000
O_DIRECT: Final = 0o40000
O_DIRECTORY: Final = 0o200000
O_NOFOLLOW: Final = 0o400000
O_LARGEFILE: Final = 0o100000
O_NOATIME: Final = 0o1000000
O_CLOEXEC: Final = 0o2000000
O_PATH: Final = 0o10000000
O_TMPFILE: Final = 0o20000000 | O_DIRECTORY

RESOLVE_NO_XDEV: Final = 1
RESOLVE_NO_MAGICLINKS: Final = 2
RESOLVE_NO_SYMLINKS: Final = 4
RESOLVE_BENEATH: Final = 8
RESOLVE_IN_ROOT: Final = 0x10
RESOLVE_CACHED: Final = 0x20

F_DUPFD: Final = 0
F_GETFD: Final = 1
F_SETFD: Final = 2
F_GETFL: Final = 3
F_SETFL: Final = 4
F_GETLK: Final = 5
F_SETLK: Final = 6
F_SETLKW: Final = 7
F_SETOWN: Final = 8
F_GETOWN: Final = 9
F_SETSIG: Final = 10
F_GETSIG: Final = 11
F_SETOWN_EX: Final = 15
F_GETOWN_EX: Final = 16
F_GETOWNER_UIDS: Final = 17
F_OFD_GETLK: Final = 36
F_OFD_SETLK: Final = 37
F_OFD_SETLKW: Final = 38
F_SETLEASE: Final = 1024
F_GETLEASE: Final = 1025
F_DUPFD_QUERY: Final = 1027
F_CREATED_QUERY: Final = 1028
F_DUPFD_CLOEXEC: Final = 1030
F_SETPIPE_SZ: Final = 1031
F_GETPIPE_SZ: Final = 1032
F_ADD_SEALS: Final = 1033
F_GET_SEALS: Final = 1034
F_GET_RW_HINT: Final = 1035
F_SET_RW_HINT: Final = 1036

F_RDLCK: Final = 0  # of locks and leases
F_WRLCK: Final = 1
F_UNLCK: Final = 2

F_OWNER_TID: Final = 0
F_OWNER_PID: Final = 1
F_OWNER_PGRP: Final = 2

F_SEAL_SEAL: Final = 1
F_SEAL_SHRINK: Final = 2
F_SEAL_GROW: Final = 4
F_SEAL_WRITE: Final = 8
F_SEAL_FUTURE_WRITE: Final = 0x10
F_SEAL_EXEC: Final = 0x20

LOCK_SH: Final = 1
LOCK_EX: Final = 2
LOCK_NB: Final = 4
LOCK_UN: Final = 8

AT_FDCWD: Final = -100
AT_SYMLINK_NOFOLLOW: Final = 0x100
AT_EACCESS: Final = 0x200  # of faccessat2
AT_REMOVEDIR: Final = 0x200  # of unlinkat
AT_SYMLINK_FOLLOW: Final = 0x400
AT_NO_AUTOMOUNT: Final = 0x800
AT_EMPTY_PATH: Final = 0x1000

# linux/fs.h, fadvise.h, xattr.h, ioprio.h, eventfd.h, eventpoll.h, timerfd.h, inotify.h, splice.h
SEEK_SET: Final = 0
SEEK_CUR: Final = 1
SEEK_END: Final = 2
SEEK_DATA: Final = 3
SEEK_HOLE: Final = 4

RWF_HIPRI: Final = 1
RWF_DSYNC: Final = 2
RWF_SYNC: Final = 4
RWF_NOWAIT: Final = 8
RWF_APPEND: Final = 0x10
RWF_NOAPPEND: Final = 0x20
RWF_ATOMIC: Final = 0x40
RWF_DONTCACHE: Final = 0x80

POSIX_FADV_NORMAL: Final = 0
POSIX_FADV_RANDOM: Final = 1
POSIX_FADV_SEQUENTIAL: Final = 2
POSIX_FADV_WILLNEED: Final = 3
POSIX_FADV_DONTNEED: Final = 4
POSIX_FADV_NOREUSE: Final = 5

XATTR_CREATE: Final = 1
XATTR_REPLACE: Final = 2

IOPRIO_WHO_PROCESS: Final = 1
IOPRIO_WHO_PGRP: Final = 2
IOPRIO_WHO_USER: Final = 3

EFD_SEMAPHORE: Final = 1
EFD_NONBLOCK: Final = O_NONBLOCK
EFD_CLOEXEC: Final = O_CLOEXEC

EPOLL_CLOEXEC: Final = O_CLOEXEC
EPOLL_CTL_ADD: Final = 1
EPOLL_CTL_DEL: Final = 2
EPOLL_CTL_MOD: Final = 3

TFD_NONBLOCK: Final = O_NONBLOCK
TFD_CLOEXEC: Final = O_CLOEXEC
TFD_TIMER_ABSTIME: Final = 1
TFD_TIMER_CANCEL_ON_SET: Final = 2

IN_ACCESS: Final = 1
IN_MODIFY: Final = 2
IN_ATTRIB: Final = 4
IN_CLOSE_WRITE: Final = 8
IN_CLOSE_NOWRITE: Final = 0x10
IN_OPEN: Final = 0x20
IN_MOVED_FROM: Final = 0x40
IN_MOVED_TO: Final = 0x80
IN_CREATE: Final = 0x100
IN_DELETE: Final = 0x200
IN_DELETE_SELF: Final = 0x400
IN_MOVE_SELF: Final = 0x800
IN_Q_OVERFLOW: Final = 0x4000
IN_IGNORED: Final = 0x8000
IN_ONLYDIR: Final = 0x100_0000
IN_DONT_FOLLOW: Final = 0x200_0000
IN_EXCL_UNLINK: Final = 0x400_0000
IN_MASK_CREATE: Final = 0x1000_0000
IN_MASK_ADD: Final = 0x2000_0000
IN_ISDIR: Final = 0x4000_0000
IN_ONESHOT: Final = 0x8000_0000
IN_NONBLOCK: Final = O_NONBLOCK
IN_CLOEXEC: Final = O_CLOEXEC

SPLICE_F_MOVE: Final = 1
SPLICE_F_NONBLOCK: Final = 2
SPLICE_F_MORE: Final = 4
SPLICE_F_GIFT: Final = 8

# asm-generic/ioctls.h, linux/sockios.h
TCGETS: Final = 0x5401
TCSETS: Final = 0x5402
TCSETSW: Final = 0x5403
TCSETSF: Final = 0x5404
TCGETA: Final = 0x5405
TCSETA: Final = 0x5406
TCSETAW: Final = 0x5407
TCSETAF: Final = 0x5408
TCSBRK: Final = 0x5409
TCXONC: Final = 0x540A
TCFLSH: Final = 0x540B
TIOCSCTTY: Final = 0x540E
TIOCGPGRP: Final = 0x540F
TIOCSPGRP: Final = 0x5410
TIOCOUTQ: Final = 0x5411
SIOCOUTQ: Final = TIOCOUTQ
TIOCGWINSZ: Final = 0x5413
TIOCSWINSZ: Final = 0x5414
FIONREAD: Final = 0x541B
FIOSETOWN: Final = 0x8901
SIOCSPGRP: Final = 0x8902
FIOGETOWN: Final = 0x8903
SIOCGPGRP: Final = 0x8904
SIOCATMARK: Final = 0x8905
SIOCGSTAMP: Final = 0x8906
SIOCGIFNAME: Final = 0x8910
SIOCGIFCONF: Final = 0x8912
SIOCGIFFLAGS: Final = 0x8913
SIOCGIFADDR: Final = 0x8915
SIOCGIFDSTADDR: Final = 0x8917
SIOCGIFBRDADDR: Final = 0x8919
SIOCGIFNETMASK: Final = 0x891B
SIOCGIFMETRIC: Final = 0x891D
SIOCGIFMTU: Final = 0x8921
SIOCGIFHWADDR: Final = 0x8927
SIOCGIFINDEX: Final = 0x8933
SIOCGIFTXQLEN: Final = 0x8942
TIOCPKT: Final = 0x5420
FIONBIO: Final = 0x5421
TIOCSETD: Final = 0x5423
TIOCGETD: Final = 0x5424
TCSBRKP: Final = 0x5425
TIOCNOTTY: Final = 0x5422
TIOCGSID: Final = 0x5429
TIOCGPTN: Final = 0x8004_5430
TIOCSPTLCK: Final = 0x4004_5431
TIOCGPTLCK: Final = 0x8004_5439
TIOCGPTPEER: Final = 0x5441
FIONCLEX: Final = 0x5450
FIOCLEX: Final = 0x5451
FIOASYNC: Final = 0x5452
FIOQSIZE: Final = 0x5460
FIGETBSZ: Final = 2
FICLONE: Final = 0x4004_9409
FICLONERANGE: Final = 0x4020_940D
FS_IOC_FIEMAP: Final = 0xC020_660B
TCGETS2: Final = 0x802C_542A
TCSETS2: Final = 0x402C_542B
TCSETSW2: Final = 0x402C_542C
TCSETSF2: Final = 0x402C_542D

# linux/socket.h, asm-generic/socket.h, linux/net.h, linux/in.h
AF_UNSPEC: Final = 0
AF_UNIX: Final = 1
AF_INET: Final = 2
AF_INET6: Final = 10
AF_NETLINK: Final = 16
AF_PACKET: Final = 17
AF_VSOCK: Final = 40

SOCK_STREAM: Final = 1
SOCK_DGRAM: Final = 2
SOCK_RAW: Final = 3
SOCK_SEQPACKET: Final = 5

SOL_SOCKET: Final = 1

IPPROTO_IP: Final = 0
IPPROTO_TCP: Final = 6
IPPROTO_UDP: Final = 17
IPPROTO_IPV6: Final = 41

MSG_OOB: Final = 1
MSG_PEEK: Final = 2
MSG_CTRUNC: Final = 8
MSG_TRUNC: Final = 0x20
MSG_DONTWAIT: Final = 0x40
MSG_WAITALL: Final = 0x100
MSG_ERRQUEUE: Final = 0x2000
MSG_NOSIGNAL: Final = 0x4000
MSG_MORE: Final = 0x8000
MSG_WAITFORONE: Final = 0x10000
MSG_CMSG_CLOEXEC: Final = 0x4000_0000

# linux/ipc.h, linux/shm.h
IPC_CREAT: Final = 0o1000
IPC_EXCL: Final = 0o2000
IPC_NOWAIT: Final = 0o4000

IPC_RMID: Final = 0
IPC_SET: Final = 1
IPC_STAT: Final = 2
IPC_INFO: Final = 3

SHM_HUGETLB: Final = 0o4000  # of shmget
SHM_RDONLY: Final = 0o10000  # of shmat, as those that follow
SHM_RND: Final = 0o20000
SHM_REMAP: Final = 0o40000
SHM_EXEC: Final = 0o100000
SHM_LOCK: Final = 11  # of shmctl
SHM_UNLOCK: Final = 12
SHM_STAT: Final = 13
SHM_INFO: Final = 14
SHM_STAT_ANY: Final = 15

# linux/sem.h
SEM_UNDO: Final = 0o10000  # of a sembuf
GETPID: Final = 11  # of semctl, as those that follow
GETVAL: Final = 12
GETALL: Final = 13
GETNCNT: Final = 14
GETZCNT: Final = 15
SETVAL: Final = 16
SETALL: Final = 17
SEM_STAT: Final = 18
SEM_INFO: Final = 19
SEM_STAT_ANY: Final = 20

# linux/msg.h
MSG_NOERROR: Final = 0o10000  # of msgrcv, as those that follow
MSG_EXCEPT: Final = 0o20000
MSG_COPY: Final = 0o40000
MSG_STAT: Final = 11  # of msgctl
MSG_INFO: Final = 12
MSG_STAT_ANY: Final = 13

# linux/io_uring.h
IORING_SETUP_SQPOLL: Final = 1 << 1
IORING_SETUP_NO_MMAP: Final = 1 << 14

# linux/kcmp.h
KCMP_FILE: Final = 0
KCMP_VM: Final = 1
KCMP_FILES: Final = 2
KCMP_FS: Final = 3
KCMP_SIGHAND: Final = 4
KCMP_IO: Final = 5
KCMP_SYSVSEM: Final = 6
KCMP_EPOLL_TFD: Final = 7

# linux/pidfd.h
PIDFD_THREAD: Final = O_EXCL
PIDFD_NONBLOCK: Final = O_NONBLOCK
PIDFD_SIGNAL_THREAD: Final = 1
PIDFD_SIGNAL_THREAD_GROUP: Final = 2
PIDFD_SIGNAL_PROCESS_GROUP: Final = 4
PIDFD_SELF_THREAD: Final = -10000
PIDFD_SELF_THREAD_GROUP: Final = -10001

# linux/wait.h
P_ALL: Final = 0
P_PID: Final = 1
P_PGID: Final = 2
P_PIDFD: Final = 3
WNOHANG: Final = 1
WUNTRACED: Final = 2
WEXITED: Final = 4
WCONTINUED: Final = 8
WNOWAIT: Final = 0x1000000
__WNOTHREAD: Final = 0x20000000
__WALL: Final = 0x40000000
__WCLONE: Final = 0x80000000

# linux/futex.h
FUTEX_WAIT: Final = 0
FUTEX_WAKE: Final = 1
FUTEX_REQUEUE: Final = 3
FUTEX_CMP_REQUEUE: Final = 4
FUTEX_WAKE_OP: Final = 5
FUTEX_LOCK_PI: Final = 6
FUTEX_UNLOCK_PI: Final = 7
FUTEX_TRYLOCK_PI: Final = 8
FUTEX_WAIT_BITSET: Final = 9
FUTEX_WAKE_BITSET: Final = 10
FUTEX_WAIT_REQUEUE_PI: Final = 11
FUTEX_CMP_REQUEUE_PI: Final = 12
FUTEX_LOCK_PI2: Final = 13
FUTEX_PRIVATE_FLAG: Final = 128
FUTEX_CLOCK_REALTIME: Final = 256

# linux/time.h, linux/resource.h
CLOCK_REALTIME: Final = 0
CLOCK_MONOTONIC: Final = 1
CLOCK_PROCESS_CPUTIME_ID: Final = 2
CLOCK_THREAD_CPUTIME_ID: Final = 3
CLOCK_MONOTONIC_RAW: Final = 4
CLOCK_REALTIME_COARSE: Final = 5
CLOCK_MONOTONIC_COARSE: Final = 6
CLOCK_BOOTTIME: Final = 7
CLOCK_REALTIME_ALARM: Final = 8
CLOCK_BOOTTIME_ALARM: Final = 9
CLOCK_TAI: Final = 11

TIMER_ABSTIME: Final = 1

PRIO_PROCESS: Final = 0
PRIO_PGRP: Final = 1
PRIO_USER: Final = 2

RLIMITS: Final = (
    "CPU",
    "FSIZE",
    "DATA",
    "STACK",
    "CORE",
    "RSS",
    "NPROC",
    "NOFILE",
    "MEMLOCK",
    "AS",
    "LOCKS",
    "SIGPENDING",
    "MSGQUEUE",
    "NICE",
    "RTPRIO",
    "RTTIME",
)
RLIM_INFINITY: Final = 2**64 - 1

# linux/prctl.h. The shadow-stack options are those of the merged kernel; every revision uses them
# unless --abi own is given.
PR_SET_PDEATHSIG: Final = 1
PR_GET_PDEATHSIG: Final = 2
PR_GET_DUMPABLE: Final = 3
PR_SET_DUMPABLE: Final = 4
PR_GET_KEEPCAPS: Final = 7
PR_SET_KEEPCAPS: Final = 8
PR_GET_TIMING: Final = 13
PR_SET_TIMING: Final = 14
PR_SET_NAME: Final = 15
PR_GET_NAME: Final = 16
PR_CAPBSET_READ: Final = 23
PR_CAPBSET_DROP: Final = 24
PR_GET_SECUREBITS: Final = 27
PR_SET_SECUREBITS: Final = 28
PR_SET_TIMERSLACK: Final = 29
PR_GET_TIMERSLACK: Final = 30
PR_SET_CHILD_SUBREAPER: Final = 36
PR_GET_CHILD_SUBREAPER: Final = 37
PR_SET_MM: Final = 35
PR_SET_NO_NEW_PRIVS: Final = 38
PR_GET_NO_NEW_PRIVS: Final = 39
PR_GET_TID_ADDRESS: Final = 40
PR_SET_THP_DISABLE: Final = 41
PR_GET_THP_DISABLE: Final = 42
PR_CAP_AMBIENT: Final = 47
PR_SET_TAGGED_ADDR_CTRL: Final = 55
PR_GET_TAGGED_ADDR_CTRL: Final = 56
PR_SET_IO_FLUSHER: Final = 57
PR_GET_IO_FLUSHER: Final = 58
PR_RISCV_V_SET_CONTROL: Final = 69
PR_RISCV_V_GET_CONTROL: Final = 70
PR_GET_SHADOW_STACK_STATUS: Final = 74
PR_SET_SHADOW_STACK_STATUS: Final = 75
PR_LOCK_SHADOW_STACK_STATUS: Final = 76
PR_GET_CFI: Final = 80
PR_SET_CFI: Final = 81
PR_GET_AUXV: Final = 0x4155_5856

PR_SHADOW_STACK_ENABLE: Final = 1
PR_CFI_BRANCH_LANDING_PADS: Final = 0  # arg2 of PR_GET_CFI and PR_SET_CFI; arg3 takes the others
PR_CFI_ENABLE: Final = 1
PR_CFI_DISABLE: Final = 2
PR_CFI_LOCK: Final = 4

# linux/ptrace.h, linux/elf.h, asm/ptrace.h
PTRACE_TRACEME: Final = 0
PTRACE_PEEKTEXT: Final = 1
PTRACE_PEEKDATA: Final = 2
PTRACE_POKETEXT: Final = 4
PTRACE_POKEDATA: Final = 5
PTRACE_CONT: Final = 7
PTRACE_KILL: Final = 8
PTRACE_SINGLESTEP: Final = 9
PTRACE_ATTACH: Final = 16
PTRACE_DETACH: Final = 17
PTRACE_SYSCALL: Final = 24
PTRACE_SETOPTIONS: Final = 0x4200
PTRACE_GETEVENTMSG: Final = 0x4201
PTRACE_GETSIGINFO: Final = 0x4202
PTRACE_SETSIGINFO: Final = 0x4203
PTRACE_GETREGSET: Final = 0x4204
PTRACE_SETREGSET: Final = 0x4205
PTRACE_SEIZE: Final = 0x4206
PTRACE_INTERRUPT: Final = 0x4207
PTRACE_LISTEN: Final = 0x4208
PTRACE_PEEKSIGINFO: Final = 0x4209
PTRACE_GETSIGMASK: Final = 0x420A
PTRACE_SETSIGMASK: Final = 0x420B
PTRACE_GET_SYSCALL_INFO: Final = 0x420E

NT_PRSTATUS: Final = 1
NT_PRFPREG: Final = 2
NT_PRPSINFO: Final = 3
NT_AUXV: Final = 6
NT_SIGINFO: Final = 0x5349_4749
NT_FILE: Final = 0x4649_4C45
NT_RISCV_VECTOR: Final = 0x901
NT_RISCV_USER_CFI: Final = 0x903

PTRACE_CFI_BRANCH_LANDING_PAD_EN_STATE: Final = 1 << 0
PTRACE_CFI_BRANCH_LANDING_PAD_LOCK_STATE: Final = 1 << 1
PTRACE_CFI_BRANCH_EXPECTED_LANDING_PAD_STATE: Final = 1 << 2
PTRACE_CFI_SHADOW_STACK_EN_STATE: Final = 1 << 3
PTRACE_CFI_SHADOW_STACK_LOCK_STATE: Final = 1 << 4
PTRACE_CFI_SHADOW_STACK_PTR_STATE: Final = 1 << 5

# linux/signal.h, asm-generic/siginfo.h, asm/sigcontext.h
SIGSET_SIZE: Final = 8  # sizeof(sigset_t)
MINSIGSTKSZ: Final = 2048

SIG_BLOCK: Final = 0
SIG_UNBLOCK: Final = 1
SIG_SETMASK: Final = 2

SI_USER: Final = 0
SI_KERNEL: Final = 0x80
SI_QUEUE: Final = -1
SI_TIMER: Final = -2
SI_MESGQ: Final = -3
SI_ASYNCIO: Final = -4
SI_SIGIO: Final = -5
SI_TKILL: Final = -6

ILL_ILLOPC: Final = 1
ILL_ILLOPN: Final = 2
ILL_ILLADR: Final = 3
ILL_ILLTRP: Final = 4
ILL_PRVOPC: Final = 5
FPE_INTDIV: Final = 1
FPE_INTOVF: Final = 2
FPE_FLTDIV: Final = 3
BUS_ADRALN: Final = 1
BUS_ADRERR: Final = 2
BUS_OBJERR: Final = 3
TRAP_BRKPT: Final = 1
TRAP_TRACE: Final = 2
CLD_EXITED: Final = 1
CLD_KILLED: Final = 2
CLD_DUMPED: Final = 3
CLD_TRAPPED: Final = 4
CLD_STOPPED: Final = 5
CLD_CONTINUED: Final = 6

SEGV_MAPERR: Final = 1
SEGV_ACCERR: Final = 2
SEGV_CPERR: Final = 10

RISCV_V_MAGIC: Final = 0x5346_5457
RISCV_ZICFISS_MAGIC: Final = 0x9487

# The psABI: the features an object was built for.
GNU_PROPERTY_RISCV_FEATURE_1_AND: Final = 0xC000_0000
GNU_PROPERTY_RISCV_FEATURE_1_CFI_LP_UNLABELED: Final = 1
GNU_PROPERTY_RISCV_FEATURE_1_CFI_SS: Final = 2

ERRNO: Final = {
    "EPERM": 1, "ENOENT": 2, "ESRCH": 3, "EINTR": 4, "EIO": 5, "ENXIO": 6, "E2BIG": 7,
    "ENOEXEC": 8, "EBADF": 9, "ECHILD": 10, "EAGAIN": 11, "ENOMEM": 12, "EACCES": 13, "EFAULT": 14,
    "ENOTBLK": 15, "EBUSY": 16, "EEXIST": 17, "EXDEV": 18, "ENODEV": 19, "ENOTDIR": 20,
    "EISDIR": 21, "EINVAL": 22, "ENFILE": 23, "EMFILE": 24, "ENOTTY": 25, "ETXTBSY": 26,
    "EFBIG": 27, "ENOSPC": 28, "ESPIPE": 29, "EROFS": 30, "EMLINK": 31, "EPIPE": 32, "EDOM": 33,
    "ERANGE": 34, "EDEADLK": 35, "ENAMETOOLONG": 36, "ENOSYS": 38, "ENOTEMPTY": 39, "ELOOP": 40,
    "ENOMSG": 42, "EIDRM": 43, "ENODATA": 61, "EOVERFLOW": 75, "ELIBBAD": 80, "EILSEQ": 84,
    "ENOTSOCK": 88, "EDESTADDRREQ": 89, "EMSGSIZE": 90, "EPROTOTYPE": 91, "ENOPROTOOPT": 92,
    "EPROTONOSUPPORT": 93, "ESOCKTNOSUPPORT": 94, "EOPNOTSUPP": 95, "EAFNOSUPPORT": 97,
    "EADDRINUSE": 98, "EADDRNOTAVAIL": 99, "ENETUNREACH": 101, "ECONNABORTED": 103,
    "ECONNRESET": 104, "ENOBUFS": 105, "EISCONN": 106, "ENOTCONN": 107, "ETOOMANYREFS": 109,
    "ETIMEDOUT": 110, "ECONNREFUSED": 111, "EINPROGRESS": 115,
}  # fmt: skip
ERRNO_NAMES: Final = {number: name for name, number in ERRNO.items()}

SIGNALS: Final = {
    "SIGHUP": 1, "SIGINT": 2, "SIGQUIT": 3, "SIGILL": 4, "SIGTRAP": 5, "SIGABRT": 6, "SIGBUS": 7,
    "SIGFPE": 8, "SIGKILL": 9, "SIGUSR1": 10, "SIGSEGV": 11, "SIGUSR2": 12, "SIGPIPE": 13,
    "SIGALRM": 14, "SIGTERM": 15, "SIGSTKFLT": 16, "SIGCHLD": 17, "SIGCONT": 18, "SIGSTOP": 19,
    "SIGTSTP": 20, "SIGTTIN": 21, "SIGTTOU": 22, "SIGURG": 23, "SIGXCPU": 24, "SIGXFSZ": 25,
    "SIGVTALRM": 26, "SIGPROF": 27, "SIGWINCH": 28, "SIGIO": 29, "SIGPWR": 30, "SIGSYS": 31,
}  # fmt: skip
SIGNAL_NAMES: Final = {number: name for name, number in SIGNALS.items()}


def constants(*starts: str, but: Iterable[str] = ()) -> dict[str, int]:
    """The constants whose names have a prefix in `starts` and none in `but`, in order."""
    return {
        name: value
        for name, value in globals().items()
        if name.startswith(starts) and not name.startswith(tuple(but))
    }
