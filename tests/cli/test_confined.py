"""The process that runs a guest can't write elsewhere, whatever the guest makes it do."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "kernel"))

import riscv_asm

_NO_LANDLOCK = ctypes.CDLL(None).syscall(444, None, 0, 1) < 2
needs_landlock = pytest.mark.skipif(_NO_LANDLOCK, reason="this kernel has no Landlock 2")

TRY = """
import socket, sys
from pathlib import Path
from shstk.cli.confined import confine
from shstk.cli.process import process_is_ours

process_is_ours()
assert confine([Path(sys.argv[1])]) == ""

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
    assert "not restricted (plugins may write anywhere)" in done.stderr
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
        "from shstk.cli.confined import confine\n"
        "from shstk.cli.process import process_is_ours\n"
        "process_is_ours()\n"
        "confine([], tcp={})\n"
        "socket.socket().bind(('127.0.0.1', 0))\n"
    )
    for tcp in (True, False):
        words = [sys.executable, "-P", "-c", listen.format(tcp)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert ("PermissionError" in done.stderr) is not tcp
