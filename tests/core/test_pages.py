"""The contents of files in address spaces: read in place, shared, copied, cut and given back."""

from __future__ import annotations

from typing import Any

import pytest
from guest import DATA, ECALL, TEXT, Guest, R, W, X, addi, i_type, sd
from hypothesis import given, settings
from hypothesis import strategies as st

from shstk.tracer._core import PERM_SHARED, AddressSpace, Machine, Pages

PAGE = 0x1000
RW = R | W


def test_what_is_only_read_takes_no_frame() -> None:
    data = bytes(range(256)) * 16 * 30 + b"the tail"
    guest = Guest([i_type(0x3003, 10, 11), ECALL], x={11: DATA + PAGE + 8})
    machine = guest.machine
    file, frames = Pages(machine, data), machine.frames
    for i in range(30):
        guest.space.map_pages(DATA + i * 0x100000, 31 * PAGE, R, file, 0)
    guest.run_to_ecall()
    assert guest.hart.x(10) == int.from_bytes(data[8:16], "little")
    assert guest.space.read(DATA + 30 * PAGE, PAGE) == b"the tail".ljust(PAGE, b"\0")
    assert machine.frames == frames


def test_a_private_mapping_shows_the_file_until_it_is_written() -> None:
    machine = Machine()
    space, file = AddressSpace(machine), Pages(machine, b"a" * 2 * PAGE)
    space.map_pages(DATA, 2 * PAGE, RW, file, 0)
    child = space.fork()
    assert file.write(10, b"file")
    assert space.read(DATA + 9, 6) == b"afilea"
    assert space.write(DATA, b"own")
    assert file.write(0, b"FILE")
    assert (space.read(DATA, 4), child.read(DATA, 4)) == (b"owna", b"FILE")
    assert (file.read(0, 4), file.read(2 * PAGE - 2, 10)) == (b"FILE", b"aa")
    space.discard(DATA, PAGE)
    assert space.read(DATA, 4) == b"FILE"


def test_a_load_sees_what_was_stored_after_it() -> None:
    """The first load finds the page without a frame, and leaves it in the TLB."""
    load, store = i_type(0x3003, 10, 11), sd(12, 13)
    guest = Guest([load, store, load, ECALL], x={12: 77})
    file = Pages(guest.machine, bytes(PAGE))
    for at, perm in ((DATA, R), (DATA + PAGE, RW | PERM_SHARED)):
        guest.space.map_pages(at, PAGE, perm, file, 0)
    guest.hart.set_x(11, DATA)
    guest.hart.set_x(13, DATA + PAGE)
    assert guest.run_to_ecall().hart.x(10) == 77


def test_text_of_a_file_is_decoded_anew_when_the_file_changes() -> None:
    guest = Guest([ECALL])
    words = [addi(10, 0, 1), ECALL]
    file = Pages(guest.machine, b"".join(word.to_bytes(4, "little") for word in words))
    guest.space.map_pages(DATA, PAGE, R | X, file, 0)
    for expected in (1, 2):
        guest.hart.pc = DATA
        assert guest.run_to_ecall().hart.x(10) == expected
        assert file.write(0, addi(10, 0, 2).to_bytes(4, "little"))
    assert guest.space.write(DATA, addi(10, 0, 3).to_bytes(4, "little"), force=True)
    guest.hart.pc = DATA
    assert guest.run_to_ecall().hart.x(10) == 3
    assert file.read(0, 4) == addi(10, 0, 2).to_bytes(4, "little")


@pytest.mark.parametrize("perm", [RW, RW | PERM_SHARED])
def test_past_the_end_every_access_faults(perm: int) -> None:
    for words, cause in (([i_type(0x3003, 10, 11)], 13), ([sd(12, 11)], 15), ([0x00058067], 12)):
        guest = Guest(words, x={11: DATA + 2 * PAGE})
        file = Pages(guest.machine, b"x" * (PAGE + 1))
        guest.space.map_pages(DATA, 4 * PAGE, perm | X, file, 0)
        assert guest.fault()[:2] == (cause, DATA + 2 * PAGE)
        assert guest.space.read(DATA + PAGE, PAGE) == b"x".ljust(PAGE, b"\0")
        for force in (False, True):
            assert guest.space.read(DATA + 2 * PAGE - 1, 2, force=force) is None
            assert not guest.space.write(DATA + 2 * PAGE, b"x", force=force)
        assert guest.space.populate(DATA, 4 * PAGE, True)
        assert guest.space.resident(DATA, 4 * PAGE) == 2


def test_frames_are_given_back_when_there_is_none_left() -> None:
    machine = Machine(max_frames=4)
    space, file = AddressSpace(machine), Pages(machine, b"t" * 3 * PAGE)
    space.map_pages(DATA, 3 * PAGE, RW | PERM_SHARED, file, 0)
    assert space.populate(DATA, 3 * PAGE, True)
    space.map(0, 3 * PAGE, RW)
    assert not space.write(0, b"x" * 2 * PAGE), "the file's pages are mapped"
    space.unmap(DATA, 3 * PAGE)
    assert file.write(PAGE, b"changed")
    assert space.write(0, b"x" * 3 * PAGE), "pages that nobody maps are read again later"
    assert machine.frames == 4
    assert file.read(PAGE - 1, 9) == b"tchangedt"


