"""Watchpoints on words that vector instructions store and load, element by element."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from client import Client

from shstk.tracer.record import RecordOptions, record

sys.path.insert(0, str(Path(__file__).parents[1] / "kernel"))

import riscv_asm

A0, T0, STRIDE = 10, 5, 48
E64 = 0xC0007057 | 2 << 15 | 0x18 << 20  # vsetivli x0, 2, e64, m1
VMV_V_I = 0x5E003057
PROGRAM = f"""
    addi a0, sp, -256
    li t0, {STRIDE}
    .word {E64:#x}
    .word {VMV_V_I | 8 << 7 | 5 << 15:#x}                  # v8 = 5, 5
    .word {0x02007027 | A0 << 15 | 8 << 7:#x}              # vse64.v v8, (a0)
    .word {VMV_V_I | 0 << 7 | 1 << 15:#x}                  # v0: element 1 is masked off
    .word {VMV_V_I | 8 << 7 | 7 << 15:#x}                  # v8 = 7, 7
    .word {0x00007027 | A0 << 15 | 8 << 7:#x}              # vse64.v v8, (a0), v0.t
    addi a0, a0, {8 - STRIDE}
    .word {0x0A007027 | T0 << 20 | A0 << 15 | 8 << 7:#x}   # vsse64.v v8, (a0), t0
    addi a0, a0, {STRIDE - 8}
    .word {0x03007007 | A0 << 15 | 9 << 7:#x}              # vle64ff.v v9, (a0)
    exit 0
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vectors")
    program = folder / "vectors"
    program.write_bytes(riscv_asm.program(PROGRAM))
    program.chmod(0o755)
    record(RecordOptions(str(program), out=folder / "v.run"))
    return folder / "v.run"


def test_stores_both_ways(run: Path) -> None:
    """Element 1 of the first store and of the strided one, not the element that is masked off."""
    stores = (("vse64.v", 0, 5), ("vsse64.v", 5, 7))
    with Client(run) as client:
        word = client.register("sp") - 248
        client.ask(f"Z2,{word:x},8")
        for name, before, after in stores:
            assert f"watch:{word:x};" in client.ask("c")
            assert name in client.monitor("where")
            assert client.word(word) == before
            assert client.register("vstart") == 0
            client.ask("s")
            assert client.word(word) == after
        assert "replaylog:end" in client.ask("c")
        for name, before, after in stores[::-1]:
            assert f"watch:{word:x};" in client.ask("bc")
            assert client.word(word) == after
            client.ask("bs")
            assert name in client.monitor("where")
            assert client.word(word) == before
        assert "replaylog:begin" in client.ask("bc")


def test_loads_both_ways(run: Path) -> None:
    with Client(run) as client:
        word = client.register("sp") - 248
        client.ask(f"Z3,{word:x},8")
        assert f"rwatch:{word:x};" in client.ask("c")
        assert "vle64ff.v" in client.monitor("where")
        assert "replaylog:end" in client.ask("c")
        assert f"rwatch:{word:x};" in client.ask("bc")
        client.ask("bs")
        assert "vle64ff.v" in client.monitor("where")
        assert client.register("vl") == 2
