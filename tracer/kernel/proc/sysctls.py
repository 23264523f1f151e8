"""/proc/sys and /proc/sysvipc: the files below folders, which never change their place."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import PAGE
from shstk.tracer.kernel.fs import pipes
from shstk.tracer.kernel.fs.aio import REQUESTS_MAX
from shstk.tracer.kernel.fs.leases import BREAK_TIME
from shstk.tracer.kernel.ipc import mqueue, sysvmsg, sysvsem
from shstk.tracer.kernel.ipc.ids import IPC_OBJECTS_MAX, Object
from shstk.tracer.kernel.mm import sysvshm
from shstk.tracer.kernel.process.identity import CAP_LAST, version
from shstk.tracer.kernel.task import UID

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel


def _sysv_queues(k: Kernel) -> str:
    head = "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid"
    rows = [f"{head}      stime      rtime      ctime\n"]
    for q in sysvmsg.QUEUES.of(k).queues.by_number.values():
        counts = f"{q.bytes:10} {len(q.messages):10} {q.sender:5} {q.receiver:5}"
        times = f"{q.sent_at:10} {q.received_at:10} {q.changed_at:10}"
        rows.append(f"{_sysv_object(q)}  {counts} {_sysv_owner(q)} {times}\n")
    return "".join(rows)


def _sysv_semaphores(k: Kernel) -> str:
    head = "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n"
    rows = [head]
    for s in sysvsem.SEMAPHORES.of(k).sets.by_number.values():
        times = f"{s.operated_at:10} {s.changed_at:10}"
        rows.append(f"{_sysv_object(s)} {len(s.values):10} {_sysv_owner(s)} {times}\n")
    return "".join(rows)


def _sysv_segments(k: Kernel) -> str:
    head = "       key      shmid perms                  size  cpid  lpid nattch   uid   gid"
    tail = "  cuid  cgid      atime      dtime      ctime                   rss"
    rows = [f"{head}{tail}                  swap\n"]
    for s in sysvshm.segments_of(k).all:
        use = f"{s.size:21} {s.creator:5} {s.last:5}  {s.users(k):5}"
        times = f"{s.attached_at:10} {s.detached_at:10} {s.changed_at:10}"
        pages = f"{s.pages * PAGE:21} {0:21}"
        rows.append(f"{_sysv_object(s)} {use} {_sysv_owner(s)} {times} {pages}\n")
    return "".join(rows)


def _sysv_object(o: Object) -> str:
    return f"{o.key:10} {o.number:10}  {o.mode:4o}"


def _sysv_owner(o: Object) -> str:
    return f"{o.uid:5} {o.gid:5} {UID:5} {UID:5}"


def _constant(text: str, k: Kernel) -> str:
    return text


def _new_uuid(k: Kernel) -> str:
    """Version 4."""
    return _uuid(k.rng.getrandbits(128) & ~(0xF << 76 | 3 << 62) | 4 << 76 | 2 << 62)


# What can't be changed and has no part in the model: the values of a kernel that was just booted.
_AS_BOOTED: Final = {
    "fs/epoll/max_user_watches": "904396",
    "fs/file-nr": f"128\t0\t{2**63 - 1}",
    "fs/nr_open": f"{1 << 20}",
    "fs/inotify/max_queued_events": "16384",
    "fs/inotify/max_user_instances": "128",
    "fs/inotify/max_user_watches": "28746",
    "fs/overflowgid": "65534",
    "fs/overflowuid": "65534",
    "fs/pipe-user-pages-hard": "0",
    "fs/pipe-user-pages-soft": "16384",
    "fs/protected_hardlinks": "0",
    "fs/protected_symlinks": "0",
    "fs/suid_dumpable": "0",
    "kernel/domainname": "(none)",
    "kernel/dmesg_restrict": "0",
    "kernel/kptr_restrict": "0",
    "kernel/overflowgid": "65534",
    "kernel/overflowuid": "65534",
    "kernel/panic": "0",
    "kernel/printk": "7\t4\t1\t7",
    "kernel/random/entropy_avail": "256",
    "kernel/random/poolsize": "256",
    "kernel/randomize_va_space": "0",
    "kernel/sched_rr_timeslice_ms": "100",
    "kernel/sched_rt_period_us": "1000000",
    "kernel/sched_rt_runtime_us": "950000",
    "kernel/shm_rmid_forced": "0",
    "kernel/sysrq": "1",
    "net/core/optmem_max": "131072",
    "net/core/rmem_default": "212992",
    "net/core/rmem_max": "212992",
    "net/core/somaxconn": "4096",
    "net/core/wmem_default": "212992",
    "net/core/wmem_max": "212992",
    "net/ipv4/ip_local_port_range": "32768\t60999",
    "net/ipv4/ip_unprivileged_port_start": "1024",
    "net/ipv4/ping_group_range": "1\t0",
    "net/unix/max_dgram_qlen": "10",
    "vm/legacy_va_layout": "0",
    "vm/nr_hugepages": "0",
    "vm/overcommit_kbytes": "0",
    "vm/overcommit_ratio": "50",
    "vm/panic_on_oom": "0",
    "vm/swappiness": "60",
}

SYSCTLS: Final[dict[str, Callable[[Kernel], str]]] = {
    **{f"sys/{name}": partial(_constant, f"{text}\n") for name, text in _AS_BOOTED.items()},
    "sys/fs/aio-max-nr": lambda k: f"{REQUESTS_MAX}\n",
    "sys/fs/file-max": lambda k: f"{2**63 - 1}\n",
    "sys/fs/lease-break-time": lambda k: f"{BREAK_TIME}\n",
    "sys/fs/leases-enable": lambda k: "1\n",
    "sys/fs/mqueue/msg_default": lambda k: f"{mqueue.MESSAGES_MAX}\n",
    "sys/fs/mqueue/msg_max": lambda k: f"{mqueue.MESSAGES_MAX}\n",
    "sys/fs/mqueue/msgsize_default": lambda k: f"{mqueue.SIZE_MAX}\n",
    "sys/fs/mqueue/msgsize_max": lambda k: f"{mqueue.SIZE_MAX}\n",
    "sys/fs/mqueue/queues_max": lambda k: f"{mqueue.QUEUES_MAX}\n",
    "sys/fs/pipe-max-size": lambda k: f"{pipes.SIZE_MAX}\n",
    "sys/kernel/cap_last_cap": lambda k: f"{CAP_LAST}\n",
    "sys/kernel/core_pattern": lambda k: "core\n",
    "sys/kernel/core_uses_pid": lambda k: "0\n",
    "sys/kernel/hostname": lambda k: "shstk\n",
    "sys/kernel/msgmax": lambda k: f"{sysvmsg.MESSAGE_MAX}\n",
    "sys/kernel/msgmnb": lambda k: f"{sysvmsg.QUEUE_MAX}\n",
    "sys/kernel/msgmni": lambda k: f"{IPC_OBJECTS_MAX}\n",
    "sys/kernel/ngroups_max": lambda k: "65536\n",
    "sys/kernel/osrelease": lambda k: f"{version(k)[0]}\n",
    "sys/kernel/ostype": lambda k: "Linux\n",
    "sys/kernel/perf_user_access": lambda k: "1\n",
    "sys/kernel/pid_max": lambda k: f"{k.pid_max}\n",
    "sys/kernel/random/boot_id": lambda k: f"{_boot_id(k)}\n",
    "sys/kernel/random/uuid": lambda k: f"{_new_uuid(k)}\n",
    "sys/kernel/sem": lambda k: (
        f"{sysvsem.SET_MAX}\t{sysvsem.ALL_MAX}\t{sysvsem.OPERATIONS_MAX}\t{IPC_OBJECTS_MAX}\n"
    ),
    "sys/kernel/shmall": lambda k: f"{sysvshm.SIZE_MAX}\n",
    "sys/kernel/shmmax": lambda k: f"{sysvshm.SIZE_MAX}\n",
    "sys/kernel/shmmni": lambda k: f"{sysvshm.SEGMENTS_MAX}\n",
    "sys/kernel/tainted": lambda k: "0\n",
    "sys/kernel/version": lambda k: f"{version(k)[1]}\n",
    "sys/kernel/threads-max": lambda k: f"{k.pid_max}\n",
    "sys/vm/max_map_count": lambda k: "65530\n",
    "sys/vm/mmap_min_addr": lambda k: f"{PAGE}\n",
    "sys/vm/overcommit_memory": lambda k: "0\n",
    "sysvipc/msg": _sysv_queues,
    "sysvipc/sem": _sysv_semaphores,
    "sysvipc/shm": _sysv_segments,
}


def _boot_id(k: Kernel) -> str:
    return _uuid((k.seed & 0xFFFF_FFFF_FFFF_FFFF) << 64 | 0x4000_8000_0000_0000)


def _uuid(number: int) -> str:
    digits = f"{number:032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