def test_what_is_resident() -> None:
    """A read takes the pages of the file around it along, in its 64 KiB; a hole has none."""
    load = i_type(0x3003, 10, 11)
    guest = Guest([load, ECALL], x={11: DATA + 3 * PAGE})
    machine, space = guest.machine, guest.space
    file = Pages(machine, b"x" * 20 * PAGE)
    file.resize(24 * PAGE)
    space.map_pages(DATA, 30 * PAGE, RW, file, 0)
    assert space.look(DATA, 30 * PAGE) == bytes([1] * 20 + [0] * 10)
    guest.run_to_ecall()
    assert space.look(DATA, 30 * PAGE) == bytes([2] * 16 + [1] * 4 + [0] * 10)
    assert space.write(DATA, b"own")
    assert (space.resident(DATA, 30 * PAGE), space.anonymous(DATA, 30 * PAGE)) == (16, 1)
    assert space.look(DATA, 2 * PAGE) == bytes([3, 2])
    space.protect(DATA, 8 * PAGE, R)
    assert space.fork().resident(DATA, 30 * PAGE) == 16
    space.discard(DATA, 8 * PAGE)
    assert space.resident(DATA, 30 * PAGE) == 8
    assert space.populate(DATA, 30 * PAGE, False)
    assert (space.resident(DATA, 30 * PAGE), space.anonymous(DATA, 30 * PAGE)) == (24, 0)


def test_zeros_take_no_frame_in_a_hole() -> None:
    machine = Machine()
    file = Pages(machine, b"x" * 2 * PAGE)
    file.resize(100 * PAGE)
    frames = machine.frames
    assert file.clear(PAGE + 1, 90 * PAGE)
    assert machine.frames == frames + 1
    assert file.read(PAGE - 1, 4) == b"xx\0\0"
    with pytest.raises(ValueError, match="past the end"):
        file.clear(PAGE, 100 * PAGE)


def test_stores_are_noted_once() -> None:
    guest = Guest([sd(12, 11), ECALL], x={11: DATA})
    machine = guest.machine
    file = Pages(machine, bytes(PAGE))
    guest.space.map_pages(DATA, PAGE, RW | PERM_SHARED, file, 0)
    assert (machine.stored, file.note_store()) == (False, False)
    for expected in (True, False):
        machine.stored = False
        guest.hart.pc = TEXT
        guest.run_to_ecall()
        assert (machine.stored, file.note_store()) == (expected, expected)
    file.clean()
    guest.hart.pc = TEXT
    guest.run_to_ecall()
    assert (machine.stored, file.note_store()) == (True, True)


PLACE = st.integers(0, 6 * PAGE)
STEPS = st.lists(
    st.tuples(st.sampled_from(["write", "share", "store", "size"]), PLACE, st.integers(1, 5000)),
    max_size=20,
)


@settings(max_examples=60, deadline=None)
@given(PLACE, STEPS)
def test_against_bytes(size: int, steps: list[Any]) -> None:
    """A file, a shared mapping of it, and a private one of which single pages are copies."""
    machine = Machine()
    first = bytes(i % 251 + 1 for i in range(size))
    file, space = Pages(machine, first), AddressSpace(machine)
    space.map_pages(DATA, 8 * PAGE, RW | PERM_SHARED, file, 0)
    space.map_pages(DATA + 0x100000, 8 * PAGE, RW, file, 0)
    content, copies = bytearray(first), dict[int, bytearray]()

    def page(at: int) -> bytearray:
        return copies.get(at) or bytearray(content[at : at + PAGE].ljust(PAGE, b"\0"))

    for op, at, n in steps:
        data = bytes([n % 256]) * n
        inside = at + n <= len(content)
        match op:
            case "write" if inside:
                assert file.write(at, data)
                content[at : at + n] = data
            case "share" if inside:
                assert space.write(DATA + at, data)
                content[at : at + n] = data
            case "store" if inside:
                assert space.write(DATA + 0x100000 + at, data)
                for start in range(at & -PAGE, at + n, PAGE):
                    mine = copies[start] = page(start)
                    low, high = max(at, start), min(at + n, start + PAGE)
                    mine[low - start : high - start] = data[low - at : high - at]
            case "size":
                file.resize(at)
                content[at:] = b""
                content += bytes(at - len(content))
                end = -(-at // PAGE) * PAGE
                copies = {start: mine for start, mine in copies.items() if start < end}
                for base in (DATA, DATA + 0x100000):
                    space.discard(base + end, 8 * PAGE - end)
        assert file.size == len(content)
        assert file.read(0, 1 << 20) == content
        for start in range(0, 8 * PAGE, PAGE):
            there = start < len(content)
            shared = bytes(content[start : start + PAGE].ljust(PAGE, b"\0"))
            assert space.read(DATA + start, PAGE) == (shared if there else None)
            private = space.read(DATA + 0x100000 + start, PAGE)
            assert private == (bytes(page(start)) if there else None)
