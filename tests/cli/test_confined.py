"""The process that runs a guest can't write elsewhere, whatever the guest makes it do."""

from __future__ import annotations

import ast
import ctypes
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "kernel"))

import riscv_asm

_NO_LANDLOCK = ctypes.CDLL(None).syscall(444, None, 0, 1) < 2
needs_filter = pytest.mark.skipif(
    not Path("/proc/sys/kernel/seccomp").exists()
    or platform.machine() not in ("x86_64", "aarch64", "riscv64"),
    reason="this kernel has no seccomp",
)
needs_landlock = pytest.mark.skipif(_NO_LANDLOCK, reason="this kernel has no Landlock 2")

TRY = """
import socket, sys
from pathlib import Path
from shstk.confined import confine

assert confine([Path(sys.argv[1])]).startswith("restricted by Landlock")

def refused(work, *arguments):
    try:
        work(*arguments)
    except PermissionError:
        return "refused"
    return "done"

allowed, other = Path(sys.argv[1]), Path(sys.argv[2])
print(refused((allowed / "new").write_text, "x"))
print(refused((other / "new").write_text, "x"))
print(refused((other / "old").write_text, "x"))
print(refused((other / "old").unlink))
print(refused((other / "sub").mkdir))
print(refused((allowed / "new").rename, other / "new"))
print(refused((other / "old").read_text))
print(refused(Path("/dev/null").write_text, "x"))
"""


def command(*words: object, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "shstk", *map(str, words)],
        cwd=cwd,
        env=os.environ | env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@needs_landlock
def test_what_a_restricted_process_can_do(tmp_path: Path) -> None:
    for name in ("allowed", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "old").write_text("old")
    words = [sys.executable, "-P", "-c", TRY, tmp_path / "allowed", tmp_path / "other"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.split() == [
        *("done", "refused", "refused", "refused", "refused", "refused", "done", "done"),
    ]
    assert sorted(file.name for file in (tmp_path / "other").iterdir()) == ["old"]


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "guest"
    path.write_bytes(riscv_asm.program("exit 0"))
    return path


@needs_landlock
def test_a_recording_needs_no_more(tmp_path: Path, program: Path) -> None:
    work = tmp_path / "work"
    (work / "mine").mkdir(parents=True)
    (work / "lay").mkdir()
    writable = ("--bind", "mine:/mine:rw", "--overlay", "lay")
    done = command("record", "-v", "-o", "runs/a.run", *writable, program, cwd=work)
    assert done.returncode == 0
    assert "restricted by Landlock" in done.stderr
    again = command("record", "-o", "runs/a.run", "--force", program, cwd=work)
    assert again.returncode == 0
    assert command("check", "runs/a.run", cwd=work).returncode == 0
    assert command("exec", "-v", program, cwd=work).stderr.count("restricted by Landlock") == 1


def test_a_plugin_may_write_anywhere(tmp_path: Path, program: Path) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "from shstk.plugin import Plugin\n"
        "class Mine(Plugin):\n"
        "    def finish(self, *_):\n"
        f"        open({str(tmp_path / 'said')!r}, 'w').write('here')\n"
    )
    done = command("exec", "-v", "--plugin", f"{plugin}:Mine", program, cwd=tmp_path)
    assert "not restricted (plugins and rules of your own may write anywhere)" in done.stderr
    assert (tmp_path / "said").read_text() == "here"


def test_it_can_be_turned_off(tmp_path: Path, program: Path) -> None:
    done = command("exec", "-v", program, cwd=tmp_path, SHSTK_UNCONFINED="1")
    assert "not restricted (SHSTK_UNCONFINED is set)" in done.stderr


@needs_landlock
def test_commands_that_run_a_guest_often_or_again(tmp_path: Path, program: Path) -> None:
    assert command("record", "-o", "a.run", program, cwd=tmp_path).returncode == 0
    for words in (
        ("replay", "-v", "a.run"),
        ("replay", "-v", "--kernel", "v6", "a.run"),
        ("replay", "-v", "--window", "1.1..+1", "-o", "insn.csv", "a.run"),
        ("matrix", "-v", "--kernels", "v6", "--keep", "runs", program),
        ("explore", "-v", "--seeds", "2", "--jobs", "2", program),
    ):
        done = command(*words, cwd=tmp_path, XDG_CACHE_HOME=str(tmp_path / "cache"))
        assert done.returncode == 0, done.stderr
        assert "restricted by Landlock" in done.stderr
    assert {"a.v6.run", "insn.csv", "runs", "cache"} < {path.name for path in tmp_path.iterdir()}


