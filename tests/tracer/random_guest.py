"""Random programs that do much of what makes native code difficult, for test_tier.py.

A program has three threads and a forked process, which all execute the same random loops, and it
executes itself again at the end. The loops fault, overwrite their own text, push and pop shadow
stacks and are interrupted by a timer. What the tasks computed is written to standard output.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "core"))
sys.path.insert(0, str(Path(__file__).parents[1] / "kernel"))

import random_text
import riscv_asm

AREAS = 0x400000  # each task has one of 64 KiB; s0 and t6 point into it
THREAD = 0x50F00  # CLONE_VM, FS, FILES, SIGHAND, THREAD, SYSVSEM
SIGNALS = (4, 5, 7, 11)  # of faults

START = """
    ld s1, 0(sp)
    sys 222, 0x400000, 0x80000, 3, 0x32, -1, 0
    enable
    {actions}
    sys 103, 0, timer, 0
    li s0, 0x401000
    li s2, 4
    addi s1, s1, -1
    bnez s1, body
    {clones}
    li s0, 0x431000
    sys 220, 17, 0, 0, 0, 0
    li s2, 3
    beqz a0, body
    li s0, 0x401000
    li s2, 0
body:
    li t0, 0x1000
    add t0, t0, s0
    sd s2, 0(t0)
    li t1, {rounds}
    sd t1, 8(t0)
    add t1, t0, zero
    addi t1, t1, 0x400
    sd t1, 16(t0)
    sd zero, 24(t0)
    li t1, 0x8000
    sd t1, 32(t0)
    addi a0, t0, 16
    li a1, 0
    li a7, 132
    ecall
round:
    addi t6, s0, {second}
"""
END = """
    li t0, 0x1000
    add t0, t0, s0
    ld t1, 8(t0)
    addi t1, t1, -1
    sd t1, 8(t0)
    bnez t1, round
    {stores}
    li a0, 1
    addi a1, s0, -0x800
    li a2, 0x1000
    li a7, 64
    ecall
    li t0, 0x1000
    add t0, t0, s0
    ld s2, 0(t0)
    bnez s2, end
    sys 260, -1, 0, 0, 0
    sys 103, 0, nothing, 0
    sys 221, self, arguments, nothing
end:
    exit 0
fault:
    ld t0, 176(a2)
    addi t0, t0, 4
    sd t0, 176(a2)
    ret
tick:
    sspush
    addi a0, a0, 1
    sspopchk
    ret
    .align 8
fault_action:
    .dword fault, 0x08000004, 0
tick_action:
    .dword tick, 0x08000000, 0
timer:
    .dword 0, 100, 0, 100
self:
    .dword 0x65732f636f72702f, 0x00006578652f666c
arguments:
    .dword self, self
nothing:
    .dword 0, 0, 0, 0
"""


def words(rng: random.Random, count: int, spared: tuple[int, ...] = ()) -> str:
    lines = []
    while len(lines) < count:
        word = random_text.instruction(rng)
        if word >> 7 & 31 not in spared:
            lines.append(f".word {word}")
    return "\n".join(lines)


def section(rng: random.Random, number: int) -> str:
    """A loop, or what comes between loops."""
    kind = rng.randrange(8)
    if kind == 0:
        return rng.choice(["sys 172", "sys 124", "sys 113, 1, nothing"])
    if kind == 1:  # to a function, which may lie in another page
        return f"call function{rng.randrange(3)}"
    length = rng.choice([2, 5, 20])
    lines = [f"li t5, {rng.choice([1, 3, 30])}", f"loop{number}:", words(rng, length)]
    if kind == 2:  # rewrite an instruction of this loop
        target = f"loop{number}+{4 * rng.randrange(length)}"
        lines += [f"li t0, {random_text.instruction(rng)}", f"li t1, {target}", "sw t0, 0(t1)"]
        lines += [rng.choice(["nop", ".word 0x100f"])]  # fence.i
    lines += ["addi t5, t5, -1", f"bnez t5, loop{number}"]
    return "\n".join(lines)


def function(rng: random.Random, number: int) -> str:
    padding = f"j end\n.zero {rng.choice([4, 4096])}\n" if number else "j end"
    body = words(rng, rng.choice([1, 8]), spared=(1,))
    return f"{padding}\nfunction{number}:\nsspush\n{body}\nsspopchk\nret"


def program(seed: int) -> bytes:
    """The ELF file."""
    rng = random.Random(seed)
    actions = [f"sys 134, {signal}, fault_action, 0, 8" for signal in SIGNALS]
    actions += ["sys 134, 14, tick_action, 0, 8"]
    clones = [
        f"li s0, {AREAS + k * 0x10000 + 0x1000}\nli s2, {k}\n"
        f"sys 220, {THREAD}, {AREAS + k * 0x10000 + 0xF000}, 0, 0, 0\nbeqz a0, body"
        for k in (1, 2)
    ]
    start = START.format(
        actions="\n".join(actions),
        clones="\n".join(clones),
        rounds=rng.choice([1, 3]),
        second=-rng.choice([0, 4, 8, 16, 1]),
    )
    sections = [section(rng, number) for number in range(8)]
    stores = "\n".join(f"sd x{i}, {8 * i}(s0)" for i in range(1, 32))
    functions = [function(rng, number) for number in range(3)]
    text = "\n".join([start, *sections, END.format(stores=stores), *functions])
    return riscv_asm.program(text)
