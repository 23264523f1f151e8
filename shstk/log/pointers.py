"""Which arguments of which calls point to what. A row of _POINTERS is all that a call needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from shstk.schemas import uapi

# call, then argument=what it points to. WHAT is a struct of structs.py, or
#   WHAT[N]  an array; N is a number, an argument's name, or ret
#   int u32 u64 x64 set  one value
#   bytes[N]  a buffer;  status  a wait status;  sockaddr[N], sockaddr[*N]  an address; N bytes, or
#   as many as N points to;  option[N], option[*N]  a socket option;  dirents  records of getdents64
#   iov[N]  N iovecs and their buffers;  msghdr, mmsghdr[N]  one or several, with what they point to
#   strings  argv;  environ  envp, whose strings are only counted;  string  of at most a page
#   cpus[N]  a CPU mask of N bytes;  fds[N]  an fd_set of N bits;  sigset_arg  pselect6's last one
# < before WHAT: the kernel reads it; <>: and writes some of it. Otherwise the kernel writes it; of
# iov and msghdr that means the buffers only.
_POINTERS: Final = """
fstat statbuf=stat
newfstatat statbuf=stat
statx buffer=statx
statfs buf=statfs
fstatfs buf=statfs
getcwd buf=bytes[ret]
readlinkat buf=bytes[ret]
getdents64 dirent=dirents
read buf=bytes[ret]
pread64 buf=bytes[ret]
write buf=<bytes[count]
pwrite64 buf=<bytes[count]
readv vec=iov[vlen]
writev vec=<iov[vlen]
preadv vec=iov[vlen]
pwritev vec=<iov[vlen]
preadv2 vec=iov[vlen]
pwritev2 vec=<iov[vlen]
vmsplice iov=<iov[nr_segs]
pipe2 fildes=int[2]
socketpair usockvec=int[2]
getrandom ubuf=bytes[ret]
getxattr value=bytes[ret]
lgetxattr value=bytes[ret]
fgetxattr value=bytes[ret]
listxattr list=bytes[ret]
llistxattr list=bytes[ret]
flistxattr list=bytes[ret]
setxattr value=<bytes[size]
lsetxattr value=<bytes[size]
fsetxattr value=<bytes[size]
wait4 stat_addr=status ru=rusage
waitid infop=siginfo ru=rusage
getrusage ru=rusage
times tbuf=tms
uname name=utsname
sysinfo info=sysinfo
getrlimit rlim=rlimit
setrlimit rlim=<rlimit
prlimit64 new_rlim=<rlimit old_rlim=rlimit
nanosleep rqtp=<timespec rmtp=timespec
clock_nanosleep rqtp=<timespec rmtp=timespec
clock_gettime tp=timespec
clock_settime tp=<timespec
clock_getres tp=timespec
gettimeofday tv=timeval tz=timezone
settimeofday tv=<timeval tz=<timezone
getitimer value=itimerval
setitimer value=<itimerval ovalue=itimerval
timer_create timer_event_spec=<sigevent created_timer_id=int
timer_gettime setting=itimerspec
timer_settime new_setting=<itimerspec old_setting=itimerspec
timerfd_gettime otmr=itimerspec
timerfd_settime utmr=<itimerspec otmr=itimerspec
utimensat utimes=<timespec[2]
futex utime=<timespec
futex_wait timeout=<timespec
futex_waitv waiters=<futex_waitv[nr_futexes] timeout=<timespec
futex_requeue waiters=<futex_waitv[2]
set_robust_list head=<robust_list
ppoll ufds=<>pollfd[nfds] tsp=<timespec sigmask=<set
pselect6 inp=<fds[n] outp=<fds[n] exp=<fds[n] tsp=<timespec sig=<sigset_arg
epoll_ctl event=<epoll_event
epoll_pwait events=epoll_event[ret] sigmask=<set
epoll_pwait2 events=epoll_event[ret] timeout=<timespec sigmask=<set
signalfd4 user_mask=<set
rt_sigaction act=<sigaction oact=sigaction
rt_sigprocmask nset=<set oset=set
rt_sigpending uset=set
rt_sigsuspend unewset=<set
rt_sigqueueinfo uinfo=<queued_siginfo
rt_tgsigqueueinfo uinfo=<queued_siginfo
pidfd_send_signal info=<queued_siginfo
rt_sigtimedwait uthese=<set uinfo=siginfo uts=<timespec
sigaltstack uss=<stack_t uoss=stack_t
getresuid ruidp=u32 euidp=u32 suidp=u32
getresgid rgidp=u32 egidp=u32 sgidp=u32
getgroups grouplist=u32[ret]
getcpu cpup=u32 nodep=u32
sched_getparam param=sched_param
sched_setparam param=<sched_param
sched_setscheduler param=<sched_param
sched_rr_get_interval interval=timespec
sched_setaffinity user_mask_ptr=<cpus[len]
sched_getaffinity user_mask_ptr=cpus[ret]
sched_setattr uattr=<sched_attr
sched_getattr uattr=sched_attr
setgroups grouplist=<u32[gidsetsize]
get_robust_list head_ptr=x64 len_ptr=u64
capget header=<capabilities
capset header=<capabilities data=<capability_data[2]
semop tsops=<sembuf[nsops]
semtimedop tsops=<sembuf[nsops] timeout=<timespec
mq_open attr=<mq_attr
mq_getsetattr mqstat=<mq_attr omqstat=mq_attr
mq_timedsend msg_ptr=<bytes[msg_len] abs_timeout=<timespec
mq_notify notification=<sigevent
mq_timedreceive msg_ptr=bytes[ret] abs_timeout=<timespec
bind umyaddr=<sockaddr[addrlen]
connect uservaddr=<sockaddr[addrlen]
accept upeer_sockaddr=sockaddr[*upeer_addrlen] upeer_addrlen=int
accept4 upeer_sockaddr=sockaddr[*upeer_addrlen] upeer_addrlen=int
getsockname usockaddr=sockaddr[*usockaddr_len] usockaddr_len=int
getpeername usockaddr=sockaddr[*usockaddr_len] usockaddr_len=int
sendto buff=<bytes[len] addr=<sockaddr[addr_len]
recvfrom ubuf=bytes[ret] addr=sockaddr[*addr_len] addr_len=int
setsockopt optval=<option[optlen]
getsockopt optval=option[*optlen] optlen=int
sendmsg msg=<msghdr
recvmsg msg=msghdr
sendmmsg mmsg=<mmsghdr[vlen]
recvmmsg mmsg=mmsghdr[vlen] timeout=<timespec
execve argv=<strings envp=<environ
execveat argv=<strings envp=<environ
clone3 uargs=<clone_args
openat2 how=<open_how
riscv_hwprobe pairs=<>hwprobe[pair_count]
clone parent_tidptr=int child_tidptr=int
process_vm_readv lvec=iov[liovcnt] rvec=<iovec[riovcnt]
process_vm_writev lvec=<iov[liovcnt] rvec=<iovec[riovcnt]
process_madvise vec=<iovec[vlen]
sendfile offset=<>u64
splice off_in=<>u64 off_out=<>u64
copy_file_range off_in=<>u64 off_out=<>u64
"""
_READ_FIRST: Final = ("iov", "msghdr", "mmsghdr")  # to know where to write
_COMMANDS: Final[Mapping[tuple[str, int], Mapping[str, str]]] = {
    ("prctl", uapi.PR_GET_SHADOW_STACK_STATUS): {"arg2": "u64/shstk_status"},
    ("prctl", uapi.PR_GET_CFI): {"arg3": "u64/cfi"},
    ("prctl", uapi.PR_GET_PDEATHSIG): {"arg2": "i32/sig"},
    ("prctl", uapi.PR_GET_NAME): {"arg2": "s16"},
    ("prctl", uapi.PR_SET_NAME): {"arg2": "<string"},
    ("ioctl", uapi.TCGETS): {"arg": "termios"},
    ("ioctl", uapi.TCSETS): {"arg": "<termios"},
    ("ioctl", uapi.TCSETSW): {"arg": "<termios"},
    ("ioctl", uapi.TCSETSF): {"arg": "<termios"},
    ("ioctl", uapi.TCSETS2): {"arg": "<termios2"},
    ("ioctl", uapi.TCSETSW2): {"arg": "<termios2"},
    ("ioctl", uapi.TCSETSF2): {"arg": "<termios2"},
    ("ioctl", uapi.TIOCSWINSZ): {"arg": "<winsize"},
    ("ioctl", uapi.TIOCSPGRP): {"arg": "<int"},
    ("ioctl", uapi.TIOCSPTLCK): {"arg": "<int"},
    ("ioctl", uapi.FIONBIO): {"arg": "<int"},
    ("ioctl", uapi.TCGETS2): {"arg": "termios2"},
    ("ioctl", uapi.TIOCGWINSZ): {"arg": "winsize"},
    ("ioctl", uapi.TIOCGPGRP): {"arg": "int"},
    ("ioctl", uapi.TIOCGPTN): {"arg": "u32"},
    ("ioctl", uapi.FIONREAD): {"arg": "int"},
    ("fcntl", uapi.F_SETLK): {"arg": "<flock"},
    ("fcntl", uapi.F_SETLKW): {"arg": "<flock"},
    ("fcntl", uapi.F_OFD_SETLK): {"arg": "<flock"},
    ("fcntl", uapi.F_OFD_SETLKW): {"arg": "<flock"},
    ("fcntl", uapi.F_GETLK): {"arg": "flock"},
    ("fcntl", uapi.F_OFD_GETLK): {"arg": "flock"},
}


def _pointers() -> dict[str, dict[str, str]]:
    found = {}
    for line in _POINTERS.strip().splitlines():
        call, *words = line.split()
        pairs = (word.split("=", 1) for word in words)
        found[call] = dict(pairs)
    return found


POINTERS: Final = _pointers()


def pointed(call: str, command: int | None) -> Mapping[str, str]:
    """What the pointers of a call point to, by argument. command: its prctl option, its fcntl or
    ioctl command."""
    if command is not None and (call, command) in _COMMANDS:
        return _COMMANDS[call, command]
    return POINTERS.get(call, {})


# A run does not repeat the contents of a file that these read.
OF_FILES: Final = frozenset({"read", "pread64", "readv", "preadv", "preadv2"})


def reads_memory(call: str) -> bool:
    """Whether the kernel reads behind some pointer of the call."""
    return call in _READING


_READING: Final = frozenset(
    call
    for call, pointers in (*POINTERS.items(), *((c, p) for (c, _), p in _COMMANDS.items()))
    if any(what[0] == "<" or what.startswith(_READ_FIRST) for what in pointers.values())
)
