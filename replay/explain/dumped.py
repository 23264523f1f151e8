"""Why a thread of a dumped process faulted: what one moment shows, without who did what when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

from shstk.replay.decode import size
from shstk.replay.derive.regions import Region
from shstk.replay.dump.compare import Line
from shstk.replay.dump.scene import Dump, Thread
from shstk.replay.dump.unwind import SIGRETURN
from shstk.replay.explain.faults import Fault
from shstk.replay.explain.model import Other, Pair, Verdict, as_text
from shstk.replay.explain.scene import Scene
from shstk.replay.rules import named
from shstk.replay.symbols import Place
from shstk.schemas.causes import SHADOW_STACK_FAULT, SOFTWARE_CHECK
from shstk.schemas.uapi import PROT_WRITE

_BELOW: Final = 8  # words below ssp that may have been popped last
_UP: Final = 32768  # words above ssp in which the one that would match is looked for
_NAMED: Final = 6  # functions that a sentence names


@dataclass(frozen=True)
class Moment:
    """The faulting thread, as it stood."""

    scene: Scene
    dump: Dump
    fault: Fault

    @cached_property
    def thread(self) -> Thread:
        return self.dump.thread(self.fault.tid)

    @cached_property
    def stack(self) -> Region | None:
        """The shadow stack that ssp is on."""
        return self.dump.stack_of(self.thread)

    @cached_property
    def lines(self) -> list[Line]:
        return self.dump.two_stacks(self.thread, instruction_of(self.fault))

    @cached_property
    def sharers(self) -> list[Thread]:
        return self.dump.sharers(self.thread)

    @property
    def ssp(self) -> int:
        return self.thread.ssp or 0

    @property
    def expected(self) -> int:
        return self.fault.expected or 0

    @property
    def found(self) -> int:
        return self.fault.found or 0

    def name(self, address: int) -> str:
        return self.scene.name(self.fault, address)

    def function(self, address: int) -> str:
        return self.scene.symbols.function(self.fault.mm, address)

    def functions(self, values: list[int]) -> str:
        """`f ×3, g and 2 more`, innermost first."""
        runs: list[tuple[str, int]] = []
        for name in map(self.function, values):
            if runs and runs[-1][0] == name:
                runs[-1] = name, runs[-1][1] + 1
            else:
                runs.append((name, 1))
        told = [name if n == 1 else f"{name} ×{n}" for name, n in runs[:_NAMED]]
        more = f" and {len(runs) - _NAMED} more" if runs[_NAMED:] else ""
        return ", ".join(told) + more

    def matches(self) -> int | None:
        """How many words above ssp the one is that would have matched."""
        top = min(self.stack.end if self.stack else self.ssp, self.ssp + 8 * _UP)
        found = (
            at for at in range(self.ssp + 8, top, 8) if self.dump.memory.word(at) == self.found
        )
        at = next(found, None)
        return None if at is None else (at - self.ssp) // 8


def verdict(scene: Scene, dump: Dump, fault: Fault, kind: str) -> Verdict | None:
    """The likely cause; None: what explains any run explains this one too."""
    patterns = PATTERNS.get(kind, ())
    moment = Moment(scene, dump, fault)
    found = (pattern(moment) for pattern in patterns)
    return next((verdict for verdict in found if verdict), None)


def pairs(scene: Scene, dump: Dump, fault: Fault) -> Iterator[Pair]:
    """The thread's two call stacks, line by line."""
    register = "t0" if fault.word in (0xCDC2C073, 0x6281) else "ra"
    for line in Moment(scene, dump, fault).lines:
        slot = None
        if line.entry is not None:
            slot = register if line.entry.slot is None else hex(line.entry.slot)
        how = line.entry.how if line.entry else None
        place = _site(scene, dump, fault, line)
        yield Pair(line.kind, line.value, place, line.shadow, slot, how)


def instruction_of(fault: Fault) -> str | None:
    """The faulting instruction; where its word is not known, its exception may tell."""
    if fault.cause == SOFTWARE_CHECK:
        return "sspopchk" if fault.tval == SHADOW_STACK_FAULT else "lpad"
    return fault.instruction


def _site(scene: Scene, dump: Dump, fault: Fault, line: Line) -> Place | None:
    """A return address by the call before it, which may be the last instruction of its function;
    what no call returns to by itself."""
    if line.kind == "token":
        return None
    if line.kind == "interrupted" or dump.memory.read(line.value, len(SIGRETURN)) == SIGRETURN:
        return scene.place(fault, line.value)
    return _after_call(scene, fault, line.value)


def _after_call(scene: Scene, fault: Fault, address: int) -> Place | None:
    place = scene.place(fault, address - 1) if address else None
    return replace(place, offset=place.offset + 1) if place else None


