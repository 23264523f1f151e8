"""What the kernel's memory calls do to shadow stacks, page by page: an opinion of its own.

A dict from page numbers to pages; every call is a loop over them. It is written after mm/*.c of
Linux 7.2 and shared/reference/kernel-semantics.md (V1 to V8, F1 to F8, M1 to M9), and shares no
code with tracer/kernel/mm. Linux has areas where this has pages. What an answer says about areas is
`Page.area`: pages of one value are in one area. Of neighbours with other values, Linux may have
merged the areas; where the answer depends on that, the call is not modelled: Unknown.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

PAGE = 4096
PAGES = 24
R, W, X = 1, 2, 4
SHARED, PRIVATE, FIXED, ANONYMOUS, NOREPLACE = 1, 2, 16, 32, 0x100000
MAYMOVE, TO, DONTUNMAP = 1, 2, 4
EPERM, ENOMEM, EFAULT, EBUSY, EEXIST, EINVAL, ENOSPC, EOVERFLOW = 1, 12, 14, 16, 17, 22, 28, 75

DONTNEED, FREE, REMOVE, DONTFORK, DOFORK, WIPEONFORK, KEEPONFORK = 4, 8, 9, 10, 11, 18, 19
COLD, PAGEOUT, POPULATE_READ, POPULATE_WRITE, DONTNEED_LOCKED = 20, 21, 22, 23, 24
GUARD_INSTALL, GUARD_REMOVE = 102, 103
_FLAGS = {DONTFORK: ("dc", True), DOFORK: ("dc", False), WIPEONFORK: ("wf", True)}
_FLAGS |= {KEEPONFORK: ("wf", False)}
_LOSES = {DONTNEED, DONTNEED_LOCKED, FREE, REMOVE, DONTFORK, WIPEONFORK, GUARD_INSTALL}
_NOT_LOCKED = {DONTNEED, FREE, REMOVE, COLD, PAGEOUT, GUARD_INSTALL}

_numbers = itertools.count()


class Refused(Exception):
    """An errno."""


class Unknown(Exception):
    """Pages do not tell what Linux answers."""


@dataclass
class Page:
    kind: str  # "shadow stack", "private", "shared"
    prot: int
    area: object
    flags: frozenset[str] = frozenset()  # of lo lf sl dc wf, as smaps names them
    words: dict[int, int] = field(default_factory=dict)  # offset -> value; shared by all that share
    guard: bool = False  # MADV_GUARD_INSTALL

    @property
    def shadow(self) -> bool:
        return self.kind == "shadow stack"

    @property
    def key(self) -> tuple[object, ...]:
        """Pages that differ in it are in two areas."""
        return self.kind, self.prot, self.flags

    def readable(self) -> bool:
        return bool(self.prot & R) and not self.guard

    def emptied(self) -> Page:
        """As if never touched."""
        words = self.words if self.kind == "shared" else {}
        return replace(self, words=words, guard=False)


def _prot(prot: int) -> int:
    return prot | R if prot & W else prot


class Pages:
    """An address space of PAGES pages at `window`, where the heap begins.

    Each method answers as shadow_ops.c prints it. token_returned: map_shadow_stack answers with
    the address of the token, as before 7.0.
    """

    def __init__(self, window: int, token_returned: bool = False) -> None:
        self._window = window
        self._token_returned = token_returned
        self._pages: dict[int, Page] = {}
        self._heap = 0

    def answer(self, name: str, values: tuple[int, ...]) -> str:
        """One operation, with what all pages hold after it. Errors change what they change."""
        method: Callable[..., str] = getattr(self, name)
        try:
            said = method(*values)
        except Refused as error:
            said = str(error.args[0])
        return f"{said} |{self._shown(range(PAGES))}"

    # The calls.

    def shadow(self, at: int, size: int, flags: int) -> str:
        token = flags & 1
        if flags & 0xFFFFFFFF & ~1:
            raise Refused(EINVAL)
        if token and size < 8:
            raise Refused(ENOSPC)
        count = -(-size // PAGE)
        if count > 2**52 - 1:
            raise Refused(EOVERFLOW)
        if not count:
            raise Refused(EINVAL)
        if count > 2**26:
            raise Refused(ENOMEM)
        if self._mapped(at, count):
            raise Refused(EEXIST)
        if token and size % 8:
            raise Refused(EINVAL)
        self._new(at, count, "shadow stack", R | W)
        if token:
            self._set(at + (size - 8) // PAGE, (size - 8) % PAGE, self._address(at) + size)
        returned = at * PAGE + (size - 8 if token and self._token_returned else 0)
        return f"at {returned:x}"

    def map(self, at: int, count: int, prot: int, flags: int) -> str:
        if flags & NOREPLACE and self._mapped(at, count):
            raise Refused(EEXIST)
        if not flags & (FIXED | NOREPLACE) and not self._hint_is_good(at, count):
            kept = self._new_pages(count, "shared" if flags & SHARED else "private", prot)
            return "elsewhere" + self._list(kept)
        self._not_sealed(at, count)
        self._new(at, count, "shared" if flags & SHARED else "private", prot)
        return f"at {at * PAGE:x}"

    def unmap(self, at: int, count: int) -> str:
        if not count:
            raise Refused(EINVAL)
        self._not_sealed(at, count)
        self._drop(at, count)
        return "0"

    def protect(self, at: int, count: int, prot: int) -> str:
        areas: dict[object, object] = {}
        for n in self._until_a_hole(at, count):
            page = self._pages[n]
            if "sl" in page.flags:
                raise Refused(EPERM)
            self._change(n, areas, prot=_prot(prot))
        return "0"

    def remap(self, at: int, count: int, new: int, flags: int, to: int) -> str:
        placed = flags & (TO | DONTUNMAP)
        if not new:
            raise Refused(EINVAL)
        if placed:
            overlaps = to < at + count and at < to + new
            resizes = flags & DONTUNMAP and count != new
            if not flags & MAYMOVE or resizes or overlaps:
                raise Refused(EINVAL)
        if at not in self._pages:
            raise Refused(EFAULT)
        if flags & TO and count == new:
            return self._move_all(at, count, to, flags)
        page = self._pages[at]
        if "sl" in page.flags:
            raise Refused(EPERM)
        if new > count or placed:
            if not count and page.kind != "shared":
                raise Refused(EINVAL)
            if not self._in_one_area(at, min(count, new)):
                raise Refused(EFAULT)
        if not placed:
            if new == count:
                return f"at {at * PAGE:x}"
            if new < count:
                self._not_sealed(at + new, count - new)
                self._drop(at + new, count - new)
                return f"at {at * PAGE:x}"
            if not count:
                raise Unknown
            if not self._mapped(at + count, new - count):
                self._grow(at, count, new)
                return f"at {at * PAGE:x}"
            if not flags & MAYMOVE:
                raise Refused(ENOMEM)
            return self._elsewhere(at, count, new, flags)
        if not flags & TO and not self._hint_is_good(to, new):
            return self._elsewhere(at, count, new, flags)
        if not count:
            raise Unknown
        if flags & TO:
            self._not_sealed(to, new)
            self._drop(to, new)
        if new < count:
            self._not_sealed(at + new, count - new)
            self._drop(at + new, count - new)
            count = new
        self._move(range(at, at + count), to - at, flags)
        self._grow(to, count, new)
        return f"at {to * PAGE:x}"

    def advise(self, at: int, count: int, advice: int) -> str:
        if advice in (POPULATE_READ, POPULATE_WRITE):
            return self._populate(at, count, advice)
        areas: dict[object, object] = {}
        for n in self._mapped(at, count):
            page = self._pages[n]
            if errno := _refusal(page, advice):
                raise Refused(errno)
            if advice in _FLAGS:
                flag, sets = _FLAGS[advice]
                self._change(n, areas, flags=page.flags | {flag} if sets else page.flags - {flag})
            elif advice == REMOVE:
                if page.guard:
                    raise Unknown
                page.words.clear()
            elif advice in (DONTNEED, DONTNEED_LOCKED):
                self._pages[n] = replace(page.emptied(), guard=page.guard)
            elif advice == GUARD_INSTALL:
                self._pages[n] = replace(page.emptied(), guard=True)
            elif advice == GUARD_REMOVE and page.guard:
                self._pages[n] = page.emptied()
        if len(self._mapped(at, count)) < count:
            raise Refused(ENOMEM)
        return "0"

    def lock(self, at: int, count: int, on_fault: int) -> str:
        self._set_locks(at, count, frozenset({"lo", "lf"} if on_fault else {"lo"}))
        if not on_fault:
            for n in range(at, at + count):
                page = self._pages[n]
                if page.guard or not page.prot:
                    raise Refused(ENOMEM)
        return "0"

    def unlock(self, at: int, count: int) -> str:
        self._set_locks(at, count, frozenset())
        return "0"

    def seal(self, at: int, count: int) -> str:
        if len(self._mapped(at, count)) < count:
            raise Refused(ENOMEM)
        areas: dict[object, object] = {}
        for n in range(at, at + count):
            self._change(n, areas, flags=self._pages[n].flags | {"sl"})
        return "0"

    def heap(self, to: int) -> str:
        if to < self._heap:
            gone = range(to, self._heap)
            here = [self._pages[n] for n in gone if n in self._pages]
            if not here or any("sl" in page.flags for page in here):
                return str(self._heap)
            self._drop(to, len(gone))
        elif to > self._heap:
            # One page above must be free as well, and two below a shadow stack.
            if not self._hint_is_good(self._heap, to - self._heap + 1):
                return str(self._heap)
            self._new(self._heap, to - self._heap, "private", R | W)
        self._heap = to
        return str(to)

    # Accesses in user mode.

    def swap(self, at: int, last: int, value: int) -> str:
        """ssamoswap.d. With PROT_EXEC, on a page that is present, the manual has an access fault,
        the executor a page fault."""
        return self._written(at, last, value, shadow=True)

    def store(self, at: int, last: int, value: int) -> str:
        return self._written(at, last, value, shadow=False)

    def _written(self, at: int, last: int, value: int, shadow: bool) -> str:
        page = self._pages.get(at)
        if page is None:
            return "m"
        if not page.prot & W:
            return "d"
        if page.guard:
            return "m"
        if page.shadow != shadow:
            return "p"
        self._set(at, last and PAGE - 8, value)
        return "0"

    def load(self, at: int, last: int, value: int) -> str:
        page = self._pages.get(at)
        if page is None:
            return "m"
        if not page.prot & R:
            return "d"
        return "m" if page.guard else "0"

    def fork_(self, at: int, value: int) -> str:
        """What a child answers that swaps a word and shows all pages."""
        mine = self._pages
        self._pages = {n: _inherited(p) for n, p in mine.items() if "dc" not in p.flags}
        # Which page tables fork copies is not told.
        said = self.swap(at, 0, value).replace("p", "d") + self._shown(range(PAGES))
        self._pages = mine
        return said

    # What the program prints at the end of a sequence.

    def areas(self) -> list[frozenset[str] | None]:
        """The flags of each page's area."""
        return [_smaps(self._pages[n]) if n in self._pages else None for n in range(PAGES)]

    def all_accesses(self) -> str:
        said = ""
        for n in range(PAGES):
            page = self._pages.get(n)
            held = page.words.get(0, 0) if page and page.readable() else 0
            said += " " + "".join(how(n, 0, held) for how in (self.swap, self.store, self.load))
        return said

    # Parts.

    def _address(self, at: int) -> int:
        return self._window + at * PAGE

    def _mapped(self, at: int, count: int) -> list[int]:
        return [n for n in range(at, at + count) if n in self._pages]

    def _new_pages(self, count: int, kind: str, prot: int) -> list[Page]:
        area = next(_numbers)
        return [Page(kind, _prot(prot), area) for _ in range(count)]

    def _new(self, at: int, count: int, kind: str, prot: int) -> None:
        for n, page in enumerate(self._new_pages(count, kind, prot)):
            self._pages[at + n] = page

    def _set(self, at: int, offset: int, value: int) -> None:
        self._pages[at].words[offset] = value

    def _drop(self, at: int, count: int) -> None:
        for n in self._mapped(at, count):
            del self._pages[n]

    def _change(self, n: int, areas: dict[object, object], **changes: object) -> None:
        """Of a part of an area. areas: the new value for each old one, during one call."""
        old = self._pages[n]
        new = replace(old, **changes)  # type: ignore[arg-type]
        if new.key != old.key:
            new.area = areas.setdefault(old.area, next(_numbers))
        self._pages[n] = new

    def _not_sealed(self, at: int, count: int) -> None:
        if any("sl" in self._pages[n].flags for n in self._mapped(at, count)):
            raise Refused(EPERM)

    def _until_a_hole(self, at: int, count: int) -> Iterator[int]:
        for n in range(at, at + count):
            if n not in self._pages:
                raise Refused(ENOMEM)
            yield n

    def _hint_is_good(self, at: int, count: int) -> bool:
        """Nothing is there, and the page below the next shadow stack stays free."""
        above = min((n for n in self._pages if n >= at), default=None)
        return above is None or at + count <= above - self._pages[above].shadow

    def _in_one_area(self, at: int, count: int) -> bool:
        pages = [self._pages.get(n) for n in range(at, at + count)]
        first = pages[0] if pages else None
        if any(page is None or page.key != first.key for page in pages):  # type: ignore[union-attr]
            return False
        if any(page.area != first.area for page in pages):  # type: ignore[union-attr]
            raise Unknown
        return True

    def _grow(self, at: int, count: int, new: int) -> None:
        last = self._pages[at + count - 1]
        if new > count and last.kind == "shared":
            raise Unknown  # past the end of the memory: SIGBUS
        for n in range(count, new):
            self._pages[at + n] = replace(last, words={}, guard=False)

    def _move(self, pages: Iterable[int], distance: int, flags: int) -> None:
        areas: dict[object, object] = {}
        for n in pages:
            page = self._pages[n]
            if "sl" in page.flags:
                raise Refused(EPERM)
            area = areas.setdefault(page.area, next(_numbers))
            self._pages[n + distance] = replace(page, area=area)
            if flags & DONTUNMAP:
                self._pages[n] = page.emptied()
                self._unlock_area(n)
            else:
                del self._pages[n]

    def _unlock_area(self, at: int) -> None:
        """dontunmap_complete() unlocks the area, also where nothing was moved."""
        page = self._pages[at]
        for step in (-1, 1):
            beside = at + step
            while (other := self._pages.get(beside)) and other.key == page.key:
                if "lo" in other.flags and other.area != page.area:
                    raise Unknown
                beside += step
        for other in self._pages.values():
            if other.area == page.area:
                other.flags -= {"lo", "lf"}

    def _move_all(self, at: int, count: int, to: int, flags: int) -> str:
        """All that is in the range, with the holes between."""
        if any("sl" in self._pages[n].flags for n in self._mapped(to, count)):
            raise Unknown  # areas below the one that can't be moved have moved
        self._move(self._mapped(at, count), to - at, flags)
        return f"at {to * PAGE:x}"

    def _elsewhere(self, at: int, count: int, new: int, flags: int) -> str:
        """Moved out of the window, shown, and unmapped there."""
        if not count:
            raise Unknown
        far = 1 << 20
        self._move(range(at, at + count), far - at, flags)
        self._grow(far, count, new)
        said = "elsewhere" + self._shown(range(far, far + new))
        self._drop(far, new)
        return said

    def _populate(self, at: int, count: int, advice: int) -> str:
        for n in self._until_a_hole(at, count):
            page = self._pages[n]
            needs = W if advice == POPULATE_WRITE else R
            if not page.prot & needs or (page.shadow and needs == W):
                raise Refused(EINVAL)
            if page.guard:
                raise Refused(EFAULT)
        return "0"

    def _set_locks(self, at: int, count: int, locks: frozenset[str]) -> None:
        areas: dict[object, object] = {}
        for n in self._until_a_hole(at, count):
            page = self._pages[n]
            self._change(n, areas, flags=page.flags - {"lo", "lf"} | locks)

    def _list(self, pages: Iterable[Page | None]) -> str:
        said = ""
        for page in pages:
            if page is None:
                said += " ."
            elif not page.readable():
                said += " -"
            else:
                last = page.words.get(PAGE - 8, 0)
                said += f" {page.words.get(0, 0):x}" + (f"/{last:x}" if last else "")
        return said

    def _shown(self, pages: range) -> str:
        return self._list(self._pages.get(n) for n in pages)


def _refusal(page: Page, advice: int) -> int:
    """The errno, or 0."""
    if "sl" in page.flags and advice in _LOSES and page.kind != "shared" and not page.prot & W:
        return EPERM
    if "lo" in page.flags and advice in _NOT_LOCKED:
        return EINVAL
    if advice in (FREE, WIPEONFORK) and page.kind == "shared":
        return EINVAL
    return EINVAL if advice == REMOVE and page.kind != "shared" else 0


def _inherited(page: Page) -> Page:
    if "wf" in page.flags:
        return page.emptied()
    words = page.words if page.kind == "shared" else dict(page.words)
    return replace(page, words=words)


def _smaps(page: Page) -> frozenset[str]:
    names = {R: "rd", W: "wr", X: "ex"}
    flags = {names[bit] for bit in names if page.prot & bit} | page.flags
    return frozenset(
        flags | {"shadow stack": {"ss"}, "shared": {"sh"}, "private": set()}[page.kind]
    )
