"""Recording: a program, a revision and a seed become a run directory."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from schemas.errors import ShstkError, UsageError
from schemas.manifest import U64, Manifest, Rlimit
from schemas.revisions import DEFAULT_REVISION, Revision, resolve
from schemas.uapi import PAGE, RLIMITS, SIGNALS
from schemas.version import VERSION
from tracer.kernel.boot import boot, initial_limits
from tracer.kernel.kernel import FIRST_PID, Kernel
from tracer.kernel.sandbox import Sandbox
from tracer.kernel.sched import QUANTUM

if TYPE_CHECKING:
    from tracer._core import Machine

CPUS: Final = ("rv64gc", "rv64gc_zicfiss", "rv64gc_zicfilp", "rv64gc_zicfiss_zicfilp")
_TRACE_BITS: Final = {"cfi": 1, "flow": 2, "insn": 4}
_FRAMES: Final = 1 << 20  # 4 GiB: what a guest may touch on a machine without --memory
_SIGNAL_NAMES: Final = {number: name for name, number in SIGNALS.items()}


@dataclass(frozen=True)
class RecordOptions:
    """program: a path in `root` or on the host. argv: without argv[0]. memory, rlimits: bytes or
    counts. timeout: seconds of the host. on_output gets (fd, bytes), on_progress the icount;
    interrupted is asked now and then."""

    program: str
    argv: tuple[str, ...] = ()
    out: Path | None = None
    kernel: str = DEFAULT_REVISION
    abi: str = "merged"
    cpu: str = CPUS[-1]
    nousercfi: bool = False
    seed: int = 0
    env: tuple[tuple[str, str], ...] = ()
    stdin: bytes = b""
    root: Path | None = None
    memory: int | None = None
    max_instructions: int | None = None
    timeout: float | None = None
    force: bool = False
    trace: frozenset[str] = frozenset({"cfi", "flow"})
    rlimits: dict[str, int] = field(default_factory=dict)
    on_output: Callable[[int, bytes], None] = lambda fd, data: None
    on_progress: Callable[[int], None] = lambda icount: None
    interrupted: Callable[[], bool] = lambda: False


@dataclass(frozen=True)
class RecordResult:
    """exit_status: wait status of the first process; None if it had not ended."""

    path: Path
    ending: str
    exit_status: int | None
    icount: int
    warnings: list[str]

    def describe(self) -> str:
        """How it ended, in a few words."""
        if self.ending == "exited" and self.exit_status is not None:
            return f"exited with {self.exit_status >> 8}"
        if self.ending == "killed" and self.exit_status is not None:
            signo = self.exit_status & 0x7F
            return f"killed by {_SIGNAL_NAMES.get(signo, f'signal {signo}')}"
        return {
            "deadlock": "ended in a deadlock: every task waits for another",
            "limit": "stopped at --max-instructions",
            "timeout": "stopped at --timeout",
            "interrupted": "interrupted",
        }.get(self.ending, self.ending)


def record(options: RecordOptions) -> RecordResult:
    """Run and record. Raises UsageError, BadProgram, CannotWrite."""
    from tracer._core import Machine
    from tracer.recorder import Recorder

    row = resolve(options.kernel)
    _check_options(options, row)
    name = Path(options.program).name
    machine = Machine(
        zicfiss="zicfiss" in options.cpu,
        zicfilp="zicfilp" in options.cpu,
        trace=sum(_TRACE_BITS[what] for what in options.trace),
        max_frames=options.memory // PAGE if options.memory is not None else _FRAMES,
    )
    rec = Recorder(options.out or Path(name).with_suffix(".run"), force=options.force)
    k = Kernel(
        machine,
        rec,
        row,
        Sandbox(options.root, options.stdin),
        abi=options.abi,
        cpu=frozenset(options.cpu.split("_")[1:]),
        nousercfi=options.nousercfi,
        seed=options.seed,
        memory=options.memory,
        stdout_write=options.on_output,
    )
    argv = (name, *options.argv)
    environ = tuple(f"{key}={value}" for key, value in options.env)
    try:
        path = k.sandbox.place(options.program)
        first = boot(k, path, _encoded(argv), _encoded(environ), options.rlimits)
    except ShstkError:
        rec.discard()
        raise
    assert first.mm is not None
    head = _Head(options, row, path, argv, environ, k, first.mm.auxv)
    try:
        rec.begin(head.manifest("recovered", None))
        ending = k.run(options.max_instructions, _poll(options, machine))
        sealed = rec.seal(head.manifest(ending, k.first.exit_status))
    except BaseException:
        rec.abandon(machine)
        raise
    return RecordResult(sealed, ending, k.first.exit_status, machine.icount, k.warnings)


def _check_options(options: RecordOptions, row: Revision) -> None:
    if options.cpu not in CPUS:
        raise UsageError(f"--cpu {options.cpu}: no such ISA", f"known: {' '.join(CPUS)}")
    if not options.trace <= _TRACE_BITS.keys():
        raise UsageError(f"--trace {' '.join(options.trace - _TRACE_BITS.keys())}: unknown")
    for name in options.rlimits:
        if name not in RLIMITS:
            raise UsageError(f"--rlimit {name}: no such limit", f"known: {' '.join(RLIMITS)}")
    numbers = row.settings["prctl_numbers"]
    if options.abi == "own" and not numbers.confirmed:
        raise UsageError(
            f"--abi own: no source confirms the prctl numbers of {row.name}",
            "leave --abi merged, or turn the switch: --kernel "
            f"{row.name},prctl_numbers={numbers.value}",
        )


def _encoded(strings: tuple[str, ...]) -> tuple[bytes, ...]:
    return tuple(s.encode("utf-8", "surrogateescape") for s in strings)


def _poll(options: RecordOptions, machine: Machine) -> Callable[[], str | None]:
    deadline = time.monotonic() + options.timeout if options.timeout is not None else None

    def poll() -> str | None:
        options.on_progress(machine.icount)
        if options.interrupted():
            return "interrupted"
        if deadline is not None and time.monotonic() >= deadline:
            return "timeout"
        return None

    return poll


@dataclass(frozen=True)
class _Head:
    """What the manifest says before the end is known."""

    options: RecordOptions
    row: Revision
    path: str
    argv: tuple[str, ...]
    environ: tuple[str, ...]
    k: Kernel
    auxv: bytes

    def manifest(self, ending: str, exit_status: int | None) -> Manifest:
        o = self.options
        limits = initial_limits(o.rlimits)
        return Manifest(
            tool_version=VERSION,
            program=self.path,
            argv=self.argv,
            environ=self.environ,
            cwd="/",
            cpu=o.cpu,
            nousercfi=o.nousercfi,
            kernel=self.row.name,
            switches=self.row.settings,
            abi=o.abi,
            seed=U64(o.seed),
            quantum=QUANTUM,
            rlimits={n: Rlimit(U64(soft), U64(hard)) for n, (soft, hard) in limits.items()},
            memory=U64(o.memory) if o.memory is not None else None,
            page_size=PAGE,
            auxv=tuple((U64(a), U64(b)) for a, b in struct.iter_unpack("<QQ", self.auxv)),
            first_tid=FIRST_PID,
            max_instructions=U64(o.max_instructions) if o.max_instructions is not None else None,
            timeout=o.timeout,
            traced=tuple(sorted(o.trace, key=list(_TRACE_BITS).index)),
            ending=ending,
            exit_status=exit_status,
            icount=U64(self.k.machine.icount),
            warnings=tuple(self.k.warnings),
        )
