"""Verdicts on the accesses of shadow-stack instructions to one page."""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.derive.pages import Visit
from shstk.replay.rules.outcome import Finding, Outcome, Satisfied, Unknown
from shstk.schemas.causes import STORE_ACCESS


def judge(visit: Visit, count: int | None = None) -> Outcome:
    """Check that a visit faulted, or not, as its page requires. count: of how many accesses."""
    if not visit.due:
        return Unknown("the mapping there is not recorded")
    if visit.fault in visit.due:
        return Satisfied(visit.count if count is None else count)
    return Finding(
        seq=visit.seq,
        tid=visit.tid,
        mm=visit.mm,
        addr=visit.addr,
        expected=" or ".join(map(_shown, visit.due)),
        actual=_shown(visit.fault),
        note=visit.what,
        evidence=(visit.seq,),
        # of a page of code it is the second that is due: QEMU does not execute it there
        deviation="ordinary page" if visit.fault is None and visit.due[0] == STORE_ACCESS else "",
    )


def first(visit: Visit) -> Outcome:
    """The same for the first access only."""
    return judge(visit, 1)


def rest(visit: Visit) -> Iterator[Outcome]:
    """The other accesses, if another rule covers the first."""
    if visit.fault in visit.due and visit.count > 1:
        yield Satisfied(visit.count - 1)


def _shown(fault: int | None) -> str:
    return "no fault" if fault is None else f"fault {fault}"
