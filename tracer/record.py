"""Recording: a program, a revision and a seed become a run directory."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from schemas.errors import CannotWrite, UsageError
from schemas.manifest import U64, Manifest, Rlimit
from schemas.uapi import PAGE
from schemas.version import VERSION
from tracer.guest import Guest, GuestOptions, RunResult, set_up
from tracer.kernel.boot import initial_limits
from tracer.kernel.kernel import FIRST_PID

_TRACE_BITS: Final = {"cfi": 1, "flow": 2, "insn": 4}


@dataclass(frozen=True)
class RecordOptions(GuestOptions):
    """out: the run directory; by default the program's name with .run."""

    out: Path | None = None
    force: bool = False
    trace: frozenset[str] = frozenset({"cfi", "flow"})


@dataclass(frozen=True)
class RecordResult(RunResult):
    path: Path


def record(options: RecordOptions) -> RecordResult:
    """Run and record. Raises UsageError, BadProgram, CannotWrite."""
    from tracer.recorder import Recorder

    if not options.trace <= _TRACE_BITS.keys():
        raise UsageError(
            f"--trace: there is no {min(options.trace - _TRACE_BITS.keys())!r} to record",
            f"there are {' '.join(_TRACE_BITS)}, with commas between them",
        )
    out = options.out or Path(Path(options.program).name).with_suffix(".run")
    rec = Recorder(out, force=options.force)
    try:
        guest = set_up(options, rec, sum(_TRACE_BITS[what] for what in options.trace))
    except CannotWrite as error:
        rec.discard()
        raise CannotWrite(error.what) from error  # its hint speaks of what is kept
    except BaseException:
        rec.discard()
        raise
    k = guest.k
    try:
        rec.begin(_manifest(guest, options, "recovered", None))
        ending = guest.run()
        sealed = rec.seal(_manifest(guest, options, ending, k.first.exit_status))
    except BaseException:
        rec.abandon(guest.machine)
        raise
    return RecordResult(**vars(guest.result(ending)), path=sealed)


def _manifest(
    guest: Guest, options: RecordOptions, ending: str, exit_status: int | None
) -> Manifest:
    limits = initial_limits(options.rlimits)
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
        rlimits={n: Rlimit(U64(soft), U64(hard)) for n, (soft, hard) in limits.items()},
        memory=U64(options.memory) if options.memory is not None else None,
        page_size=PAGE,
        auxv=tuple((U64(a), U64(b)) for a, b in struct.iter_unpack("<QQ", guest.auxv)),
        first_tid=FIRST_PID,
        max_instructions=U64(most) if most is not None else None,
        timeout=None if options.timeout is None else float(options.timeout),
        traced=tuple(sorted(options.trace, key=list(_TRACE_BITS).index)),
        ending=ending,
        exit_status=exit_status,
        icount=U64(guest.k.machine.icount),
        warnings=tuple(guest.k.warnings),
    )
