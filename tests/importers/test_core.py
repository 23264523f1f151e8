"""Core dumps become runs: what is said of a crash, and what is said of a bad core."""

from __future__ import annotations

import gzip
import lzma
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from corefile import (
    BIN,
    CODE,
    FILE,
    PAGE,
    PRSTATUS,
    SHADOW,
    STACK,
    USER_CFI,
    Area,
    CoreFile,
    R,
    W,
    die,
    small,
    words,
)

import shstk
from shstk.__main__ import run
from shstk.schemas.errors import BadProgram, BadRecording, ShstkError

# case of faulty.c -> the kernel that it dies under
CASES = {
    "smashed": "7.2",
    "longjmp": "7.2",
    "extra-push": "7.2",
    "extra-pop": "7.2",
    "two-tasks": "v3",
    "overflow": "7.2",
    "underflow": "7.2",
    "unmapped": "7.2",
    "handler": "7.2",
    "label": "7.2",
    "left-handler": "7.2",
    "token": "7.2",
    "store": "7.2",
    "null": "7.2",
}


@pytest.fixture(scope="module")
def crashes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crashes")
    for case, kernel in CASES.items():
        core = die(folder, case, kernel)
        shstk.import_core(core, folder / f"{case}.core.run", root=folder / "root")
    return folder


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")


def imported(tmp_path: Path, core: CoreFile | bytes, **options: Path) -> shstk.api.Run:
    file = tmp_path / "core"
    file.write_bytes(core if isinstance(core, bytes) else core.pack())
    out = tmp_path / "core.run"
    return shstk.open(shstk.import_core(file, out, force=True, **options).path)


# What users see.


@pytest.mark.parametrize("case", CASES)
def test_explain_fault(
    case: str,
    crashes: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    snapshot: Callable[[str, str], None],
) -> None:
    monkeypatch.chdir(crashes)
    assert run(["explain-fault", f"{case}.core.run"]) == 0
    snapshot(f"core-{case}", capfd.readouterr().out)


@pytest.mark.parametrize("case", CASES)
def test_the_causes_are_those_that_the_recorded_run_has(case: str, crashes: Path) -> None:
    """A dump shows less: where it can't tell two causes apart, it names both."""
    (dumped,) = shstk.explain_fault(crashes / f"{case}.core.run")
    (recorded,) = shstk.explain_fault(crashes / f"{case}.run")
    if case != "token":  # the registers are those of the frame: that it is a sigreturn is unseen
        assert dumped.kind == recorded.kind
    assert (dumped.fault.tid, dumped.fault.signo) == (recorded.fault.tid, recorded.fault.signo)
    known = {
        "longjmp keeps ssp": "ssp too low",
        "tampered pointer": "bad sigreturn",
        "stack was unmapped": "stack was freed",
    }
    pattern = recorded.verdict.pattern
    assert dumped.verdict.pattern == known.get(pattern, pattern)
    for value in ("expected", "found"):
        assert getattr(dumped.fault, value) == getattr(recorded.fault, value)
    same = ("cause", "tval", "address", "word", "pc")
    if recorded.fault.cause is not None:
        assert [getattr(dumped.fault, f) for f in same] == [
            getattr(recorded.fault, f) for f in same
        ]


@pytest.mark.parametrize("case", CASES)
def test_the_dumped_words_are_those_that_were_pushed(case: str, crashes: Path) -> None:
    (dumped,) = shstk.explain_fault(crashes / f"{case}.core.run")
    (recorded,) = shstk.explain_fault(crashes / f"{case}.run")
    held = {word.address: word.value for word in recorded.shadow_stack}
    seen = {pair.shadow: pair.value for pair in dumped.two_stacks if pair.shadow is not None}
    assert {address: seen.get(address) for address in held if held[address]} == {
        address: value for address, value in held.items() if value
    }


