"""The Python API: the commands as functions. Use it through `import shstk`.

Each function imports what it needs when it is called: recording needs no rules and no Polars.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Unpack, overload

from shstk.schemas import seq as positions
from shstk.schemas.revisions import COMPARED
from shstk.schemas.tables import DEFAULT_TRACE, MAX_SIZE

if TYPE_CHECKING:
    import polars as pl

    from shstk.notebook import Judged, Matrix, OpenRun
    from shstk.plugin import Plugin
    from shstk.replay.check import Report
    from shstk.replay.diff.compare import Diff
    from shstk.replay.explain.model import Explanation
    from shstk.replay.run import Run
    from shstk.rerun.compare import Replayed
    from shstk.rerun.derive import Deriver, Deriving
    from shstk.sweep.seeds import Tried
    from shstk.tracer.guest import RunResult
    from shstk.tracer.importers.core.imports import Imported as ImportedCore
    from shstk.tracer.importers.ftrace.imports import Imported as ImportedTrace
    from shstk.tracer.importers.spike.imports import Imported as ImportedLog
    from shstk.tracer.importers.strace.imports import Imported as ImportedText
    from shstk.tracer.options import GuestArguments, Running, Settings
    from shstk.tracer.realkernel.imports import Imported
    from shstk.tracer.realkernel.options import KernelFiles, RealOptions
    from shstk.tracer.realkernel.plugin_files import PluginFiles
    from shstk.tracer.realkernel.record import RealResult
    from shstk.tracer.record import RecordResult


@overload
def open(
    run: str | Path, verify: bool = True, derive: bool = True, **deriving: Unpack[Deriving]
) -> OpenRun: ...
@overload
def open(
    run: Run, verify: bool = True, derive: bool = True, **deriving: Unpack[Deriving]
) -> Run: ...
@overload
def open(
    run: Run | str | Path, verify: bool = True, derive: bool = True, **deriving: Unpack[Deriving]
) -> Run: ...
def open(
    run: Run | str | Path, verify: bool = True, derive: bool = True, **deriving: Unpack[Deriving]
) -> Run:
    """Open the run in a directory. verify: check every file against its sha256 in the manifest.

    derive: execute the run again when rows of cfi or flow are read that it does not hold; deriving:
    see shstk/rerun/derive.py. Raises BadRun if the run is missing, incomplete, damaged or of
    another schema version.
    """
    from shstk.notebook import OpenRun
    from shstk.replay.run import Run as RunType

    if isinstance(run, RunType):
        return run
    made = cache(partial(_deriver, **deriving))
    how = (lambda run, tables: made()(run, tables)) if derive else None
    return OpenRun.open(Path(run), verify=verify, derive=how)


def _deriver(**deriving: Unpack[Deriving]) -> Deriver:
    """Loading it takes longer than opening a run does."""
    from shstk.rerun.derive import Deriver

    return Deriver(**deriving)


def record(
    program: str | Path,
    *args: str,
    out: str | Path | None = None,
    trace: Iterable[str] = DEFAULT_TRACE,
    plugins: Iterable[str | Plugin] = (),
    max_size: int | None = MAX_SIZE,
    force: bool = False,
    **guest: Unpack[GuestArguments],
) -> RecordResult:
    """Run a riscv64 Linux program under a kernel revision and record it.

    out: the run directory (default: the program's name with .run). trace: the executor tables to
    keep in it, from cfi, flow and insn; auto: cfi and flow while they are few. plugins: texts as
    for --plugin, or instances created for this run. max_size: bytes on disk at which the run ends;
    None: no limit. guest: see GuestOptions in shstk.tracer.options. Raises BadProgram, BadPlugin,
    CannotWrite, UsageError.
    """
    from shstk.tracer.record import RecordOptions
    from shstk.tracer.record import record as run_record

    options = RecordOptions(
        str(program),
        args,
        out=Path(out) if out is not None else None,
        trace=frozenset(trace),
        max_size=max_size,
        force=force,
        plugins=tuple(_loaded(plugins)),
        **guest,
    )
    return run_record(options)


def _loaded(plugins: Iterable[str | Plugin]) -> list[Plugin]:
    """Most guests have no plugin, and start sooner without the code that loads one."""
    if not (wanted := list(plugins)):
        return []
    from shstk.plugins.loading import load

    return [load(plugin) for plugin in wanted]


def record_real_kernel(options: RealOptions) -> RealResult:
    """Boot a real kernel in QEMU, run a program there as the only guest, and record it.

    Raises UsageError, BadProgram, BadImage, NoQemu, NoCompiler, NeverStarted, CannotWrite.
    """
    from shstk.tracer.realkernel.record import record as record_real

    return record_real(options)


def import_qemu(
    events: str | Path,
    out: str | Path,
    *,
    program: str | None = None,
    executable: str | Path | None = None,
    root: str | Path | None = None,
    kernel: str | None = None,
    force: bool = False,
) -> Imported:
    """Make a run of the events that the QEMU plugin wrote (`qemu_plugin`).

    program: the name or path that the guest executes; by default the first program that a task
    executes. executable: its ELF file. root: the guest's file tree. Both name addresses. kernel:
    the revision whose rules are expected; by default that of the kernel's banner. Raises
    BadRecording, NeverStarted, BadProgram, UsageError, CannotWrite.
    """
    from shstk.tracer.realkernel.imports import Files, Known, import_events, program_file

    files = Files(Path(root) if root is not None else None)
    if executable is not None:
        files.add(program or Path(executable).name, program_file(Path(executable)))
        program = program or Path(executable).name
    known = Known(program=program, kernel=kernel, files=files)
    return import_events(Path(events), Path(out), known, force)


def import_ftrace(
    trace: str | Path,
    out: str | Path,
    *,
    pid: int | None = None,
    kernel: str | None = None,
    stack_limit: int | None = None,
    force: bool = False,
) -> ImportedTrace:
    """Make a run of a trace of ftrace (`shstk ftrace-probes`): text, or a trace.dat.

    pid: of the program; by default the first that asks for a shadow stack. kernel: the revision
    whose rules are expected; stack_limit: RLIMIT_STACK in bytes; by default as noted in the trace.
    Raises BadRecording, UsageError, CannotWrite.
    """
    from shstk.tracer.importers.ftrace.imports import import_trace

    return import_trace(
        Path(trace), Path(out), pid=pid, kernel=kernel, stack_limit=stack_limit, force=force
    )


def import_core(
    core: str | Path,
    out: str | Path,
    *,
    executable: str | Path | None = None,
    root: str | Path | None = None,
    kernel: str | None = None,
    force: bool = False,
) -> ImportedCore:
    """Make a run of the core dump of a riscv64 program, which may be packed.

    executable: the program's ELF file; by default the file of that path below the root. root: the
    file tree in which it ran. kernel: the revision; by default what the vdso in the core says.
    Raises BadRecording, BadProgram, UsageError, CannotWrite.
    """
    from shstk.tracer.importers.core.imports import import_core as run_import

    exe, tree = (None if path is None else Path(path) for path in (executable, root))
    return run_import(Path(core), Path(out), exe=exe, root=tree, kernel=kernel, force=force)


def import_spike(
    log: str | Path,
    out: str | Path,
    *,
    executable: str | Path | None = None,
    force: bool = False,
) -> ImportedLog:
    """Make a run of a commit log of Spike (`spike --log-commits`).

    executable: the ELF file that ran, to name addresses. No rule that such a log can be judged by
    depends on a kernel. Raises BadRecording, BadProgram, CannotWrite.
    """
    from shstk.tracer.importers.spike.imports import import_log

    return import_log(
        Path(log),
        Path(out),
        executable=Path(executable) if executable else None,
        force=force,
    )


def import_strace(
    texts: Iterable[str | Path],
    out: str | Path,
    *,
    kernel: str | None = None,
    cpu: str | None = None,
    force: bool = False,
) -> ImportedText:
    """Make a run of what strace wrote: a file, or the files of -ff.

    kernel: the revision whose rules are expected; by default that of the release that uname told.
    cpu: the machine's ISA, where no call tells whether it has Zicfiss and Zicfilp. Raises
    BadRecording, UsageError, CannotWrite.
    """
    from shstk.tracer.importers.strace.imports import import_text

    paths = [Path(text) for text in texts]
    return import_text(paths, Path(out), kernel=kernel, cpu=cpu, force=force)


def qemu_plugin(files: KernelFiles, out: str | Path, qemu: str | None = None) -> PluginFiles:
    """Write the plugin for a QEMU, and its table for a kernel, into a directory.

    Raises BadImage, NoQemu, NoCompiler, CannotWrite.
    """
    from shstk.tracer.realkernel.plugin_files import write

    return write(files, Path(out), qemu)


def execute(
    program: str | Path,
    *args: str,
    plugins: Iterable[str | Plugin] = (),
    **guest: Unpack[GuestArguments],
) -> RunResult:
    """Run a program as `record` does, but record nothing; result.plugins has the plugins' results.

    Raises BadProgram, BadPlugin, UsageError.
    """
    from shstk.tracer.guest import execute as run_guest
    from shstk.tracer.options import GuestOptions

    options = GuestOptions(str(program), args, **guest)
    return run_guest(options, _loaded(plugins))


def replay_run(
    run: Run | str | Path,
    *,
    until: int | None = None,
    plugins: Iterable[str | Plugin] = (),
    **running: Unpack[Running],
) -> Replayed:
    """Execute a run again, from its directory alone, and compare it with the record.

    until: a seq to stop after. plugins: as for `record`; nothing is stored. The result reports how
    much agrees, and the first disagreement. Raises BadPlugin, and BadRun, also for a run that was
    not recorded from a program.
    """
    from shstk.rerun.compare import replay as run_replay

    loaded = _loaded(plugins)
    return run_replay(open(run), until=until, plugins=loaded, **running)


def replay_under(
    run: Run | str | Path,
    kernel: str,
    out: str | Path,
    *,
    force: bool = False,
    **running: Unpack[Running],
) -> RecordResult:
    """Record a run's program again, with the run's inputs, under another kernel revision.

    Files that the recorded run never opened do not exist; a warning names each.
    """
    from shstk.rerun.kernel import record_under

    return record_under(open(run), kernel, Path(out), force=force, **running)


def window(
    run: Run | str | Path,
    first: int | str,
    last: int | str,
    *,
    table: str = "insn",
    kernel: str | None = None,
    on_progress: Callable[[int], None] = lambda icount: None,
) -> pl.DataFrame:
    """Execute the instructions from `first` to `last` (seqs, or "icount.n") again and return a row
    for each: the columns of the table insn, place (symbol+0x1a) and instruction (disassembled); or
    the rows of cfi. kernel: under another revision. Raises BadRun.
    """
    import polars as pl

    from shstk.rerun.window import window as frames
    from shstk.schemas.seq import parse

    begin, end = (parse(at) if isinstance(at, str) else at for at in (first, last))
    return pl.concat(
        frames(open(run), begin, end, table=table, kernel=kernel, on_progress=on_progress)
    )


def check(
    run: Run | str | Path,
    *,
    expect: str = "intent",
    as_: str | None = None,
    select: Iterable[str] = (),
    ignore: Iterable[str] = (),
    rules_from: Iterable[str | Path] = (),
) -> Judged:
    """Judge a run. expect: "intent" or "revision"; as_: judge by another revision's switches.

    select, ignore: rules by id, name or family ("A"). rules_from: files with rules of your own.
    Raises BadRule.
    """
    from shstk.notebook import judged
    from shstk.replay.check import check as run_check
    from shstk.replay.rules.own import catalogue

    opened = open(run)
    report = run_check(
        opened,
        expect=expect,
        as_=as_,
        select=tuple(select),
        ignore=tuple(ignore),
        rules=catalogue(map(Path, rules_from)),
    )
    return judged(report, opened)


def diff(
    a: Run | str | Path,
    b: Run | str | Path,
    *,
    tasks: Iterable[str] = (),
    ignore: Iterable[str] = (),
    context: int = 2,
    order: bool = False,
    exact: bool = False,
) -> Diff:
    """Compare two runs, task by task (replay/diff/compare.py).

    tasks: paths such as main/clone#3, or tids. ignore: tables, columns, calls. context: equal
    events around each difference. order: compare the order of all tasks' events too. exact:
    compare values that depend on that order too.
    """
    from shstk.replay.diff.compare import Options
    from shstk.replay.diff.compare import diff as run_diff

    options = Options(tuple(tasks), frozenset(ignore), context, order, exact)
    return run_diff(open(a), open(b), options)


def explain_fault(
    run: Run | str | Path, seq: int | None = None, *, every: bool = False
) -> list[Explanation]:
    """Explain the fault at seq, or the fault that ended the run; every: all faults.

    Raises UsageError if there is no fault at seq.
    """
    from shstk.replay.explain import explain

    return explain(open(run), seq, every=every)


def stacks(run: Run | str | Path, at: int | None = None, addr: int | None = None) -> pl.DataFrame:
    """Every shadow stack of a run. at: as of that seq. addr: only the stack that contains it."""
    from shstk.replay.stacks import stacks as run_stacks

    return run_stacks(open(run), at=at, addr=addr)


def query(run: Run | str | Path, sql: str, allow_files: bool = False) -> pl.DataFrame:
    """SQL over a run's tables and views; 0x… and icount.n are literals.

    allow_files: read_csv and its kin may read files and URLs. Raises UsageError.
    """
    from shstk.sql import query as run_query

    return run_query(open(run), sql, allow_files).frame


def matrix(
    program: str | Path,
    *args: str,
    kernels: Iterable[str] = COMPARED,
    real: Mapping[str, RealOptions] | None = None,
    keep: str | Path | None = None,
    on_output: Callable[[str, int, bytes], None] | None = None,
    on_kernel: Callable[[str], None] | None = None,
    interrupted: Callable[[], bool] = lambda: False,
    trace: Iterable[str] = DEFAULT_TRACE,
    max_size: int | None = MAX_SIZE,
    plugins: Iterable[str] = (),
    **guest: Unpack[Settings],
) -> Matrix:
    """Record a program under each kernel and judge it by intent: kernel -> Report.

    real: real kernels too, by the names that they get in the result. keep: a directory for the
    runs, as <keep>/<kernel>.run; without it they are deleted. on_output gets (kernel, fd, bytes);
    on_kernel is called before each recording. interrupted: polled; the result then has the kernels
    that are complete. trace, max_size: as for `record`. plugins: as texts.
    """
    from shstk.notebook import Matrix, judged
    from shstk.schemas.errors import UsageError
    from shstk.sweep.kernels import matrix as run_matrix
    from shstk.sweep.kernels import run_name
    from shstk.tracer.options import GuestOptions

    if "kernel" in guest:
        raise UsageError("matrix runs a program under several kernels", "kernels=[…] names them")
    texts = tuple(plugins)
    reports = run_matrix(
        GuestOptions(str(program), args, **guest),
        kernels,
        real=real,
        keep=Path(keep) if keep is not None else None,
        on_output=on_output,
        on_kernel=on_kernel,
        interrupted=interrupted,
        trace=trace,
        max_size=max_size,
        plugins=lambda: tuple(_loaded(texts)),
    )
    runs = {k: open(Path(keep) / run_name(k), verify=False) if keep else None for k in reports}
    return Matrix({kernel: judged(report, runs[kernel]) for kernel, report in reports.items()})


def explore(
    program: str | Path,
    *args: str,
    seeds: range = range(100),
    jobs: int = 1,
    expect: str = "intent",
    select: Iterable[str] = (),
    ignore: Iterable[str] = (),
    rules_from: Iterable[str | Path] = (),
    max_size: int | None = MAX_SIZE,
    **guest: Unpack[GuestArguments],
) -> Iterator[Tried]:
    """Record and judge a program under many seeds; yield the outcome of each, in their order.

    Stop iterating, and the other seeds are not run. jobs: runs at a time; running in `guest`
    need jobs=1.
    """
    from shstk.schemas.errors import UsageError
    from shstk.sweep.seeds import Judging
    from shstk.sweep.seeds import explore as run_explore
    from shstk.tracer.options import GuestOptions

    if "seed" in guest:
        raise UsageError("explore runs a program under several seeds", "seeds=range(…) names them")
    options = GuestOptions(str(program), args, **guest)
    judging = Judging(expect, tuple(select), tuple(ignore), tuple(map(Path, rules_from)))
    return run_explore(options, seeds, judging, jobs, max_size)


def build(
    listing: str | Path, out: str | Path, *, run: str | None = None, force: bool = False
) -> Path:
    """Build a sealed run from a Markdown listing (docs/listing.md). run: its name, if several.

    Raises BadListing with file and line.
    """
    from shstk.listing import build as run_build

    return run_build(Path(listing), Path(out), run=run, force=force)


def export(run: Run | str | Path, out: str | Path, format: str = "arrow") -> list[Path]:
    """Write a run's tables as format files into the directory `out`."""
    from shstk.exporting import export as run_export

    return run_export(open(run), Path(out), format)


def write_timeline(
    run: Run | str | Path,
    out: str | Path,
    *,
    window: tuple[int, int] | None = None,
    limit: int = 200_000,
    report: Report | None = None,
    virtual_time: bool = False,
    force: bool = False,
) -> list[str]:
    """Write a run as a Perfetto trace. Returns what was left out, one sentence each.

    window: only from one seq to another. limit: at most so many function calls and system calls.
    report: whose findings are marked; by default those of `check`. virtual_time: also a track of
    the virtual time, for which the run is executed again. Raises CannotWrite, OutputExists,
    UsageError without the package perfetto, and with virtual_time BadRun.
    """
    from shstk.rerun.clock import switch_times
    from shstk.timeline.build import build
    from shstk.timeline.perfetto import write
    from shstk.writing import whole_file

    opened = open(run)
    if window:
        opened.must_reach(window[0], f"--window {positions.show(window[0])}..")
    times = switch_times(opened) if virtual_time else None
    timeline = build(opened, report or check(opened), window, limit, times)
    with whole_file(Path(out), force) as file:
        write(timeline, file)
    return timeline.left_out


def write_report(
    runs: Iterable[Run | str | Path],
    out: str | Path,
    *,
    expect: str = "intent",
    as_: str | None = None,
    reports: Sequence[Report] | None = None,
    force: bool = False,
) -> list[Report]:
    """Write one HTML page on runs: verdicts, findings, and a picture of tasks and stacks.

    reports: of the runs, if they were judged before. Returns the reports. Raises CannotWrite,
    OutputExists, and UsageError without the package jinja2.
    """
    from shstk.page.write import page
    from shstk.writing import whole_file

    opened = [open(run) for run in runs]
    made = list(reports or (check(run, expect=expect, as_=as_) for run in opened))
    with whole_file(Path(out), force) as file:
        file.write(page(opened, made).encode())
    return made
