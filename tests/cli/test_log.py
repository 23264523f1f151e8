"""log: a system call is shown with its arguments in words, in JSON by their names too."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import shstk
from shstk.__main__ import run
from shstk.cli import cli
from shstk.log.pointers import POINTERS
from shstk.log.structs import size_of
from shstk.schemas.argument_types import COMMANDS, READ_WITH
from shstk.schemas.errors import BadRun
from shstk.schemas.syscalls import SYSCALLS
from shstk.tracer.kernel.table import CALLS

sys.path.insert(0, str(Path(__file__).parents[1] / "kernel"))

import riscv_asm

CLONES = ("clone", "clone3")  # in listings their arguments have names of their own


def log(tmp_path: Path, *lines: str, calls: str = "all") -> list[str]:
    """The texts of these calls; `ARGUMENTS = {…}` follows as JSON has them."""
    (tmp_path / "a.md").write_text("```run\nt1 boot\n" + "\n".join(lines) + "\n```")
    run = str(tmp_path / "a.run")
    for words in (
        ("build", str(tmp_path / "a.md"), "-o", run, "--force"),
        ("log", run, "--calls", calls),
    ):
        shown = CliRunner().invoke(cli, [*words, *(["--format", "json"] * (words[0] == "log"))])
        assert shown.exit_code == 0, shown.output
    return [f"{line['text']}  {line['arguments']}" for line in json.loads(shown.output)]


@pytest.mark.parametrize(
    ("call", "text"),
    [
        ("openat(-100, 0, 0o101, 0o644) = 3", "openat(AT_FDCWD, NULL, O_WRONLY|O_CREAT, 0644) = 3"),
        ("pipe2(0x1000, 0o2000000) = 0", "pipe2(0x1000, O_CLOEXEC) = 0"),
        ("setpriority(0, 7, -5) = 0", "setpriority(PRIO_PROCESS, 7, -5) = 0"),
        ("setresuid(-1, 1000, -1) = 0", "setresuid(-1, 1000, -1) = 0"),
        ("shmget(0, 8K, 0o1600) = 1", "shmget(0, 8K, IPC_CREAT|0600) = 1"),
        ("shmat(1, 0, 0o10000) = 0x1000", "shmat(1, NULL, SHM_RDONLY) = 0x1000"),
        ("mq_unlink(0x1000) = -ENOSYS", "mq_unlink(0x1000) = -ENOSYS (Function not implemented)"),
        ("epoll_ctl(3, 1, 4, 0) = 0", "epoll_ctl(3, EPOLL_CTL_ADD, 4, NULL) = 0"),
        ("eventfd2(0, 0o2000001) = 3", "eventfd2(0, EFD_SEMAPHORE|EFD_CLOEXEC) = 3"),
    ],
)
def test_arguments_in_words(tmp_path: Path, call: str, text: str) -> None:
    (shown,) = log(tmp_path, f"10 t1 {call}")
    assert shown.startswith(f"{text}  ")


def test_arguments_of_a_call_that_nobody_knows(tmp_path: Path) -> None:
    row = "row syscalls nr=1000 a0=0 a1=0x10 {} ret=-38 outcome=returned".format(
        " ".join(f"a{i}=0" for i in range(2, 6))
    )
    (shown,) = log(tmp_path, f"10 t1 {row}")
    assert (
        shown
        == "syscall_1000(0, 0x10) = -ENOSYS (Function not implemented)  {'a0': '0', 'a1': '0x10'}"
    )


def test_every_call_of_the_kernel_model_has_words(tmp_path: Path) -> None:
    names = [call.name for call in CALLS.values() if call.name not in CLONES]
    shown = log(tmp_path, *(f"{10 + i} t1 {name}() = 0" for i, name in enumerate(names)))
    assert len(shown) == len(names)
    for name, line in zip(names, shown, strict=True):
        text, _, told = line.partition("  {")
        assert text.startswith(f"{name}(")
        depends = name in COMMANDS or name in READ_WITH  # what is read, on a value
        for argument in () if depends else SYSCALLS[name].arguments:
            assert f"'{argument.name}': " in told, line


@pytest.mark.parametrize(
    ("call", "memory", "text"),
    [
        ("pipe2(0x1000, 0) = 0", "mem_write 0x1000 u32:3,u32:4", "pipe2([3, 4], 0) = 0"),
        (
            "read(3, 0x1000, 4K) = 5",
            "mem_write 0x1000 hex:610a7f0039",
            r'read(3, "a\n\177\0009", 4K) = 5',
        ),
        (
            "prlimit64(0, 3, 0, 0x1000) = 0",
            "mem_write 0x1000 u64:0x800000,u64:-1",
            "prlimit64(0, RLIMIT_STACK, NULL, {rlim_cur=8M, rlim_max=RLIM64_INFINITY}) = 0",
        ),
        (
            "wait4(-1, 0x1000, 0, 0) = 7",
            "mem_write 0x1000 u32:0x8b",
            "wait4(-1, [{WIFSIGNALED(s) && WTERMSIG(s) == SIGSEGV && WCOREDUMP(s)}], 0, NULL) = 7",
        ),
        (
            "rt_sigprocmask(0, 0x2000, 0x1000, 8) = 0",
            "mem_write 0x1000 u64:0x10002 { mem_read 0x2000 u64:-1 }",
            "rt_sigprocmask(SIG_BLOCK, ~[], [INT CHLD], 8) = 0",
        ),
        (
            "clock_nanosleep(1, 1, 0x1000, 0) = 0",
            "mem_read 0x1000 u64:1,u64:500",
            "clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, {tv_sec=1, tv_nsec=500}, NULL) = 0",
        ),
        (
            "connect(3, 0x1000, 16) = 0",
            "mem_read 0x1000 hex:02000050,hex:7f000001,zero:8",
            'connect(3, {sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("127.0.0.1")},'
            " 16) = 0",
        ),
        *(
            (f"{call} = 3", "mem_read 0x9000 u64:1", f"{text} = 3")
            for call, text in {  # registers that the kernel does not read
                "openat(-100, 0, 0o100, 0o644)": "openat(AT_FDCWD, NULL, O_RDONLY|O_CREAT, 0644)",
                "openat(-100, 0, 0, 0o644)": "openat(AT_FDCWD, NULL, O_RDONLY)",
                "futex(0, 129, 1, 5, 6, 7)": "futex(NULL, FUTEX_WAKE|FUTEX_PRIVATE_FLAG, 1)",
                "futex(0, 4, 1, 5, 0, 7)": "futex(NULL, FUTEX_CMP_REQUEUE, 1, 5, NULL, 7)",
                "fcntl(4, 1, 99)": "fcntl(4, F_GETFD)",
                "prctl(23, 1, 2, 3, 4)": "prctl(PR_CAPBSET_READ, 1)",
            }.items()
        ),
        (
            "setsockopt(3, 1, 13, 0x1000, 8) = 0",
            "mem_read 0x1000 u32:1,u32:5",
            "setsockopt(3, SOL_SOCKET, SO_LINGER, {l_onoff=1, l_linger=5}, 8) = 0",
        ),
        (
            "getsockopt(3, 6, 1, 0x1000, 0x2000) = 0",
            "mem_write 0x1000 u32:1 { mem_write 0x2000 u32:4 }",
            "getsockopt(3, IPPROTO_TCP, TCP_NODELAY, [1], [4]) = 0",
        ),
        (
            "clock_gettime(0, 0x1000) = 0",
            "mem_write 0x9000 u64:1",
            "clock_gettime(CLOCK_REALTIME, 0x1000) = 0",
        ),
        (
            "read(3, 0x1000, 8) = -9",
            "mem_write 0x1000 zero:8",
            "read(3, 0x1000, 8) = -EBADF (Bad file descriptor)",
        ),
        (
            "openat(-100, 0x1000, 0, 0) = 3",
            'mem_read 0x1000 "/a\\tb"',
            r'openat(AT_FDCWD, "/a\tb", O_RDONLY) = 3',
        ),
    ],
)
def test_what_is_behind_a_pointer(tmp_path: Path, call: str, memory: str, text: str) -> None:
    first, _, second = memory.partition(" { ")
    inner = [first, *([second.removesuffix(" }")] if second else [])]
    (shown,) = log(tmp_path, f"10 t1 {call} {{ {' ; '.join(inner)} }}")
    assert shown.partition("  {")[0] == text


def test_every_pointer_that_is_followed_is_an_argument() -> None:
    for call, pointers in POINTERS.items():
        known = {argument.name: argument.type for argument in SYSCALLS[call].arguments}
        for argument, what in pointers.items():
            assert known[argument] == "ptr", (call, argument)
            lengths = re.findall(r"\[\*?(\w+)\]", what)
            assert all(n in known or n == "ret" or n.isdigit() for n in lengths), (call, what)


@pytest.mark.parametrize(
    ("kind", "size"),
    [  # sizeof on riscv64
        ("timespec", 16), ("itimerspec", 32), ("stat", 128), ("statx", 256), ("statfs", 120),
        ("rusage", 144), ("utsname", 390), ("sigaction", 24), ("stack_t", 24), ("siginfo", 128),
        ("pollfd", 8), ("epoll_event", 16), ("termios", 36), ("termios2", 44), ("flock", 32),
        ("sembuf", 6), ("mq_attr", 64), ("clone_args", 64), ("open_how", 24), ("sysinfo", 112),
    ],
)  # fmt: skip
def test_sizes_of_structs(kind: str, size: int) -> None:
    assert size_of(kind) == size


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ("getpid", "getpid"),
        ("%memory,!brk", "mmap munmap"),
        ("!%file,brk", "getpid mmap munmap"),
        ("%file", "openat"),
        ("%desc", "mmap openat"),
        ("all", "getpid brk mmap munmap openat"),
    ],
)
def test_which_calls(tmp_path: Path, asked: str, names: str) -> None:
    calls = ("getpid", "brk", "mmap", "munmap", "openat")
    lines = [f"{i} t1 {name}() = 0" for i, name in enumerate(calls, 10)]
    shown = log(tmp_path, *lines, calls=asked)
    assert [text.partition("(")[0] for text in shown] == names.split()


def test_jsonl_has_the_columns_by_their_units(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lines = ("10 t1 getpid() = 1 pc=0x10", "12 t1 brk(0) = 0")
    out = tmp_path / "log"
    code, _ = told(
        tmp_path, *lines, options=("--range", "10..11", "--format", "jsonl", "-o", str(out))
    )
    assert code == 0
    assert "getpid" not in capfd.readouterr().out
    (row,) = [json.loads(line) for line in out.read_text().splitlines()]
    assert row["text"] == "getpid() = 1"
    assert (row["fields"]["name"], row["fields"]["pc"], row["fields"]["ret"]) == (
        "getpid",
        "0x10",
        1,
    )


@pytest.mark.parametrize(
    ("at", "marked"), [("10.1", "> 10.1"), ("11", "> 11.0"), ("12.0", "> 12.0")]
)
def test_the_asked_place_is_marked(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], at: str, marked: str
) -> None:
    lines = ("10 t1 getpid() = 1", "12 t1 getppid() = 0")
    assert told(tmp_path, *lines, options=("--around", at))[0] == 0
    shown = [line for line in capfd.readouterr().out.splitlines() if line[:1] in (">", " ")]
    assert next(line for line in shown if line.startswith(">")).startswith(marked)
    assert sum(line.startswith(">") for line in shown) == 1


def told(tmp_path: Path, *lines: str, options: tuple[str, ...] = ()) -> tuple[int, str]:
    """What log says of a listing: exit code, and text without places and tasks."""
    (tmp_path / "a.md").write_text("```run\nt1 boot\n" + "\n".join(lines) + "\n```")
    out = tmp_path / "a.run"
    assert run(["build", str(tmp_path / "a.md"), "-o", str(out), "--force"]) == 0
    return run(["log", str(out), *options]), str(out)


@pytest.mark.parametrize(
    ("event", "text"),
    [
        ("exec_done -2", "exec_done = -ENOENT"),
        ("exec_done", "exec_done"),
        ("vfork_done 1", "vfork_done: task 1 goes on"),
        ("mm_dropped 2", "mm_dropped users=2"),
        ("fatal SIGTERM code=0", "killed by SIGTERM {si_code=SI_USER}"),
        ("fatal SIGILL code=1", "killed by SIGILL {si_code=ILL_ILLOPC}"),
        ("deliver SIGCHLD code=2 handler=0x1000", "SIGCHLD {si_code=CLD_KILLED} -> handler 0x1000"),
        ("fatal SIGSEGV code=99", "killed by SIGSEGV {si_code=99}"),
        (
            "row mappings op=map shadow_stack=true length=4K ret=-17",
            "map shadow stack 4K = -EEXIST",
        ),
        (
            "row mappings op=map shadow_stack=true hint=0x5000 length=4K ret=-17",
            "map shadow stack 0x5000+4K = -EEXIST",
        ),
    ],
)
def test_what_happened_in_words(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], event: str, text: str
) -> None:
    code, _ = told(tmp_path, f"10 t1 {event}")
    assert code == 0
    [line] = [line for line in capfd.readouterr().out.splitlines() if line.startswith("10.")]
    assert line.split(maxsplit=2)[2].removesuffix(" frame -") == text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--tid 999", "error: --tid 999: the run has no such task\n  hint: tasks: 1\n"),
        ("--around 2000.1", "error: --around 2000.1: the run ends at 10.0\n"),
        ("--range 11..+5", "error: --range 11.0..: the run ends at 10.0\n"),
        ("--pid 999", "error: --pid 999: the run has no such process\n  hint: processes: 1\n"),
        (
            "--calls opena",
            "error: --calls opena: riscv64 has no such call\n"
            "  hint: did you mean openat or openat2 or fsopen?\n",
        ),
        (
            "--calls %files",
            "error: --calls %files: there is no such group\n  hint: did you mean file?\n",
        ),
    ],
)
def test_what_the_run_does_not_have(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], options: str, message: str
) -> None:
    code, _ = told(tmp_path, "10 t1 getpid() = 1", options=tuple(options.split()))
    assert (code, capfd.readouterr().err.partition("error")[2]) == (
        2,
        message.partition("error")[2],
    )


# What the kernel reads. The words at the end are text: "hello\n", "/no", "a b".
READS = """
    sys 64, 1, hello, 6
    sys 66, 1, vec, 2
    sys 134, 10, act, 0, 8
    sys 101, pause, 0
    sys 73, polled, 1, 0, 0, 0
    sys 72, 2, 0, bits, 0, pause, 0
    sys 122, 0, 8, bits
    sys 221, no, argv, 0
    sys 66, 1, 8, 2
    sys 167, 15, no, 0, 0, 0
    sys 56, -100, own, 0, 0
    sys 67, 3, room, 3, 1
    sys 65, 3, filled, 1
    sys 94, 0