def test_the_commands_on_a_core(
    crashes: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    snapshot: Callable[[str, str], None],
) -> None:
    monkeypatch.chdir(crashes)
    for command in ("stacks", "log", "verify", "check"):
        print(f"$ shstk {command} two-tasks.core.run", flush=True)
        assert run([command, "two-tasks.core.run"]) == 0
    query = "SELECT tid, pc, ssp, cfi, ra, sp FROM dump_threads"
    assert run(["query", "two-tasks.core.run", query]) == 0
    snapshot("core-commands", capfd.readouterr().out)
    assert run(["info", "two-tasks.core.run"]) == 0
    assert {"ended        killed, by signal 11", "recorded by  core"} <= {
        *capfd.readouterr().out.splitlines()
    }
    for command in (["replay"], ["replay", "--window", "1.0..+1"], ["replay", "--kernel", "v6"]):
        assert run([command[0], "two-tasks.core.run", *command[1:]]) == 3
        assert "was recorded by core: it cannot be executed again" in capfd.readouterr().err


def test_no_rule_is_evaluated(crashes: Path) -> None:
    findings = shstk.check(crashes / "smashed.core.run").findings
    assert set(findings["outcome"]) == {"not evaluated"}
    for rule, why in findings.select("rule", "why").iter_rows():
        assert why.startswith("not observable by a core dump: "), rule


def test_two_imports_have_the_same_bytes(crashes: Path, tmp_path: Path) -> None:
    made = shstk.import_core(crashes / "core.smashed", tmp_path / "a.run", root=crashes / "root")
    left, right = made.path, crashes / "smashed.core.run"
    assert (left / "manifest.json").read_bytes() == (right / "manifest.json").read_bytes()


# The program's file.


def test_the_program_is_found_below_the_root_or_given(
    crashes: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    core, out = str(crashes / "core.smashed"), str(tmp_path / "a.run")
    assert run(["import", "core", core, "-o", out, "--exe", str(BIN / "faulty.elf")]) == 0
    said = capfd.readouterr().err
    assert "shstk: /faulty (pid 100, 1 thread) died of SIGSEGV, imported as" in said
    assert "symbols" not in said
    (told,) = shstk.explain_fault(out)
    assert str(told.place).startswith("smashed+0x")


def test_without_the_program_the_words_are_compared_all_the_same(
    crashes: Path, tmp_path: Path
) -> None:
    made = shstk.import_core(crashes / "core.smashed", tmp_path / "a.run")
    assert "addresses in /faulty have no symbols: no --root was given" in made.warnings
    (told,) = shstk.explain_fault(made.path)
    assert told.kind == "mismatch"
    assert told.verdict.pattern == "smashed return address"
    assert str(told.expected.place).startswith("faulty+0x")


def test_without_the_note_of_files_the_program_is_placed_by_its_segments(
    crashes: Path, tmp_path: Path
) -> None:
    core = (crashes / "core.smashed").read_bytes()
    hidden = core.replace(struct.pack("<I", FILE), struct.pack("<I", FILE + 1), 1)
    found = imported(tmp_path, hidden, executable=BIN / "faulty.elf")
    assert "the core has no note NT_FILE" in " ".join(found.manifest.warnings)
    (told,) = shstk.explain_fault(found)
    assert str(told.place).startswith("smashed+0x")
    assert [pair.how for pair in told.two_stacks] == [None, "register", "tables"]


def test_another_build_of_the_program_is_not_used(crashes: Path, tmp_path: Path) -> None:
    """Its names would be wrong."""
    made = shstk.import_core(
        crashes / "core.smashed", tmp_path / "a.run", executable=BIN / "signals.elf"
    )
    (said,) = (text for text in made.warnings if "is not used" in text)
    assert said.endswith("signals.elf is not used: the core's first page of it differs")
    assert shstk.open(made.path).table("inputs").filter(guest_path="/faulty").is_empty()


def test_a_build_id_that_differs_is_named(tmp_path: Path) -> None:
    def elf(build_id: bytes) -> bytes:
        note = struct.pack("<III4s", 4, len(build_id), 3, b"GNU\0") + build_id
        head = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, 243, 1, CODE, 64, 0,
                           0, 64, 56, 2, 0, 0, 0)  # fmt: skip
        load = struct.pack("<IIQQQQQQ", 1, 5, 0, CODE, CODE, PAGE, PAGE, PAGE)
        notes = struct.pack("<IIQQQQQQ", 4, 4, 0x200, CODE, CODE, len(note), len(note), 4)
        return ((head + load + notes).ljust(0x200, b"\0") + note).ljust(PAGE, b"\0")

    core = small()
    core.areas[0].data = elf(b"\1" * 20)
    name = b"/bin/prog\0"
    core.notes.append((b"CORE", FILE, struct.pack("<5Q", 1, PAGE, CODE, CODE + PAGE, 0) + name))
    core.notes.append((b"CORE", 6, words(9, CODE, 0, 0)))  # AT_ENTRY
    (tmp_path / "exe").write_bytes(elf(b"\2" * 20))
    found = imported(tmp_path, core, executable=tmp_path / "exe")
    ours, theirs = "01" * 20, "02" * 20
    what = f"its build id is {theirs}, and that of the core's is {ours}"
    assert [text for text in found.manifest.warnings if "build id" in text] == [
        f"--exe {tmp_path / 'exe'} is not used: {what}"
    ]
    (tmp_path / "exe").write_bytes(elf(b"\1" * 20))
    found = imported(tmp_path, core, executable=tmp_path / "exe")
    assert found.table("modules")["build_id"].to_list() == [ours]
    assert found.manifest.program == "/bin/prog"