def test_only_a_debugger_is_listened_to(tmp_path: Path) -> None:
    if ctypes.CDLL(None).syscall(444, None, 0, 1) < 4:
        pytest.skip("this kernel's Landlock knows no TCP")
    listen = (
        "import socket\n"
        "from shstk.confined import confine\n"
        "confine([], tcp={})\n"
        "socket.socket().bind(('127.0.0.1', 0))\n"
    )
    for tcp in (True, False):
        words = [sys.executable, "-P", "-c", listen.format(tcp)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert ("PermissionError" in done.stderr) is not tcp


CALLS = """
import ctypes, errno, os, socket, sys, threading
from shstk.confined import confine
from shstk.schemas.syscalls import SYSCALLS

begin, results = threading.Event(), {}
libc = ctypes.CDLL(None, use_errno=True)

def answer(work, *arguments):
    try:
        work(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"

def call(number):
    ctypes.set_errno(0)
    libc.syscall(number, 0, 0, 0, 0, 0)
    return errno.errorcode.get(ctypes.get_errno(), "done")

def early():
    begin.wait()
    results["in a thread that ran before"] = answer(socket.socket, socket.AF_INET)

thread = threading.Thread(target=early)
thread.start()
told = confine([], *map(int, sys.argv[1:]))
assert "seccomp" in told, told
begin.set()
thread.join()
for name in ("AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET", "AF_UNIX"):
    results[name] = answer(socket.socket, getattr(socket, name), socket.SOCK_DGRAM)
results["socketpair"] = answer(socket.socketpair)
x86 = {"ptrace": 101, "mount": 165, "bpf": 321, "init_module": 175, "process_vm_readv": 310}
x86 |= {"keyctl": 250, "io_uring_setup": 425, "userfaultfd": 323, "getppid": 110}
for name, number in x86.items():
    results[name] = call(number if os.uname().machine == "x86_64" else SYSCALLS[name].number)
if not int(sys.argv[2]):
    results["a program"] = answer(os.execv, "/bin/sh", ["sh", "-c", ":"])
print(results)
"""
REFUSED = ("ptrace", "mount", "bpf", "init_module", "process_vm_readv", "keyctl", "io_uring_setup")


def calls_of_a_child(tcp: int, programs: int) -> dict[str, str]:
    words = [sys.executable, "-P", "-c", CALLS, str(tcp), str(programs)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return dict(ast.literal_eval(done.stdout))


@needs_filter
def test_calls_that_no_recorder_needs() -> None:
    found = calls_of_a_child(tcp=0, programs=0)
    assert {found[name] for name in (*REFUSED, "userfaultfd", "a program")} == {"EPERM"}
    network = ("AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET", "in a thread that ran before")
    assert {found[name] for name in network} == {"EPERM"}
    assert {found[name] for name in ("AF_UNIX", "socketpair", "getppid")} == {"done"}


@needs_filter
def test_a_debugger_can_be_reached() -> None:
    found = calls_of_a_child(tcp=1, programs=1)
    assert found["AF_INET"] == "done"
    assert found["AF_NETLINK"] == "EPERM"
    assert {found[name] for name in REFUSED} == {"EPERM"}


@needs_filter
def test_who_sweeps_may_start_programs() -> None:
    sweep = (
        "import subprocess\n"
        "from shstk.confined import confine\n"
        "confine([], programs={})\n"
        "subprocess.run(['/bin/sh', '-c', ':'], check=True)\n"
    )
    for programs in (True, False):
        words = [sys.executable, "-P", "-c", sweep.format(programs)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert ("PermissionError" in done.stderr) is not programs


@needs_landlock
def test_commands_that_read_a_run(tmp_path: Path, program: Path) -> None:
    assert command("record", "-o", "a.run", program, cwd=tmp_path).returncode == 0
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    checked = command("check", "-v", "--write-baseline", "b.toml", "a.run", cwd=tmp_path, **cache)
    assert "restricted by Landlock" in checked.stderr
    for words in (
        ("log", "--execute", "-o", "log.txt", "a.run"),
        ("report", "a.run"),
        ("stacks", "a.run"),
        ("query", "a.run", "SELECT count(*) FROM cfi"),
        ("export", "a.run"),
    ):
        done = command(*words, cwd=tmp_path, **cache)
        assert done.returncode == 0, done.stderr
    made = {"b.toml", "log.txt", "report.html", "a.arrow"}
    assert made <= {path.name for path in tmp_path.iterdir()}