def others(scene: Scene, dump: Dump, fault: Fault) -> Iterator[Other]:
    moment = Moment(scene, dump, fault)
    for thread in dump.threads:
        if thread is not moment.thread:
            lines = dump.two_stacks(thread) if thread.ssp is not None else []
            shares = thread in moment.sharers
            agrees = not any(line.differs for line in lines) if lines else None
            place = scene.place(fault, thread.pc)
            yield Other(thread.tid, place, thread.pc, thread.ssp, shares, agrees)


# A pop that found another word.


def no_words(m: Moment) -> Verdict | None:
    if m.thread.ssp is None or m.fault.expected is not None:
        return None
    return Verdict("not in the dump", "the dump does not have the word at ssp: it is cut off there")


def two_threads(m: Moment) -> Verdict | None:
    if not m.sharers:
        return None
    tids = ", ".join(str(t.tid) for t in m.sharers)
    threads = f"threads {tids} have" if len(m.sharers) > 1 else f"thread {tids} has"
    sentence = (
        f"two tasks push on one shadow stack: {threads} ssp on it too, so each overwrites the"
        " return addresses of the other"
    )
    evidence = [f"the shadow stack is {_area(m.stack)}"]
    for thread in m.sharers:
        calls = [e.value for line in m.dump.two_stacks(thread) if (e := line.entry)]
        if m.expected in calls:
            evidence.append(
                f"{m.name(m.expected)}, which stands at ssp, is a return address of thread"
                f" {thread.tid}: it is on its ordinary stack"
            )
    evidence.append(
        "a kernel that gives a new thread no stack of its own does this (rule"
        f" {named('thread-gets-own-stack').id}: record the program to have it judged), and so does"
        " a program that sets ssp itself"
    )
    return Verdict("two tasks on one stack", sentence, tuple(evidence))


def left_behind(m: Moment) -> Verdict | None:
    """The word that matches is further up: what is below it was left there."""
    count = m.matches()
    if count is None:
        return None
    held = [(at, word) for at, word in m.dump.words(m.thread)[:count]]
    tokens = [at for at, word in held if word == at + 8]
    values = [word for at, word in held if word != at + 8]
    on_ordinary = {line.value for line in m.lines if line.entry}
    evidence = [f"the word that matches is {_count(count)} further up, at {m.ssp + 8 * count:#x}"]
    if len(values) > 1 and not on_ordinary & {*values}:
        evidence.append(
            f"the {len(values)} return addresses below it, into {m.functions(values)}, are not on"
            " the ordinary stack any more"
        )
    elif len(values) == 1 and values[0] not in on_ordinary:
        evidence.append(f"{m.name(values[0])} below it is not on the ordinary stack any more")
    if tokens:
        evidence += [f"a signal's token is among them, at {at:#x}" for at in tokens[:_NAMED]]
        sentence = (
            "a signal handler was left by a longjmp, without rt_sigreturn and without unwinding"
            " ssp: its words are still on the shadow stack"
        )
        return Verdict("left a handler", sentence, tuple(evidence))
    if count == 1 and not m.dump.memory.is_code(m.expected):
        sentence = (
            f"{m.expected:#x}, which is no code address, was pushed on top of the return address"
            " and not popped (unmatched sspush)"
        )
        return Verdict("unmatched push", sentence, tuple(evidence))
    sentence = (
        "ssp is too low: functions were left without popping their return addresses, as by a"
        " longjmp that does not unwind ssp, or something pushed more than it popped"
    )
    return Verdict("ssp too low", sentence, tuple(evidence))


def token(m: Moment) -> Verdict | None:
    if m.expected != m.ssp + 8:
        return None
    sentence = (
        "a token is where a return address should be: a switch between shadow stacks left it on the"
        " stack or ended one word too low, or a signal handler was left without rt_sigreturn"
    )
    evidence = f"the word at ssp is {m.expected:#x}, the address above it, as tokens are"
    return Verdict("popped a token", sentence, (evidence,))


def popped_twice(m: Moment) -> Verdict | None:
    for n in range(1, _BELOW + 1):
        if m.found and m.dump.memory.word(m.ssp - 8 * n) == m.found:
            sentence = (
                "the function popped more than it pushed (unmatched sspopchk): this pop found its"
                " caller's return address"
            )
            evidence = (
                f"its own, {m.name(m.found)}, is {_count(n)} below ssp, at {m.ssp - 8 * n:#x}: it"
                " was popped before",
            )
            return Verdict("unmatched pop", sentence, evidence)
    return None


