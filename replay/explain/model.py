"""What is said of a fault: values, not text."""

from __future__ import annotations

from dataclasses import dataclass

from shstk.replay.explain.faults import Fault
from shstk.replay.symbols import Place


@dataclass(frozen=True)
class Value:
    """An address or word, and what it is in words, if anything."""

    value: int
    place: Place | None


@dataclass(frozen=True)
class Writer:
    """Who wrote the word that an instruction met: sspush, ssamoswap, or the kernel (a token)."""

    how: str
    seq: int
    tid: int | None
    place: Place | None  # of the instruction


@dataclass(frozen=True)
class Motion:
    """What moved ssp other than a push or pop."""

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
    """One line of the call stack by the calls that ran, innermost first."""

    function: str
    seq: int
    site: Place | None  # of the call
    kind: str  # call or signal


@dataclass(frozen=True)
class Verdict:
    """The likely cause: the pattern's name, one sentence, and what shows it.

    rule: the id of a rule that check finds violated, and that explains it.
    """

    pattern: str
    sentence: str
    evidence: tuple[str, ...] = ()
    rule: str | None = None


@dataclass(frozen=True)
class Explanation:
    """Everything that a run tells about one fault."""

    run: str
    fault: Fault
    kind: str
    title: str
    place: Place | None
    ssp: int | None
    expected: Value | None
    found: Value | None
    writer: Writer | None
    motions: tuple[Motion, ...]
    shadow_stack: tuple[Word, ...]
    calls: tuple[Call, ...]
    verdict: Verdict
