"""Whose code an address is: out of the run's own files, and never failing on a damaged one."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from listings import threaded

from shstk.replay.elf_names import ElfNames
from shstk.replay.run import Run
from shstk.replay.symbols import Symbols
from shstk.tracer.record import RecordOptions, record

PROGRAMS = Path(__file__).parents[2] / "fixtures" / "bin"
FAULTY = (PROGRAMS / "faulty.elf").read_bytes()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("runs") / "token.run"
    record(RecordOptions(program=str(PROGRAMS / "faulty.elf"), argv=("token",), out=out))
    return Run.open(out)


@pytest.fixture(scope="module")
def stripped(tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("runs") / "longjmp.run"
    record(RecordOptions(program=str(PROGRAMS / "longjmp.elf"), out=out))
    return Run.open(out)


def start_of(name: str) -> int:
    return dict(ElfNames(FAULTY).functions())[name]


def line_of(text: str) -> int:
    source = PROGRAMS.parent / "programs" / "faulty.c"
    return next(n for n, line in enumerate(source.read_text().splitlines(), 1) if text in line)


def test_function_and_line(run: Run) -> None:
    place = Symbols(run).at(1, start_of("tampered_token") + 4)
    assert place is not None
    assert (place.module, place.symbol, place.offset) == ("/faulty.elf", "tampered_token", 4)
    assert place.file == "fixtures/programs/faulty.c"
    assert place.line == line_of("static void tampered_token(void)")
    assert str(place) == f"tampered_token+0x4 (fixtures/programs/faulty.c:{place.line})"


def test_code_without_a_line_table_still_has_its_symbol(run: Run) -> None:
    place = Symbols(run).at(1, start_of("clone_task"))
    assert place is not None
    assert (place.name, place.source) == ("clone_task", None)


def test_what_is_no_program_has_a_name_too(run: Run) -> None:
    symbols = Symbols(run)
    named = {r.name: symbols.at(1, r.start) for r in symbols.regions.all if r.input is None}
    assert str(named["[vdso]"]) == "__vdso_rt_sigreturn"
    assert str(named["[stack]"]) == "[stack]"
    assert str(named["[shadow stack]"]) == "[shadow stack]"
    assert symbols.at(1, 0x10) is None
    assert symbols.name(1, 0x10) == "0x10"


def test_a_stripped_program_is_named_by_the_file_and_its_address(stripped: Run) -> None:
    pc = stripped.table("faults")["pc"][0]
    assert str(Symbols(stripped).at(1, pc)) == f"longjmp.elf+{pc:#x}"


def test_many_at_once_in_any_address_space(run: Run) -> None:
    addresses = pl.Series([start_of("main"), None, 0x10, start_of("main") + 8], dtype=pl.UInt64)
    expected = ["main", None, "0x10", "main+0x8"]
    assert Symbols(run).names(addresses).to_list() == expected
    spaces = pl.Series([1, 1, 1, None], dtype=pl.UInt32)
    assert Symbols(run).names(addresses, spaces).to_list() == expected


def test_a_run_without_files_names_nothing() -> None:
    assert Symbols(threaded()).at(1, 0x10234) is None


@pytest.mark.parametrize("cut", [0, 1, 64, 0x200, len(FAULTY) // 2, len(FAULTY) - 10])
def test_a_file_cut_short_fails_nothing(cut: int) -> None:
    names = ElfNames(FAULTY[:cut])
    assert names.symbol(start_of("main")) is None
    assert names.line(start_of("main")) is None


def test_damaged_lines_leave_the_symbols() -> None:
    """Every byte of .debug_line and .debug_info in turn, in steps, is made another."""
    from io import BytesIO

    from elftools.elf.elffile import ELFFile

    elf = ELFFile(BytesIO(FAULTY))
    sections = [elf.get_section_by_name(name) for name in (".debug_line", ".debug_info")]
    main = start_of("main")
    for section in sections:
        for at in range(section["sh_offset"], section["sh_offset"] + section["sh_size"], 149):
            damaged = FAULTY[:at] + bytes([FAULTY[at] ^ 0xFF]) + FAULTY[at + 1 :]
            names = ElfNames(damaged)
            names.line(main)
            assert names.symbol(main) == ("main", main)
