"""Listings: what is written is what stands in the tables."""

import re
import time
from pathlib import Path

import pytest

from shstk import listing
from shstk.listing.events import EVENTS
from shstk.replay.run import Run
from shstk.schemas.seq import parse, show
from shstk.schemas.tables import TABLES
from shstk.schemas.vocabulary import TASK_EVENT_KINDS

DOCUMENT = Path(__file__).parents[2] / "docs" / "listing.md"


def built(*lines: str) -> Run:
    return listing.build_run("```run\n" + "\n".join(lines) + "\n```\n")


def rows(run: Run, table: str, *columns: str) -> list[tuple[object, ...]]:
    """(seq as icount.n, the columns) of each row."""
    frame = run.table(table)
    frame.to_arrow().validate(full=True)
    return [(show(row[0]), *row[1:]) for row in frame.select("seq", *columns).rows()]


def test_the_example_of_the_document() -> None:
    run = listing.build_run(DOCUMENT.read_text())
    base1, base2, size = 0x7FFF_F000_0000, 0x7FFF_E000_0000, 4 << 20
    assert rows(run, "mappings", "tid", "op", "start", "length", "shadow_stack", "during") == [
        ("10.2", 1, "map", base1, size, True, parse("10.1")),
        ("30.2", 1, "map", base2, size, True, parse("30.1")),
        ("50.3", 2, "unmap", base2, size, True, parse("50.1")),
        ("70.3", 1, "unmap", base1, size, True, parse("70.1")),
    ]
    assert rows(run, "syscalls", "tid", "name", "ret", "outcome", "ssp_entry", "ssp_exit") == [
        ("10.1", 1, "prctl", 0, "returned", 0, base1 + size),
        ("30.1", 1, "clone", 2, "returned", base1 + size - 8, base1 + size - 8),
        ("50.1", 2, "exit", None, "no_return", base2 + size, None),
        ("70.1", 1, "exit_group", None, "no_return", base1 + size, None),
    ]
    assert rows(run, "clones", "api", "flags", "child_tid_addr", "exit_signal", "child_tid") == [
        ("30.1", "clone", 0x100 | 0x10000 | 0x800 | 0x200000, 0x7FF01000, 0, 2)
    ]
    assert rows(run, "task_events", "tid", "kind", "ssp", "value") == [
        ("0.1", 1, "created", 0, None),
        ("0.3", 1, "first_user", 0, None),
        ("30.3", 2, "created", base2 + size, 1),
        ("30.5", 2, "first_user", base2 + size, None),
        ("50.2", 2, "exit_begin", base2 + size, None),
        ("50.4", 2, "clear_child_tid", base2 + size, 0),
        ("50.5", 2, "futex_wake", base2 + size, 1),
        ("50.6", 2, "mm_dropped", base2 + size, 1),
        ("70.2", 1, "exit_begin", base1 + size, None),
        ("70.4", 1, "mm_dropped", base1 + size, 0),
    ]
    assert rows(run, "cfi", "tid", "kind", "addr", "value", "ssp_after") == [
        ("20.0", 1, "sspush", base1 + size - 8, 0x10234, base1 + size - 8),
        ("40.0", 2, "sspush", base2 + size - 8, 0x10300, base2 + size - 8),
        ("41.0", 2, "sspopchk", base2 + size - 8, 0x10300, base2 + size),
        ("60.0", 1, "sspopchk", base1 + size - 8, 0x10234, base1 + size),
    ]
    assert rows(run, "mms", "mm", "cause", "seq_end") == [("0.2", 1, "exec", parse("70.4"))]
    assert run.manifest.kernel == "7.2"
    assert run.manifest.rlimits["STACK"].soft == 8 << 20
    assert run.manifest.exit_status == 0


def test_the_document_names_every_event() -> None:
    text = DOCUMENT.read_text().split("## Events", 1)[1]
    named = set(re.findall(r"`([a-z_]+)[ `]", text)) | {"row", "boot", "input"}
    assert EVENTS.keys() <= named
    assert set(TASK_EVENT_KINDS) <= EVENTS.keys()


