"""Why an indirect jump did not land on a landing pad."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from shstk.replay.derive.instructions import NO_PAD
from shstk.replay.explain.faults import Fault
from shstk.replay.explain.model import Verdict
from shstk.replay.explain.scene import Scene
from shstk.replay.rules import named
from shstk.schemas.seq import STEPS, show

_LPAD: Final = 0x17  # auipc x0


def no_pad(scene: Scene, fault: Fault) -> Verdict:
    """The likely cause of a landing-pad fault."""
    found = (pattern(scene, fault) for pattern in PATTERNS)
    return next(verdict for verdict in found if verdict)


def handler_without_pad(scene: Scene, fault: Fault) -> Verdict | None:
    came = scene.facts.signals.of(fault.tid, (fault.icount - 1) * STEPS - 1, fault.seq - 1)
    entered = [signal for signal in came if signal.handler == fault.pc]
    if not entered:
        return None
    seq, signo = entered[-1].seq, entered[-1].signo
    sentence = (
        "the signal handler does not begin with lpad, and was entered while a landing pad was"
        " still expected from the code that it interrupted"
    )
    evidence = (
        f"the handler of signal {signo} was entered at {show(seq)}",
        "the signal frame does not save ELP: a handler entered after a landing-pad fault, or"
        " between a jump and its lpad, is entered with a landing pad expected"
        f" (rule {named('frame-holds-no-landing-pad').id})",
    )
    return Verdict("handler without lpad", sentence, evidence)


def misaligned(scene: Scene, fault: Fault) -> Verdict | None:
    if (fault.word or 0) & 0xFFF != _LPAD or (fault.pc or 0) % 4 == 0:
        return None
    sentence = "the lpad there is not valid: it is not aligned to 4 bytes"
    return Verdict("misaligned lpad", sentence, tuple(_jump(scene, fault)))


def label(scene: Scene, fault: Fault) -> Verdict | None:
    if fault.found is None or fault.found == NO_PAD:
        return None
    sentence = (
        f"the target's landing pad has label {fault.found:#x}, but the jump expects"
        f" {fault.expected or 0:#x}: caller and callee disagree on the function's type"
    )
    return Verdict("wrong label", sentence, tuple(_jump(scene, fault)))


def middle(scene: Scene, fault: Fault) -> Verdict | None:
    place = scene.place(fault, fault.pc)
    if place is None or place.symbol is None or not place.offset:
        return None
    sentence = (
        f"the jump goes into the middle of {place.symbol}, {place.offset} bytes past its"
        " start: the pointer is wrong, or was tampered with"
    )
    return Verdict("jump into the middle", sentence, tuple(_jump(scene, fault)))


def built_without(scene: Scene, fault: Fault) -> Verdict:
    place = scene.place(fault, fault.pc)
    what = place.symbol if place and place.symbol else "the code there"
    sentence = f"{what} does not begin with lpad: it was built without landing pads"
    if place is None or place.symbol is None:
        sentence += ", or the jump goes into the middle of a function"
    return Verdict("no lpad", sentence, tuple(_jump(scene, fault)))


PATTERNS: Final[tuple[Callable[[Scene, Fault], Verdict | None], ...]] = (
    handler_without_pad,
    misaligned,
    label,
    middle,
    built_without,
)


def _jump(scene: Scene, fault: Fault) -> list[str]:
    """The source of the jump: the last block that the task ran."""
    before = scene.ran_before(fault)
    return [f"the jump came from {scene.name(fault, before[1])}"] if before else []
