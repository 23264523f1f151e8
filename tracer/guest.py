"""A guest: a program set up under a kernel revision; and its execution without recording."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from shstk.schemas.extensions import OPTIONAL, optional_of
from shstk.schemas.revisions import Revision, resolve
from shstk.schemas.uapi import PAGE, SIGNAL_NAMES
from shstk.tracer.kernel import loop
from shstk.tracer.kernel.boot import boot
from shstk.tracer.kernel.kernel import Kernel
from shstk.tracer.kernel.tree.mounts import host_mounts
from shstk.tracer.kernel.tree.sandbox import Sandbox
from shstk.tracer.kernel.tty.terminal import Terminal, Typed
from shstk.tracer.options import GuestOptions, check_options
from shstk.tracer.recording.nothing import NullRecorder
from shstk.tracer.tier import native_after

if TYPE_CHECKING:
    from pathlib import Path

    from shstk.tracer._core import Machine
    from shstk.tracer.kernel.kernel import Recorder
    from shstk.tracer.plugins.interface import Plugin
    from shstk.tracer.plugins.session import Finished

_FRAMES: Final = 1 << 20  # 4 GiB: the memory of a guest without --memory

Limits = Callable[[], str | None]


@dataclass(frozen=True)
class RunResult:
    """exit_status: wait status of the first process; None if it had not exited."""

    ending: str
    exit_status: int | None
    icount: int
    warnings: tuple[str, ...]
    plugins: tuple[Finished, ...] = field(default=(), kw_only=True)

    @property
    def exit_code(self) -> int | None:
        """As a shell reports it: 128 + signal for a program that was killed."""
        if self.exit_status is None:
            return None
        signo = self.exit_status & 0x7F
        return 128 + signo if signo else self.exit_status >> 8 & 0xFF

    def describe(self) -> str:
        """How it ended, in a few words."""
        if self.ending == "exited" and self.exit_status is not None:
            return f"exited with {self.exit_status >> 8}"
        if self.ending == "killed" and self.exit_status is not None:
            signo = self.exit_status & 0x7F
            return f"killed by {SIGNAL_NAMES.get(signo, f'signal {signo}')}"
        return {
            "deadlock": "ended in a deadlock: every task is blocked",
            "limit": "stopped at --max-instructions",
            "timeout": "stopped at --timeout",
            "full": "stopped at --max-size",
            "steps": "stopped where its kernel took too many steps",
            "interrupted": "interrupted",
            "stopped": "stopped by a plugin",
        }.get(self.ending, self.ending)


@dataclass(frozen=True)
class Guest:
    """A program before its first instruction. Strings are as the guest sees them.

    limits: also asked by the terminal, so that both see one deadline.
    """

    options: GuestOptions
    limits: Limits
    row: Revision
    machine: Machine
    k: Kernel
    path: str
    argv: tuple[str, ...]
    environ: tuple[str, ...]
    auxv: bytes

    def run(self, alarms: Iterable[tuple[int, Callable[[], None]]] = ()) -> str:
        """Run to the end; return one of schemas.vocabulary.ENDINGS. alarms: as for `loop.run`."""
        return loop.run(self.k, self.options.max_instructions, self._poll, alarms)

    def _poll(self) -> str | None:
        if self.options.on_progress:
            self.options.on_progress(self.machine.icount)
        return self.limits()

    def result(self, ending: str) -> RunResult:
        """The result of `run`. Writes the guest's files to the host where the options ask for it.
        Raises CannotWrite."""
        self.k.sandbox.keep(self.k)
        return RunResult(
            ending, self.k.first.exit_status, self.machine.icount, tuple(self.k.warnings)
        )


def set_up(options: GuestOptions, rec: Recorder, trace: int = 0, run: Path | None = None) -> Guest:
    """trace: _core.TRACE_* bits. run: the directory that is recorded into. Raises UsageError,
    BadProgram."""
    row = resolve(options.kernel)
    check_options(options, row)
    mounts = host_mounts(options.root, options.overlay, options.binds, run)
    sandbox = Sandbox(mounts, options.stdin)
    sandbox.enter(options.cwd)
    path = sandbox.place(options.program, _search_path(options))
    limits = limits_of(options)
    terminal = open_terminal(options, limits) if options.tty else None
    # As a shell does: a name that was found on PATH stays bare.
    found_on_path = "/" not in options.program and path != f"/{options.program}"
    argv = (options.program if found_on_path else path, *options.argv)
    return start(options, limits, row, sandbox, path, argv, terminal, rec, trace)


def start(
    options: GuestOptions,
    limits: Limits,
    row: Revision,
    sandbox: Sandbox,
    path: str,
    argv: tuple[str, ...],
    terminal: Terminal | None,
    rec: Recorder,
    trace: int,
    bare_vdso: bool = False,
) -> Guest:
    """path: the program in the guest. The options about files of the host are ignored."""
    from shstk.tracer._core import Machine

    cpu = optional_of(options.cpu)
    machine = Machine(
        without=[name for name in OPTIONAL if name not in cpu],
        trace=trace,
        max_frames=options.memory // PAGE if options.memory is not None else _FRAMES,
        native_after=native_after(options.tier),
    )
    if options.storage is not None:
        sandbox.storage = options.storage
    k = Kernel(
        machine,
        rec,
        row,
        sandbox,
        abi=options.abi,
        cpu=cpu,
        nousercfi=options.nousercfi,
        enable_cfi=options.enable_cfi,
        seed=options.seed,
        quantum=options.quantum,
        call_ns=options.call_ns,
        memory=options.memory,
        pids_max=options.pids_max,
        stdout_write=options.on_output or (lambda fd, data: None),
        terminal=terminal,
        bare_vdso=bare_vdso,
    )
    environ = tuple(f"{key}={value}" for key, value in (options.env or {}).items())
    first = boot(k, path, _encoded(argv), _encoded(environ), options.rlimits or {})
    assert first.mm is not None
    return Guest(options, limits, row, machine, k, path, argv, environ, first.mm.auxv)


def _search_path(options: GuestOptions) -> list[str]:
    """The folders where a shell in the guest would search for a bare name."""
    path = (options.env or {}).get("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
    return [folder for folder in path.split(":") if folder.startswith("/")]


def open_terminal(options: GuestOptions, limits: Limits) -> Terminal:
    if not options.stdin and os.isatty(0):
        from shstk.tracer.kernel.tty.hostterminal import HostTerminal

        return HostTerminal(lambda: limits() is not None)
    return Typed(options.stdin)


def execute(options: GuestOptions, plugins: Sequence[Plugin] = ()) -> RunResult:
    """Run without recording. Raises UsageError, BadProgram, BadPlugin, CannotWrite."""
    rec = NullRecorder()
    if not plugins:
        guest = set_up(options, rec)
        return guest.result(guest.run())
    from shstk.tracer.plugins.session import Plugins

    watching = Plugins(plugins, rec)
    guest = set_up(options, watching.recorder, watching.trace)
    watching.attach(guest.k)
    ending = guest.run(watching.alarms())
    finished = watching.finish()
    result = replace(guest.result(ending), plugins=finished)
    if watching.failure:
        raise watching.failure
    return result


def _encoded(strings: tuple[str, ...]) -> tuple[bytes, ...]:
    return tuple(s.encode() for s in strings)


def limits_of(options: GuestOptions) -> Limits:
    """A function that returns the ending when the caller or --timeout ends the run. The time
    counts from now."""
    deadline = time.monotonic() + options.timeout if options.timeout is not None else None

    def limits() -> str | None:
        if options.interrupted and options.interrupted():
            return "interrupted"
        if deadline is not None and time.monotonic() >= deadline:
            return "timeout"
        return None

    return limits
