"""`check --rules`: what x86 and arm64 would have done with the same program."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shstk.listing import build_run
from shstk.replay.elsewhere import Elsewhere, elsewhere, render
from shstk.replay.rules import RULES

THREAD = """
kernel 7.2
rlimit STACK=8M
S1 = 4M@0x7fff_f000_0000
S2 = 0x21000@0x7fff_e000_0000
THREAD = CLONE_VM|CLONE_THREAD|CLONE_SIGHAND
0.1  t1 boot mm1
10   t1 prctl(PR_SET_SHADOW_STACK_STATUS, PR_SHADOW_STACK_ENABLE) = 0 ssp_exit=S1.top { map S1 ss }
20   t1 clone3(THREAD, stack_size=0x20001) = 2 { map S2 ss; t2 created ssp=S2.top }
     t2 first_user
50   t2 exit(0) { exit_begin 0; unmap S2; mm_dropped 1 }
60   t1 clone3(THREAD, stack_size=0x20001, set_tid=1) = -EEXIST { map S2 ss }
70   t1 prctl(PR_LOCK_SHADOW_STACK_STATUS, 0) = 0
71   t1 prctl(PR_SET_SHADOW_STACK_STATUS, 0) = -EINVAL
72   t1 prctl(PR_SET_SHADOW_STACK_STATUS, 3) = -EINVAL
90   t1 exit_group(0) { exit_begin 0; unmap S1; mm_dropped 0 }
"""


def held(architecture: str) -> dict[str, Elsewhere]:
    run = build_run(f"```run\n{THREAD}```\n", None, "thread.md")
    return {e.rule: e for e in elsewhere(run, architecture)}


def differs(architecture: str) -> dict[str, tuple[str, str]]:
    found = held(architecture).values()
    return {e.rule: (e.would, e.did) for e in found if e.verdict == "differs"}


def test_x86_frees_a_failed_clones_stack_and_refuses_with_eperm() -> None:
    found = differs("x86")
    assert set(found) == {"A10", "P3"}
    assert found["A10"][0].startswith("unmapped 0x7fffe0000000")
    assert found["P3"] == ("-EPERM", "-EINVAL")


def test_arm64_halves_the_size_and_begins_a_word_lower() -> None:
    found = differs("arm64")
    assert set(found) == {"A6", "A7", "P3"}
    assert found["A6"][0].startswith("0x10000 bytes")
    assert found["A7"][0].startswith("ssp 0x7fffe0020ff8")
    assert found["P3"] == ("-EBUSY", "-EINVAL")


@pytest.mark.parametrize("architecture", ["x86", "arm64"])
def test_every_rule_has_a_verdict_and_its_reason(architecture: str) -> None:
    found = held(architecture)
    assert list(found) == list(RULES)
    for e in found.values():
        assert e.verdict in ("agrees", "differs", "not evaluated", "no counterpart")
        assert bool(e.why) == (e.verdict in ("not evaluated", "no counterpart"))
        assert bool(e.count) == (e.verdict in ("agrees", "differs"))
    assert found["Z1"].verdict == found["R1"].verdict == "no counterpart"


def test_text_says_what_would_have_been_done_and_json_says_all() -> None:
    found = list(held("arm64").values())
    text = render("thread", "arm64", found, "text")
    assert "A7 thread-starts-at-its-top: differs 1 time, first at 20." in text
    assert "    arm64     ssp 0x7fffe0020ff8" in text
    rows = json.loads(render("thread", "arm64", found, "json"))["elsewhere"]
    assert len(rows) == len(RULES)
    assert {r["rule"] for r in rows if r["verdict"] == "differs"} == {"A6", "A7", "P3"}


def test_a_forked_child_owns_nothing_on_arm64() -> None:
    text = """
kernel 7.2
S1 = 4M@0x7fff_f000_0000
0.1  t1 boot mm1
10   t1 prctl(PR_SET_SHADOW_STACK_STATUS, PR_SHADOW_STACK_ENABLE) = 0 ssp_exit=S1.top { map S1 ss }
30   t1 fork() = 2 { t2 mm2 new_mm fork mm1; t2 created }
     t2 first_user
40   t2 exit_group(0) { exit_begin 0; unmap S1; mm_dropped 0 }
90   t1 exit_group(0) { exit_begin 0; unmap S1; mm_dropped 0 }
"""
    run = build_run(f"```run\n{text}```\n", None, Path("fork.md").name)
    assert not any(e.verdict == "differs" for e in elsewhere(run, "x86"))
    assert any(e.verdict == "differs" and e.tid == 2 for e in elsewhere(run, "arm64"))