def test_links_below_the_root_stay_below_it(crashes: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "usr").mkdir(parents=True)
    shutil.copy(BIN / "faulty.elf", root / "usr" / "faulty.real")
    (root / "faulty").symlink_to("/usr/../usr/faulty.real")
    made = shstk.import_core(crashes / "core.smashed", tmp_path / "a.run", root=root)
    assert not [text for text in made.warnings if "symbols" in text]
    (root / "faulty").unlink()
    (root / "faulty").symlink_to("../../../.." / BIN / "faulty.elf")
    made = shstk.import_core(crashes / "core.smashed", tmp_path / "b.run", root=root)
    assert [text for text in made.warnings if "symbols" in text]


# What the core holds.


def test_which_areas_are_shadow_stacks(tmp_path: Path) -> None:
    """That of an ssp, and a guess: nothing but return addresses and tokens."""
    core = small()
    other = bytes(PAGE - 8) + words(CODE + 4)
    token = bytes(PAGE - 8) + words(0x7200_0000 + PAGE)
    data = bytes(PAGE - 16) + words(CODE + 4, 5)
    function = bytes(PAGE - 8) + words(CODE + 12)  # no call is before it
    for at, held in enumerate((other, token, data, function, bytes(PAGE))):
        core.areas.append(Area(0x7100_0000 + (at << 24), PAGE, R | W, held))
    core.areas.sort(key=lambda area: area.start)
    areas = imported(tmp_path, core).table("dump_areas")
    signs = dict(areas.select("start", "shadow_stack").iter_rows())
    assert {start: sign for start, sign in signs.items() if sign} == {
        SHADOW: "ssp",
        0x7100_0000: "guess",
        0x7200_0000: "guess",
    }
    stacks = shstk.stacks(tmp_path / "core.run")
    assert stacks["how"].to_list() == ["dump", "guess", "guess"]


def test_an_empty_shadow_stack_is_the_one_below_ssp(tmp_path: Path) -> None:
    core = small()
    core.notes[1] = (b"LINUX", USER_CFI, words(0x28, SHADOW + PAGE))
    assert shstk.stacks(imported(tmp_path, core))["ssp"].to_list() == [SHADOW + PAGE]


