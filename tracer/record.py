"""Recording: runs a program under a revision and writes a run directory."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from shstk.schemas.errors import CannotWrite, UsageError
from shstk.schemas.manifest import U64, Manifest, Rlimit, TreeEntry
from shstk.schemas.tables import AUTO, DEFAULT_TRACE, DERIVABLE, FEW, MAX_SIZE, TRACES
from shstk.schemas.uapi import PAGE
from shstk.schemas.version import VERSION
from shstk.tracer.guest import Guest, Limits, RunResult, set_up
from shstk.tracer.kernel.boot import initial_limits
from shstk.tracer.kernel.kernel import FIRST_PID
from shstk.tracer.options import GuestOptions
from shstk.tracer.plugins.session import Plugins
from shstk.tracer.recording.recorder import Recorder, trace_bits

if TYPE_CHECKING:
    from shstk.tracer.kernel import kernel
    from shstk.tracer.plugins.interface import Plugin


@dataclass(frozen=True)
class RecordOptions(GuestOptions):
    """out: the run directory; by default the program's name with .run. few: the most rows of a
    table that trace `auto` keeps. max_size: bytes of the run on disk at which it ends; None: no
    limit. plugins: new instances for each run."""

    out: Path | None = None
    force: bool = False
    trace: frozenset[str] = frozenset(DEFAULT_TRACE)
    few: int = FEW
    max_size: int | None = MAX_SIZE
    plugins: tuple[Plugin, ...] = ()


@dataclass(frozen=True)
class RecordResult(RunResult):
    path: Path


def record(options: RecordOptions) -> RecordResult:
    """Run and record. Raises UsageError, BadProgram, BadPlugin, CannotWrite."""
    out = options.out or Path(Path(options.program).name).with_suffix(".run")
    return record_guest(
        partial(set_up, options, run=out),
        out,
        trace=options.trace,
        force=options.force,
        plugins=options.plugins,
        max_size=options.max_size,
        few=options.few,
    )


def _or_full(limits: Limits, rec: Recorder, most: int | None) -> Limits:
    return limits if most is None else lambda: limits() or ("full" if rec.size >= most else None)


def _known(trace: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The words of --trace in the order of TRACES, each once; and those of them whose tables are
    kept only while they have few rows. Raises UsageError."""
    words = {*trace}
    if unknown := words - {*TRACES, AUTO}:
        raise UsageError(
            f"--trace: {min(unknown)!r} is not a trace",
            f"known: {AUTO}, or {' '.join(TRACES)}, separated by commas, or none",
        )
    while_few = {*DERIVABLE} - words if AUTO in words else set[str]()
    chosen = tuple(word for word in TRACES if word in words | while_few)
    return chosen, tuple(word for word in chosen if word in while_few)


def record_guest(
    set_up: Callable[[kernel.Recorder, int], Guest],
    out: Path,
    *,
    trace: Iterable[str],
    force: bool,
    plugins: Sequence[Plugin] = (),
    max_size: int | None = MAX_SIZE,
    few: int = FEW,
) -> RecordResult:
    """Run the guest that set_up(recorder, _core.TRACE_* bits) returns, and record it into `out`.

    Raises the errors of set_up, UsageError, BadPlugin, CannotWrite.
    """
    traced, while_few = _known(trace)
    rec = Recorder(out, force=force, while_few=while_few, few=few)
    try:
        watching = Plugins(plugins, rec, trace_bits(traced))
        guest = set_up(watching.recorder, watching.trace)
        guest = replace(guest, limits=_or_full(guest.limits, rec, max_size))
    except CannotWrite as error:
        rec.discard()
        raise CannotWrite(error.what) from error  # without the hint: nothing is kept
    except BaseException:
        rec.discard()
        raise
    stdin = guest.options.stdin
    try:
        begun = _manifest(guest, traced, rec.file(stdin) if stdin else None)
        rec.begin(begun)
        watching.attach(guest.k)
        rec.on_drop = watching.unrecord
        ending = guest.run(watching.alarms())
        finished = watching.finish()
        sealed = rec.seal(
            replace(
                begun,
                ending=ending,
                exit_status=guest.k.first.exit_status,
                icount=U64(guest.machine.icount),
                warnings=tuple(guest.k.warnings),
                plugins={
                    f.name: rec.plugin(f.name, f.table) for f in finished if f.table is not None
                },
            )
        )
    except BaseException:
        rec.abandon(guest.machine)
        raise
    result = guest.result(ending)
    if watching.failure:
        watching.failure.hint = watching.failure.hint or f"the run up to the failure is in {sealed}"
        raise watching.failure
    return RecordResult(**vars(replace(result, plugins=finished)), path=sealed)


def _manifest(guest: Guest, traced: tuple[str, ...], stdin: str | None) -> Manifest:
    """The manifest of a guest that has not ended yet."""
    options, terminal = guest.options, guest.k.terminal
    limits = initial_limits(options.rlimits or {})
    most = options.max_instructions
    return Manifest(
        tool_version=VERSION,
        program=guest.path,
        argv=guest.argv,
        environ=guest.environ,
        cwd=guest.k.sandbox.cwd.path(),
        cpu=options.cpu,
        nousercfi=options.nousercfi,
        enable_cfi=options.enable_cfi,
        kernel=guest.row.name,
        switches=guest.row.settings,
        abi=options.abi,
        seed=U64(options.seed),
        quantum=options.quantum,
        call_ns=options.call_ns,
        rlimits={n: Rlimit(U64(soft), U64(hard)) for n, (soft, hard) in limits.items()},
        memory=U64(options.memory) if options.memory is not None else None,
        storage=U64(options.storage) if options.storage is not None else None,
        pids_max=U64(options.pids_max) if options.pids_max is not None else None,
        page_size=PAGE,
        auxv=tuple((U64(a), U64(b)) for a, b in struct.iter_unpack("<QQ", guest.auxv)),
        first_tid=FIRST_PID,
        max_instructions=U64(most) if most is not None else None,
        timeout=None if options.timeout is None else float(options.timeout),
        traced=traced,
        trees=tuple(TreeEntry(m.kind, m.guest, m.writable) for m in guest.k.sandbox.mounts),
        stdin=stdin,
        tty=terminal.size if terminal is not None else None,
        ending="recovered",
        exit_status=None,
        icount=U64(guest.machine.icount),
        warnings=tuple(guest.k.warnings),
    )
