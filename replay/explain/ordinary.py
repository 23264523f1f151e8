"""Faults unrelated to shadow stacks and landing pads, and ordinary stores to a shadow stack."""

from __future__ import annotations

from typing import Final

from shstk.replay.explain.faults import Fault
from shstk.replay.explain.model import Verdict
from shstk.replay.explain.scene import Scene
from shstk.schemas.links import RETURN
from shstk.schemas.seq import show
from shstk.schemas.uapi import PAGE

_AMO: Final = 0x2F  # opcode


def store(scene: Scene, fault: Fault) -> Verdict:
    """An ordinary store, or AMO, to a shadow stack."""
    address = fault.address or 0
    stack = scene.stack(fault.mm, address, fault.seq)
    evidence = [f"{address:#x} lies in {stack.name}"] if stack else []
    for word in scene.words(fault, address & -8, (address & -8) + 8):
        evidence.append(f"the word there is {scene.name(fault, word.value)}: {scene.who(word)}")
    what = "an AMO" if (fault.word or 0) & 0x7F == _AMO else "an ordinary store"
    sentence = (
        f"{what} went to a shadow stack, which only shadow-stack instructions may write:"
        " a wrong or overrun pointer, or an attack on the return addresses"
    )
    return Verdict("store to a shadow stack", sentence, tuple(evidence))


def guarded(scene: Scene, fault: Fault, address: int) -> Verdict | None:
    """An access to a guard region."""
    region = scene.facts.regions.at(fault.mm, address, fault.seq)
    if region is None or not region.guard:
        return None
    sentence = f"{address:#x} is in a guard region: the program had it made by MADV_GUARD_INSTALL"
    return Verdict("guard region", sentence)


def fetch(scene: Scene, fault: Fault) -> Verdict:
    """Execution reached memory that is not executable."""
    target = fault.pc or 0
    region = scene.symbols.regions.at(fault.mm, target, fault.seq)
    what = f"in {region.name or 'ordinary memory'}" if region else "not mapped"
    how, evidence = "a jump", []
    if before := scene.ran_before(fault):
        how = "a return" if before[0] == RETURN else "a call or jump"
        evidence = [f"it came from {scene.name(fault, before[1])}"]
    sentence = f"{how} went to {target:#x}, where there is no code: {what}"
    return Verdict("no code there", sentence, tuple(evidence))


def illegal(scene: Scene, fault: Fault) -> Verdict:
    """An instruction that the CPU does not implement."""
    sentence = f"the word {fault.word or 0:#x} is not an instruction of {scene.run.manifest.cpu}"
    return Verdict("illegal instruction", sentence)


def access(scene: Scene, fault: Fault) -> Verdict:
    """An ordinary load or store, unrelated to shadow stacks."""
    address = fault.address if fault.address is not None else fault.tval
    region = scene.symbols.regions.at(fault.mm, address, fault.seq)
    below, above = scene.symbols.regions.around(fault.mm, address, fault.seq)
    if verdict := guarded(scene, fault, address):
        return verdict
    if address < PAGE:
        return Verdict("null pointer", f"a null pointer was used: the address is {address:#x}")
    if region is not None and region.shadow_stack:
        sentence = (
            f"the shadow stack could not be read: its protection is {region.prot}, set by mprotect"
        )
        return Verdict("unreadable shadow stack", sentence)
    if region is not None:
        what = region.name or "ordinary memory"
        sentence = f"the access is not allowed there: {what}, mapped with prot {region.prot}"
        mapped = () if scene.dump else (f"it was mapped at {show(region.made_seq)}",)
        return Verdict("protected memory", sentence, mapped)
    if above is not None and above.name == "[stack]":
        return Verdict("stack overflow", "the ordinary stack overran its limit")
    near = [f"{r.name or 'memory'} ends at {r.end:#x}, below it" for r in (below,) if r]
    return Verdict("wild pointer", f"nothing is mapped at {address:#x}", tuple(near))
