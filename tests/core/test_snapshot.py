"""Machine.save and restore: everything is restored, and malformed bytes do no harm."""

from __future__ import annotations

import gc
import random

import pytest

from shstk.tracer._core import (
    PERM_R,
    PERM_SHARED,
    PERM_SS,
    PERM_W,
    PERM_X,
    AddressSpace,
    Hart,
    Machine,
    Pages,
)

PAGE = 4096
PRIVATE, SHARED, STACK, ALIAS, COPIES = 0x10000, 0x100000, 0x200000, 0x900000, 0xA00000
BEGAN = bytes(range(251)) * 130  # 7.97 pages
RW = PERM_R | PERM_W


def family() -> tuple[Machine, list[AddressSpace], list[Hart], list[Pages]]:
    """A parent and its fork, which share private pages, a file and another view of it."""
    machine = Machine()
    parent = AddressSpace(machine)
    parent.map(PRIVATE, 0x40000, RW)
    file = Pages(machine, BEGAN)
    parent.map_pages(SHARED, 0x8000, RW | PERM_SHARED, file, 0)
    parent.map_pages(COPIES, 0x8000, RW, file, 0)
    parent.write(COPIES + 5 * PAGE, b"own copy")
    parent.map(STACK, 3 * PAGE, RW | PERM_SS)
    parent.map(1 << 40, 1 << 32, RW | PERM_X)
    parent.write(PRIVATE, b"both")
    parent.write(PRIVATE + PAGE, b"parent's")
    parent.write(SHARED + PAGE, b"shared")
    parent.ss_write(STACK + 8, 77)
    child = parent.fork()
    child.write(PRIVATE + PAGE, b"child's!")
    child.map_pages(ALIAS, 2 * PAGE, RW | PERM_SHARED, file, PAGE)
    child.protect(PRIVATE, PAGE, PERM_R)
    hart = Hart(machine)
    hart.set_x(5, 9)
    hart.ssp = STACK + 8
    machine.icount = 1234
    return machine, [parent, child], [hart], [file]


def restored() -> tuple[Machine, AddressSpace, AddressSpace, Hart]:
    machine = Machine()
    (parent, child), (hart,), (file,) = machine.restore(Machine.save(*family()))
    file.attach(BEGAN)
    return machine, parent, child, hart


def test_contents_permissions_and_registers_come_back() -> None:
    machine, parent, child, hart = restored()
    before = family()
    assert machine.icount == 1234
    assert machine.frames == before[0].frames
    assert (parent.read(PRIVATE, 4), child.read(PRIVATE, 4)) == (b"both", b"both")
    assert parent.read(PRIVATE + PAGE, 8) == b"parent's"
    assert child.read(PRIVATE + PAGE, 8) == b"child's!"
    assert parent.read(1 << 40, 8) == bytes(8)
    assert (hart.x(5), hart.ssp) == (9, STACK + 8)
    for ours, theirs in zip((parent, child), before[1], strict=True):
        for addr in (PRIVATE, SHARED, STACK, ALIAS, COPIES, 1 << 40, (1 << 40) + (1 << 32), 0):
            assert ours.perm(addr) == theirs.perm(addr)
            assert ours.perm(addr) < 0 or ours.resident(addr, PAGE) == theirs.resident(addr, PAGE)


def test_copy_on_write_goes_on() -> None:
    machine, parent, child, _ = restored()
    frames = machine.frames
    parent.write(PRIVATE, b"mine")
    assert machine.frames == frames + 1
    assert child.read(PRIVATE, 4) == b"both"


def test_what_is_shared_stays_shared_touched_or_not() -> None:
    _, parent, child, _ = restored()
    child.write(ALIAS, b"SHARED")
    assert parent.read(SHARED + PAGE, 6) == b"SHARED"
    parent.write(SHARED + 2 * PAGE, b"first touch")
    assert child.read(SHARED + 2 * PAGE, 11) == b"first touch"
    assert child.read(ALIAS + PAGE, 11) == b"first touch"


def test_saving_is_a_function_of_the_state() -> None:
    machine = Machine()
    assert machine.save(*machine.restore(Machine.save(*family()))) == Machine.save(*family())


def test_frames_come_back_once_nobody_has_them() -> None:
    machine = Machine()
    for space in machine.restore(Machine.save(*family()))[0]:
        space.unmap(0, 1 << 56)
    gc.collect()
    assert machine.frames == 0


def test_going_back_leaves_no_frames_behind() -> None:
    """sysinfo(2) tells the guest how many there are, whatever still refers to the files."""
    machine, spaces, harts, files = family()
    frames, state = machine.frames, machine.save(spaces, harts, files)
    for space in spaces:
        space.unmap(0, 1 << 56)
    new = machine.restore(state)
    assert machine.frames == frames
    assert files[0].size == 0
    assert machine.save(*new) == state


def test_more_frames_than_allowed_are_refused() -> None:
    machine = Machine(max_frames=2)
    with pytest.raises(ValueError, match="more frames"):
        machine.restore(Machine.save(*family()))
    assert machine.frames == 0


def test_spaces_of_another_machine_are_refused() -> None:
    machine, spaces, harts, files = family()
    for others in ((spaces, [], []), ([], harts, []), ([], [], files)):
        with pytest.raises(ValueError, match="another machine"):
            Machine().save(*others)
    with pytest.raises(ValueError, match="not given"):
        machine.save(spaces, [], [])
    assert machine.save([], [], [])


def test_a_file_s_data_is_attached_again() -> None:
    spaces, _, (file,) = Machine().restore(Machine.save(*family()))
    with pytest.raises(ValueError, match="first bytes"):
        file.attach(BEGAN[:-1])
    file.attach(BEGAN)
    for space in spaces:
        assert space.read(COPIES, PAGE) == BEGAN[:PAGE]
        assert space.read(COPIES + PAGE, 6) == b"shared"
        assert space.read(COPIES + 5 * PAGE, 9) == b"own copy" + BEGAN[5 * PAGE + 8 :][:1]
        assert space.read(COPIES + 8 * PAGE - 1, 1) == b"\0"
    file.write(2 * PAGE, b"later")
    assert {space.read(COPIES + 2 * PAGE, 5) for space in spaces} == {b"later"}


NUMBERS = (0, 1, 2, 3, 2**44 - 1, 2**44, 2**63, 2**64 - 1)


@pytest.mark.parametrize("seed", range(4))
def test_malformed_bytes_are_refused_or_do_no_harm(seed: int) -> None:
    """Change words other than page contents, or truncate the bytes."""
    rng = random.Random(seed)
    whole = Machine.save(*family())
    words = [*range(0, 64, 8), *range(len(whole) - 1600, len(whole), 8)]
    refused = 0
    for _ in range(500):
        data = bytearray(whole)
        if rng.random() < 0.2:
            del data[rng.randrange(len(data)) :]
        for at in rng.sample(words, rng.randint(0, 3)):
            value = rng.choice((*NUMBERS, rng.getrandbits(64), rng.getrandbits(12)))
            data[at : at + 8] = value.to_bytes(8, "little")
        machine = Machine()
        try:
            spaces, harts, _ = machine.restore(bytes(data))
        except ValueError:
            refused += 1
            assert (machine.frames, machine.icount) == (0, 0)
            continue
        for space in spaces:
            for addr in (PRIVATE, SHARED, STACK, ALIAS):
                space.write(addr, b"12345678", force=True)
                space.fork().discard(addr, PAGE)
            for hart in harts:
                hart.run(space, 100, 1, 1)
            space.unmap(0, 1 << 56)
    assert refused > 100