def test_a_shadow_stack_that_is_off(tmp_path: Path) -> None:
    core = small()
    core.notes[1] = (b"LINUX", USER_CFI, words(0, 0))
    found = imported(tmp_path, core)
    assert found.table("dump_threads")["ssp"].to_list() == [None]
    assert found.table("dump_threads")["cfi"].to_list() == [0]


def test_a_core_of_a_kernel_without_the_note(tmp_path: Path) -> None:
    core = small()
    del core.notes[1]
    found = imported(tmp_path, core)
    assert "no thread has a note NT_RISCV_USER_CFI" in found.manifest.warnings[0]
    (told,) = shstk.explain_fault(found)
    assert told.ssp is None


def test_zeros_are_known_and_what_is_missing_is_not(tmp_path: Path) -> None:
    core = small()
    core.areas[1] = Area(SHADOW, 4 * PAGE, R | W, bytes(2 * PAGE), due=4 * PAGE)
    core.areas = core.areas[::2] + core.areas[1:2]  # the cut is at the end of the file
    core.notes[1] = (b"LINUX", USER_CFI, words(0x28, SHADOW + PAGE))
    found = imported(tmp_path, core)
    held = found.table("dump_memory").filter(addr=SHADOW).select("length", "bytes")
    assert held.rows() == [(2 * PAGE, None)]
    assert found.table("dump_areas").filter(start=SHADOW)["dumped"].to_list() == [2 * PAGE]
    assert found.manifest.warnings[0].startswith("the core is cut off: 8,192 of its 24,576 bytes")


def test_a_cut_core_is_read_as_far_as_it_goes(crashes: Path, tmp_path: Path) -> None:
    """ulimit -c and full disks cut the memory off, which is after the notes."""
    whole = (crashes / "core.smashed").read_bytes()
    found = imported(tmp_path, whole[: 12 * PAGE], root=crashes / "root")
    assert any("the core is cut off" in text for text in found.manifest.warnings)
    (told,) = shstk.explain_fault(found)
    assert told.kind == "mismatch"
    assert told.verdict.pattern == "not in the dump"
    with pytest.raises(BadRecording, match="the core has no thread: it is cut off"):
        imported(tmp_path, whole[: 64 + 7 * 56 + 16])
    with pytest.raises(BadRecording, match="cut off inside its 7 program headers"):
        imported(tmp_path, whole[:100])
    with pytest.raises(BadRecording, match="is empty"):
        imported(tmp_path, b"")


def test_more_program_headers_than_the_header_can_count(tmp_path: Path) -> None:
    core = small()
    core.xnum = True
    start = 0x8000_0000
    core.areas += [Area(start + n * PAGE, PAGE, R) for n in range(0x10000)]
    core.areas.sort(key=lambda area: area.start)
    assert imported(tmp_path, core).table("dump_areas").height == 0x10003


def test_a_call_through_a_null_pointer(tmp_path: Path) -> None:
    """There is no code at pc: ra says who called."""
    core = small()
    core.notes = []
    core.thread(7, {0: 0, 1: CODE + 4, 2: STACK + PAGE - 64}, SHADOW + PAGE - 8)
    core.signal(11, 1, 0)
    (told,) = shstk.explain_fault(imported(tmp_path, core))
    assert told.kind == "fetch"
    lines = [(pair.kind, pair.value, pair.slot) for pair in told.two_stacks]
    assert lines == [
        ("not pushed", CODE + 4, "ra"),
        ("same", CODE + 8, hex(STACK + PAGE - 8)),
    ]


def test_a_signal_that_was_sent(tmp_path: Path) -> None:
    core = small()
    core.notes.pop()
    core.signal(6, -6, 7)  # SI_TKILL, by pid 7
    (told,) = shstk.explain_fault(imported(tmp_path, core))
    assert told.kind == "sent"
    assert told.verdict.sentence == "the program sent it to itself, as abort does"
    assert told.two_stacks


