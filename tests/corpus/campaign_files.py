"""Small campaigns: guests of a few instructions, and what is compared of their results."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "kernel"))

import riscv_asm

from shstk.corpus.store import Store

COMMAND = [sys.executable, "-P", "-m", "shstk", "corpus"]

# name -> the guest. leak: its shadow stack is not freed under v6 and before.
GUESTS = {
    "leak": "enable\nexit 0",
    "good": "exit 0",
    "dies": "unimp",
    # leaks if the first byte of its input is an x
    "reads": """
        sys 222, 0, 4096, 3, 0x22, -1, 0
        mv s0, a0
        mv a1, a0
        li a0, 0
        li a2, 16
        li a7, 63
        ecall
        lbu t1, 0(s0)
        li t2, 120
        bne t1, t2, quiet
        enable
        quiet: exit 0
    """,
    "endless": "again: j again",
    # leaks if it has an argument, and never ends without one
    "needs": "ld t0, 0(sp)\nli t1, 1\nagain: beq t0, t1, again\nenable\nexit 0",
    # mmap(0, 1G, READ|WRITE, PRIVATE|ANONYMOUS), every page written, again and again
    "eater": """
        more: sys 222, 0, 0x40000000, 3, 0x22, -1, 0
        li t1, 0x40000
        li t2, 0x1000
        page: sd t1, 0(a0)
        add a0, a0, t2
        addi t1, t1, -1
        bne t1, zero, page
        j more
    """,
}


def corpus(folder: Path, head: str, *guests: str) -> Path:
    """A CORPUS.toml with these guests."""
    (folder / "bin").mkdir(exist_ok=True)
    for name in guests:
        (folder / "bin" / name).write_bytes(riscv_asm.program(GUESTS[name]))
    files = ", ".join(f'"bin/{name}"' for name in guests)
    path = folder / "CORPUS.toml"
    path.write_text(f"{head}\n[[program]]\nfiles = [{files}]\n")
    return path


def rows(store: str | Path) -> list[dict[str, Any]]:
    """What must be the same in every execution of a campaign."""
    told = Store(store).cells.drop("seconds", "resident", "host", "bytes").collect()
    return told.sort("key").to_dicts()