def test_places_that_are_left_out() -> None:
    run = built(
        "t1 boot",
        "t1 getpid() = 1",
        "sspush 0x10",
        "lpad 0",
        "first_user",
        "100 gettid() = 1",
        "100.5 getpid() = 1 seq_end=200.7",
        "exit(3) { exit_begin 0x300 }",
        "7000 t2 mm5 sspush 1",
    )
    events = [
        (*row, table)
        for table in ("syscalls", "cfi", "task_events")
        for row in rows(run, table, "tid", "mm")
    ]
    assert sorted(events, key=lambda e: parse(str(e[0]))) == [
        ("0.1", 1, 1, "task_events"),
        ("0.3", 1, 1, "task_events"),
        ("1.1", 1, 1, "syscalls"),
        ("2.0", 1, 1, "cfi"),
        ("3.0", 1, 1, "cfi"),
        ("3.1", 1, 1, "task_events"),
        ("100.1", 1, 1, "syscalls"),
        ("100.5", 1, 1, "syscalls"),
        ("101.1", 1, 1, "syscalls"),
        ("101.2", 1, 1, "task_events"),
        ("7000.0", 2, 5, "cfi"),
    ]
    ends = run.table("syscalls")["seq_end"].to_list()
    assert [show(end) for end in ends] == ["1.2", "100.2", "200.7", "101.3"]


def test_fork_vfork_and_exec() -> None:
    run = built(
        "t1 mm1 boot",
        "10 t1 fork() = 2 { t2 mm2 new_mm fork mm1; t2 created }",
        "11 t2 first_user",
        "12 t2 execve(0x1000, 0, 0) = 0 { exec_begin; mm3 new_mm exec mm2; exec_done }",
        "13 t2 sspush 5 ssp_before=0x1000",
        "20 t1 vfork() = 3 seq_end=30.9 { t3 created }",
        "30 t3 exit(0) { mm_dropped 1; vfork_done }",
        "31 t1 clone3(CLONE_VM|CLONE_THREAD, stack=0x4000, stack_size=128K, set_tid=9) = -EEXIST",
        "40 t1 clone(CLONE_VM) = ?",
    )
    assert rows(run, "clones", "mm", "api", "flags", "exit_signal", "child_tid", "ret") == [
        ("10.1", 1, "fork", 0, 17, 2, 2),
        ("20.1", 1, "vfork", 0x4100, 17, 3, 3),
        ("31.1", 1, "clone3", 0x10100, 0, None, -17),
        ("40.1", 1, "clone", 0x100, 0, None, None),
    ]
    assert rows(run, "syscalls", "nr", "name", "a0", "outcome", "seq_end")[-1] == (
        "40.1",
        220,
        "clone",
        0x100,
        "run_ended",
        None,
    )
    clones = run.table("clones")
    assert clones["set_tid"].to_list() == [None, None, 9, None]
    assert clones["stack_size"].to_list() == [0, 0, 128 << 10, 0]
    assert [show(end) for end in clones["seq_end"]] == ["10.4", "30.9", "31.2", "-"]
    assert rows(run, "task_events", "tid", "mm", "kind", "value")[2:] == [
        ("10.3", 2, 2, "created", 1),
        ("11.1", 2, 2, "first_user", None),
        ("12.2", 2, 2, "exec_begin", None),
        ("12.4", 2, 3, "exec_done", None),
        ("20.2", 3, 1, "created", 1),
        ("30.2", 3, 1, "mm_dropped", 1),
        ("30.3", 3, 1, "vfork_done", 1),
    ]
    assert rows(run, "mms", "tid", "mm", "from_mm", "cause") == [
        ("0.2", 1, 1, None, "exec"),
        ("10.2", 2, 2, 1, "fork"),
        ("12.3", 2, 3, 2, "exec"),
    ]


def test_a_tid_that_is_used_again_is_in_the_mm_of_its_new_life() -> None:
    run = built(
        "0.1 t1 boot mm1",
        "10 t1 fork() = 2 { t2 mm2 new_mm fork mm1; t2 created }",
        "20 t2 exit(0) { exit_begin 0; mm_dropped 0 }",
        "30 t1 fork() = 2 { t2 mm3 new_mm fork mm1; t2 created }",
        "40 t2 exit(0) { exit_begin 0; mm_dropped 0 }",
        "50 t1 clone(CLONE_VM|CLONE_THREAD|CLONE_SIGHAND) = 2 { t2 created }",
    )
    created = [row for row in rows(run, "task_events", "tid", "mm", "kind") if row[3] == "created"]
    assert [(seq, mm) for seq, _, mm, _ in created] == [
        ("0.1", 1),
        ("10.3", 2),
        ("30.3", 3),
        ("50.2", 1),
    ]