def zero(m: Moment) -> Verdict | None:
    if m.expected or m.fault.expected is None:
        return None
    sentence = (
        "nothing stands at ssp: the function was entered before the shadow stack was switched on,"
        " or more was popped than pushed, or the words were zeroed (madvise)"
    )
    evidence = [f"ssp is {size((m.stack.end - m.ssp) if m.stack else 0)} below the stack's top"]
    return Verdict("never pushed", sentence, tuple(evidence if m.stack else ()))


def smashed(m: Moment) -> Verdict | None:
    memory = m.dump.memory
    if memory.is_code(m.found) or not memory.is_code(m.expected):
        return None
    sentence = (
        "the return address in ordinary memory was overwritten after it was saved (a smashed"
        " stack): the register has no code address"
    )
    evidence = [f"the shadow stack still has the right one: {m.name(m.expected)}"]
    evidence += _bytes(m.found)
    evidence += _saved(m)
    evidence += _agreeing(m)
    return Verdict("smashed return address", sentence, tuple(evidence))


def elsewhere(m: Moment) -> Verdict | None:
    """The word that would match stands on another shadow stack."""
    for address, stack in m.dump.holding(m.found):
        if stack is m.stack:
            continue
        sentence = (
            "the thread runs on another shadow stack than the one its calls were pushed on: sp was"
            " switched and ssp was not, or the other way round"
        )
        evidence = (
            f"{m.name(m.found)} stands at {address:#x}, on the shadow stack {_area(stack)}",
            f"ssp is on {_area(m.stack)}",
        )
        return Verdict("wrong shadow stack", sentence, evidence)
    return None


def unknown(m: Moment) -> Verdict:
    evidence = _agreeing(m)
    if m.dump.memory.is_code(m.found):
        evidence = [f"the register has {m.name(m.found)}, which is code", *evidence]
        sentence = (
            "the return address was changed in ordinary memory after it was saved, to another code"
            " address (an attack, or code that patches it), or ssp was moved"
        )
        return Verdict("other return address", sentence, tuple(evidence))
    sentence = (
        "the register and the shadow stack disagree, and the dump does not show which is wrong"
    )
    return Verdict("unknown", sentence, tuple(evidence))


def _saved(m: Moment) -> Iterator[str]:
    """Where the wrong value was loaded from: the epilogue has just freed the frame below sp."""
    sp, memory = m.thread.x[2], m.dump.memory
    places = [at for at in range(sp - 8, sp - 520, -8) if memory.word(at) == m.found]
    if not places:
        return
    low = high = places[0]
    while memory.word(low - 8) == m.found:
        low -= 8
    while memory.word(high + 8) == m.found:
        high += 8
    if low < high:
        yield (
            f"the frame that was just left has it {(high - low) // 8 + 1} times in a row, from"
            f" {low:#x} to {high:#x}: a buffer below the saved return address was overrun"
        )
    else:
        yield f"it was saved at {places[0]:#x}, in the frame that was just left"


def _agreeing(m: Moment) -> list[str]:
    """Whether the callers' return addresses are right on both."""
    rest = [line for line in m.lines if line.kind in ("same", "shadow", "ordinary")][2:]
    same = sum(line.kind == "same" for line in rest)
    if same and not any(line.differs for line in rest):
        return [
            f"all {same} above it are the same on both stacks"
            if same > 1
            else "the one above it is the same on both stacks"
        ]
    if rest and not same:
        return ["none of the words above it is on both stacks"]
    return []


def _bytes(value: int) -> Iterator[str]:
    if text := as_text(value):
        yield f"the register has {value:#x}, {text}"


# A shadow-stack access that found no word.


def full(m: Moment) -> Verdict | None:
    stack = m.stack
    if m.thread.ssp is None or stack is None or m.ssp != stack.start:
        return None
    values = [word for _, word in m.dump.words(m.thread)]
    names = Counter(map(m.function, values))
    sentence = (
        f"the shadow stack is full: {stack.length // 8} return addresses fit into its"
        f" {size(stack.length)}, and ssp is at its base"
    )
    evidence = [f"the shadow stack is {_area(stack)}"]
    if names:
        name, count = names.most_common(1)[0]
        evidence.append(f"{count} of the {len(values)} words on it return into {name}")
        if count > len(values) // 2:
            sentence += f": {name} recurses too deeply"
    return Verdict("overflow", sentence, tuple(evidence))


def empty(m: Moment) -> Verdict | None:
    if m.thread.ssp is None or m.stack is None or m.ssp != m.stack.end:
        return None
    sentence = "the task popped more than it pushed: the shadow stack is empty"
    return Verdict("underflow", sentence, (f"ssp is at the top of {_area(m.stack)}",))


def unwritable(m: Moment) -> Verdict | None:
    stack = m.stack
    if stack is None or stack.prot & PROT_WRITE:
        return None
    what = "read-only" if stack.prot else "inaccessible"
    return Verdict(f"made {what}", f"mprotect made the shadow stack {what}: {_area(stack)}")


