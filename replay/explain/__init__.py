"""Explain a fault: the expected value, its writer, what moved ssp, and the likely cause."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from shstk.replay.decode import signal_code, signal_name
from shstk.replay.derive import words
from shstk.replay.derive.frames import Frame
from shstk.replay.dump.scene import Dump
from shstk.replay.explain import dumped, lost, ordinary, pads, pops, states
from shstk.replay.explain.faults import KINDS, Fault, faults, kind
from shstk.replay.explain.model import Call, Death, Explanation, Motion, Some, Value, Verdict, Word
from shstk.replay.explain.scene import Scene
from shstk.replay.uncollected import uncollected
from shstk.schemas.errors import UsageError
from shstk.schemas.seq import STEPS, show
from shstk.schemas.uapi import SEGV_CPERR, SIGNALS

if TYPE_CHECKING:
    from shstk.replay.run import Run

F = TypeVar("F")
T = TypeVar("T")
_SHOWN: Final = 4096  # bytes of shadow stack above ssp that are listed
_FIRST, _LAST = 8, 4  # of each list; the others are counted, the views have them


@uncollected()
def explain(run: Run, seq: int | None = None, *, every: bool = False) -> list[Explanation]:
    """Explanations of a run's faults, in seq order.

    seq: only the fault at that position or instruction (UsageError if there is none).
    Without it, the last fault that ended a task, if one did.
    every: all faults, including those that a handler caught.
    """
    return list(explanations(run, chosen(run, seq, every=every)))


def explanations(run: Run, found: Sequence[Fault], *, brief: bool = False) -> Iterator[Explanation]:
    """One after another, without the lists if `brief`."""
    scene = Scene(run, found)
    return (_explained(scene, fault, brief) for fault in found)


def death(run: Run) -> Death | None:
    """How a fatal signal ended the guest, if one did; else the last death of one of its processes
    by a CFI fault. A shell that ran the program survives it."""
    status = run.manifest.exit_status
    if run.manifest.ending == "killed" and status is not None:
        signo = status & 0x7F
        fatal = [f for f in faults(run) if f.fatal and f.signo == signo]
        return Death(run.name, signo, next(explanations(run, fatal[-1:]), None), ended=True)
    fatal = [f for f in faults(run) if f.fatal and f.code == SEGV_CPERR]
    told = next(explanations(run, fatal[-1:]), None)
    return Death(run.name, SIGNALS["SIGSEGV"], told, ended=False) if told else None


def chosen(run: Run, seq: int | None, *, every: bool = False) -> list[Fault]:
    """The faults to explain; arguments as of `explain`."""
    return _chosen(faults(run), seq, every)


def _chosen(found: list[Fault], seq: int | None, every: bool) -> list[Fault]:
    if seq is not None:
        here = [
            f for f in found if f.icount == seq // STEPS and (seq % STEPS in (0, f.seq % STEPS))
        ]
        if not here:
            near = sorted(found, key=lambda f: abs(f.seq - seq))[:5]
            told = ", ".join(show(f.seq) for f in sorted(near, key=lambda f: f.seq))
            hint = f"the nearest faults are at {told}" if near else "the run has no faults"
            raise UsageError(f"no fault at {show(seq)}", hint)
        return here
    return found if every else [f for f in found if f.fatal][-1:]


def _explained(scene: Scene, fault: Fault, brief: bool) -> Explanation:
    name = kind(fault, scene.symbols.regions)
    if scene.dump:
        return _of_dump(scene, scene.dump, fault, name, brief)
    popped = name == "mismatch"
    verdict = VERDICTS[name](scene, fault)
    word = scene.word(fault) if popped else None
    ssp = scene.ssp(fault)
    return Explanation(
        run=scene.run.name,
        fault=fault,
        kind=name,
        title=KINDS[name][0],
        place=scene.place(fault, fault.pc),
        ssp=ssp,
        expected=_value(scene, fault, fault.expected) if popped else None,
        found=_value(scene, fault, fault.found) if popped else None,
        writer=scene.writer(word) if word else None,
        motions=Some() if brief else _motions(scene, fault, word.seq if word else 0),
        shadow_stack=Some() if brief else _shadow_stack(scene, fault, ssp),
        calls=Some() if brief else _calls(scene, fault),
        verdict=verdict,
    )


def _of_dump(scene: Scene, dump: Dump, fault: Fault, name: str, brief: bool) -> Explanation:
    verdict = dumped.verdict(scene, dump, fault, name) or VERDICTS[name](scene, fault)
    if name in ("landing pad", "fetch"):
        came = dumped.came_from(scene, dump, fault)
        verdict = replace(verdict, evidence=(*verdict.evidence, *came))
    popped = name == "mismatch"
    pc = dump.thread(fault.tid).pc
    return Explanation(
        run=scene.run.name,
        fault=replace(fault, pc=pc),
        kind=name,
        title=dumped.TITLES.get(name, KINDS[name][0]),
        place=scene.place(fault, pc),
        ssp=dump.thread(fault.tid).ssp,
        expected=_value(scene, fault, fault.expected) if popped else None,
        found=_value(scene, fault, fault.found) if popped else None,
        writer=None,
        motions=Some(),
        shadow_stack=Some(),
        calls=Some(),
        verdict=verdict,
        two_stacks=() if brief else tuple(dumped.pairs(scene, dump, fault)),
        others=() if brief else tuple(dumped.others(scene, dump, fault)),
        dumped=True,
    )


def _undelivered(scene: Scene, fault: Fault) -> Verdict:
    evidence = list(_raised(scene, fault.raised_by)) if fault.raised_by else []
    verdict = states.no_frame(scene, fault) or lost.lost(scene, fault)
    evidence += [*states.no_delivery(scene, fault), *verdict.evidence]
    return replace(verdict, evidence=tuple(evidence))


def _raised(scene: Scene, fault: Fault) -> Iterator[str]:
    """The exception whose signal could not be delivered."""
    name = kind(fault, scene.symbols.regions)
    at = f" in {scene.name(fault, fault.pc)}" if fault.pc is not None else ""
    told = f"{signal_name(fault.signo)} ({signal_code(fault.signo, fault.code)})"
    yield (
        f"the signal was {told}, raised at {show(fault.seq)}{at}: {KINDS[name][0]}; its likely"
        f" cause: {VERDICTS[name](scene, fault).sentence}"
    )


# kind → the function that finds its likely cause
VERDICTS: Final[dict[str, Callable[[Scene, Fault], Verdict]]] = {
    "sent": ordinary.access,
    "mismatch": pops.mismatch,
    "landing pad": pads.no_pad,
    "bad sigreturn": states.bad_sigreturn,
    "exec": states.failed_exec,
    "no delivery": _undelivered,
    "off": states.off,
    "no word": lost.lost,
    "ordinary page": lost.lost,
    "misaligned": lost.lost,
    "store": ordinary.store,
    "fetch": ordinary.fetch,
    "illegal": ordinary.illegal,
    "other": ordinary.access,
}
assert VERDICTS.keys() == KINDS.keys()


def _value(scene: Scene, fault: Fault, value: int | None) -> Value | None:
    return None if value is None else Value(value, scene.place(fault, value))


def _motions(scene: Scene, fault: Fault, since: int) -> Some[Motion]:
    def told(row: dict[str, Any]) -> Motion:
        before, after = row["ssp_before"], row["ssp_after"]
        place = scene.place(fault, row["pc"])
        return Motion(row["seq"], row["tid"], row["reason"], before, after, place)

    return _some(scene.motions(fault, since), told)


def _shadow_stack(scene: Scene, fault: Fault, ssp: int | None) -> Some[Word]:
    stack = scene.stack(fault.mm, ssp, fault.seq) if ssp is not None else None
    if ssp is None or stack is None:
        return Some()

    def told(word: words.Word) -> Word:
        return Word(word.addr, word.value, scene.place(fault, word.value), scene.writer(word))

    return _some(scene.words(fault, ssp, min(stack.area.top, ssp + _SHOWN)), told)


def _calls(scene: Scene, fault: Fault) -> Some[Call]:
    def told(f: Frame) -> Call:
        function = scene.symbols.function(f.mm, f.callee) if f.callee is not None else "?"
        return Call(function, f.call_seq, scene.place(fault, f.caller_pc), f.kind)

    return _some(scene.open(fault)[::-1], told)


def _some(found: Sequence[F], tell: Callable[[F], T]) -> Some[T]:
    """The first and last few, as they are told."""
    if len(found) <= _FIRST + _LAST + 1:
        return Some(tuple(map(tell, found)))
    first, last = found[:_FIRST], found[-_LAST:]
    return Some(tuple(map(tell, first)), len(found) - _FIRST - _LAST, tuple(map(tell, last)))
