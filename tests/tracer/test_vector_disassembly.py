"""Vector instructions in the syntax of GNU objdump."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from shstk.tracer._core import decode
from shstk.tracer.disassembly.disassemble import disassemble, register

sys.path.insert(0, str(Path(__file__).parents[1] / "core"))
import vector_programs

AS, OBJDUMP = (f"riscv64-linux-gnu-{tool}" for tool in ("as", "objdump"))
# objdump 2.40 does not know Zvbb.
YOUNGER = ("vandn", "vro", "vbrev", "vrev8", "vclz", "vctz", "vcpop_v", "vwsll")


@pytest.mark.parametrize(
    ("word", "text"),
    [
        (0x0D0572D7, "vsetvli t0,a0,e32,m1,ta,ma"),
        (0x4DA072D7, "vsetvli t0,zero,1242"),
        (0xCD0472D7, "vsetivli t0,8,e32,m1,ta,ma"),
        (0x0205E407, "vle32.v v8,(a1)"),
        (0x0205F427, "vse64.v v8,(a1)"),
        (0x00058407, "vle8.v v8,(a1),v0.t"),
        (0x022180D7, "vadd.vv v1,v2,v3"),
        (0xB62120D7, "vmacc.vv v1,v2,v2"),
        (0x5E0030D7, "vmv.v.i v1,0"),
        (0x02858087, "vl1r.v v1,(a1)"),
        (0x4A8520D7, "vbrev.v v1,v8"),
        (0x5430B0D7, "vror.vi v1,v3,33,v0.t"),
    ],
)
def test_known_words(word: int, text: str) -> None:
    assert disassemble(word, 0x1000) == text


def test_registers_of_the_trace() -> None:
    assert [register(64), register(95)] == ["v0", "v31"]


def words(rng: random.Random) -> list[int]:
    found: list[int] = []
    while len(found) < 3000:
        make = rng.choice([vector_programs.memory, vector_programs.arithmetic])
        vsetvl = 0x7057 | rng.getrandbits(20) << 12 | rng.randrange(32) << 7
        word = vsetvl if rng.random() < 0.05 else make(rng)[-1]
        row = decode(word)
        if row is not None and not row[0].startswith(YOUNGER):
            found.append(word)
    return found


@pytest.mark.skipif(not shutil.which(OBJDUMP), reason="needs binutils-riscv64-linux-gnu")
@pytest.mark.parametrize("seed", range(2))
def test_as_objdump_spells_them(seed: int, tmp_path: Path) -> None:
    probes = words(random.Random(seed))
    source, made = tmp_path / "words.s", tmp_path / "words.o"
    source.write_text("".join(f".insn {word:#x}\n" for word in probes))
    subprocess.run([AS, "-march=rv64gcv", "-o", made, source], check=True)
    listing = subprocess.run([OBJDUMP, "-d", made], check=True, capture_output=True, text=True)
    theirs = re.findall(r"^\s*[0-9a-f]+:\s+([0-9a-f]{8})\s+(.*)$", listing.stdout, re.MULTILINE)
    assert len(theirs) == len(probes)
    for word, text in theirs:
        spelled = re.sub(r"\s*#.*", "", text).replace("\t", " ").strip()
        assert disassemble(int(word, 16), 0) == spelled