room: .dword 0
    .align 8
own: .dword 24879
filled: .dword room, 4
hello: .dword 11473676690792
no: .dword 7302703
ab: .dword 6430817
vec: .dword hello, 2, hello+2, 4
act: .dword 1, 0x10000000, 0
pause: .dword 0, 500
polled: .dword 0x400000001
bits: .dword 2
argv: .dword no, ab, 0
"""
TOLD = r"""
    write(1, "hello\n", 6) = 6
    writev(1, [{iov_base="he", iov_len=2}, {iov_base="llo\n", iov_len=4}], 2) = 6
    rt_sigaction(SIGUSR1, {sa_handler=SIG_IGN, sa_flags=SA_RESTART, sa_mask=[]}, NULL, 8) = 0
    nanosleep({tv_sec=0, tv_nsec=500}, NULL) = 0
    ppoll([{fd=1, events=POLLOUT, revents=POLLOUT}], 1, NULL, NULL, 0) = 1
    pselect6(2, NULL, [1], NULL, {tv_sec=0, tv_nsec=500}, NULL) = 1 (out [1], left SAME)
    sched_setaffinity(0, 8, [1]) = -EINVAL (Invalid argument)
    execve("/no", ["/no", "a b"], NULL) = -ENOENT (No such file or directory)
    writev(1, 0x8, 2) = -EFAULT (Bad address)
    prctl(PR_SET_NAME, "/no") = 0
    openat(AT_FDCWD, "/a", O_RDONLY) = 3
    pread64(3, "ELF", 3, 1) = 3
    readv(3, [{iov_base="\177ELF", iov_len=4}], 1) = 4