def test_high_addresses_are_results_as_registers_hold_them() -> None:
    run = built(
        "0.1 t1 boot mm1",
        "10 t1 map_shadow_stack(0, 0x1000, 0) = 0x8000_0000_0000_0000 {",
        "  map 0x1000@0x8000_0000_0000_0000 ss",
        "}",
    )
    assert rows(run, "mappings", "start", "ret") == [("10.2", 2**63, -(2**63))]
    assert rows(run, "syscalls", "ret") == [("10.1", -(2**63))]


def test_ssp_is_followed() -> None:
    run = built(
        "t1 boot",
        "10 t1 prctl(PR_SET_SHADOW_STACK_STATUS, 1) = 0 ssp_exit=0x8000",
        "11 sspush 0x11",
        "12 sspopchk 0x22 operand=0x11 fault=18",
        "13 deliver SIGUSR1 token handler=0x10500",
        "14 rt_sigreturn() { sigreturn token }",
        "15 ssp_write 0xfff0",
        "16 ssrdp",
        "17 ssamoswap 0xfff0 1 2",
        "18 clone(CLONE_VM) = 2 { t2 created }",
        "19 t2 sspush 5",
        "20 t2 execve(0) = -ENOENT { exec_done -ENOENT }",
        "21 t2 execve(0) = 0 { exec_done }",
        "22 t2 ssp_read",
    )
    assert rows(run, "cfi", "kind", "addr", "value", "operand", "ssp_before", "ssp_after") == [
        ("11.0", "sspush", 0x7FF8, 0x11, None, 0x8000, 0x7FF8),
        ("12.0", "sspopchk", 0x7FF8, 0x22, 0x11, 0x7FF8, 0x7FF8),
        ("15.0", "ssp_write", None, 0xFFF0, None, 0x7FF8, 0xFFF0),
        ("16.0", "ssrdp", None, 0xFFF0, None, 0xFFF0, 0xFFF0),
        ("17.0", "ssamoswap", 0xFFF0, 1, 2, 0xFFF0, 0xFFF0),
        ("19.0", "sspush", 0xFFE8, 5, None, 0xFFF0, 0xFFE8),
        ("22.0", "ssp_read", None, 0, None, 0, 0),
    ]
    token = ("ss_ptr", "token_addr", "token_value", "ssp_before", "ssp_after")
    assert rows(run, "signals", "kind", "signo", *token) == [
        ("13.1", "delivery", 10, 0x7FF0, 0x7FF0, 0x7FF8, 0x7FF8, 0x7FF0),
        ("14.2", "sigreturn", None, 0x7FF0, 0x7FF0, 0x7FF8, 0x7FF0, 0x7FF8),
    ]
    assert run.table("task_events")["status"].to_list()[-2:] == [-2, 0]


