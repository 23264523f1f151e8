"""Changes of text: by the guest's stores, another process, the kernel, remapping."""

import resource

import pytest
from guest import DATA, ECALL, TEXT, Guest, R, W, X, addi, b_type, jal, s_type

from shstk.tracer import _core

SW = s_type(0x2023, 11, 12)
SHARED = _core.PERM_SHARED


def writable(*words: int, **registers: int) -> Guest:
    """Text at TEXT in pages with R, W and X."""
    guest = Guest(x={int(name[1:]): value for name, value in registers.items()})
    guest.space.map(TEXT, 0x2000, R | W | X)
    data = b"".join(word.to_bytes(4, "little") for word in words)
    guest.space.write(TEXT, data)
    return guest


@pytest.mark.parametrize("fence", [[], [0x0000100F]])
def test_a_store_to_the_next_instruction_takes_effect(fence: list[int]) -> None:
    target = TEXT + 4 + 4 * len(fence)
    guest = writable(SW, *fence, addi(10, 0, 1), ECALL, x11=target, x12=addi(10, 0, 2))
    assert guest.run_to_ecall().hart.x(10) == 2
    assert guest.machine.icount == 3 + len(fence)


def test_a_loop_that_rewrites_its_own_body() -> None:
    words = [addi(10, 10, 1), SW, addi(13, 13, -1), b_type(0x1063, 13, 0, -12), ECALL]
    guest = writable(*words, x11=TEXT, x12=addi(10, 10, 100), x13=3)
    assert guest.run_to_ecall().hart.x(10) == 201


@pytest.mark.parametrize("budget", [1, 2, 3, 100])
def test_whatever_the_slices(budget: int) -> None:
    words = [addi(10, 10, 1), SW, addi(13, 13, -1), b_type(0x1063, 13, 0, -12), ECALL]
    guest = writable(*words, x11=TEXT, x12=addi(10, 10, 100), x13=3)
    while guest.run(budget) == _core.STOP_BUDGET:
        pass
    assert (guest.hart.x(10), guest.machine.icount) == (201, 13)


def test_a_store_to_another_page_of_text() -> None:
    words = [jal(1, 0x1000), SW, jal(1, 0x1000 - 8), ECALL]
    guest = writable(*words, x11=TEXT + 0x1000, x12=addi(10, 10, 100))
    guest.space.write(TEXT + 0x1000, addi(10, 10, 1).to_bytes(4, "little"))
    guest.space.write(TEXT + 0x1004, (0x8067).to_bytes(4, "little"))  # ret
    assert guest.run_to_ecall().hart.x(10) == 101


def test_the_kernels_write_to_text() -> None:
    guest = Guest([addi(10, 0, 1), ECALL]).run_to_ecall()
    assert guest.space.write(TEXT, addi(10, 0, 2).to_bytes(4, "little"), force=True)
    guest.hart.pc = TEXT
    assert guest.run_to_ecall().hart.x(10) == 2


def test_a_child_that_patches_its_text_leaves_the_parents() -> None:
    guest = Guest([addi(10, 0, 1), ECALL]).run_to_ecall()
    child = guest.space.fork()
    child.write(TEXT, addi(10, 0, 2).to_bytes(4, "little"), force=True)
    hart = guest.hart.copy()
    for space, expected in [(guest.space, 1), (child, 2), (guest.space, 1)]:
        hart.pc = TEXT
        assert hart.run(space, 10, 1, 1) == _core.STOP_ECALL
        assert hart.x(10) == expected


def test_remapped_and_unmapped_text() -> None:
    guest = Guest([addi(10, 0, 1), ECALL]).run_to_ecall()
    guest.space.map(TEXT, 0x1000, R | X)
    guest.hart.pc = TEXT
    assert guest.fault()[:3] == (2, 0, 0)
    guest.space.protect(TEXT, 0x1000, R)
    assert guest.fault()[0] == 12
    guest.space.unmap(TEXT, 0x1000)
    assert guest.fault()[0] == 12


def test_text_written_through_another_mapping_of_the_same_pages() -> None:
    guest = Guest([addi(0, 0, 0), ECALL], x={11: DATA, 12: addi(10, 0, 2)})
    pages = _core.Pages(guest.machine, bytes(0x1000))
    guest.space.map_pages(DATA, 0x1000, R | W | SHARED, pages, 0)
    guest.space.write(DATA, b"".join(w.to_bytes(4, "little") for w in [addi(10, 0, 1), ECALL]))
    child = guest.space.fork()
    child.protect(DATA, 0x1000, R | X)
    runner = guest.hart.copy()
    for expected in (1, 2):
        runner.pc = DATA
        assert runner.run(child, 10, 2, 2) == _core.STOP_ECALL
        assert runner.x(10) == expected
        guest.space.write(TEXT, SW.to_bytes(4, "little"), force=True)
        guest.hart.pc = TEXT
        guest.run_to_ecall()


def test_an_instruction_across_two_pages_follows_both() -> None:
    guest = writable(ECALL)
    word = addi(10, 0, 0x123).to_bytes(4, "little")
    at = TEXT + 0xFFE
    guest.space.write(at, word + ECALL.to_bytes(4, "little"))
    for immediate in (0x123, 0x7FF, 0x123):
        guest.space.write(TEXT + 0x1000, addi(10, 0, immediate).to_bytes(4, "little")[2:])
        guest.hart.pc = at
        assert guest.run_to_ecall().hart.x(10) == immediate
    guest.space.protect(TEXT + 0x1000, 0x1000, R | W)
    guest.hart.pc = at
    assert guest.fault() == (12, TEXT + 0x1000, 0, TEXT + 0x1000, 0, 0)
    assert guest.hart.pc == at
    guest.space.write(at, (0x0001).to_bytes(2, "little"))  # now a c.nop before the border
    assert guest.fault()[:2] == (12, TEXT + 0x1000)
    assert guest.hart.pc == TEXT + 0x1000


def test_decoded_text_of_jumps_to_every_halfword_does_not_fill_the_memory() -> None:
    pages = 8
    guest = Guest()
    text = 0x100000
    guest.space.map(text, pages * 0x1000, R | X)
    nops = (0x0001).to_bytes(2, "little") * 0x7FF + (0x8082).to_bytes(2, "little")  # c.ret
    guest.space.write(text, nops * pages, force=True)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for at in range(text, text + pages * 0x1000, 2):
        guest.hart.set_x(1, at)
        guest.hart.pc = at
        assert guest.run(budget=0x801) == _core.STOP_BUDGET
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150_000  # KiB
