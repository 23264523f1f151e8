"""Address spaces as the kernel model uses them: mapping, fork, sharing, moving, user copies."""

import pytest
from guest import DATA, ECALL, SS, STACK, TEXT, Guest, R, W, X, i_type, sd
from hypothesis import given, settings
from hypothesis import strategies as st

from shstk.tracer import _core

PAGE = 0x1000
SHARED = _core.PERM_SHARED


def fresh(max_frames: int = 0) -> tuple[_core.Machine, _core.AddressSpace]:
    machine = _core.Machine(max_frames=max_frames)
    return machine, _core.AddressSpace(machine)


def share(space: _core.AddressSpace, machine: _core.Machine, start: int, length: int) -> None:
    """mmap of anonymous memory with MAP_SHARED."""
    pages = _core.Pages(machine)
    pages.resize(length)
    space.map_pages(start, length, R | W | SHARED, pages, 0)


def test_pages_are_zero_and_cost_nothing_until_written() -> None:
    machine, space = fresh()
    space.map(0, 1 << 40, R | W)
    space.map(1 << 47, 4 << 30, R | W | SS)
    assert space.read(1 << 39, 16) == bytes(16)
    assert (machine.frames, space.resident(0, 1 << 40)) == (0, 0)
    assert space.write((1 << 30) - 1, b"ab")
    assert (machine.frames, space.resident(0, 1 << 40)) == (2, 2)
    assert space.perm((1 << 47) + (4 << 30) - 1) == R | W | SS
    assert space.perm((1 << 47) + (4 << 30)) == -1
    space.unmap(0, 1 << 40)
    assert (machine.frames, space.perm(0)) == (0, -1)


@pytest.mark.parametrize("operation", ["map", "unmap", "protect", "discard", "resident"])
@pytest.mark.parametrize(
    ("start", "length"),
    [(1, PAGE), (0, 1), (0, 0), (1 << 56, PAGE), ((1 << 56) - PAGE, 2 * PAGE), (PAGE, 1 << 56)],
)
def test_bad_ranges_are_value_errors(operation: str, start: int, length: int) -> None:
    _, space = fresh()
    more = (R,) if operation in ("map", "protect") else ()
    with pytest.raises(ValueError, match="range"):
        getattr(space, operation)(start, length, *more)


def test_move_refuses_overlap() -> None:
    _, space = fresh()
    space.map(0, 4 * PAGE, R)
    with pytest.raises(ValueError, match="overlap"):
        space.move(0, 2 * PAGE, PAGE)


def test_fork_shares_until_either_side_writes() -> None:
    machine, parent = fresh()
    parent.map(DATA, 8 * PAGE, R | W)
    parent.write(DATA, b"parent" * 1000)
    frames = machine.frames
    child = parent.fork()
    assert machine.frames == frames
    assert child.read(DATA, 6) == b"parent"
    child.write(DATA, b"child!")
    assert (parent.read(DATA, 6), child.read(DATA, 6)) == (b"parent", b"child!")
    assert machine.frames == frames + 1
    parent.write(DATA + PAGE, b"PARENT")
    assert child.read(DATA + PAGE, 6) == (b"parent" * 1000)[PAGE : PAGE + 6]
    assert machine.frames == frames + 2
    del child
    assert machine.frames == frames


def test_fork_copies_shadow_stacks_too() -> None:
    _, parent = fresh()
    parent.map(STACK, PAGE, R | W | SS)
    parent.ss_write(STACK, 1)
    child = parent.fork()
    assert child.ss_swap(STACK, 2) == 1
    assert parent.read(STACK, 8) == (1).to_bytes(8, "little")


def test_forks_of_a_large_process_are_cheap() -> None:
    machine, parent = fresh()
    parent.map(0, 64 << 20, R | W)
    parent.write(0, b"x" * (64 << 20))
    frames = machine.frames
    children = [parent.fork() for _ in range(1000)]
    assert machine.frames == frames
    for i, child in enumerate(children):
        child.write(i * PAGE, b"y")
    assert machine.frames == frames + 1000
    assert all(child.read(i * PAGE, 1) == b"y" for i, child in enumerate(children))


def test_shared_pages_are_one_after_fork_whoever_touches_them_first() -> None:
    machine, parent = fresh()
    share(parent, machine, DATA, 4 * PAGE)
    parent.write(DATA, b"before")
    child = parent.fork()
    child.write(DATA, b"child")
    assert parent.read(DATA, 6) == b"childe"
    child.write(DATA + PAGE, b"first touch")
    assert parent.read(DATA + PAGE, 11) == b"first touch"
    assert parent.resident(DATA, 4 * PAGE) == 1  # the parent has not touched the second page
    child.protect(DATA, PAGE, R)
    assert child.perm(DATA) == R | SHARED
    parent.discard(DATA, PAGE)
    assert parent.read(DATA, 6) == b"childe"
    child.move(DATA, 4 * PAGE, DATA + 0x100000)
    parent.write(DATA + 0x800, b"moved")
    parent.write(DATA + 0x1800, b"moved")
    assert child.read(DATA + 0x100800, 5) == child.read(DATA + 0x101800, 5) == b"moved"
    share(child, machine, DATA + 0x100000, PAGE)
    assert child.read(DATA + 0x100800, 5) == bytes(5)
    assert parent.resident(DATA, 4 * PAGE) == 2
    del child
    parent.unmap(DATA, 4 * PAGE)
    assert machine.frames == 0


