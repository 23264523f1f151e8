"""Differences in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from shstk.replay.diff.compare import Difference, Event, Side
from shstk.replay.diff.events import EXIT, FIELDS, RELEASED, STARTS
from shstk.replay.diff.names import OWN

_WIDTH: Final = 72  # of a value in a line of words
_ON_LOCK: Final = {
    "-EINVAL": "is refused (exec kept the lock)",
    "0": "works (exec cleared the lock)",
}
_FRAMES: Final = {
    "ucontext+960": "in an extension header, ucontext+960",
    "ucontext+432": "in a field before the floating-point registers, ucontext+432",
}


@dataclass(frozen=True)
class Change:
    """One field of one event: its values in A and in B; empty for none."""

    name: str
    values: tuple[str, str]
    events: tuple[Event, Event]
    seqs: tuple[int, int]
    sides: tuple[Side, Side]

    def only(self) -> tuple[str, str, str]:
        """(the value, the run that has it, the run that does not)."""
        a, b = self.values
        return (a, "A", "B") if a else (b, "B", "A")

    @property
    def one_sided(self) -> bool:
        return not all(self.values)


def where(difference: Difference, a: Side, b: Side) -> str:
    """`clone #3 of main`, `the exit of main/clone#1`, `prctl of main`."""
    side, event = (a, difference.a[0]) if difference.a else (b, difference.b[0])
    seq, what = event.seq, event.what
    task = what.task or difference.task
    if seq in side.cast.number:
        return f"clone #{side.cast.number[seq]} of {task}"
    if not difference.changed and what.name == STARTS:
        return f"task {task}"
    if what.name in (STARTS, EXIT):
        return f"the {'start' if what.name == STARTS else 'exit'} of {task}"
    return f"{what.name}{f'({what.about})' if what.about else ''} of {task}"


def lines(difference: Difference, a: Side, b: Side) -> list[str]:
    """One line for each difference, those about shadow stacks first."""
    if not difference.changed:
        return [_only(difference)]
    events = difference.a[0], difference.b[0]
    names = {name for name, *_ in difference.fields}
    about_stacks, others = [], []
    for name, x, y in difference.fields:
        if "output.bytes" in names and name.startswith("syscalls."):
            continue  # the count follows from the bytes written
        change = Change(name, (x, y), events, (events[0].seq, events[1].seq), (a, b))
        words = _WORDS.get(name)
        text = words(change) if words else None
        if text:
            about_stacks.append(text)
        else:
            others.append(_plain(change))
    return about_stacks + others


def _only(difference: Difference) -> str:
    events, count = (
        (difference.a, difference.a_count) if difference.a else (difference.b, difference.b_count)
    )
    run = "A" if difference.a else "B"
    if not events:
        return "nothing was recorded for it"
    last = events[-1].what
    if count == len(events) and ("syscalls.outcome", "run ended") in last.fields:
        return f"in {run} it never returns from {last.name}: no task can run any more"
    if count == 1 or events[0].what.table == "faults":
        return f"only in {run}: {events[0].what.brief}"
    names = Counter(event.what.name for event in events)
    told = ", ".join(f"{name} x {n}" if n > 1 else name for name, n in names.items())
    more = ", …" if count > len(events) else ""
    return f"only in {run}: {count} events: {told}{more}"


def _plain(change: Change) -> str:
    label = FIELDS[change.name]
    if change.one_sided:
        value, has, has_not = change.only()
        return f"{label} {_clipped(value, '')} in {has}, none in {has_not}"
    a, b = change.values
    return f"{label}: {_clipped(a, b)} in A, {_clipped(b, a)} in B"


def _clipped(value: str, other: str) -> str:
    """A long text, cut to the part around its first difference from another."""
    if len(value) <= _WIDTH:
        return value
    same = next((i for i, (x, y) in enumerate(zip(value, other, strict=False)) if x != y), 0)
    start = max(0, min(same - _WIDTH // 2, len(value) - _WIDTH))
    end = start + _WIDTH
    return f"{'…' if start else ''}{value[start:end]}{'…' if end < len(value) else ''}"


def _made(change: Change) -> str:
    if change.one_sided:
        size, has, has_not = change.only()
        if size.startswith("refused"):
            return f"shadow stack {size} in {has}, none requested in {has_not}"
        return f"shadow stack allocated in {has} ({size}), not in {has_not}"
    a, b = (v if v.startswith("refused") else f"of {v}" for v in change.values)
    return f"shadow stack {a} in A, {b} in B"


def _gone(change: Change) -> str:
    cloned = change.events[0].what.table == "clones"
    a, b = (v.replace(OWN, "the caller's own") if cloned else v for v in change.values)
    if a and b:
        return f"shadow stack unmapped: {a} in A, {b} in B"
    has, has_not = ("A", "B") if a else ("B", "A")
    return f"{a or b} shadow stack unmapped in {has}, not in {has_not}"


def _released(change: Change) -> str:
    told = [
        f"{value}{_order(side, seq) if value == RELEASED else ''}" or "it has none"
        for value, side, seq in zip(change.values, change.sides, change.seqs, strict=True)
    ]
    step = "exit" if change.events[0].what.name == EXIT else "exec"
    return f"its shadow stack at {step}: {told[0]} in A, {told[1]} in B"


def _order(side: Side, seq: int) -> str:
    """Whether an exit released the stack before it cleared the word that a joiner waits for."""
    cleared = (x.cleared for x in side.facts.history.exits if x.event.seq == seq)
    return " before clear_child_tid" if any(cleared) else ""


def _first_ssp(change: Change) -> str:
    a, b = (v if v != "none" else "no ssp" for v in change.values)
    return f"starts at {a} in A, at {b} in B"


def _result(change: Change) -> str | None:
    what = change.events[0].what
    a, b = change.values
    if what.name == "map_shadow_stack":
        return f"map_shadow_stack returns {a} in A, {b} in B"
    if what.name == "prctl" and what.about.startswith("PR_SET_SHADOW_STACK"):
        locked = [_locked_over_exec(s, q) for s, q in zip(change.sides, change.seqs, strict=True)]
        if any(locked):
            told = [_ON_LOCK.get(value, f"gives {value}") for value in (a, b)]
            return f"{what.about} {told[0]} in A, {told[1]} in B"
    return None


def _locked_over_exec(side: Side, seq: int) -> bool:
    found = (p for p in side.facts.history.prctls if p.seq == seq)
    return any(p.before.locked_by == "exec" for p in found)


def _frame(change: Change) -> str | None:
    if change.one_sided:
        return None
    a, b = (_FRAMES.get(v, v) for v in change.values)
    return f"the signal frame keeps ss_ptr {a} in A, {b} in B"


_WORDS: Final[dict[str, Callable[[Change], str | None]]] = {
    "shadow_stacks.made": _made,
    "shadow_stacks.gone": _gone,
    "shadow_stacks.released": _released,
    "task_events.ssp": _first_ssp,
    "syscalls.ret": _result,
    "signals.frame": _frame,
}
