"""Why a shadow-stack instruction, or the kernel, found no usable word at an address."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from shstk.replay.decode import size as size_in_words
from shstk.replay.derive.regions import Region
from shstk.replay.derive.rows import Area, Mapping
from shstk.replay.derive.stacks import Stack
from shstk.replay.explain.faults import Fault
from shstk.replay.explain.model import Verdict
from shstk.replay.explain.ordinary import guarded
from shstk.replay.explain.scene import Scene
from shstk.replay.rules import named
from shstk.schemas.seq import show
from shstk.schemas.uapi import PROT_READ, PROT_WRITE


@dataclass(frozen=True)
class Reach:
    """The access: its address, and whether it is a push (or the kernel's token) or a pop."""

    scene: Scene
    fault: Fault
    address: int
    push: bool

    def beside(self, address: int, edge: Callable[[Area], int]) -> tuple[Stack | None, Area | None]:
        """The stack, and the part of it, that has its base (or its top) at an address."""
        fault = self.fault
        for at in (address, address - 8):
            stack = self.scene.stack(fault.mm, at, fault.seq)
            for area in stack.standing(fault.seq) if stack else ():
                if edge(area) == address:
                    return stack, area
        return None, None

    @property
    def there(self) -> str:
        """What is at the address, in words."""
        region = self.scene.symbols.regions.at(self.fault.mm, self.address, self.fault.seq)
        return (region.name or "ordinary memory") if region else "the unmapped page"


def lost(scene: Scene, fault: Fault) -> Verdict:
    """The likely cause of an access through ssp that found no word of a shadow stack."""
    ssp = scene.ssp(fault)
    address = fault.address
    if address is None:
        address = ((ssp or 0) - 8) % 2**64
    reach = Reach(scene, fault, address, fault.instruction != "sspopchk")
    found = (pattern(reach) for pattern in PATTERNS)
    return next(verdict for verdict in found if verdict)


def misaligned(reach: Reach) -> Verdict | None:
    if reach.fault.cause is None or reach.address % 8 == 0:
        return None
    sentence = "ssamoswap needs an address that is aligned to the word it swaps"
    return Verdict("misaligned", sentence, (f"its address was {reach.address:#x}",))


def in_guard_region(reach: Reach) -> Verdict | None:
    return guarded(reach.scene, reach.fault, reach.address)


def swapped_elsewhere(reach: Reach) -> Verdict | None:
    if reach.fault.instruction != "ssamoswap":
        return None
    region = reach.scene.symbols.regions.at(reach.fault.mm, reach.address, reach.fault.seq)
    what = (region.name or "ordinary memory") if region else "not mapped"
    sentence = f"ssamoswap was given an address outside any writable shadow stack: it is {what}"
    return Verdict("swap elsewhere", sentence, (f"its address was {reach.address:#x}",))


def base_for_token(reach: Reach) -> Verdict | None:
    motions = reach.scene.motions(reach.fault)
    if not motions or motions[-1]["cause"] != "ssp_write":
        return None
    ssp, seq, pc = (motions[-1][name] for name in ("ssp_after", "seq", "pc"))
    stack = reach.scene.stack(reach.fault.mm, ssp, reach.fault.seq)
    if stack is None or stack.how != "map_shadow_stack" or stack.area.size <= 16:
        return None
    held = reach.scene.words(reach.fault, stack.area.top - 8, stack.area.top)
    tokens = [word for word in held if word.writer == "map_shadow_stack"]
    if ssp - stack.area.base not in (0, 8) or not tokens:
        return None
    evidence = [
        f"map_shadow_stack, at {show(stack.step)}, made {stack.area}",
        f"ssp was set to {ssp:#x} at {show(seq)}"
        + (f" in {reach.scene.name(reach.fault, pc)}" if pc is not None else "")
        + ": its lowest end",
        *(f"the token is at {t.addr:#x}, its upper end" for t in tokens),
        "before 7.0-rc1 map_shadow_stack(SET_TOKEN) returned the token's address; since then it"
        f" returns the base (rule {named('map-returns-the-base').id})",
    ]
    sentence = (
        "the program took the result of map_shadow_stack for the token's address, but it is the"
        " base: ssp started at the wrong end of the new stack"
    )
    return Verdict("base taken for token", sentence, tuple(evidence))


def released(reach: Reach) -> Verdict | None:
    fault, scene = reach.fault, reach.scene
    task = scene.facts.history.task
    region = scene.symbols.regions.at(fault.mm, reach.address, fault.seq)
    stack, gone = scene.facts.ledger.last(fault.mm, reach.address, fault.seq)
    unmap = scene.facts.ledger.row(gone)
    if stack is None or unmap is None or (region and region.origin.seq != gone):
        return None
    ended = scene.facts.ledger.ended(unmap.seq).how
    pattern, verb, what = _TAKEN.get(ended, ("stack was freed", "unmapped", "unmapped it"))
    how = f" ({_ENDINGS[ended]})" if ended in _ENDINGS else ""
    pc = scene.pc_of(unmap.during or unmap.seq)
    area = next(a for a in (_old(unmap), unmap.area) if a.holds(reach.address))
    evidence = [
        f"{reach.address:#x} lay in {stack.name}, mapped at {show(stack.seq)}",
        f"task {unmap.tid} {verb} {area} at {show(unmap.seq)}"
        + (f" in {scene.name(fault, pc)}" if pc is not None else ""),
    ]
    rules = ("only-the-owner-frees", "borrower-keeps-the-parents-stack")
    told = next(filter(None, (scene.violated_at(slug, unmap.seq) for slug in rules)), None)
    if told:
        evidence.append(str(told))
    sentence = (
        f"another task freed the shadow stack in use: task {unmap.tid} {what}{how}"
        if task(unmap.tid, unmap.seq) is not task(fault.tid, fault.seq)
        else f"the task itself had {verb} the shadow stack in use{how}"
    )
    return Verdict(pattern, sentence, tuple(evidence), told)


def _old(row: Mapping) -> Area:
    """Where mremap took memory from; empty for other operations."""
    return Area(row.old_start or 0, row.old_length or 0)


_ENDINGS: Final = {
    "prctl": "by switching its own shadow stack off",
    "exit": "at its exit",
    "exec": "at its exec",
    "failed clone": "in a clone that failed",
    "munmap": "munmap",
}
# how it ended → the cause, and what was done
_TAKEN: Final = {
    "mmap": ("stack was mapped over", "mapped over", "mapped other memory over it"),
    "mremap": ("stack was moved", "moved", "moved or shrank it with mremap"),
}


def overflow(reach: Reach) -> Verdict | None:
    stack, area = reach.beside(reach.address + 8, lambda area: area.base)
    if stack is None or area is None or not reach.push:
        return None
    held = reach.scene.words(reach.fault, area.base, area.top)
    pushed = Counter((w.mm, w.value) for w in held if w.writer == "sspush")
    functions: Counter[str] = Counter()
    for (mm, value), count in pushed.items():
        functions[reach.scene.symbols.function(mm, value)] += count
    size = f"{area.size // 8} return addresses fit into its {size_in_words(area.size)}"
    if reach.fault.cause is None:
        pattern = "no room for token"
        sentence = (
            f"the shadow stack was full when the signal was delivered: {size}, ssp was at its base,"
            " and the token for the handler had no room below it"
        )
    else:
        pattern = "overflow"
        sentence = (
            f"the shadow stack is full: {size}, and the next push reached {reach.there} below"
        )
    evidence = [f"{stack.name}, mapped at {show(stack.seq)}"]
    if functions:
        name, count = functions.most_common(1)[0]
        evidence.append(f"{count} of the {len(held)} words on it return into {name}")
        if count > len(held) // 2:
            sentence += f": {name} recurses too deeply"
    clone = reach.scene.facts.history.clone_at.get(stack.step)
    if clone and clone.row.stack_size:
        evidence.append(
            f"its size is from clone3's stack_size {clone.row.stack_size:#x}, {show(clone.seq)}"
        )
    return Verdict(pattern, sentence, tuple(evidence))


def underflow(reach: Reach) -> Verdict | None:
    stack, area = reach.beside(reach.address, lambda area: area.top)
    if stack is None or area is None or reach.push:
        return None
    scene, fault = reach.scene, reach.fault
    switched = scene.switched_on(fault)
    frame = next(reversed(scene.open(fault)), None)
    if frame and switched and frame.call_seq < switched:
        sentence = (
            "the function was entered before the shadow stack was switched on, so its return"
            " address was never pushed"
        )
        evidence = (
            f"it was entered at {show(frame.call_seq)}, and the shadow stack was switched on at"
            f" {show(switched)}",
        )
        return Verdict("entered while off", sentence, evidence)
    evidence_ = [f"ssp was {area.top:#x}, the top of {stack.name}"]
    pop = scene.standing.last_pop(fault.tid, fault.seq)
    if pop and area.holds(pop.addr):
        evidence_.append(
            f"its last word was popped at {show(pop.seq)} in {scene.name(fault, pop.pc)}"
        )
    sentence = "the task popped more than it pushed: the shadow stack was empty"
    return Verdict("underflow", sentence, tuple(evidence_))


def protected(reach: Reach) -> Verdict | None:
    region = reach.scene.symbols.regions.at(reach.fault.mm, reach.address, reach.fault.seq)
    if region is None or not region.shadow_stack or region.prot & PROT_WRITE:
        return None
    row = reach.scene.facts.ledger.row(_protected_since(region, reach.address))
    evidence = [f"mprotect({region.prot}) at {show(row.seq)}, by task {row.tid}"] if row else []
    what = _UNWRITABLE.get(region.prot, "unwritable")
    sentence = f"mprotect made the shadow stack {what}"
    return Verdict(f"made {what}", sentence, tuple(evidence))


def _protected_since(region: Region, address: int) -> int:
    """When an address got its protection: what was cut off beside it began new regions."""
    since = region.from_seq
    for before in reversed(region.origin.regions):
        if before.to_seq == since and before.area.holds(address):
            if before.prot != region.prot:
                break
            since = before.from_seq
    return since


_UNWRITABLE: Final = {0: "inaccessible", PROT_READ: "read-only"}


def astray(reach: Reach) -> Verdict:
    region = reach.scene.symbols.regions.at(reach.fault.mm, reach.address, reach.fault.seq)
    what = f"in {region.name or 'ordinary memory'}" if region else "where nothing is mapped"
    evidence = tuple(reach.scene.last_motion(reach.fault))
    for motion in reach.scene.motions(reach.fault)[-1:]:
        if motion["cause"] == "ssp_write":
            sentence = f"a csr write had set ssp to an address outside any shadow stack: {what}"
            return Verdict("ssp astray", sentence, evidence)
    sentence = f"ssp is outside any shadow stack: {what}"
    return Verdict("ssp astray", sentence, evidence)


PATTERNS: Final[tuple[Callable[[Reach], Verdict | None], ...]] = (
    misaligned,
    in_guard_region,
    swapped_elsewhere,
    base_for_token,
    released,
    overflow,
    underflow,
    protected,
    astray,
)