def test_a_guest_reads_what_the_other_process_stored_in_shared_memory() -> None:
    guest = Guest([i_type(0x3003, 10, 11), ECALL, sd(12, 11), ECALL], x={11: DATA, 12: 77})
    share(guest.space, guest.machine, DATA, PAGE)
    child = guest.space.fork()
    other = guest.hart.copy()
    guest.run_to_ecall()  # the load leaves the page in the TLB
    other.pc = TEXT + 8
    assert other.run(child, 10, 2, 2) == _core.STOP_ECALL
    guest.hart.pc = TEXT
    assert guest.run_to_ecall().hart.x(10) == 77


def test_move_keeps_contents_and_permissions() -> None:
    machine, space = fresh()
    space.map(DATA, 3 * PAGE, R | W)
    space.protect(DATA + PAGE, PAGE, R)
    space.write(DATA, b"one")
    space.map(DATA + 0x100000, 4 * PAGE, R | W)
    space.write(DATA + 0x100000, b"x" * PAGE * 2)
    space.move(DATA, 3 * PAGE, DATA + 0x100000)
    assert [space.perm(DATA + i * PAGE) for i in range(3)] == [-1, -1, -1]
    perms = [space.perm(DATA + 0x100000 + i * PAGE) for i in range(4)]
    assert perms == [R | W, R, R | W, R | W]
    assert space.read(DATA + 0x100000, 3) == b"one"
    assert space.read(DATA + 0x101000, 3) == bytes(3)
    assert machine.frames == 1


def test_discard_zeroes_and_keeps_the_mapping() -> None:
    machine, space = fresh()
    space.map(DATA, 2 * PAGE, R | W)
    space.write(DATA, b"x" * 2 * PAGE)
    space.discard(DATA, PAGE)
    assert space.read(DATA + PAGE - 2, 4) == b"\0\0xx"
    assert (space.perm(DATA), machine.frames) == (R | W, 1)


def test_protect_of_unmapped_pages_does_nothing() -> None:
    _, space = fresh()
    space.map(DATA, PAGE, R)
    space.protect(DATA - PAGE, 3 * PAGE, R | W)
    assert [space.perm(DATA + i * PAGE) for i in (-1, 0, 1)] == [-1, R | W, -1]


def test_user_copies_respect_permissions() -> None:
    _, space = fresh()
    space.map(DATA, PAGE, R | W)
    space.map(DATA + PAGE, PAGE, R)
    space.map(DATA + 2 * PAGE, PAGE, R | W | SS)
    space.map(DATA + 3 * PAGE, PAGE, 0)
    space.map(DATA + 4 * PAGE, PAGE, X)
    for page, (readable, writable) in enumerate(
        [(True, True), (True, False), (True, False), (False, False), (False, False)]
    ):
        at = DATA + page * PAGE
        assert (space.read(at, 1) is not None) is readable
        assert space.write(at, b"x") is writable
        assert space.write(at, b"y", force=True)
        assert space.read(at, 1, force=True) == b"y"
    assert space.read(DATA + 5 * PAGE, 1, force=True) is None
    assert not space.write(DATA + 5 * PAGE, b"x", force=True)


def test_a_write_that_fails_writes_nothing() -> None:
    _, space = fresh()
    space.map(DATA, PAGE, R | W)
    assert not space.write(DATA + PAGE - 2, b"abcd")
    assert space.read(DATA + PAGE - 2, 2) == b"\0\0"
    assert space.read(DATA + PAGE - 2, 4) is None


@pytest.mark.parametrize("at", [(1 << 56) - 1, (1 << 64) - 4])
def test_copies_at_the_end_of_the_address_space(at: int) -> None:
    _, space = fresh()
    assert space.read(at, 8) is None
    assert not space.write(at, bytes(8), force=True)
    assert space.read_cstr(at, 8) is None


def test_read_cstr() -> None:
    _, space = fresh()
    space.map(DATA, PAGE, R | W)
    space.write(DATA + PAGE - 6, b"ab\0cde")
    assert space.read_cstr(DATA + PAGE - 6, 100) == b"ab"
    assert space.read_cstr(DATA + PAGE - 6, 1) == b"a"
    assert space.read_cstr(DATA + PAGE - 3, 3) == b"cde"
    assert space.read_cstr(DATA + PAGE - 3, 4) is None
    space.map(DATA + PAGE, PAGE, R)
    assert space.read_cstr(DATA + PAGE - 3, 4) == b"cde"