"""


def calls_of(run: Path, *options: str) -> list[str]:
    shown = CliRunner().invoke(cli, ["log", str(run), "--calls", *options, "--format", "jsonl"])
    assert shown.exit_code == 0, shown.output
    lines = [json.loads(line) for line in shown.stdout.splitlines()]
    return [line["text"] for line in lines if line["fields"]["outcome"] == "returned"]


def test_what_calls_read_is_found_by_executing_the_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(riscv_asm.program(READS))
    run = shstk.record(tmp_path / "a", out=tmp_path / "a.run").path
    told = [line.strip() for line in TOLD.strip().splitlines()]
    told = [line.replace("SAME", "{tv_sec=0, tv_nsec=500}") for line in told]
    assert calls_of(run) == told
    assert calls_of(run) == told  # from the cache
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    at = riscv_asm.labels(READS)
    assert calls_of(run, "--no-execute")[1:3] == [
        f"writev(1, {at['vec']:#x}, 2) = 6",
        f"rt_sigaction(SIGUSR1, {at['act']:#x}, NULL, 8) = 0",
    ]


def test_a_run_that_cannot_be_executed_again(tmp_path: Path) -> None:
    assert log(tmp_path, "10 t1 sched_yield() = 0")
    refused = CliRunner().invoke(cli, ["log", str(tmp_path / "a.run"), "--execute"])
    assert isinstance(refused.exception, BadRun)
    assert "it cannot be executed" in str(refused.exception)
