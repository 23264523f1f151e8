"""Findings grouped by cause: each link is shown by a listing, and nothing is left out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from listings import HEAD, LEAK, threaded, without

from shstk.listing import build_run
from shstk.replay.causes import listed
from shstk.replay.check import Report, check
from shstk.replay.explain import death
from shstk.replay.links import LINKS, SAME, Link
from shstk.replay.report import render
from shstk.replay.rules import named
from shstk.schemas import seq as positions

LISTINGS = Path(__file__).parents[1] / "rules"

# The stack of task 2 is mapped, but it starts on its parent's, and pushes there.
NOT_AT_ITS_TOP = """30 t1 clone(THREAD, child_tid_addr=TID) = 2 {
      map S2 ss
      t2 created ssp=S1.top-8
    }
    t2 first_user
40  t2 sspush 0x10300
41  t2 sspopchk 0x10300
50  t2 exit(0) { exit_begin 0; unmap S2; clear_child_tid TID; futex_wake TID 1; mm_dropped 1 }
60  t1 sspopchk 0x10234
70  t1 exit_group(0) { exit_begin 0; unmap S1; mm_dropped 0 }
```"""

# root, consequence -> the listing and the run that show it
SHOWN = {
    ("A5", "A7"): ("I3", "parents-stack"),
    ("A5", "I3"): ("I3", "parents-stack"),
    ("A5", "X5"): ("X5", "sc10"),
    ("A7", "I3"): (None, NOT_AT_ITS_TOP),
    ("N1", "V3"): ("N1", "stack"),
    ("N1", "X2"): ("N1", "stack"),
    ("G1", "I2"): ("G1", "unmoved"),
    ("G4", "I2"): ("G4", "accepted"),
    ("Z1", "I2"): ("Z1", "misaligned"),
    ("ST1", "I4"): ("ST1", "reused"),
}


def report(listing: str | None, run: str) -> Report:
    if listing is None:
        return check(threaded(run))
    return check(build_run((LISTINGS / f"{listing}.md").read_text(), run, listing))


def led(found: Report) -> set[tuple[str, str]]:
    """Rules of roots and of what follows from them."""
    return {(root.rule.id, v.rule.id) for v, root in listed(found.causes) if root}


@pytest.mark.parametrize("link", LINKS, ids=lambda link: f"{link.root}-{link.consequence}")
def test_every_link_is_shown_by_a_listing(link: Link) -> None:
    rules = named(link.root).id, named(link.consequence).id
    assert rules in led(report(*SHOWN[rules]))
    assert link.same in SAME


def test_no_link_is_named_twice_and_none_leads_back() -> None:
    """So that following links ends."""
    pairs = {(link.root, link.consequence) for link in LINKS}
    assert len(pairs) == len(LINKS)
    reached = pairs
    while more := {(a, d) for a, b in reached for c, d in pairs if b == c} - reached:
        reached = reached | more
    assert not [pair for pair in reached if pair[0] == pair[1]]


@pytest.mark.parametrize(("listing", "run"), SHOWN.values())
def test_every_finding_is_in_one_cause(listing: str | None, run: str) -> None:
    found = report(listing, run)
    every = [finding for result in found.results for finding in result.findings]
    assert sorted(map(id, every)) == sorted(id(v.finding) for v, _ in listed(found.causes))


def test_another_tasks_findings_do_not_follow() -> None:
    """Task 2 has no stack of its own; task 3's push on the parent's follows from its own A5."""
    found = report("I3", "parents-stack")
    groups = [(c.root.finding.tid, {v.finding.tid for v in c.consequences}) for c in found.causes]
    assert groups == [(2, {2}), (3, {3}), (1, set())]


def test_a_push_on_another_stack_does_not_follow() -> None:
    """Task 2 starts on its parent's stack, goes to task 3's by itself, and pushes there."""
    body = """30 t1 clone(THREAD, child_tid_addr=TID) = 2 { t2 created ssp=S1.top-8 }
    t2 first_user
31  t1 clone(THREAD, child_tid_addr=TID) = 3 { map S2 ss; t3 created ssp=S2.top }
    t3 first_user
32  t3 sspush 0x10300
40  t2 ssp_write S2.top-64
41  t2 sspush 0x10300
90  t1 exit_group(0) { exit_begin 0; unmap S1; mm_dropped 2 }
```"""
    found = check(build_run(HEAD.format(kernel="7.2", extra="") + body))
    assert led(found) == {("A5", "A7")}
    assert [r.rule.id for r in found.of("violated")][-1] == "I3"


def test_without_its_root_a_finding_is_a_cause() -> None:
    run = build_run((LISTINGS / "I3.md").read_text(), "parents-stack", "I3")
    assert led(check(run, ignore=("A5", "A7"))) == set()
    assert led(check(run, ignore=("A5",))) == {("A7", "I3")}


def test_those_that_are_alike_are_one_kind() -> None:
    found = report("I3", "parents-stack")
    assert [(kind.rule.id, len(kind.causes)) for kind in found.kinds] == [("A5", 2), ("X1", 1)]


def test_json_names_what_a_finding_follows_from() -> None:
    (shown,) = json.loads(render([report("X5", "sc10")], "json"))
    findings = shown["findings"]
    assert [(f["rule"], f["follows_from"]) for f in findings] == [
        ("A5", None),
        ("A7", 0),
        ("X5", 0),
    ]
    (cause,) = shown["causes"]
    assert (cause["rule"], cause["findings"], cause["consequences"]) == ("A5", [0], [1, 2])


def test_sarif_relates_both() -> None:
    found = report("X5", "sc10")
    (run,) = json.loads(render([found], "sarif"))["runs"]
    root, consequence, _ = run["results"]
    told = [one["message"]["text"] for one in root["relatedLocations"]]
    assert told == ["leads to A7 thread-starts-at-its-top", "leads to X5 only-the-owner-frees"]
    (back,) = consequence["relatedLocations"]
    assert back["message"]["text"] == "follows from A5 thread-gets-own-stack"
    assert back["logicalLocations"] == root["locations"][0]["logicalLocations"]


def test_text_folds_what_is_alike_and_all_shows_it() -> None:
    found = report("I3", "parents-stack")
    text, full = render([found], "text"), render([found], "text", full=True)
    assert text.count("actual    no new shadow stack") == 1
    assert "1 more like it (--all): 50.1 task 3" in text
    assert full.count("actual    no new shadow stack") == 2
    every = [finding for result in found.results for finding in result.findings]
    for finding in every:
        assert f" {positions.show(finding.seq)} task {finding.tid} " in full
    assert text.splitlines()[-1].endswith(
        "7 findings, 2 causes: A5 (2), X1 (1); 14 rules satisfied, 74 not evaluated"
    )


def test_the_last_line_is_about_all_runs() -> None:
    text = render([check(threaded(LEAK)), check(threaded())], "text")
    assert text.splitlines()[-1] == "2 runs; 1 finding in listing"


def test_death_by_a_signal_that_no_fault_raised() -> None:
    run = without(threaded(), ending="killed", exit_status=6)
    text = render([check(run)], "text", deaths=[death(run)])
    assert text.split("\n\n")[1] == "the guest was killed by SIGABRT"
    assert text.splitlines()[-1].startswith("listing: killed by SIGABRT; no findings; ")


def test_a_child_that_a_cfi_fault_killed_is_said_too() -> None:
    """The guest went on: neither its end nor the last line is about it."""
    body = """30  t1 fork() = 2 { t2 mm2 new_mm fork mm1; t2 created }
    t2 first_user
40  t2 fault 18 tval=3 pc=0x10400 address=0x5000 expected=1 found=2 signo=SIGSEGV code=SEGV_CPERR
    t2 fatal SIGSEGV code=SEGV_CPERR
    t2 exit_begin 11; t2 mm_dropped 0
60  t1 sspopchk 0x10234
70  t1 exit_group(0) { exit_begin 0; unmap S1; mm_dropped 0 }
```"""
    run = threaded(body)
    found, dead = check(run), death(run)
    text = render([found], "text", deaths=[dead])
    told = text.split("\n\n")[1].splitlines()[0]
    assert told.startswith("task 2 was killed by SIGSEGV (SEGV_CPERR) at 40.1")
    assert told.endswith("; the guest went on")
    assert "killed by" not in text.splitlines()[-1]
    (shown,) = json.loads(render([found], "json", deaths=[dead]))
    assert (shown["killed_by"], shown["fault"]) == (None, None)
