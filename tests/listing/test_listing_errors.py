"""A listing that cannot be read says where and why."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shstk import listing
from shstk.schemas.errors import BadListing, CannotWrite


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("t1 sspsh 5", "no event 'sspsh': did you mean sspush?"),
        ("t1 prtcl(1) = 0", "no call 'prtcl': did you mean prctl?"),
        ("t1 sspush", "expected a word for value"),
        ("t1 sspush 5 6", "unexpected '6'"),
        ("t1 sspush five", "'five' is neither a number nor a name"),
        ("t1 sspush 5+", "is not a number"),
        ("t1 sspush S", "S is an area: use S.base, S.size or S.top"),
        ("t1 sspush S.end", "S.end is an area: use"),
        ("t1 sspush N.top", "N is a number: it has no .top"),
        ("t1 sspush 0x10000000000000000", "does not fit into value (u64)"),
        ("t1 sspush 5 colour=6", "cfi has no column colour"),
        ("t1 sspush 5 pc=-", "cfi.pc may not be null"),
        ("t1 unmap 5", "5 is not an area"),
        ("t1 map 4K", "has no address"),
        ("t1 getpid()", "no result"),
        ("t1 getpid() =", "no value after the ="),
        ("t1 getpid() = 1 5", "unexpected '5'"),
        ("t1 read(1, 2, 3, 4, 5, 6, 7) = 0", "at most six arguments"),
        ("t1 clone(CLONE_VM, 5) = 2", "'5' is not one of flags, stack"),
        ("t1 clone(CLONE_VM, colour=5) = 2", "'colour=5' is not one of flags, stack"),
        ("t7 sspush 1", "t7 is not known yet"),
        ("t7 created", "t7 is not known yet"),
        ("0.1 t1 first_user", "0.1 is not after 0.3"),
        ("t1 boot 5", "boot: unexpected '5'"),
        ("t1 5", "no event '5'"),
        ("t1", "no event on this line"),
        ("t1 new_mm birth", "'birth' is not one of"),
        ("t1 output 1 text", "is not bytes"),
        ("t1 output 1 hex:0", "hex:0"),
        ("t1 output 1 u32:1,text", "text is not bytes"),
        ("t1 output 1 zero:-1", "-1 zeros: expected 0 to"),
        ("t1 output 1 zero:2G", "zeros: expected 0 to"),
        ("t1 module 1 /p bias=x", "'x' is neither"),
        ("t1 row", "expected the name of a table"),
        ("t1 row colours", "no table 'colours'"),
        ("t1 row output fd=1", "output.bytes may not be null"),
        ("t1 row output 1", "'1' is not column=value"),
        ("t1 deliver SIGUSR1 sigreturn_seq=x", "not a seq"),
        ("t1 deliver SIGUSR1 alt_stack=yes", "neither true nor false"),
        ('t1 input 2 /p "x"', "inputs are numbered from 1"),
        ("}", "no open brace to close"),
        ("{ t1 sspush 1 }", "no event before this brace"),
        ("t1 exit(0) { exit_begin", "its brace is never closed"),
        ('t1 output 1 "abc', "a quote or parenthesis is not closed"),
        ("t1 getpid( = 5", "a quote or parenthesis is not closed"),
        ("S = ", "no value after the ="),
        ("kernel 9.9", "unknown kernel revision '9.9'"),
        ("kernel", "kernel takes one value"),
        ("rlimit STAK=8M", "no such limit 'STAK'"),
        ("cpu z80", "cpu: 'z80' is not one of"),
        ("ending badly", "ending: 'badly' is not one of"),
        ("traced everything", "traced: 'everything' is not one of"),
    ],
)
def test_the_line_and_the_reason(line: str, said: str) -> None:
    text = f"# Title\n\n```run\nS = 4K@0x1000\nN = 5\nt1 boot\n{line}\n```\n"
    with pytest.raises(BadListing) as error:
        listing.build_run(text, where="rule.md")
    assert "rule.md:7: " in error.value.what
    assert said in str(error.value)


def test_whose_event() -> None:
    with pytest.raises(BadListing, match="the event has no task"):
        listing.build_run("```run\nsspush 1\n```")


def test_an_inner_line_is_the_one_named() -> None:
    text = "```run\nt1 boot\nt1 exit(0) {\n  exit_begin\n  unmap nothing\n}\n```"
    with pytest.raises(BadListing, match=r"a\.md:5: nothing is not an area"):
        listing.build_run(text, where="a.md")


def test_blocks() -> None:
    for text, said in (
        ("prose only", "no run found"),
        ("```run\nt1 boot\n", "this block is never closed"),
        ("```run a\n```\n```run b\n```", "it has several runs"),
    ):
        with pytest.raises(BadListing, match=said):
            listing.build_run(text)
    with pytest.raises(BadListing, match="no run 'c'") as error:
        listing.build_run("```run a\n```\n```run b\n```", "c")
    assert "a, b" in error.value.hint


def test_files(tmp_path: Path) -> None:
    with pytest.raises(BadListing, match=r"absent\.md: No such file"):
        listing.build(tmp_path / "absent.md", tmp_path / "run")
    (tmp_path / "latin.md").write_bytes(b"\xe4")
    with pytest.raises(BadListing, match=r"latin\.md"):
        listing.build(tmp_path / "latin.md", tmp_path / "run")
    (tmp_path / "good.md").write_text("```run\nt1 boot\n```")
    listing.build(tmp_path / "good.md", tmp_path / "run")
    with pytest.raises(CannotWrite, match="already exists"):
        listing.build(tmp_path / "good.md", tmp_path / "run")
    listing.build(tmp_path / "good.md", tmp_path / "run", force=True)
    assert not (tmp_path / "run.partial").exists()


WORDS = """
t1 t2 mm1 mm2 boot created first_user exit_begin mm_dropped new_mm fork exec switch map unmap remap
protect S N ss token = = 0 -1 ? -ENOMEM 4K 4K@0x1000 S.top sspush sspopchk ssamoswap ssrdp fault
fault=18 ssp=- tid=- seq=1 value=- during=x pc=0x10 prctl(1) clone(CLONE_VM) clone(5,) vfork()
exit(0) exit( "text" "open hex:00 u64:1 u32:-1 row cfi mms output input 1 99999999999999999999 5.1
kernel argv rlimit ending seed cpu memory { } ; ; 0x 1|2 | - + @ kind=created deliver sigreturn
flow insn module reaped 18446744073709551616 seq_end=1.1 outcome=killed ret=5
"""


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(st.sampled_from(WORDS.split()), min_size=1, max_size=7), max_size=8))
def test_nothing_but_bad_listing_is_raised(lines: list[list[str]]) -> None:
    body = "\n".join(map(" ".join, lines))
    with contextlib.suppress(BadListing):
        listing.build_run(f"```run\nS = 4K@0x1000\nN = 5\nt1 boot\n{body}\n```")
