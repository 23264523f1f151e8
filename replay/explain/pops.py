"""Why a pop found a different word: patterns of sspopchk mismatches; the first match decides."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import polars as pl

from shstk.replay.derive.frames import Frame
from shstk.replay.derive.words import Word
from shstk.replay.explain.faults import Fault
from shstk.replay.explain.model import Verdict, as_text
from shstk.replay.explain.scene import Scene
from shstk.schemas.seq import show
from shstk.schemas.uapi import PAGE, PROT_EXEC

_UP: Final = 256 * PAGE  # bytes above ssp to search for the word that would match
_TOLD: Final = 3  # tokens that are listed


@dataclass(frozen=True)
class Pop:
    """The failed pop: the word on the shadow stack, the call that it returns from, and the word
    that this call had pushed."""

    scene: Scene
    fault: Fault
    slot: Word | None
    frame: Frame | None
    own: Word | None

    @property
    def expected(self) -> int:
        return self.fault.expected or 0

    @property
    def found(self) -> int:
        return self.fault.found or 0

    @property
    def address(self) -> int:
        return self.fault.address or 0

    @cached_property
    def further_up(self) -> Word | None:
        """The nearest word above that would have matched."""
        reach = PAGE
        while reach <= _UP:  # most matches are near
            above = self.scene.words(self.fault, self.address + 8, self.address + reach)
            if match := next((word for word in above if word.value == self.found), None):
                return match
            reach *= 16
        return None

    def pushed(self) -> str:
        return self.scene.who(self.slot) if self.slot else ""


def mismatch(scene: Scene, fault: Fault) -> Verdict:
    """The likely cause of a pop that found a different word."""
    if not scene.facts.recorded("cfi"):
        sentence = "the run does not record who pushed what: record it with --trace cfi,flow"
        return Verdict("not recorded", sentence)
    frame = next(reversed(scene.open(fault)), None)
    own = scene.pushed(fault, frame) if frame else None
    pop = Pop(scene, fault, scene.word(fault), frame, own)
    found = (pattern(pop) for pattern in PATTERNS)
    return next(verdict for verdict in found if verdict)


def two_tasks(pop: Pop) -> Verdict | None:
    slot, fault = pop.slot, pop.fault
    if slot is None or slot.writer != "sspush" or slot.tid is None or _own(pop, slot):
        return None
    if slot.mm != fault.mm:
        return None  # a fork child's copy
    history, stack = pop.scene.facts.history, pop.scene.stack(fault.mm, pop.address, fault.seq)
    tasks = [history.task(fault.tid, fault.seq), history.task(slot.tid, slot.seq)]
    child = next((t for t in tasks if t and t.creator in tasks), None)
    shares = child is not None and child.how == "vfork"
    rules = ("thread-gets-own-stack", "vfork-shares", "one-pusher-a-stack")
    told = next(filter(None, (pop.scene.violated_by(rule, *tasks) for rule in rules)), None)
    evidence = [f"{pop.pushed()}, between task {fault.tid}'s own push there and this pop"]
    evidence += [f"both were on {stack.name}"] if stack else []
    clones = [history.clone_of[task] for task in tasks if task in history.clone_of]
    for clone in sorted(clones, key=lambda clone: clone.seq):
        if clone.first_ssp is not None:
            evidence.append(
                f"task {clone.child.tid if clone.child else '?'} started with ssp"
                f" {clone.first_ssp:#x}; its parent's was"
                f" {clone.parent_ssp or 0:#x} at the clone, {show(clone.seq)}"
            )
    if shares:
        sentence = (
            f"the vfork child {child.tid if child else ''} used the shadow stack of its waiting"
            f" parent: its push overwrote the parent's word"
        )
        return Verdict("vfork child", sentence, tuple(evidence), told)
    sentence = (
        f"two tasks push on one shadow stack: task {slot.tid}'s return address overwrote the one"
        f" that task {fault.tid} had pushed"
    )
    if told:
        evidence.append(str(told))
    return Verdict("two tasks on one stack", sentence, tuple(evidence), told)


def left_handler(pop: Pop) -> Verdict | None:
    """A signal's token at the word, or between it and the word that would match."""
    match = pop.further_up
    top = match.addr if match else pop.address + 8
    held = pop.scene.words(pop.fault, pop.address, top)
    tokens = [word for word in held if word.writer == "signal"]
    if not tokens:
        return None
    sentence = (
        "a signal handler was left by a longjmp, without rt_sigreturn and without unwinding ssp:"
        " its words are still on the shadow stack"
    )
    evidence = [f"a signal's token is at {t.addr:#x}: {pop.scene.who(t)}" for t in tokens[:_TOLD]]
    if len(tokens) > _TOLD:
        evidence.append(f"tokens of {len(tokens) - _TOLD} more signals lie above it")
    if match:
        words = _words((match.addr - pop.address) // 8)
        evidence.append(f"the word that matches is {words} further up, at {match.addr:#x}")
    return Verdict("left a handler", sentence, tuple(evidence))


def token(pop: Pop) -> Verdict | None:
    slot = pop.slot
    if slot is None or slot.writer not in ("map_shadow_stack", "ssamoswap"):
        return None
    sentence = (
        "a token is where a return address should be: a switch between shadow stacks left it"
        " on the stack, or ended one word too low"
    )
    evidence = (f"the word is not a return address: {pop.pushed()}",)
    return Verdict("popped a token", sentence, evidence)


def discarded(pop: Pop) -> Verdict | None:
    """The word was zeroed by an operation on the mapping after it was pushed."""
    if pop.slot is not None or pop.expected:
        return None
    fault, scene = pop.fault, pop.scene
    word, seq = scene.standing.zeroed(fault.mm, pop.address, fault.seq) or (None, None)
    row = scene.facts.ledger.row(seq)
    if word is None or row is None or row.op not in _ZEROED:
        return None
    pc = scene.pc_of(row.during or row.seq)
    evidence = (
        f"the word was {scene.name(fault, word.value)} until {show(row.seq)}: task"
        f" {row.tid}'s {_ZEROED[row.op]}"
        + (f" in {scene.name(fault, pc)}" if pc is not None else ""),
    )
    sentence = f"the return addresses on the shadow stack were zeroed: {_ZEROED[row.op]}"
    return Verdict("words discarded", sentence, evidence)


_ZEROED: Final = {"discard": "madvise(MADV_DONTNEED)", "map": "a new mapping over it"}


def never_pushed(pop: Pop) -> Verdict | None:
    if pop.slot is not None:
        return None
    frame = pop.frame
    switched = pop.scene.switched_on(pop.fault)
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
    sentence = "nothing was ever pushed there: the task popped more than it pushed, or ssp is wrong"
    return Verdict("never pushed", sentence, tuple(pop.scene.last_motion(pop.fault)))


def longjmp(pop: Pop) -> Verdict | None:
    slot = pop.slot
    if slot is None:
        return None
    calls = pop.scene.open_calls
    left = calls.left(pop.fault.tid, slot.value, slot.seq, pop.fault.seq)
    if left is None or slot.tid != pop.fault.tid:
        return None
    symbols = pop.scene.symbols
    names = [symbols.function(mm, callee or 0) for mm, callee in reversed(left.calls)]
    evidence = [
        f"{pop.pushed()}",
        f"at {show(left.seq)} {names[-1]} jumped out of {len(names)} calls"
        f" ({_chain(names)}) that never returned",
        f"ssp stayed at {pop.address:#x}: there was no csr ssp write in between",
    ]
    if match := pop.further_up:
        words = (match.addr - pop.address) // 8
        evidence.append(f"the word that matches is {_words(words)} further up, at {match.addr:#x}")
    sentence = (
        "a longjmp left functions without unwinding ssp, so the next return popped a word that one"
        " of them had pushed"
    )
    return Verdict("longjmp keeps ssp", sentence, tuple(evidence))


def extra_pop(pop: Pop) -> Verdict | None:
    own = pop.own
    if own is None or own.addr >= pop.address:
        return None
    earlier = pop.scene.standing.popped(pop.fault.mm, own, pop.fault.seq)
    if earlier is None:
        return None
    sentence = (
        "the function popped its return address twice (unmatched sspopchk): this pop found its"
        " caller's"
    )
    evidence = (
        f"its own word, {own.value:#x} at {own.addr:#x}, had already been popped at"
        f" {show(earlier.seq)} in {pop.scene.name(pop.fault, earlier.pc)}",
        f"the word found here is its caller's: {pop.pushed()}",
    )
    return Verdict("unmatched pop", sentence, evidence)


def extra_push(pop: Pop) -> Verdict | None:
    frame, own, slot = pop.frame, pop.own, pop.slot
    if slot is None or slot.seq < (frame.call_seq if frame else 0):
        return None
    if own is None or own.addr <= pop.address:
        return None
    words = (own.addr - pop.address) // 8
    sentence = f"the function pushed {_words(words)} more than it popped (unmatched sspush)"
    evidence = (
        pop.pushed(),
        f"the function's own return address is {_words(words)} further up, at {own.addr:#x}",
    )
    return Verdict("unmatched push", sentence, evidence)


def smashed(pop: Pop) -> Verdict | None:
    frame, slot = pop.frame, pop.slot
    if slot is None or slot.writer != "sspush" or not _own(pop, slot):
        return None
    elsewhere = pop.own is not None and pop.own.addr != slot.addr
    if elsewhere or pop.further_up or not _is_code(pop, pop.expected):
        return None
    sentence = (
        "the return address in ordinary memory was overwritten after it was saved (a smashed"
        " stack): ra is not the address that the function was called with"
    )
    evidence = [f"the shadow stack still has the right one: {pop.pushed()}"]
    evidence += _of_value(pop)
    evidence += _overwriter(pop, frame.call_seq if frame else slot.seq)
    return Verdict("smashed return address", sentence, tuple(evidence))


def unknown(pop: Pop) -> Verdict:
    evidence = [pop.pushed()] if pop.slot else []
    if match := pop.further_up:
        words = (match.addr - pop.address) // 8
        evidence.append(f"the word that matches is {_words(words)} further up, at {match.addr:#x}")
        sentence = (
            "ssp is too low: words that were pushed were not popped, or a longjmp did not unwind"
            " them"
        )
        return Verdict("ssp too low", sentence, tuple(evidence))
    if pop.slot and not _is_code(pop, pop.expected):
        sentence = (
            f"{pop.expected:#x} was pushed and {pop.found:#x} popped by hand: neither the push nor"
            " the pop belongs to a function"
        )
        return Verdict("pushed by hand", sentence, tuple(evidence))
    evidence += pop.scene.last_motion(pop.fault)
    sentence = "ra and the shadow stack disagree, and the run does not show which of them is wrong"
    return Verdict("unknown", sentence, tuple(evidence))


PATTERNS: Final[tuple[Callable[[Pop], Verdict | None], ...]] = (
    two_tasks,
    left_handler,
    token,
    discarded,
    never_pushed,
    longjmp,
    extra_pop,
    extra_push,
    smashed,
    unknown,
)


def _of_value(pop: Pop) -> Iterator[str]:
    """Describe the register's value."""
    if text := as_text(pop.found):
        yield f"the register has {pop.found:#x}, {text}: not a code address"
    elif not _is_code(pop, pop.found):
        place = pop.scene.place(pop.fault, pop.found)
        where = f"it is {place}" if place else "nothing is mapped there"
        yield f"the register has {pop.found:#x}, which is not a code address: {where}"
    else:
        yield f"the register has {pop.scene.name(pop.fault, pop.found)}, which is code"


def _own(pop: Pop, slot: Word) -> bool:
    """Whether the task that popped wrote a word itself."""
    task = pop.scene.facts.history.task
    return task(slot.tid, slot.seq) is task(pop.fault.tid, pop.fault.seq)


def _is_code(pop: Pop, address: int) -> bool:
    region = pop.scene.symbols.regions.at(pop.fault.mm, address, pop.fault.seq)
    return region is not None and bool(region.prot & PROT_EXEC)


def _overwriter(pop: Pop, since: int) -> Iterator[str]:
    """Who stored the wrong return address, from the recorded instructions or the kernel's writes;
    otherwise how to find out."""
    run, fault = pop.scene.run, pop.fault
    insn = run.scan("insn").filter(
        (pl.col("tid") == fault.tid) & (pl.col("seq") > since) & (pl.col("seq") < fault.seq)
    )
    loads = insn.filter(
        pl.col("rd").is_in([1, 5]) & (pl.col("rd_value") == pop.found) & (pl.col("mem_size") == 8)
    )
    for at, address in loads.select("seq", "mem_addr").tail(1).collect().iter_rows():
        stores = run.scan("insn").filter(
            (pl.col("mm") == fault.mm)
            & (pl.col("seq") < at)
            & pl.col("rd").is_null()
            & (pl.col("mem_addr") <= address)
            & (pl.col("mem_addr") + pl.col("mem_size") > address)
        )
        for seq, tid, pc in stores.select("seq", "tid", "pc").tail(1).collect().iter_rows():
            yield (
                f"task {tid} stored it at {address:#x}, at {show(seq)} in"
                f" {pop.scene.name(fault, pc)}"
            )
            return
    word = pop.found.to_bytes(8, "little")
    for t in pop.scene.facts.transfers.between(since, fault.seq):
        if t.op == "write" and t.mm == fault.mm and word in t.bytes:
            call = run.table("syscalls").filter(seq=t.during or 0)["name"]
            name = call[0] if len(call) else "the kernel"
            at = t.addr + t.bytes.find(word)
            yield f"{name} of task {t.tid} wrote it to {at:#x}, {show(t.seq)}"
            return
    yield (
        "the instructions show which store did it:"
        f" shstk replay {run.name} --trace insn --window {show(since)}..{show(fault.seq)}"
    )


def _chain(names: list[str]) -> str:
    """`a, b, c`; a name repeated in a row becomes `a ×3`."""
    runs: list[tuple[str, int]] = []
    for name in names:
        if runs and runs[-1][0] == name:
            runs[-1] = (name, runs[-1][1] + 1)
        else:
            runs.append((name, 1))
    return ", ".join(name if n == 1 else f"{name} ×{n}" for name, n in runs)


def _words(count: int) -> str:
    return f"{count} word" + ("s" if count != 1 else "")