def test_the_kernels_shadow_stack_store() -> None:
    _, space = fresh()
    space.map(STACK, PAGE, R | W | SS)
    assert space.ss_write(STACK, 5)
    assert space.ss_swap(STACK, 6) == 5
    assert not space.ss_write(STACK + 4, 1)
    assert space.ss_swap(STACK + PAGE, 1) is None
    space.protect(STACK, PAGE, R | SS)
    assert not space.ss_write(STACK, 1)
    space.map(STACK, PAGE, R | W)
    assert not space.ss_write(STACK, 1)


def test_remapped_pages_are_seen_at_once() -> None:
    guest = Guest([i_type(0x3003, 10, 11), ECALL], x={11: DATA})
    guest.space.write(DATA, b"\x05")
    guest.run_to_ecall()
    guest.space.map(DATA, PAGE, R | W)
    guest.hart.pc = TEXT
    assert guest.run_to_ecall().hart.x(10) == 0
    guest.space.protect(DATA, PAGE, 0)
    guest.hart.pc = TEXT
    assert guest.fault()[0] == 13


def test_a_forked_parents_stores_do_not_reach_the_child() -> None:
    guest = Guest([sd(12, 11), ECALL], x={11: DATA, 12: 1})
    guest.run_to_ecall()  # the store leaves the page in the TLB
    child = guest.space.fork()
    guest.hart.set_x(12, 2)
    guest.hart.pc = TEXT
    guest.run_to_ecall()
    assert (guest.word(DATA), child.read(DATA, 1)) == (2, b"\x01")


def test_frames_of_a_copied_page_follow_later_loads() -> None:
    words = [i_type(0x3003, 10, 11), sd(12, 11), i_type(0x3003, 13, 11), ECALL]
    guest = Guest(words, x={11: DATA, 12: 9})
    guest.space.write(DATA, b"\x07")
    child = guest.space.fork()
    guest.run_to_ecall()
    assert (guest.hart.x(10), guest.hart.x(13), child.read(DATA, 1)) == (7, 9, b"\x07")
    zero = Guest(words, x={11: DATA, 12: 9}).run_to_ecall()  # a page without a frame yet
    assert (zero.hart.x(10), zero.hart.x(13)) == (0, 9)


# Random operations, compared with a model of address spaces as dictionaries.
PAGES = 24
BASE = 0x3FFFE000  # the range crosses the borders of table nodes
operations = st.lists(
    st.tuples(
        st.sampled_from(["map", "unmap", "protect", "discard", "write", "fork", "move", "exit"]),
        st.integers(0, 3),
        st.integers(0, PAGES - 1),
        st.integers(1, PAGES),
        st.sampled_from([0, R, R | W, R | W | SS, R | X]),
        st.integers(0, PAGES - 1),
    ),
    max_size=60,
)


@given(operations)
@settings(max_examples=150, deadline=None)
def test_random_operations_against_a_model(
    steps: list[tuple[str, int, int, int, int, int]],
) -> None:
    machine = _core.Machine()
    spaces: list[tuple[_core.AddressSpace, dict[int, tuple[int, bytes]]]]
    spaces = [(_core.AddressSpace(machine), {})]
    for serial, (operation, which, page, count, perm, target) in enumerate(steps):
        space, model = spaces[which % len(spaces)]
        count = min(count, PAGES - page)
        start, length = BASE + page * PAGE, count * PAGE
        pages = range(page, page + count)
        if operation == "map":
            space.map(start, length, perm)
            model.update(dict.fromkeys(pages, (perm, bytes(8))))
        elif operation == "unmap":
            space.unmap(start, length)
            for p in pages:
                model.pop(p, None)
        elif operation == "protect":
            space.protect(start, length, perm)
            model.update({p: (perm, model[p][1]) for p in pages if p in model})
        elif operation == "discard":
            space.discard(start, length)
            model.update({p: (model[p][0], bytes(8)) for p in pages if p in model})
        elif operation == "write":
            data = serial.to_bytes(8, "little")
            for p in pages:
                written = space.write(BASE + p * PAGE, data)
                assert written == (p in model and model[p][0] & (W | SS) == W)
                if written:
                    model[p] = (model[p][0], data)
        elif operation == "fork":
            spaces.append((space.fork(), dict(model)))
        elif operation == "exit" and len(spaces) > 1:
            spaces.pop(which % len(spaces))
        elif operation == "move":
            count = min(count, PAGES - target)
            if target < page + count and page < target + count:
                continue
            space.move(start, count * PAGE, BASE + target * PAGE)
            moved = {p: model.pop(p) for p in range(page, page + count) if p in model}
            for p in range(target, target + count):
                model.pop(p, None)
            model.update({p - page + target: value for p, value in moved.items()})
    for space, model in spaces:
        for p in range(PAGES):
            perm, data = model.get(p, (-1, None))
            assert space.perm(BASE + p * PAGE) == perm
            assert space.read(BASE + p * PAGE, 8, force=True) == data
    del space
    spaces.clear()
    assert machine.frames == 0


def test_permissions_are_the_known_bits() -> None:
    _, space = fresh()
    with pytest.raises(ValueError, match="permission"):
        space.map(DATA, PAGE, 32)
    with pytest.raises(ValueError, match="permission"):
        space.protect(DATA, PAGE, 128)
