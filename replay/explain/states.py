"""Why the shadow stack was off where it was used, and why a signal frame could not be restored."""

from __future__ import annotations

from shstk.replay.derive.rows import Signal
from shstk.replay.explain.faults import Fault
from shstk.replay.explain.model import Verdict
from shstk.replay.explain.scene import Scene
from shstk.replay.rules import named
from shstk.schemas.seq import show
from shstk.schemas.uapi import ERRNO_NAMES, PROT_WRITE


def off(scene: Scene, fault: Fault) -> Verdict:
    """The likely cause of an illegal csr ssp or ssamoswap: why xSSE was 0."""
    history = scene.facts.history
    task = history.task(fault.tid, fault.seq)
    steps = [p for p in history.prctls_of(task) if p.seq < fault.seq]
    sets = [p for p in steps if p.option - scene.facts.law.first_prctl == 1]
    execs = [e for e in history.execs_of(task) if e.seq < fault.seq]
    execs = [e for e in execs if e.succeeded and e.before.enabled]
    last_exec = execs[-1].seq if execs else 0
    refused = next((p for p in reversed(sets) if p.row.ret and p.seq > last_exec), None)
    switched_off = next(
        (p for p in reversed(sets) if p.before.enabled and not p.after.enabled), None
    )
    evidence = []
    if not scene.facts.supported:
        sentence = "this CPU or kernel has no shadow stacks"
        return Verdict("no support", sentence, (f"cpu {scene.run.manifest.cpu}",))
    if refused:
        error = ERRNO_NAMES.get(-(refused.row.ret or 0), str(refused.row.ret))
        evidence.append(
            f"prctl(PR_SET_SHADOW_STACK_STATUS) failed with {error}, {show(refused.seq)}"
        )
    if execs:
        evidence.insert(
            0, f"execve at {show(last_exec)} switched it off (rule {named('exec-resets-state').id})"
        )
        sentence = "execve switches the shadow stack off, and the new program did not switch it on"
        if refused and refused.before.locked_by == "exec":
            sentence = (
                "execve switches the shadow stack off, and the lock that outlived it prevents the"
                " new program from switching it on"
            )
            told = next(iter(scene.violated("exec-clears-lock")), None)
            return Verdict("lock outlives exec", sentence, tuple(evidence), told)
        return Verdict("off after exec", sentence, tuple(evidence))
    if refused:
        sentence = "switching the shadow stack on had failed, and the program ignored the error"
        return Verdict("enabling failed", sentence, tuple(evidence))
    if switched_off:
        pc = scene.pc_of(switched_off.seq)
        evidence.append(
            f"prctl(PR_SET_SHADOW_STACK_STATUS, 0) at {show(switched_off.seq)}"
            + (f" in {scene.name(fault, pc)}" if pc is not None else "")
        )
        sentence = "the task had switched its shadow stack off"
        return Verdict("switched off", sentence, tuple(evidence))
    sentence = "the task never switched its shadow stack on and did not inherit one"
    return Verdict("never on", sentence, tuple(evidence))


def bad_sigreturn(scene: Scene, fault: Fault) -> Verdict:
    """The likely cause of a sigreturn that failed."""
    row = fault.sigreturn or {}
    made = _delivery(scene, fault, row)
    pointer, word = row.get("ss_ptr"), row.get("token_value")
    task = scene.facts.history.task(fault.tid, fault.seq)
    evidence = []
    if made:
        evidence.append(
            f"the signal was delivered at {show(made.seq)} with its token at"
            f" {made.token_addr or 0:#x}"
        )
    if pointer is None:
        if not made:
            return _forged(evidence)
        if made.token_addr and task and not task.state.enabled:
            sentence = (
                "the handler switched the shadow stack off: the frame's shadow-stack pointer is no"
                " longer meaningful"
            )
            return Verdict("switched off in a handler", sentence, tuple(evidence))
        sentence = "the signal frame in memory was damaged: its extensions cannot be read"
        return Verdict("damaged frame", sentence, tuple(evidence))
    if made and made.token_addr != pointer:
        evidence.append(f"the frame now has {pointer:#x}: it was changed in between")
        sentence = (
            "the shadow-stack pointer in the signal frame was tampered with: the word it points"
            " to is not the token that the kernel pushed"
        )
        return Verdict("tampered pointer", sentence, tuple(evidence))
    if word is None:
        evidence.append(f"the frame's pointer is {pointer:#x}")
        sentence = "the frame's shadow-stack pointer does not point to a shadow stack"
        return Verdict("tampered pointer", sentence, tuple(evidence))
    held = scene.words(fault, pointer, pointer + 8)
    evidence += [f"the word found at {pointer:#x} is {word:#x}: {scene.who(w)}" for w in held[-1:]]
    if not made:
        return _forged(evidence)
    sentence = (
        "the token on the shadow stack was used up or overwritten before the handler returned"
    )
    return Verdict("token gone", sentence, tuple(evidence))


def _forged(evidence: list[str]) -> Verdict:
    sentence = "no signal was delivered with this frame: it was forged, or sp is wrong"
    return Verdict("forged frame", sentence, tuple(evidence))


def failed_exec(scene: Scene, fault: Fault) -> Verdict:
    error = ERRNO_NAMES.get(fault.exec_error or 0, str(fault.exec_error))
    sentence = (
        f"execve failed with {error} after it had dropped the old address space, so there was"
        " nothing to return to"
    )
    return Verdict("exec failed", sentence)


def no_frame(scene: Scene, fault: Fault) -> Verdict | None:
    """The verdict if the token would have fit, so that it was the frame that did not."""
    ssp = scene.ssp(fault)
    if scene.facts.history.state(fault.tid, fault.seq).enabled:
        below = scene.facts.regions.at(fault.mm, (ssp or 0) - 8, fault.seq)
        if below is None or not below.shadow_stack or not below.prot & PROT_WRITE:
            return None
    sentence = (
        "the signal frame could not be stored: the stack pointer, or the alternate signal stack,"
        " leaves no writable room for it"
    )
    return Verdict("no room for frame", sentence)


def no_delivery(scene: Scene, fault: Fault) -> list[str]:
    """The evidence for a signal that could not be delivered; `lost` adds why its token did not
    fit."""
    ssp, rule = scene.ssp(fault), named("delivery-pushes-a-token")
    if ssp is None:
        return []
    return [f"the kernel pushes a token below ssp, which was {ssp:#x} (rule {rule.id})"]


def _delivery(scene: Scene, fault: Fault, row: dict[str, int]) -> Signal | None:
    """The delivery that wrote the frame."""
    task = scene.facts.history.task(fault.tid, fault.seq)
    return scene.delivery(fault.tid, row.get("frame"), task.born if task else 0, fault.seq)