def test_address_spaces() -> None:
    run = built(
        "S = 8K@0x7000_0000",
        "NEW = 8K@0x6000_0000",
        "t1 boot",
        "10 mmap(0, 8K, PROT_READ) = 0x5000 { map 8K@0x5000 prot=PROT_READ hint=0x5000 input=1 }",
        "11 map_shadow_stack(0, 8K, SHADOW_STACK_SET_TOKEN) = S.base {",
        "  map S ss; mem_write S.top-8 u64:S.top }",
        "12 mprotect(S.base, 4K, PROT_READ) = 0 { protect 4K@0x7000_0000 PROT_READ }",
        "13 mremap(S.base) = NEW.base { remap S NEW }",
        "14 madvise(NEW.base) = 0 { discard NEW }",
        "15 munmap(0) = 0 { unmap NEW; unmap 4K@0x5000 }",
        "16 mmap(0, 4K) = -ENOMEM { map 4K = -ENOMEM; map 4K ss = -ENOMEM }",
        "17 munmap(1) = -EINVAL { unmap S = -EINVAL }",
        "18 read(0, -1, -100) = -EFAULT { mem_swap 0x6000_0000 1 2;",
        "  mem_read 0x10 hex:00ff,u32:S.size,zero:2 }",
    )
    columns = ("op", "start", "length", "prot", "shadow_stack", "ret")
    new, old = 0x6000_0000, 0x7000_0000
    assert rows(run, "mappings", *columns) == [
        ("10.2", "map", 0x5000, 0x2000, 1, False, 0x5000),
        ("11.2", "map", old, 0x2000, 1, True, old),
        ("12.2", "protect", old, 0x1000, 1, True, 0),
        ("13.2", "remap", new, 0x2000, None, True, new),
        ("14.2", "discard", new, 0x2000, None, True, 0),
        ("15.2", "unmap", new, 0x2000, None, True, 0),
        ("15.3", "unmap", 0x5000, 0x1000, None, False, 0),
        ("16.2", "map", None, 0x1000, 3, False, -12),
        ("16.3", "map", None, 0x1000, 1, True, -12),
        ("17.2", "unmap", old, 0x2000, None, True, -22),
    ]
    remap = run.table("mappings").row(3, named=True)
    assert (remap["old_start"], remap["old_length"], remap["flags"]) == (old, 0x2000, 1)
    assert rows(run, "kernel_memory", "op", "addr", "bytes", "during") == [
        ("11.3", "write", old + 0x1FF8, (old + 0x2000).to_bytes(8, "little"), parse("11.1")),
        ("18.2", "swap", new, b"\1" + bytes(7) + b"\2" + bytes(7), parse("18.1")),
        ("18.3", "read", 0x10, b"\0\xff\0\x20\0\0\0\0", parse("18.1")),
    ]
    assert run.table("syscalls").row(-1, named=True)["a2"] == 2**64 - 100


def test_everything_else() -> None:
    run = built(
        "t1 boot",
        '0.10 input 1 /prog "elf bytes" mode=0o644',
        "0.11 module 1 /prog 1 bias=0x1000",
        "1 block 1 hex:13000000 pc=0x1000 module=1",
        "2 flow 1",
        "3 insn 0x13 rd=10 rd_value=-1",
        "3.1 fault 18 tval=3 address=0x8000 signo=SIGSEGV code=SEGV_CPERR",
        "3.2 fatal SIGSEGV code=SEGV_CPERR",
        '4.1 output 1 "hello; {not} a # comment\\n"',
        "5.1 t2 mm2 switch blocked",
        "6.1 t1 switch exited",
        "7 row signals kind=delivery signo=SIGINT sender=t2 alt_stack=true sigreturn_seq=9.1",
        "8.1 t2 reaped t1 9",
    )
    assert rows(run, "inputs", "guest_path", "size", "mode", "first_seq") == [
        ("0.10", "/prog", 9, 0o644, parse("0.10"))
    ]
    assert rows(run, "modules", "module", "path", "input", "bias") == [
        ("0.11", 1, "/prog", 1, 0x1000)
    ]
    assert rows(run, "code", "length", "bytes", "module") == [("1.0", 4, b"\x13\0\0\0", 1)]
    assert rows(run, "flow", "block") == [("2.0", 1)]
    assert rows(run, "insn", "word", "rd", "rd_value", "ssp") == [("3.0", 0x13, 10, 2**64 - 1, 0)]
    assert rows(run, "faults", "cause", "tval", "signo", "code") == [("3.1", 18, 3, 11, 10)]
    assert rows(run, "output", "bytes") == [("4.1", b"hello; {not} a # comment\n")]
    assert rows(run, "sched", "tid", "from_tid", "why") == [
        ("5.1", 2, 1, "blocked"),
        ("6.1", 1, 2, "exited"),
    ]
    assert rows(run, "signals", "kind", "signo", "sender", "alt_stack", "sigreturn_seq") == [
        ("3.2", "fatal", 11, None, None, None),
        ("7.1", "delivery", 2, 2, True, parse("9.1")),
    ]
    assert rows(run, "task_events", "value", "status")[-1] == ("8.1", 1, 9)
    assert set(run.manifest.traced) == {"cfi", "flow", "insn"}
    written = {name for name in TABLES if not run.table(name).is_empty()}
    absent = {"clones", "syscalls", "mappings", "kernel_memory", "cfi", "tree", "typed"}
    absent |= {name for name in TABLES if name.startswith("dump_")}  # of imported cores only
    assert written == TABLES.keys() - absent


