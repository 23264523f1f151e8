"""Native code against the interpreter: the same stops, registers, memory and rows, bit for bit."""

import random
from dataclasses import dataclass, field

import pytest
from guest import DATA, ECALL, SS, STACK, TEXT, R, W, X, addi, b_type, jal, text_of
from random_text import COUNTER, POINTERS, loop

from shstk.tracer import _core

PAGE = 0x1000
pytestmark = pytest.mark.skipif(_core.native_obstacle() != "", reason=_core.native_obstacle())


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


def test_more_code_than_there_is_room_for() -> None:
    """Three rounds through 40 pages, whose native code takes more than a megabyte."""
    rng = random.Random(0)
    words = []
    for _ in range(40):
        body = [addi(11, rng.choice([11, 12]), rng.getrandbits(12)) for _ in range(1023)]
        words += [*body, jal(0, 4)]
    words += [addi(COUNTER, COUNTER, -1), b_type(0x1063, COUNTER, 0, 8), ECALL]
    words += [jal(0, -40 * PAGE - 12)]
    logs = []
    for options in ({}, {"native_after": 0, "native_bytes": 1 << 20}):
        machine = _core.Machine(trace=_core.TRACE_FLOW, **options)
        space = _core.AddressSpace(machine)
        space.map(TEXT, 41 * PAGE, R | X)
        space.write(TEXT, text_of(words), force=True)
        hart = _core.Hart(machine)
        hart.pc = TEXT
        hart.set_x(COUNTER, 3)
        assert hart.run(space, 10**6, 1, 1) == _core.STOP_ECALL
        rows = [column.tolist() for column in machine.drain("flow").values()]
        logs.append((machine.icount, hart.state(), rows))
    assert logs[0] == logs[1]


TRACES = [0, _core.TRACE_CFI, _core.TRACE_CFI | _core.TRACE_FLOW]


@pytest.mark.parametrize("trace", TRACES)
def test_random_loops(trace: int) -> None:
    for seed in range(150):
        rng = random.Random(seed)
        words = loop(rng, rng.choice([3, 10, 30]))
        budgets = rng.choice([[100_000], [1] * 400, [rng.randrange(1, 40) for _ in range(60)]])
        compare(words, seed, trace, [*budgets, *[50] * 20])
