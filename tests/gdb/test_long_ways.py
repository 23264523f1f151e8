"""Ctrl-C on a long way, and a step through a range that is long to execute."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
from client import Client

from shstk.replay.run import Run
from shstk.tracer.record import RecordOptions, record

sys.path.insert(0, str(Path(__file__).parents[1] / "kernel"))

import riscv_asm

LOOP = """
    li t0, 100000000
again:
    addi t0, t0, -1
    bnez t0, again
    exit 0
"""
# Reads of 64 MB from /dev/zero, the most that a call transfers.
READS = f"""
    sys 222, 0x400000, 0x4000000, 3, 0x32, -1, 0
    sys 56, -100, zero_device, 0, 0
    mv s0, a0
    li s1, 12
again:
    mv a0, s0
    li a1, 0x400000
    li a2, 0x4000000
    li a7, 63
    ecall
    addi s1, s1, -1
    bnez s1, again
    exit 0
.align 8
zero_device:
    .dword {int.from_bytes(b"/dev/zer", "little")}, {ord("o")}
"""


def recorded(folder: Path, text: str) -> Path:
    program = folder / "long"
    program.write_bytes(riscv_asm.program(text))
    program.chmod(0o755)
    record(RecordOptions(str(program), out=folder / "long.run", trace=frozenset()))
    return folder / "long.run"


@pytest.mark.parametrize("text", [LOOP, READS], ids=["instructions", "calls"])
def test_ctrl_c_is_answered_within_a_second(text: str, tmp_path: Path) -> None:
    run = recorded(tmp_path, text)
    end = Run.open(run).manifest.icount
    with Client(run) as client:
        client.send(b"$vCont;c#a8")
        time.sleep(0.05)
        began = time.monotonic()
        client.send(b"\x03")
        assert client.answer().startswith("T02")
        assert time.monotonic() - began < 1
        assert client.place() < end


def test_ctrl_c_on_a_way_back(tmp_path: Path) -> None:
    with Client(recorded(tmp_path, LOOP)) as client:
        client.ask(f"Z2,{client.register('sp'):x},8")
        assert "replaylog:end" in client.ask("c")
        client.send(b"$bc#c5")
        time.sleep(0.05)
        began = time.monotonic()
        client.send(b"\x03")
        assert client.answer().startswith("T02")
        assert time.monotonic() - began < 1


def test_a_range_is_left_where_it_is_left(tmp_path: Path) -> None:
    """Two instructions, executed a hundred million times."""
    with Client(recorded(tmp_path, LOOP)) as client:
        tid = client.ask("qC")[2:]
        for _ in range(2):  # li is two instructions here
            client.ask(f"vCont;s:{tid}")
        pc = client.register("pc")
        began = time.monotonic()
        assert client.ask(f"vCont;r{pc:x},{pc + 8:x}:{tid}") == f"T05thread:{tid};"
        assert time.monotonic() - began < 20
        assert client.register("pc") == pc + 8
        assert client.register("t0") == 0
