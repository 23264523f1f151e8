"""Explain a fault: the expected value, its writer, what moved ssp, and the likely cause."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from shstk.replay.decode import signal_code, signal_name
from shstk.replay.explain import lost, ordinary, pads, pops, states
from shstk.replay.explain.faults import KINDS, Fault, faults, kind
from shstk.replay.explain.model import Call, Explanation, Motion, Value, Verdict, Word
from shstk.replay.explain.scene import Scene
from shstk.schemas.errors import UsageError
from shstk.schemas.seq import STEPS, show

if TYPE_CHECKING:
    from shstk.replay.run import Run

_SHOWN: Final = 4096  # bytes of shadow stack above ssp that are listed


def explain(run: Run, seq: int | None = None, *, every: bool = False) -> list[Explanation]:
    """Explanations of a run's faults, in seq order.

    seq: only the fault at that position or instruction (UsageError if there is none).
    Without it, the last fault that ended a task, if one did.
    every: all faults, including those that a handler caught.
    """
    found = _chosen(faults(run), seq, every)
    scene = Scene(run)
    return [_explained(scene, fault) for fault in found]


def end(run: Run) -> Explanation | None:
    """The explanation of the fault that ended the run, if one did."""
    status = run.manifest.exit_status
    if run.manifest.ending != "killed" or status is None:
        return None
    fatal = [f for f in faults(run) if f.fatal and f.signo == status & 0x7F]
    return _explained(Scene(run), fatal[-1]) if fatal else None


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


def _explained(scene: Scene, fault: Fault) -> Explanation:
    name = kind(fault, scene.symbols.regions)
    slot = scene.slot(fault) if name == "mismatch" else None
    ssp = scene.ssp(fault)
    popped = name == "mismatch"
    return Explanation(
        run=scene.run.name,
        fault=fault,
        kind=name,
        title=KINDS[name][0],
        place=scene.place(fault, fault.pc),
        ssp=ssp,
        expected=_value(scene, fault, fault.expected) if popped else None,
        found=_value(scene, fault, fault.found) if popped else None,
        writer=scene.writer(slot) if slot else None,
        motions=_motions(scene, fault, slot.write_seq if slot else 0),
        shadow_stack=_shadow_stack(scene, fault, ssp),
        calls=_calls(scene, fault),
        verdict=VERDICTS[name](scene, fault),
    )


def _undelivered(scene: Scene, fault: Fault) -> Verdict:
    verdict = states.no_frame(scene, fault) or lost.lost(scene, fault)
    raised = fault.raised_by
    evidence = [*states.no_delivery(scene, fault), *verdict.evidence]
    if raised:
        name = kind(raised, scene.symbols.regions)
        at = f" in {scene.name(fault, raised.pc)}" if raised.pc is not None else ""
        told = f"{signal_name(raised.signo)} ({signal_code(raised.signo, raised.code)})"
        evidence.insert(
            0,
            f"the signal was {told}, raised at {show(raised.seq)}{at}: {KINDS[name][0]}; its likely"
            f" cause: {VERDICTS[name](scene, raised).sentence}",
        )
    return replace(verdict, evidence=tuple(evidence))


# kind → the function that finds its likely cause
VERDICTS: Final[dict[str, Callable[[Scene, Fault], Verdict]]] = {
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


def _motions(scene: Scene, fault: Fault, since: int) -> tuple[Motion, ...]:
    rows = scene.motions(fault, since)
    pcs = [scene.pc_of(row["seq"]) for row in rows]
    return tuple(
        Motion(
            row["seq"],
            row["tid"],
            row["reason"],
            row["ssp_before"],
            row["ssp_after"],
            scene.place(fault, pc),
        )
        for row, pc in zip(rows, pcs, strict=True)
    )


def _shadow_stack(scene: Scene, fault: Fault, ssp: int | None) -> tuple[Word, ...]:
    if ssp is None:
        return ()
    stack = scene.stack(fault.mm, ssp, fault.seq)
    top = min(stack.area.top, ssp + _SHOWN) if stack else ssp
    return tuple(
        Word(s.addr, s.value, scene.place(fault, s.value), scene.writer(s))
        for s in scene.slots(fault.mm, ssp, top, fault.seq)
    )


def _calls(scene: Scene, fault: Fault) -> tuple[Call, ...]:
    still = [f for f in scene.frames(fault) if f.ended == "open"]
    return tuple(
        Call(
            scene.symbols.function(f.mm, f.callee) if f.callee is not None else "?",
            f.call_seq,
            scene.place(fault, f.caller_pc),
            f.kind,
        )
        for f in reversed(still)
    )
