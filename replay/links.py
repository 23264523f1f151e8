"""Which findings follow from which: a row for each pair of rules.

A finding follows from an earlier one if a row names their two rules and both are about the same
thing. What no row names is a cause of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from shstk.replay.facts import Facts
    from shstk.replay.rules.outcome import Finding

Key: TypeAlias = Callable[["Facts", "Finding"], Hashable | None]


@dataclass(frozen=True)
class Link:
    """consequence follows from root (rules' slugs) where `same` (of SAME) is the same."""

    root: str
    consequence: str
    same: str
    why: str


# Each row is shown by a listing in tests/replay/test_causes.py.
LINKS: Final = (
    Link(
        "thread-gets-own-stack",
        "thread-starts-at-its-top",
        "task",
        "a thread for which nothing was mapped keeps its parent's ssp",
    ),
    Link(
        "thread-gets-own-stack",
        "one-pusher-a-stack",
        "task on a stack",
        "a thread without a stack of its own pushes on the one that its ssp is on",
    ),
    Link(
        "thread-gets-own-stack",
        "only-the-owner-frees",
        "task on a stack",
        "a thread that got no stack has its parent's base recorded, and releases that",
    ),
    Link(
        "thread-starts-at-its-top",
        "one-pusher-a-stack",
        "task on a stack",
        "a thread pushes on the stack that its first ssp is on",
    ),
    Link(
        "elf-note-enables-nothing",
        "only-three-calls-make-one",
        "event",
        "the stack that exec mapped is one that none of the three calls made",
    ),
    Link(
        "elf-note-enables-nothing",
        "disabled-task-releases-nothing",
        "task and address",
        "a task that exec enabled releases the stack that exec mapped",
    ),
    Link(
        "delivery-pushes-a-token",
        "ssp-moves-by-rule",
        "event",
        "the delivery left ssp where no delivery leaves it",
    ),
    Link(
        "sigreturn-restores-or-kills",
        "ssp-moves-by-rule",
        "event",
        "the sigreturn left ssp where no sigreturn leaves it",
    ),
    Link(
        "push-stores-below-ssp",
        "ssp-moves-by-rule",
        "event",
        "the push left ssp where no push leaves it",
    ),
    Link(
        "state-is-inherited",
        "no-use-after-release",
        "event",
        "the instruction should have had no effect in a disabled task",
    ),
)


def _event(facts: Facts, finding: Finding) -> Hashable:
    return finding.seq, finding.tid


def _task(facts: Facts, finding: Finding) -> Hashable | None:
    return facts.history.task(finding.tid, finding.seq)


def _with_address(facts: Facts, finding: Finding) -> Hashable | None:
    return finding.addr and (_task(facts, finding), finding.addr)


def _on_stack(facts: Facts, finding: Finding) -> Hashable | None:
    """The task, and the stack that the finding's ssp is on."""
    ssp = finding.addr
    stack = None if ssp is None else facts.ledger.on(finding.mm, ssp, finding.seq)
    return stack and (_task(facts, finding), stack.number)


def _in_stack(facts: Facts, finding: Finding) -> Hashable | None:
    """The task, and the stack that the finding's address lies in."""
    address = finding.addr
    stack = None if address is None else facts.ledger.at(finding.mm, address, finding.seq)
    return stack and (_task(facts, finding), stack.number)


# word -> what a root is about, and what its consequence is about
SAME: Final[dict[str, tuple[Key, Key]]] = {
    "event": (_event, _event),
    "task": (_task, _task),
    "task and address": (_with_address, _with_address),
    "task on a stack": (_on_stack, _in_stack),
}
