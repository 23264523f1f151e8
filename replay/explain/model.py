"""The parts of an explanation, as values rather than text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from shstk.replay.explain.faults import Fault
from shstk.replay.rules.outcome import Violation
from shstk.replay.symbols import Place

T = TypeVar("T")


@dataclass(frozen=True)
class Some(Generic[T]):
    """The first and the last items of a list; `more` were left out in between."""

    first: tuple[T, ...] = ()
    more: int = 0
    last: tuple[T, ...] = ()

    def __iter__(self) -> Iterator[T]:
        return iter((*self.first, *self.last))

    def __getitem__(self, at: int) -> T:
        """The first ones from 0, the last ones from -1."""
        return self.first[at] if at >= 0 or not self.more else self.last[at]

    def __len__(self) -> int:
        return len(self.first) + self.more + len(self.last)


@dataclass(frozen=True)
class Value:
    """An address or word, and the place it points to, if any."""

    value: int
    place: Place | None


@dataclass(frozen=True)
class Writer:
    """The writer of a word on the shadow stack: sspush, ssamoswap, or the kernel (a token)."""

    how: str
    seq: int
    tid: int | None
    place: Place | None  # of the instruction


@dataclass(frozen=True)
class Motion:
    """A change of ssp other than a push or pop."""

    seq: int
    tid: int | None
    reason: str  # of the view ssp_path
    before: int | None
    after: int | None
    place: Place | None


@dataclass(frozen=True)
class Word:
    """One line of the shadow stack's call stack, from ssp upwards."""

    address: int
    value: int
    place: Place | None
    writer: Writer


@dataclass(frozen=True)
class Call:
    """One line of the call stack according to the calls that ran, innermost first."""

    function: str
    seq: int
    site: Place | None  # of the call
    kind: str  # call or signal


@dataclass(frozen=True)
class Pair:
    """One line of the two call stacks of a dumped thread, compared. kind: as in replay/dump.

    shadow: the word's address on the shadow stack. slot: where the ordinary stack has it, an
    address or a register. how: by what it was found there (replay/dump/unwind.py).
    """

    kind: str
    value: int
    place: Place | None
    shadow: int | None
    slot: str | None
    how: str | None


@dataclass(frozen=True)
class Other:
    """Another thread of the dump. shares: its ssp is on the same shadow stack. agrees: whether its
    two call stacks do; None: there is nothing to compare."""

    tid: int
    place: Place | None
    pc: int
    ssp: int | None
    shares: bool
    agrees: bool | None


@dataclass(frozen=True)
class Verdict:
    """The likely cause: the pattern's name, one sentence, and the evidence.

    violation: the finding that explains the fault, if there is one.
    """

    pattern: str
    sentence: str
    evidence: tuple[str, ...] = ()
    violation: Violation | None = None

    @property
    def rule(self) -> str | None:
        """The id of the violated rule."""
        return self.violation.rule.id if self.violation else None


@dataclass(frozen=True)
class Explanation:
    """Everything that a run shows about one fault."""

    run: str
    fault: Fault
    kind: str
    title: str
    place: Place | None
    ssp: int | None
    expected: Value | None
    found: Value | None
    writer: Writer | None
    motions: Some[Motion]
    shadow_stack: Some[Word]
    calls: Some[Call]
    verdict: Verdict
    two_stacks: tuple[Pair, ...] = ()  # of a dump
    others: tuple[Other, ...] = ()  # the other threads of a dump
    dumped: bool = False


@dataclass(frozen=True)
class Death:
    """How a fatal signal ended the guest, or only a process of it. explained: if a fault raised
    the signal."""

    run: str
    signo: int
    explained: Explanation | None
    ended: bool

    @property
    def violation(self) -> Violation | None:
        """The finding that explains it, if there is one."""
        return self.explained.verdict.violation if self.explained else None


def as_text(value: int) -> str:
    """`the text "AAAA"` if a word is one."""
    data = value.to_bytes(8, "little").rstrip(b"\0")
    if len(data) > 3 and all(32 <= byte < 127 for byte in data):
        return f'the text "{data.decode()}"'
    return ""
