"""manifest.json: what is written is what is read, and nothing else is accepted."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shstk.schemas.errors import BadRun
from shstk.schemas.manifest import U64, Manifest, Rlimit, TableEntry
from shstk.schemas.revisions import resolve
from shstk.schemas.uapi import RLIM_INFINITY

REVISION = resolve("7.2,release_hook=exit_thread")
MANIFEST = Manifest(
    tool_version="0.1.0",
    program="/prog",
    argv=("prog", "ä"),
    environ=("K=V",),
    cwd="/",
    cpu="rv64gc_zicfiss",
    nousercfi=False,
    kernel=REVISION.name,
    switches=REVISION.settings,
    abi="merged",
    seed=U64(2**64 - 1),
    quantum=(10_000, 50_000),
    rlimits={"STACK": Rlimit(U64(8 << 20), U64(RLIM_INFINITY))},
    memory=None,
    page_size=4096,
    auxv=((U64(6), U64(4096)), (U64(33), U64(2**63))),
    first_tid=1,
    max_instructions=U64(10**6),
    timeout=2.5,
    traced=("cfi", "flow"),
    ending="limit",
    exit_status=None,
    icount=U64(10**6),
    warnings=("unknown call 999",),
    tables={"cfi": TableEntry(1, 2, "aa", "bb", U64(1 << 63), U64(1 << 63))},
)


def test_read_back() -> None:
    text = MANIFEST.to_json()
    assert Manifest.from_json(text, "m") == MANIFEST
    assert Manifest.from_json(text, "m").to_json() == text


def test_u64_survive_readers_that_have_doubles_only() -> None:
    shown = json.loads(MANIFEST.to_json(), parse_int=float)
    assert int(shown["rlimits"]["STACK"]["hard"], 16) == RLIM_INFINITY
    assert int(shown["auxv"][1][1], 16) == 2**63


def test_the_revision_is_the_recorded_one_not_todays() -> None:
    turned = {
        **MANIFEST.switches,
        "clone_gate": replace(REVISION.settings["clone_gate"], value="x"),
    }
    row = replace(MANIFEST, switches=turned).row
    assert row.name == "7.2,release_hook=exit_thread"
    assert (row["clone_gate"], row["release_hook"]) == ("x", "exit_thread")


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("argv", "prog", "argv: expected a list"),
        ("argv", ["prog", 1], "argv[1]: expected str"),
        ("seed", 5, "seed: expected a u64 as a hex string"),
        ("seed", hex(2**64), "seed: expected a u64 as a hex string"),
        ("seed", "0xg", "seed: expected a u64 as a hex string"),
        ("quantum", [1], "quantum: expected 2 values"),
        ("page_size", True, "page_size: expected int"),
        ("rlimits", {"STACK": {"soft": "0x1"}}, "rlimits.STACK.hard: missing"),
        ("rlimits", [], "rlimits: expected an object"),
        ("hostname", "me", "hostname: unknown"),
        ("ending", "well", "ending: unknown 'well'"),
        ("tables", {"no": {}}, "tables.no.bytes: missing"),
        ("timeout", "2", "timeout: expected a number"),
        ("icount", "0x5", "has been changed"),
        ("cwd", "\udcff", "has been changed"),
    ],
)
def test_a_wrong_field_is_named(field: str, value: object, said: str) -> None:
    raw = json.loads(MANIFEST.to_json())
    raw[field] = value
    with pytest.raises(BadRun) as error:
        Manifest.from_json(json.dumps(raw), "here/manifest.json")
    assert said in str(error.value)
    assert "here/manifest.json" in error.value.what


def test_a_missing_field_is_named() -> None:
    raw = json.loads(MANIFEST.to_json())
    del raw["cpu"]
    with pytest.raises(BadRun, match="cpu: missing"):
        Manifest.from_json(json.dumps(raw), "m")


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"schema_version": 999}'])
def test_other_versions_and_other_things(text: str) -> None:
    with pytest.raises(BadRun):
        Manifest.from_json(text, "m")


@given(st.data())
def test_one_flipped_byte_is_noticed(data: st.DataObject) -> None:
    text = MANIFEST.to_json().encode()
    at = data.draw(st.integers(0, len(text) - 1))
    flipped = bytearray(text)
    flipped[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises((BadRun, UnicodeDecodeError)):
        Manifest.from_json(flipped.decode(), "m")