@pytest.mark.parametrize("table", TABLES)
def test_the_escape_reaches_every_column(table: str) -> None:
    samples = {"kind": "", "str": "word", "bytes": "hex:00", "bool": "true"}
    columns = [c for c in TABLES[table].columns if c.name not in ("seq", "tid", "mm")]
    words = [f"{c.name}={c.kinds[0] if c.kinds else samples.get(c.base, 7)}" for c in columns]
    run = built(f"5.1 t3 mm4 row {table} {' '.join(words)}")
    row = run.table(table).row(0, named=True)
    assert (row["seq"], row["tid"], row["mm"]) == (parse("5.1"), 3, 4)
    assert None not in row.values()


def test_null_wins() -> None:
    run = built("t1 boot", "1 sspush 5 addr=- fault=7", "2 getpid() = 1 ssp_entry=-")
    assert rows(run, "cfi", "addr", "ssp_after") == [("1.0", None, 0)]
    assert run.table("syscalls")["ssp_entry"].to_list() == [None]


def test_the_head() -> None:
    manifest = built(
        "kernel 7.2,release_hook=exit_thread",
        "abi own",
        "cpu rv64gc_zicfiss",
        "nousercfi",
        "seed 5",
        "rlimit STACK=12K:16M NPROC=infinity",
        "memory 512M",
        'argv prog "an argument"',
        "traced flow",
        "ending limit",
        "t1 boot",
        "99 t1 sspush 1",
    ).manifest
    assert manifest.row["release_hook"] == "exit_thread"
    assert (manifest.abi, manifest.cpu, manifest.nousercfi) == ("own", "rv64gc_zicfiss", True)
    assert (manifest.seed, manifest.memory, manifest.icount) == (5, 512 << 20, 99)
    assert (manifest.rlimits["STACK"].soft, manifest.rlimits["STACK"].hard) == (12 << 10, 16 << 20)
    assert manifest.argv == ("prog", "an argument")
    assert (manifest.traced, manifest.ending, manifest.complete) == (("flow",), "limit", False)


SEVERAL = """
# Two runs that begin alike
```run
t1 boot
```
```python
not a run
```
Some prose.
~~~run good
10 t1 sspush 1
~~~
```run bad
10 t1 sspush 2
```
```run good
11 t1 sspush 3
```
"""


def test_several_runs_in_one_file() -> None:
    assert listing.names(SEVERAL) == ["good", "bad"]
    pushed = {
        name: listing.build_run(SEVERAL, name).table("cfi")["value"].to_list()
        for name in ("good", "bad")
    }
    assert pushed == {"good": [1, 3], "bad": [2]}
    assert len(listing.build_run(SEVERAL, "bad").table("task_events")) == 2


def test_in_memory_and_on_disk_are_the_same(tmp_path: Path) -> None:
    text = DOCUMENT.read_text().replace("t1 boot mm1", 't1 boot mm1\n0.9 t1 input 1 /p "x"')
    (tmp_path / "a.md").write_text(text)
    run = Run.open(listing.build(tmp_path / "a.md", tmp_path / "a.run"))
    memory = listing.build_run(text)
    for name in TABLES:
        assert run.table(name).equals(memory.table(name)), name
    assert run.file(run.table("inputs")["sha256"][0]) == b"x"
    again = listing.build(tmp_path / "a.md", tmp_path / "b.run")
    for file in tmp_path.joinpath("a.run").rglob("*.*"):
        assert file.read_bytes() == (again / file.relative_to(tmp_path / "a.run")).read_bytes()


def test_building_is_quick() -> None:
    text = DOCUMENT.read_text()
    listing.build_run(text)
    took = []
    for _ in range(5):
        start = time.perf_counter()
        listing.build_run(text)
        took.append(time.perf_counter() - start)
    assert min(took) < 0.05
