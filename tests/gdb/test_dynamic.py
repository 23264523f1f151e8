"""Programs with a libc of their own: symbols of the libraries, across an exec and back."""

from __future__ import annotations

import re
import sys
import warnings
from pathlib import Path

import polars as pl
import pytest
from client import GDB, Client, debug

from shstk.replay.run import Run
from shstk.schemas.seq import STEPS
from shstk.tracer.record import RecordOptions, record

sys.path.insert(0, str(Path(__file__).parents[1] / "differential"))

from riscv_root import NotToBeHad, riscv_root

needs_gdb = pytest.mark.skipif(GDB is None, reason="gdb-multiarch is not installed")
LIBC = r"from target:/lib/riscv64-linux-gnu/libc\.so\.6"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """env that execs sort, both of Debian's."""
    try:
        root = riscv_root()
    except NotToBeHad as error:
        message = f"gdb was not tried on dynamic programs: {error}"
        warnings.warn(message, stacklevel=2)
        pytest.skip(message)
    out = tmp_path_factory.mktemp("dynamic") / "env.run"
    argv = ("/usr/bin/sort", "/etc/debian_version")
    record(RecordOptions("/usr/bin/env", argv, root=root, out=out))
    return out


@needs_gdb
def test_libraries_and_their_functions_both_ways(run: Path) -> None:
    text = debug(
        *(run, "catch exec", "continue", "delete", "info sharedlibrary", "break write"),
        *("continue", "bt", "info sharedlibrary", "delete", "break sysinfo"),
        *("reverse-continue", "reverse-continue", "bt", "continue", "monitor where"),
    )
    assert text.count("libc.so.6\n") >= 1
    assert re.search(rf"#0 .* in write \(\) {LIBC}\n#1 .* in _IO_file_write \(\) {LIBC}", text)
    assert re.search(r"#\d+ .* in main \(\)", text)
    assert re.search(r"Yes .*target:/lib/ld-linux-riscv64-lp64d\.so\.1", text)
    assert re.search(rf"#0 .* in sysinfo \(\) {LIBC}\n#1 .* in get_av?phys_pages \(\)", text)
    assert "otherwise than it was recorded" not in text


@needs_gdb
def test_the_program_before_an_exec_comes_back(run: Path) -> None:
    text = debug(
        *(run, "catch exec", "continue", "info files", "echo ---\\n"),
        *("reverse-continue", "monitor where", "info files", "bt", "echo ---\\n"),
        *("continue", "info files"),
    )
    sort, env, again = text.split("---\n")
    assert "`target:/usr/bin/sort'" in sort
    assert "is executing new program: /usr/bin/env" in env
    assert "`target:/usr/bin/env'" in env
    assert re.search(rf"#0 .* in execve \(\) {LIBC}", env)
    assert "`target:/usr/bin/sort'" in again
    assert "\n  ecall\n" in text  # of `monitor where`


@needs_gdb
def test_goto_finds_the_program_and_its_libraries(run: Path) -> None:
    execve = (
        Run.open(run).table("syscalls").row(by_predicate=pl.col("name") == "execve", named=True)
    )
    text = debug(
        *(run, f"monitor goto {execve['seq'] // STEPS - 9}", "info files", "bt", "echo ---\\n"),
        *("break get_phys_pages", "monitor goto end", "reverse-continue", "bt", "echo ---\\n"),
        *("monitor goto begin", "info sharedlibrary"),
    )
    env, sort, begin = text.split("---\n")
    assert "`target:/usr/bin/env'" in env
    assert re.search(rf" in execvpe \(\) {LIBC}\n.* in main \(\)", env)
    assert re.search(rf"#0 .* in get_phys_pages \(\) {LIBC}", sort)
    assert "libc.so.6" not in begin.partition("warning")[0]


def test_links_of_the_root_lead_to_its_files(run: Path) -> None:
    loader = "/usr/lib/riscv64-linux-gnu/ld-linux-riscv64-lp64d.so.1"
    names = (loader, "/lib/ld-linux-riscv64-lp64d.so.1", "//lib/../bin/./../lib" + loader[8:])
    with Client(run) as client:
        seen = set()
        for name in names:
            fd = client.ask(f"vFile:open:{name.encode().hex()},0,0")
            seen.add(client.ask(f"vFile:pread:{fd[1:]},40,0") + client.ask(f"vFile:fstat:{fd[1:]}"))
        assert len(seen) == 1
        assert "ELF" in seen.pop()
        assert client.ask(f"vFile:open:{b'/lib'.hex()},0,0") == "F-1,2"