def gone(m: Moment) -> Verdict | None:
    if m.thread.ssp is None or m.stack is not None:
        return None
    region = m.dump.memory.region(m.ssp) or m.dump.memory.region(m.ssp - 8)
    if region is not None:
        what = region.name or "ordinary memory"
        sentence = (
            f"ssp is outside any shadow stack: in {what}, {region.area}; a csr write moved it"
            " there, or other memory was mapped over the shadow stack"
        )
        return Verdict("ssp astray", sentence)
    near = m.scene.symbols.regions.around(m.fault.mm, m.ssp, m.fault.seq)
    evidence = [
        f"the nearest memory {side} it is {r.name or 'anonymous'} {r.area}"
        for side, r in zip(("below", "above"), near, strict=True)
        if r
    ]
    sentence = (
        "nothing is mapped at ssp: the shadow stack in use was unmapped, as by another task that"
        f" took it for its own (rule {named('only-the-owner-frees').id}), or a csr write moved ssp"
    )
    return Verdict("stack was freed", sentence, tuple(evidence))


def undelivered(m: Moment) -> Verdict:
    """SIGSEGV of SI_KERNEL: the kernel could not write a signal frame or token, or not restore one.

    rt_sigreturn restores the registers before it looks for the token: pc is where the signal came.
    """
    if m.thread.ssp is not None and m.dump.memory.word(m.ssp) == m.ssp + 8:
        sentence = (
            "rt_sigreturn refused a signal frame whose shadow-stack pointer is not where the"
            " signal's token is: the frame was changed, or it is another one"
        )
        return Verdict("bad sigreturn", sentence, (f"a token is at ssp, {m.ssp:#x}",))
    for pattern in (full, unwritable, gone):
        if found := pattern(m):
            return found
    sentence = (
        "either the ordinary or the alternate signal stack has no writable room for the frame of a"
        " signal, or rt_sigreturn found a damaged frame or no token"
    )
    return Verdict("no frame", sentence, (f"sp is {m.name(m.thread.x[2])}",))


def sent(m: Moment) -> Verdict:
    rows = m.scene.run.table("signals").filter(seq=m.fault.seq).iter_rows(named=True)
    sender = next((row["sender"] for row in rows), None)
    if m.fault.code is not None and m.fault.code > 0:
        sentence = "the kernel raised it, and the dump does not tell by which exception"
        return Verdict("not in the dump", sentence)
    own = {t.tid for t in m.dump.threads} | {m.scene.run.manifest.first_tid}
    who = (
        "the program sent it to itself, as abort does" if sender in own else f"pid {sender} sent it"
    )
    return Verdict("sent", "nobody is known to have sent it" if sender is None else who)


def handler_without_pad(m: Moment) -> Verdict | None:
    if not _in_handler(m.dump, m.thread):
        return None
    sentence = (
        "the signal handler does not begin with lpad, and was entered while a landing pad was"
        " still expected from the code that it interrupted"
    )
    evidence = (
        "ra leads to rt_sigreturn: it was entered as a signal handler",
        "the signal frame does not save ELP: a handler entered after a landing-pad fault, or"
        " between a jump and its lpad, is entered with a landing pad expected"
        f" (rule {named('frame-holds-no-landing-pad').id})",
    )
    return Verdict("handler without lpad", sentence, evidence)


def _in_handler(dump: Dump, thread: Thread) -> bool:
    return dump.memory.read(thread.x[1], len(SIGRETURN)) == SIGRETURN


def came_from(scene: Scene, dump: Dump, fault: Fault) -> Iterator[str]:
    """Where a jump came from, as far as ra tells."""
    ra = dump.thread(fault.tid).x[1]
    if dump.memory.is_return(ra) and not _in_handler(dump, dump.thread(fault.tid)):
        yield f"ra is {_after_call(scene, fault, ra)}: if it was a call, it came from just before"


def _area(region: Region | None) -> str:
    if region is None:
        return "none"
    return f"{region.start:#x}..{region.end:#x} ({size(region.length)})"


def _count(words: int) -> str:
    return f"{words} word" + ("s" if words != 1 else "")


PATTERNS: Final[dict[str, tuple[Callable[[Moment], Verdict | None], ...]]] = {
    "mismatch": (
        no_words,
        two_threads,
        left_behind,
        token,
        popped_twice,
        zero,
        smashed,
        elsewhere,
        unknown,
    ),
    "landing pad": (handler_without_pad,),
    "no word": (full, empty, unwritable, gone),
    "ordinary page": (empty, gone),
    "no delivery": (undelivered,),
    "sent": (sent,),
}
# Where a dump shows less than a run.
TITLES: Final = {
    "no delivery": "the kernel could not write or restore a signal frame or its token",
}
