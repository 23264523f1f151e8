"""The system calls of riscv64 Linux: one row each, with the type of every argument.

Sources: scripts/syscall.tbl for names and numbers, include/linux/syscalls.h and each call's
SYSCALL_DEFINE for the arguments; arch/riscv selects CLONE_BACKWARDS, so tls is clone's fourth.
A call that Linux has since removed keeps its row: its number is never reused.
"""

from __future__ import annotations

from typing import Final, NamedTuple

COUNT: Final = "int"
# number name argument:type … -> the type of the result, unless it is a count or 0.
# Types: fd dirfd pid int uint hex oct size sig, ptr (an address), end (the address behind an area),
# str (the address of a string), time (clock ticks), or a name in argument_types.py.
_TABLE: Final = """
0 io_setup nr_events:uint ctxp:ptr
1 io_destroy ctx:ptr
2 io_submit ctx_id:ptr nr:int iocbpp:ptr
3 io_cancel ctx_id:ptr iocb:ptr result:ptr
4 io_getevents ctx_id:ptr min_nr:int nr:int events:ptr timeout:ptr
5 setxattr pathname:str name:str value:ptr size:size flags:xattr
6 lsetxattr pathname:str name:str value:ptr size:size flags:xattr
7 fsetxattr fd:fd name:str value:ptr size:size flags:xattr
8 getxattr pathname:str name:str value:ptr size:size
9 lgetxattr pathname:str name:str value:ptr size:size
10 fgetxattr fd:fd name:str value:ptr size:size
11 listxattr pathname:str list:ptr size:size
12 llistxattr pathname:str list:ptr size:size
13 flistxattr fd:fd list:ptr size:size
14 removexattr pathname:str name:str
15 lremovexattr pathname:str name:str
16 fremovexattr fd:fd name:str
17 getcwd buf:ptr size:size
18 lookup_dcookie cookie:hex buf:ptr len:size
19 eventfd2 count:uint flags:eventfd -> fd
20 epoll_create1 flags:epoll -> fd
21 epoll_ctl epfd:fd op:epoll_ctl fd:fd event:ptr
22 epoll_pwait epfd:fd events:ptr maxevents:int timeout:int sigmask:ptr sigsetsize:size
23 dup fildes:fd -> fd
24 dup3 oldfd:fd newfd:fd flags:new_fd -> fd
25 fcntl fd:fd cmd:fcntl arg:hex
26 inotify_init1 flags:inotify_init -> fd
27 inotify_add_watch fd:fd pathname:str mask:inotify
28 inotify_rm_watch fd:fd wd:int
29 ioctl fd:fd cmd:ioctl arg:hex
30 ioprio_set which:ioprio who:pid ioprio:hex
31 ioprio_get which:ioprio who:pid
32 flock fd:fd cmd:flock
33 mknodat dfd:dirfd filename:str mode:oct dev:hex
34 mkdirat dfd:dirfd pathname:str mode:oct
35 unlinkat dfd:dirfd pathname:str flag:at
36 symlinkat oldname:str newdfd:dirfd newname:str
37 linkat olddfd:dirfd oldname:str newdfd:dirfd newname:str flags:at
39 umount2 name:str flags:umount
40 mount dev_name:str dir_name:str type:str flags:hex data:ptr
41 pivot_root new_root:str put_old:str
42 nfsservctl cmd:int argp:ptr resp:ptr
43 statfs pathname:str buf:ptr
44 fstatfs fd:fd buf:ptr
45 truncate path:str length:int
46 ftruncate fd:fd length:int
47 fallocate fd:fd mode:fallocate offset:int len:int
48 faccessat dfd:dirfd filename:str mode:access
49 chdir filename:str
50 fchdir fd:fd
51 chroot filename:str
52 fchmod fd:fd mode:oct
53 fchmodat dfd:dirfd filename:str mode:oct
54 fchownat dfd:dirfd filename:str user:int group:int flag:at
55 fchown fd:fd user:int group:int
56 openat dfd:dirfd filename:str flags:open mode:oct -> fd
57 close fd:fd
58 vhangup
59 pipe2 fildes:ptr flags:new_fd
60 quotactl cmd:hex special:str id:int addr:ptr
61 getdents64 fd:fd dirent:ptr count:size
62 lseek fd:fd offset:int whence:whence
63 read fd:fd buf:ptr count:size
64 write fd:fd buf:ptr count:size
65 readv fd:fd vec:ptr vlen:uint
66 writev fd:fd vec:ptr vlen:uint
67 pread64 fd:fd buf:ptr count:size pos:int
68 pwrite64 fd:fd buf:ptr count:size pos:int
69 preadv fd:fd vec:ptr vlen:uint pos_l:int pos_h:int
70 pwritev fd:fd vec:ptr vlen:uint pos_l:int pos_h:int
71 sendfile out_fd:fd in_fd:fd offset:ptr count:size
72 pselect6 n:uint inp:ptr outp:ptr exp:ptr tsp:ptr sig:ptr
73 ppoll ufds:ptr nfds:uint tsp:ptr sigmask:ptr sigsetsize:size
74 signalfd4 ufd:fd user_mask:ptr sizemask:size flags:new_fd -> fd
75 vmsplice fd:fd iov:ptr nr_segs:uint flags:splice
76 splice fd_in:fd off_in:ptr fd_out:fd off_out:ptr len:size flags:splice
77 tee fdin:fd fdout:fd len:size flags:splice
78 readlinkat dfd:dirfd pathname:str buf:ptr bufsiz:size
79 newfstatat dfd:dirfd filename:str statbuf:ptr flag:at
80 fstat fd:fd statbuf:ptr
81 sync
82 fsync fd:fd
83 fdatasync fd:fd
84 sync_file_range fd:fd offset:int nbytes:int flags:sync_file_range
85 timerfd_create clockid:clock flags:timerfd -> fd
86 timerfd_settime ufd:fd flags:timerfd_settime utmr:ptr otmr:ptr
87 timerfd_gettime ufd:fd otmr:ptr
88 utimensat dfd:dirfd filename:str utimes:ptr flags:at
89 acct name:str
90 capget header:ptr dataptr:ptr
91 capset header:ptr data:ptr
92 personality personality:hex
93 exit error_code:int
94 exit_group error_code:int
95 waitid which:idtype upid:pid infop:ptr options:wait ru:ptr
96 set_tid_address tidptr:ptr -> pid
97 unshare unshare_flags:clone
98 futex uaddr:ptr op:futex val:uint utime:ptr uaddr2:ptr val3:uint
99 set_robust_list head:ptr len:size
100 get_robust_list pid:pid head_ptr:ptr len_ptr:ptr
101 nanosleep rqtp:ptr rmtp:ptr
102 getitimer which:itimer value:ptr
103 setitimer which:itimer value:ptr ovalue:ptr
104 kexec_load entry:ptr nr_segments:uint segments:ptr flags:hex
105 init_module umod:ptr len:size uargs:str
106 delete_module name_user:str flags:hex
107 timer_create which_clock:clock timer_event_spec:ptr created_timer_id:ptr
108 timer_gettime timer_id:int setting:ptr
109 timer_getoverrun timer_id:int
110 timer_settime timer_id:int flags:timer new_setting:ptr old_setting:ptr
111 timer_delete timer_id:int
112 clock_settime which_clock:clock tp:ptr
113 clock_gettime which_clock:clock tp:ptr
114 clock_getres which_clock:clock tp:ptr
115 clock_nanosleep which_clock:clock flags:timer rqtp:ptr rmtp:ptr
116 syslog type:int buf:ptr len:int
117 ptrace request:ptrace pid:pid addr:hex data:ptr
118 sched_setparam pid:pid param:ptr
119 sched_setscheduler pid:pid policy:sched param:ptr
120 sched_getscheduler pid:pid
121 sched_getparam pid:pid param:ptr
122 sched_setaffinity pid:pid len:size user_mask_ptr:ptr
123 sched_getaffinity pid:pid len:size user_mask_ptr:ptr
124 sched_yield
125 sched_get_priority_max policy:sched
126 sched_get_priority_min policy:sched
127 sched_rr_get_interval pid:pid interval:ptr
128 restart_syscall
129 kill pid:pid sig:sig
130 tkill pid:pid sig:sig
131 tgkill tgid:pid pid:pid sig:sig
132 sigaltstack uss:ptr uoss:ptr
133 rt_sigsuspend unewset:ptr sigsetsize:size
134 rt_sigaction sig:sig act:ptr oact:ptr sigsetsize:size
135 rt_sigprocmask how:sigmask nset:ptr oset:ptr sigsetsize:size
136 rt_sigpending uset:ptr sigsetsize:size
137 rt_sigtimedwait uthese:ptr uinfo:ptr uts:ptr sigsetsize:size
138 rt_sigqueueinfo pid:pid sig:sig uinfo:ptr
139 rt_sigreturn
140 setpriority which:priority who:pid niceval:int
141 getpriority which:priority who:pid
142 reboot magic1:hex magic2:hex cmd:hex arg:ptr
143 setregid rgid:int egid:int
144 setgid gid:int
145 setreuid ruid:int euid:int
146 setuid uid:int
147 setresuid ruid:int euid:int suid:int
148 getresuid ruidp:ptr euidp:ptr suidp:ptr
149 setresgid rgid:int egid:int sgid:int
150 getresgid rgidp:ptr egidp:ptr sgidp:ptr
151 setfsuid uid:int
152 setfsgid gid:int
153 times tbuf:ptr -> time
154 setpgid pid:pid pgid:pid
155 getpgid pid:pid -> pid
156 getsid pid:pid -> pid
157 setsid -> pid
158 getgroups gidsetsize:int grouplist:ptr
159 setgroups gidsetsize:int grouplist:ptr
160 uname name:ptr
161 sethostname name:str len:int
162 setdomainname name:str len:int
163 getrlimit resource:rlimit rlim:ptr
164 setrlimit resource:rlimit rlim:ptr
165 getrusage who:rusage ru:ptr
166 umask mask:oct
167 prctl option:prctl arg2:hex arg3:hex arg4:hex arg5:hex
168 getcpu cpup:ptr nodep:ptr unused:ptr
169 gettimeofday tv:ptr tz:ptr
170 settimeofday tv:ptr tz:ptr
171 adjtimex txc_p:ptr
172 getpid -> pid
173 getppid -> pid
174 getuid
175 geteuid
176 getgid
177 getegid
178 gettid -> pid
179 sysinfo info:ptr
180 mq_open name:str oflag:open mode:oct attr:ptr -> fd
181 mq_unlink name:str
182 mq_timedsend mqdes:fd msg_ptr:ptr msg_len:size msg_prio:uint abs_timeout:ptr
183 mq_timedreceive mqdes:fd msg_ptr:ptr msg_len:size msg_prio:ptr abs_timeout:ptr
184 mq_notify mqdes:fd notification:ptr
185 mq_getsetattr mqdes:fd mqstat:ptr omqstat:ptr
186 msgget key:hex msgflg:ipc
187 msgctl msqid:int cmd:msg_cmd buf:ptr
188 msgrcv msqid:int msgp:ptr msgsz:size msgtyp:int msgflg:msgrcv
189 msgsnd msqid:int msgp:ptr msgsz:size msgflg:ipc
190 semget key:hex nsems:int semflg:ipc
191 semctl semid:int semnum:int cmd:sem_cmd arg:hex
192 semtimedop semid:int tsops:ptr nsops:uint timeout:ptr
193 semop semid:int tsops:ptr nsops:uint
194 shmget key:hex size:size shmflg:ipc
195 shmctl shmid:int cmd:ipc_cmd buf:ptr
196 shmat shmid:int shmaddr:ptr shmflg:shmat -> ptr
197 shmdt shmaddr:ptr
198 socket family:family type:socktype protocol:int -> fd
199 socketpair family:family type:socktype protocol:int usockvec:ptr
200 bind fd:fd umyaddr:ptr addrlen:size
201 listen fd:fd backlog:int
202 accept fd:fd upeer_sockaddr:ptr upeer_addrlen:ptr -> fd
203 connect fd:fd uservaddr:ptr addrlen:size
204 getsockname fd:fd usockaddr:ptr usockaddr_len:ptr
205 getpeername fd:fd usockaddr:ptr usockaddr_len:ptr
206 sendto fd:fd buff:ptr len:size flags:msg addr:ptr addr_len:size
207 recvfrom fd:fd ubuf:ptr size:size flags:msg addr:ptr addr_len:ptr
208 setsockopt fd:fd level:sockopt_level optname:int optval:ptr optlen:size
209 getsockopt fd:fd level:sockopt_level optname:int optval:ptr optlen:ptr
210 shutdown fd:fd how:shutdown
211 sendmsg fd:fd msg:ptr flags:msg
212 recvmsg fd:fd msg:ptr flags:msg
213 readahead fd:fd offset:int count:size
214 brk brk:ptr -> ptr
215 munmap addr:ptr len:size
216 mremap addr:ptr old_len:size new_len:size flags:mremap new_addr:ptr -> ptr
217 add_key type:str description:str payload:ptr plen:size ringid:int
218 request_key type:str description:str callout_info:str destringid:int
219 keyctl option:int arg2:hex arg3:hex arg4:hex arg5:hex
220 clone clone_flags:clone newsp:ptr parent_tidptr:ptr tls:ptr child_tidptr:ptr -> pid
221 execve filename:str argv:ptr envp:ptr
222 mmap addr:ptr len:size prot:prot flags:map fd:fd off:hex -> ptr
223 fadvise64 fd:fd offset:int len:size advice:fadvise
224 swapon specialfile:str swap_flags:hex
225 swapoff specialfile:str
226 mprotect start:ptr len:size prot:prot
227 msync start:ptr len:size flags:msync
228 mlock start:ptr len:size
229 munlock start:ptr len:size
230 mlockall flags:mlockall
231 munlockall
232 mincore start:ptr len:size vec:ptr
233 madvise start:ptr len_in:size behavior:madvise
234 remap_file_pages start:ptr size:size prot:prot pgoff:uint flags:map
235 mbind start:ptr len:size mode:int nmask:ptr maxnode:uint flags:hex
236 get_mempolicy policy:ptr nmask:ptr maxnode:uint addr:ptr flags:hex
237 set_mempolicy mode:int nmask:ptr maxnode:uint
238 migrate_pages pid:pid maxnode:uint old_nodes:ptr new_nodes:ptr
239 move_pages pid:pid nr_pages:uint pages:ptr nodes:ptr status:ptr flags:hex
240 rt_tgsigqueueinfo tgid:pid pid:pid sig:sig uinfo:ptr
241 perf_event_open attr_uptr:ptr pid:pid cpu:int group_fd:fd flags:hex -> fd
242 accept4 fd:fd upeer_sockaddr:ptr upeer_addrlen:ptr flags:socket -> fd
243 recvmmsg fd:fd mmsg:ptr vlen:uint flags:msg timeout:ptr
258 riscv_hwprobe pairs:ptr pair_count:size cpusetsize:size cpus:ptr flags:hex
259 riscv_flush_icache start:ptr end:end flags:hex
260 wait4 upid:pid stat_addr:ptr options:wait ru:ptr -> pid
261 prlimit64 pid:pid resource:rlimit new_rlim:ptr old_rlim:ptr
262 fanotify_init flags:hex event_f_flags:open -> fd
263 fanotify_mark fanotify_fd:fd flags:hex mask:hex dfd:dirfd pathname:str
264 name_to_handle_at dfd:dirfd name:str handle:ptr mnt_id:ptr flag:at
265 open_by_handle_at mountdirfd:dirfd handle:ptr flags:open -> fd
266 clock_adjtime which_clock:clock utx:ptr
267 syncfs fd:fd
268 setns fd:fd flags:clone
269 sendmmsg fd:fd mmsg:ptr vlen:uint flags:msg
270 process_vm_readv pid:pid lvec:ptr liovcnt:uint rvec:ptr riovcnt:uint flags:hex
271 process_vm_writev pid:pid lvec:ptr liovcnt:uint rvec:ptr riovcnt:uint flags:hex
272 kcmp pid1:pid pid2:pid type:kcmp idx1:hex idx2:hex
273 finit_module fd:fd uargs:str flags:hex
274 sched_setattr pid:pid uattr:ptr flags:hex
275 sched_getattr pid:pid uattr:ptr usize:size flags:hex
276 renameat2 olddfd:dirfd oldname:str newdfd:dirfd newname:str flags:rename
277 seccomp op:int flags:hex uargs:ptr
278 getrandom ubuf:ptr len:size flags:getrandom
279 memfd_create uname:str flags:memfd -> fd
280 bpf cmd:int uattr:ptr size:size
281 execveat fd:dirfd filename:str argv:ptr envp:ptr flags:at
282 userfaultfd flags:hex -> fd
283 membarrier cmd:hex flags:hex cpu_id:int
284 mlock2 start:ptr len:size flags:mlock2
285 copy_file_range fd_in:fd off_in:ptr fd_out:fd off_out:ptr len:size flags:hex
286 preadv2 fd:fd vec:ptr vlen:uint pos_l:int pos_h:int flags:rwf
287 pwritev2 fd:fd vec:ptr vlen:uint pos_l:int pos_h:int flags:rwf
288 pkey_mprotect start:ptr len:size prot:prot pkey:int
289 pkey_alloc flags:hex init_val:hex
290 pkey_free pkey:int
291 statx dfd:dirfd filename:str flags:at mask:statx buffer:ptr
292 io_pgetevents ctx_id:ptr min_nr:int nr:int events:ptr timeout:ptr usig:ptr
293 rseq rseq:ptr rseq_len:size flags:hex sig:hex
294 kexec_file_load kernel_fd:fd initrd_fd:fd cmdline_len:size cmdline_ptr:str flags:hex
424 pidfd_send_signal pidfd:fd sig:sig info:ptr flags:pidfd_signal
425 io_uring_setup entries:uint params:ptr -> fd
426 io_uring_enter fd:fd to_submit:uint min_complete:uint flags:hex argp:ptr argsz:size
427 io_uring_register fd:fd opcode:uint arg:ptr nr_args:uint
428 open_tree dfd:dirfd filename:str flags:hex -> fd
429 move_mount from_dfd:dirfd from_pathname:str to_dfd:dirfd to_pathname:str flags:hex
430 fsopen fs_name:str flags:hex -> fd
431 fsconfig fd:fd cmd:int key:str value:ptr aux:int
432 fsmount fs_fd:fd flags:hex attr_flags:hex -> fd
433 fspick dfd:dirfd path:str flags:hex -> fd
434 pidfd_open pid:pid flags:pidfd -> fd
435 clone3 uargs:ptr size:size -> pid
436 close_range fd:uint max_fd:uint flags:close_range
437 openat2 dfd:dirfd filename:str how:ptr usize:size -> fd
438 pidfd_getfd pidfd:fd fd:int flags:hex -> fd
439 faccessat2 dfd:dirfd filename:str mode:access flags:at
440 process_madvise pidfd:fd vec:ptr vlen:uint behavior:madvise flags:hex
441 epoll_pwait2 epfd:fd events:ptr maxevents:int timeout:ptr sigmask:ptr sigsetsize:size
442 mount_setattr dfd:dirfd path:str flags:hex uattr:ptr usize:size
443 quotactl_fd fd:fd cmd:hex id:int addr:ptr
444 landlock_create_ruleset attr:ptr size:size flags:hex -> fd
445 landlock_add_rule ruleset_fd:fd rule_type:int rule_attr:ptr flags:hex
446 landlock_restrict_self ruleset_fd:fd flags:hex
447 memfd_secret flags:new_fd -> fd
448 process_mrelease pidfd:fd flags:hex
449 futex_waitv waiters:ptr nr_futexes:uint flags:hex timeout:ptr clockid:clock
450 set_mempolicy_home_node start:ptr len:size home_node:uint flags:hex
451 cachestat fd:fd cstat_range:ptr cstat:ptr flags:hex
452 fchmodat2 dfd:dirfd filename:str mode:oct flags:at
453 map_shadow_stack addr:ptr size:size flags:shstk -> ptr
454 futex_wake uaddr:ptr mask:hex nr:int flags:hex
455 futex_wait uaddr:ptr val:uint mask:hex flags:hex timeout:ptr clockid:clock
456 futex_requeue waiters:ptr flags:hex nr_wake:int nr_requeue:int
457 statmount req:ptr buf:ptr bufsize:size flags:hex
458 listmount req:ptr mnt_ids:ptr nr_mnt_ids:uint flags:hex
459 lsm_get_self_attr attr:uint ctx:ptr size:ptr flags:hex
460 lsm_set_self_attr attr:uint ctx:ptr size:size flags:hex
461 lsm_list_modules ids:ptr size:ptr flags:hex
462 mseal start:ptr len:size flags:hex
463 setxattrat dfd:dirfd pathname:str at_flags:at name:str uargs:ptr usize:size
464 getxattrat dfd:dirfd pathname:str at_flags:at name:str uargs:ptr usize:size
465 listxattrat dfd:dirfd pathname:str at_flags:at list:ptr size:size
466 removexattrat dfd:dirfd pathname:str at_flags:at name:str
467 open_tree_attr dfd:dirfd filename:str flags:hex uattr:ptr usize:size -> fd
468 file_getattr dfd:dirfd filename:str ufattr:ptr usize:size at_flags:at
469 file_setattr dfd:dirfd filename:str ufattr:ptr usize:size at_flags:at
470 listns req:ptr ns_ids:ptr nr_ns_ids:uint flags:hex
471 rseq_slice_yield
"""


class Argument(NamedTuple):
    name: str  # as in SYSCALL_DEFINE
    type: str

    def __str__(self) -> str:
        return f"{self.name}:{self.type}"


class Syscall(NamedTuple):
    """A row of the table; str() gives its text. returns: the type of the result."""

    number: int
    name: str
    arguments: tuple[Argument, ...] = ()
    returns: str = COUNT

    def __str__(self) -> str:
        arrow = "" if self.returns == COUNT else f" -> {self.returns}"
        return " ".join([str(self.number), self.name, *map(str, self.arguments)]) + arrow


def parse(row: str) -> Syscall:
    told, _, returns = row.partition(" -> ")
    number, name, *words = told.split()
    arguments = tuple(Argument(*word.split(":")) for word in words)
    return Syscall(int(number), name, arguments, returns or COUNT)


def _by_name() -> dict[str, Syscall]:
    return {call.name: call for call in map(parse, _TABLE.strip().splitlines())}


SYSCALLS: Final = _by_name()
BY_NUMBER: Final = {call.number: call for call in SYSCALLS.values()}


def name_of(number: int) -> str:
    """A call's name; `syscall_N` if no call has the number."""
    return BY_NUMBER[number].name if number in BY_NUMBER else f"syscall_{number}"
