"""Real gdb in batch mode: what a person sees who types these commands."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from client import GDB, Client, debug

from shstk.gdb.signals import to_gdb
from shstk.replay.run import Run
from shstk.schemas.seq import STEPS
from shstk.schemas.uapi import SIGNALS

needs_gdb = pytest.mark.skipif(GDB is None, reason="gdb-multiarch is not installed")
Runs = dict[str, Path]


@needs_gdb
def test_lines_frames_and_steps_both_ways(runs: Runs) -> None:
    text = debug(
        *(runs["faulty"], "break smashed", "continue", "bt", "next", "next"),
        *("reverse-next", "reverse-step", "reverse-finish", "step", "reverse-continue"),
        *("reverse-continue", "continue"),
    )
    assert "Breakpoint 1, smashed () at fixtures/programs/faulty.c:19" in text
    assert "#1  0x00000000010025ca in main () at fixtures/programs/faulty.c:381" in text
    lines = re.findall(r"^(?:0x\w+\t)?(\d+)\t", text, re.MULTILINE)
    assert lines[:3] == ["20", "21", "20"]
    assert "fill () at fixtures/programs/faulty.c:15" in text  # reverse-step into a call
    assert "No more reverse-execution history" in text
    assert text.count("Breakpoint 1, smashed ()") >= 2


@needs_gdb
def test_the_server_steps_if_gdb_does_not(runs: Runs) -> None:
    """gdb 13 steps RISC-V Linux by breakpoints, one packet and more an instruction."""
    text = debug(
        *(runs["faulty"], "break smashed", "continue", "set debug remote 1"),
        *("with osabi none -- next", "set debug remote 0", "next", "info proc mappings"),
    )
    assert "$vCont;r" in text
    assert re.findall(r"^(\d+)\t", text, re.MULTILINE)[:2] == ["20", "21"]
    assert "/faulty.elf" in text


@needs_gdb
def test_from_the_crash_back_to_who_wrote_the_word(runs: Runs) -> None:
    text = debug(
        *(runs["turns"], "continue", "info threads", "p $_siginfo.si_code"),
        *("watch -l *(long *)$ssp", "reverse-continue", "monitor where", "p/x $ssp"),
        *("delete", "continue", "reverse-stepi", "stepi", "continue"),
    )
    assert "received signal SIGSEGV" in text
    assert re.search(r"Thread 100\.102 .*\(runs next, ssp 0x7ffff7ffefe8\)", text)
    assert len(re.findall(r"Thread 100\.\d+ .*ssp 0x7ffff7ffef", text)) == 4
    assert "$1 = 10" in text
    assert re.search(r'Thread \d+ "taking-turns.el" hit Hardware watchpoint 1', text)
    assert "before 5503.0 of 5902.0: task 104 of 100" in text
    assert "sspush ra" in text
    assert "$2 = 0x7ffff7ffeff0" in text
    assert text.count("received signal SIGSEGV") >= 2


@needs_gdb
def test_signals_have_the_names_they_have_on_linux(runs: Runs) -> None:
    assert GDB
    listed = subprocess.run([GDB, "-batch", "-ex", "info signals"], capture_output=True, text=True)
    # In the order of gdb's own numbers. SIG34 is a real-time signal of Linux; EXC_… are Mach's.
    names = re.findall(r"^(SIG\w+|EXC_\w+)\s", listed.stdout, re.MULTILINE)
    assert len(names) > 140
    for name, number in {**SIGNALS, **{f"SIG{n}": n for n in range(32, 65)}}.items():
        if name in names:
            assert names[to_gdb(number) - 1] == name
        else:
            assert name == "SIGSTKFLT"
    text = debug(runs["signals"], "continue", "p $_siginfo.si_signo", "continue")
    assert re.findall(r"received signal (\w+)", text) == ["SIGUSR1", "SIGUSR2"]
    assert "$1 = 10" in text


@needs_gdb
def test_registers_and_refusals(runs: Runs) -> None:
    text = debug(
        *(runs["turns"], "monitor goto 2013.1", "info threads", "info registers"),
        *("p $cfi", "p $v0.b[0]", "p $ra = 5"),
    )
    assert re.search(r"\* 1 +Thread 100\.100 .*runs next", text)
    assert re.search(r"^ssp +0x7ffff7ffeff8", text, re.MULTILINE)
    assert re.search(r"^elp +0x0", text, re.MULTILINE)
    assert "$1 = [ SS ]" in text
    assert "$2 = 0" in text
    assert "a recording is read-only" in text


@needs_gdb
def test_memory_is_read_only(runs: Runs) -> None:
    assert "Cannot access memory" in debug(runs["turns"], "set var *(long *)$sp = 4")


@needs_gdb
def test_mappings_and_files(runs: Runs) -> None:
    text = debug(runs["pthread"], "info proc mappings", "info auxv", "info files")
    assert re.search(r"0x1000000 +0x1003000 .* /pthread.elf", text)
    assert "AT_ENTRY" in text
    assert "target:/pthread.elf" in text


@needs_gdb
def test_a_process_is_followed_into_its_child(runs: Runs) -> None:
    text = debug(
        *(runs["processes"], "set follow-fork-mode child", "continue", "info inferiors"),
        *("reverse-continue", "info threads"),
    )
    assert "[Attaching after Thread 100.100 fork to child Thread 101.101]" in text
    assert "* 2    process 101" in text
    assert "No more reverse-execution history" in text


@needs_gdb
def test_forks_are_caught(runs: Runs) -> None:
    text = debug(
        *(runs["processes"], "catch fork", "catch vfork", "continue", "continue", "continue"),
        *("info inferiors", "kill"),
    )
    assert "Catchpoint 1 (forked process 101)" in text
    assert "Catchpoint 2 (vforked process 102)" in text
    assert "Catchpoint 1 (forked process 103)" in text


@needs_gdb
def test_both_processes_are_kept(runs: Runs) -> None:
    text = debug(
        *(runs["processes"], "set detach-on-fork off", "set schedule-multiple on", "continue"),
        "info threads",
    )
    assert "[Inferior 2 (process 101) exited with code 07]" in text
    assert re.search(r"3\.1 +Thread 102\.102 .*runs next", text)


# ---- the commands -------------------------------------------------------------------------------


def serve(run: Path, *words: str) -> tuple[subprocess.Popen[str], int]:
    """A server and its port."""
    command = [sys.executable, "-P", "-m", "shstk", "gdb", str(run), *words]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    told = server.stderr.readline()
    found = re.search(r"target remote :(\d+)'$", told.strip())
    assert found, told
    assert "shstk/gdb/commands.gdb -ex" in told
    return server, int(found[1])


@needs_gdb
def test_a_port_serves_one_gdb_after_another(runs: Runs) -> None:
    server, port = serve(runs["pthread"])
    with server:
        first = socket.create_connection(("127.0.0.1", port))
        first.sendall(b"$qC#b4")
        assert first.recv(100).startswith(b"+")
        second = socket.create_connection(("127.0.0.1", port))
        second.sendall(b"$qC#b4")
        assert b"another gdb is connected" in second.recv(100)
        second.close()
        first.close()
        words = ["-ex", f"target remote :{port}", "-ex", "p $pc", "-ex", "detach"]
        assert GDB is not None
        done = subprocess.run([GDB, "-batch", *words], capture_output=True, text=True, timeout=60)
        assert "0x1003416" in done.stdout
        assert server.wait(60) == 0
        assert server.stderr is not None
        told = server.stderr.read()
    assert "refused a second gdb" in told
    assert "gdb has gone away" in told
    assert "Traceback" not in told


def test_ctrl_c_ends_a_server_that_waits(runs: Runs) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's & has it ignored
    server, _ = serve(runs["pthread"])
    signal.signal(signal.SIGINT, before)
    with server:
        server.send_signal(signal.SIGINT)
        try:
            assert server.wait(60) == 130
        finally:
            server.kill()
        assert server.stderr is not None
        assert server.stderr.read().strip() == "interrupted"


@needs_gdb
def test_ctrl_c_is_for_gdb_and_not_for_who_started_it(runs: Runs) -> None:
    """Two dashes before gdb's words are those of a person who ends shstk's options with them."""
    words = [
        "-batch",
        "-ex",
        "shell kill -INT $PPID $(cut -d' ' -f4 /proc/$PPID/stat)",
        "-ex",
        "p $pc",
    ]
    shstk = [sys.executable, "-P", "-m", "shstk", "debug", str(runs["pthread"]), "--", *words]
    done = subprocess.run(shstk, capture_output=True, text=True, timeout=60)
    assert "interrupted" not in done.stderr
    assert "0x1003416" in done.stdout
    assert done.returncode == 0


def test_a_port_that_is_taken(runs: Runs) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, "-P", "-m", "shstk", "gdb", str(runs["pthread"])]
        done = subprocess.run([*command, "--port", str(port)], capture_output=True, text=True)
    assert done.returncode == 2
    assert f"--port {port}: Address already in use" in done.stderr


LISTING = """
```run first
t1 boot
```
"""


class Other(Run):
    """A run whose switches another build recorded with other registers, after a while."""

    def table(self, name: str) -> pl.DataFrame:
        frame = super().table(name)
        late = pl.col("seq") > 3000 * STEPS
        return frame.with_columns(pl.col("state_hash") + late) if name == "sched" else frame


@pytest.mark.parametrize("command", ["gdb", "debug"])
def test_what_cannot_be_executed_is_refused(command: str, tmp_path: Path) -> None:
    listing = tmp_path / "x.md"
    listing.write_text(LISTING)
    words = [sys.executable, "-P", "-m", "shstk"]
    subprocess.run([*words, "build", listing, "-o", tmp_path / "x.run"], check=True)
    for run, told in (("x.run", "has no program"), ("none.run", "is not a run")):
        again = [*words, command, str(tmp_path / run)]
        done = subprocess.run(again, capture_output=True, text=True, check=False)
        assert done.returncode == 3
        assert told in done.stderr
        assert "Traceback" not in done.stderr


def test_a_run_of_another_build_is_noticed(runs: Runs) -> None:
    other = Other.open(runs["turns"])
    with Client(other) as client:
        assert client.ask("c").startswith(
            "E.taking-turns-v3.run is executed otherwise than it was recorded"
        )
    with Client(runs["turns"]) as client:
        assert client.ask("c").startswith("T0b")
