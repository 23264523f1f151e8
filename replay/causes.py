"""Findings grouped by cause: what each follows from, and which are alike.

Nothing is left out: each finding of a report is in one cause, as its root or as a consequence.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shstk.replay.links import LINKS, SAME
from shstk.replay.rules.outcome import Finding, Result, Rule, Violation

if TYPE_CHECKING:
    from shstk.replay.facts import Facts


@dataclass(frozen=True)
class Cause:
    """A finding that follows from no other, and those that follow from it, in seq order."""

    root: Violation
    consequences: tuple[Violation, ...] = ()

    @property
    def kind(self) -> tuple[str, str, str]:
        """What causes that are alike share: the rule, and the words without their numbers."""
        finding = self.root.finding
        return self.root.rule.id, _wordless(finding.expected), _wordless(finding.actual)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The root and what follows from it."""
        return tuple(violation.finding for violation in (self.root, *self.consequences))

    def holds(self, finding: Finding) -> bool:
        return finding in self.findings


@dataclass(frozen=True)
class Kind:
    """Causes that are alike, in seq order."""

    causes: tuple[Cause, ...]

    @property
    def rule(self) -> Rule:
        return self.causes[0].root.rule

    @property
    def consequences(self) -> dict[Rule, list[Violation]]:
        """By rule, in the order of the first of each."""
        found: dict[str, list[Violation]] = {}
        every = [v for cause in self.causes for v in cause.consequences]
        for violation in sorted(every, key=lambda v: v.finding.seq):
            found.setdefault(violation.rule.id, []).append(violation)
        return {violations[0].rule: violations for violations in found.values()}

    def holds(self, finding: Finding) -> bool:
        return any(cause.holds(finding) for cause in self.causes)


def causes(facts: Facts, results: Iterable[Result]) -> tuple[Cause, ...]:
    """The findings of all results by cause, in the order of the roots' rules and places."""
    found = [violation for result in results for violation in result.violations]
    roots = _roots(facts, found)
    groups: dict[int, list[Violation]] = {}
    for number, violation in enumerate(found):
        groups.setdefault(_first(roots, number), []).append(violation)
    return tuple(
        Cause(
            found[root],
            tuple(sorted((v for v in group if v is not found[root]), key=lambda v: v.finding.seq)),
        )
        for root, group in sorted(groups.items())
    )


def kinds(found: Sequence[Cause]) -> list[Kind]:
    """Causes that are alike, together, in the order of the first of each."""
    alike: dict[Hashable, list[Cause]] = {}
    for cause in found:
        alike.setdefault(cause.kind, []).append(cause)
    return [Kind(tuple(group)) for group in alike.values()]


def _roots(facts: Facts, found: Sequence[Violation]) -> dict[int, int]:
    """What each finding follows from, by their numbers: by the first link of LINKS that holds, the
    last finding before it."""
    by_rule: dict[str, list[int]] = {}
    for number, violation in enumerate(found):
        by_rule.setdefault(violation.rule.slug, []).append(number)
    roots: dict[int, int] = {}
    for link in LINKS:
        of_root, of_consequence = SAME[link.same]
        before: dict[Hashable, list[int]] = {}
        for number in by_rule.get(link.root, ()):
            if link.consequence in by_rule:
                before.setdefault(of_root(facts, found[number].finding), []).append(number)
        before.pop(None, None)
        for number in by_rule.get(link.consequence, ()) if before else ():
            if number in roots:
                continue
            finding = found[number].finding
            same = before.get(of_consequence(facts, finding), ())
            earlier = [n for n in same if found[n].finding.seq <= finding.seq]
            if earlier:
                roots[number] = earlier[-1]
    return roots


def _first(roots: dict[int, int], number: int) -> int:
    while number in roots:
        number = roots[number]
    return number


def _wordless(text: str) -> str:
    return re.sub(r"0x[0-9a-f]+|\d+", "#", text)


def listed(found: Iterable[Cause]) -> Iterator[tuple[Violation, Violation | None]]:
    """Every finding, and the root it follows from, if it does."""
    for cause in found:
        yield cause.root, None
        for violation in cause.consequences:
            yield violation, cause.root
