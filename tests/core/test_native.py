"""Native code against the interpreter: the same stops, registers, memory and rows, bit for bit."""

import random
from dataclasses import dataclass, field

import pytest
from guest import DATA, ECALL, SS, STACK, TEXT, R, W, X, addi, b_type

from shstk.tracer import _core

PAGE = 0x1000
OPCODES = [0x03, 0x07, 0x13, 0x17, 0x1B, 0x23, 0x27, 0x2F, 0x33, 0x37, 0x3B, 0x33, 0x3B, 0x13]
OPCODES += [0x43, 0x47, 0x4B, 0x4F, 0x53, 0x53, 0x57, 0x73]
MEMORY = {0x03, 0x07, 0x23, 0x27, 0x2F}
POINTERS = (8, 31)  # one that native code holds in a register of the host, one that it does not
COUNTER = 30
SHADOW = (0xCE104073, 0xCE504073, 0xCDC0C073, 0xCDC2C073, 0xCDC04573, 0x01102573)
# Funct7 values of the extensions of OP and OP-32, which random bits rarely hit.
FUNCT7 = (0, 1, 4, 5, 7, 16, 20, 32, 36, 48, 52)


def instruction(rng: random.Random) -> int:
    """A random instruction that does not jump and leaves the pointers and the counter alone."""
    while True:
        if rng.random() < 0.1:
            return rng.choice(SHADOW)
        word = rng.getrandbits(32) & ~0x7F | rng.choice(OPCODES)
        if word & 0x7F in (0x33, 0x3B, 0x1B) and rng.random() < 0.9:
            word = word & 0x1FFFFFF | rng.choice(FUNCT7) << 25
        if word & 0x7F == 0x53 and rng.random() < 0.5:
            word = word & ~0x7000 | rng.choice([0, 7, 1]) << 12
        if word & 0x7F in MEMORY:
            word = word & ~0xF8000 | rng.choice(POINTERS) << 15
        known = _core.decode(word)
        if known is None or known[0] in ("ecall", "ebreak", "cbo_inval"):
            continue
        if known[0] == "amocas_q" or known[0].startswith("v"):
            continue
        if known[1] in ("B", "J", "END") or (word >> 7) & 31 in (*POINTERS, COUNTER):
            continue
        return word


def loop(rng: random.Random, length: int) -> list[int]:
    body = [instruction(rng) for _ in range(length)]
    back = -4 * (length + 1)
    return [*body, addi(COUNTER, COUNTER, -1), b_type(0x1063, COUNTER, 0, back), ECALL]


@dataclass
class Twin:
    """One program on a machine; two of them are compared."""

    words: list[int]
    seed: int
    trace: int
    after: int | None
    log: list[object] = field(default_factory=list)

    def __post_init__(self) -> None:
        rng = random.Random(self.seed)
        self.machine = _core.Machine(trace=self.trace, native_after=self.after)
        self.space = space = _core.AddressSpace(self.machine)
        text = b"".join(word.to_bytes(4, "little") for word in self.words)
        space.map(TEXT, -(-len(text) // PAGE) * PAGE, R | X)
        space.write(TEXT, text, force=True)
        space.map(DATA, 2 * PAGE, R | W)
        space.write(DATA, rng.randbytes(2 * PAGE), force=True)
        space.map(STACK, 2 * PAGE, R | W | SS)
        self.hart = hart = _core.Hart(self.machine)
        hart.pc = TEXT
        hart.sse = rng.random() < 0.8
        hart.ssp = STACK + PAGE
        for i in range(32):
            small = rng.choice([rng.getrandbits(64), rng.getrandbits(3), 2**64 - 1, 2**63])
            hart.set_x(i, small)
            value = rng.choice([rng.getrandbits(64), rng.getrandbits(32) | 0xFFFFFFFF << 32])
            hart.set_f(i, rng.choice([value, 0x3FF8000000000000, 0xFFFFFFFF3FC00000]))
        for i in POINTERS:
            hart.set_x(i, DATA + PAGE - rng.choice([0, 4, 8, 16, 1]))
        hart.set_x(COUNTER, 6)
        hart.fcsr = rng.choice([0, 1, 1, 0x40])

    def run(self, budget: int) -> int:
        stop = self.hart.run(self.space, budget, 1, 1)
        self.log.append((stop, self.machine.icount, self.hart.state(), self.hart.fault()))
        return stop

    def finish(self) -> list[object]:
        self.log.append(self.space.read(DATA, 2 * PAGE))
        self.log.append(self.space.read(STACK, 2 * PAGE))
        for table in _core.TABLES:
            self.log.append((table, {k: v.tolist() for k, v in self.machine.drain(table).items()}))
        return self.log


def compare(words: list[int], seed: int, trace: int, budgets: list[int]) -> None:
    twins = [Twin(words, seed, trace, after) for after in (None, 0, 1)]
    logs = []
    for twin in twins:
        for budget in budgets:
            stop = twin.run(budget)
            if stop == _core.STOP_FAULT:
                twin.hart.pc += 4
            if stop == _core.STOP_ECALL:
                break
        logs.append(twin.finish())
    for log in logs[1:]:
        for step, (expected, found) in enumerate(zip(logs[0], log, strict=True)):
            assert found == expected, (seed, trace, step)


TRACES = [0, _core.TRACE_CFI, _core.TRACE_CFI | _core.TRACE_FLOW]


@pytest.mark.parametrize("trace", TRACES)
def test_random_loops(trace: int) -> None:
    for seed in range(150):
        rng = random.Random(seed)
        words = loop(rng, rng.choice([3, 10, 30]))
        budgets = rng.choice([[100_000], [1] * 400, [rng.randrange(1, 40) for _ in range(60)]])
        compare(words, seed, trace, [*budgets, *[50] * 20])