def test_a_core_of_a_living_program(tmp_path: Path) -> None:
    """As gcore writes one."""
    core = small()
    core.notes = []
    core.thread(7, {0: CODE + 8, 1: CODE + 8, 2: STACK}, SHADOW + PAGE - 8, signo=0)
    found = imported(tmp_path, core)
    assert (found.manifest.ending, found.manifest.exit_status) == ("interrupted", None)
    assert shstk.explain_fault(found) == []
    assert shstk.stacks(found)["ssp"].to_list() == [SHADOW + PAGE - 8]


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("zst", lambda data: _streamed(data, "zstd")),
        ("lz4", lambda data: _streamed(data, "lz4")),
        ("xz", lzma.compress),
        ("gz", gzip.compress),
    ],
)
def test_packed_cores(name: str, pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    packed = pack(small().pack())
    assert imported(tmp_path, packed).table("dump_threads").height == 1
    with pytest.raises(ShstkError):
        imported(tmp_path, packed[: len(packed) // 2])


def _streamed(data: bytes, codec: str) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.output_stream(sink, compression=codec) as stream:
        stream.write(data)
    return bytes(sink.getvalue())


# Bad cores.


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"machine": 62}, "64-bit EM_X86_64"),
        ({"elf_class": 1}, "32-bit EM_RISCV"),
        ({"type": 2}, "no core dump, but ET_EXEC"),
        ({"notes": []}, "the core has no thread: no note NT_PRSTATUS"),
        ({"notes": [(b"CORE", PRSTATUS, b"short")]}, "note NT_PRSTATUS is damaged"),
        ({"notes": [(b"LINUX", USER_CFI, bytes(16))]}, "it comes before any thread"),
        ({"areas": [Area(CODE, PAGE, R, bytes(2 * PAGE))]}, "has 0x2000 of 0x1000 bytes"),
        ({"areas": [Area(0, 2 * PAGE, R), Area(PAGE, PAGE, R)]}, "two areas overlap at 0x1000"),
    ],
)
def test_a_bad_core_is_refused(
    change: dict[str, object],
    said: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    core = small()
    for name, value in change.items():
        setattr(core, name, value)
    (tmp_path / "core").write_bytes(core.pack())
    assert run(["import", "core", str(tmp_path / "core"), "-o", str(tmp_path / "a.run")]) == 3
    assert said in capfd.readouterr().err


def test_no_core_at_all(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text").write_text("hello\n" * 20)
    for name in ("text", "none", ""):
        assert run(["import", "core", str(tmp_path / name), "-o", str(tmp_path / "a.run")]) == 3
        assert "error:" in capfd.readouterr().err


def test_damaged_cores_end_in_a_message(tmp_path: Path) -> None:
    """Some bytes of the headers and notes changed, or the file cut off: a run or an error."""
    whole = small()
    whole.notes.append((b"CORE", FILE, struct.pack("<5Q", 1, PAGE, CODE, CODE + PAGE, 0) + b"/x\0"))
    whole.notes.append((b"CORE", 6, words(9, CODE, 33, CODE, 25, STACK, 0, 0)))
    data = whole.pack()
    held = data.index(words(CODE + 4, CODE + 8))
    source, outcomes = random.Random(9), {"run": 0, "error": 0}
    for _ in range(60):
        changed = bytearray(data)
        for _ in range(source.randint(1, 3)):
            at = source.randrange(1000) if source.random() < 0.9 else source.randrange(held)
            changed[at] = source.choice((0, 0xFF, source.randrange(256)))
        cut = source.randrange(len(data)) if source.random() < 0.2 else len(data)
        try:
            found = imported(tmp_path, bytes(changed[:cut]))
        except (BadRecording, BadProgram):
            outcomes["error"] += 1
            continue
        outcomes["run"] += 1
        for told in shstk.explain_fault(found):
            assert told.verdict.sentence
        shstk.stacks(found)
    assert min(outcomes.values()) > 4
