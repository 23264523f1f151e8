"""`check --rules`: judges a run by another architecture's semantics, rule by rule.

The rules are the same; their law is a row of ARCHITECTURES in derive/law.py. Rules about the
record, or about instructions and calls that only riscv has, have no counterpart.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from shstk.replay.derive.law import law_elsewhere
from shstk.replay.facts import Facts
from shstk.replay.rules import RULES
from shstk.replay.rules.outcome import Rule
from shstk.schemas import seq as positions

if TYPE_CHECKING:
    from shstk.replay.run import Run

# Families of rules, and single rules, that do not carry over to another architecture.
_NOWHERE: Final = {
    "Z": "instructions of the riscv manual",
    "F": "exceptions of the riscv manual",
    "T": "a register set of riscv",
    "H": "only riscv has hwprobe",
    "N": "an ELF note of riscv",
    "G": "frames and tokens have each architecture's own layout",
    "R": "the rule checks the record, not a kernel",
    "M": "map_shadow_stack has each architecture's own arguments and token",
    "landing-pad-prctl": "landing pads of riscv",
    "exec-clears-lock": "the lock's bits are each architecture's own",
}
# In addition, by architecture; "": the rule applies there after all.
_NOT_ON: Final = {
    "x86": {"P": "enabled by arch_prctl, not by prctl", "set-refuses-when-locked": ""},
}


@dataclass(frozen=True)
class Elsewhere:
    """The outcome of one rule. verdict: agrees, differs, not evaluated, or no counterpart.

    count: the instances that agree, or that differ. seq, tid: the first that differs; would: what
    the other architecture would have done there; did: what happened. why: the reason for either of
    the last two verdicts.
    """

    rule: str
    slug: str
    verdict: str
    count: int = 0
    seq: int | None = None
    tid: int | None = None
    would: str = ""
    did: str = ""
    why: str = ""


def elsewhere(run: Run, architecture: str) -> list[Elsewhere]:
    """The outcome of every rule, in the catalogue's order. KeyError for an unknown architecture."""
    facts = Facts(run, run.row, "intent")
    facts.law = law_elsewhere(architecture, run.row, run.manifest.abi)
    return [_held(facts, rule, architecture) for rule in RULES.values()]


def _held(facts: Facts, rule: Rule, architecture: str) -> Elsewhere:
    why = _without_counterpart(rule, architecture)
    if why:
        return Elsewhere(rule.id, rule.slug, "no counterpart", why=why)
    result = rule.check(facts)
    if result.findings:
        first = result.findings[0]
        return Elsewhere(
            rule.id,
            rule.slug,
            "differs",
            count=len(result.findings),
            seq=first.seq,
            tid=first.tid,
            would=first.expected,
            did=first.actual,
        )
    if result.not_evaluated:
        return Elsewhere(rule.id, rule.slug, "not evaluated", why=result.not_evaluated)
    return Elsewhere(rule.id, rule.slug, "agrees", count=result.checked)


def _without_counterpart(rule: Rule, architecture: str) -> str:
    """Why a rule has no counterpart; empty if it has one."""
    why = _NOWHERE | _NOT_ON.get(architecture, {})
    return why.get(rule.slug, why.get(rule.family, ""))


def render(name: str, architecture: str, found: Sequence[Elsewhere], format: str) -> str:
    """The outcomes as text or JSON."""
    if format == "json":
        rows = [
            asdict(e) | {"seq": None if e.seq is None else positions.show(e.seq)} for e in found
        ]
        shown = {"run": name, "rules": architecture, "elsewhere": rows}
        return json.dumps(shown, indent=1, ensure_ascii=False) + "\n"
    return "\n".join(_text(name, architecture, found)) + "\n"


def _text(name: str, architecture: str, found: Sequence[Elsewhere]) -> Iterator[str]:
    by: dict[str, list[Elsewhere]] = {}
    for e in found:
        by.setdefault(e.verdict, []).append(e)
    yield f"{name}: compared with what {architecture} would have done"
    for e in by.get("differs", ()):
        times = f"{e.count} time" + ("s" if e.count > 1 else "")
        yield ""
        yield f"{e.rule} {e.slug}: differs {times}, first at {positions.show(e.seq)} task {e.tid}"
        yield f"    {architecture:<9} {e.would}"
        yield f"    {'here':<9} {e.did}"
    yield ""
    for verdict in ("agrees", "not evaluated", "no counterpart"):
        rules = [f"{e.rule} ({e.count})" if e.count else e.rule for e in by.get(verdict, ())]
        if rules:
            yield f"{verdict}: {', '.join(rules)}"
    counts = ", ".join(f"{len(rules)} {verdict}" for verdict, rules in sorted(by.items()))
    yield counts
