"""Sets up a recorded guest again, from the run directory alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from shstk.schemas.door import FILES, read_file
from shstk.schemas.errors import BadProgram, BadRun
from shstk.schemas.manifest import Manifest
from shstk.schemas.revisions import resolve
from shstk.tracer.elf import AT_SYSINFO_EHDR
from shstk.tracer.guest import Guest, limits_of, start
from shstk.tracer.kernel.tree.mounts import Mount
from shstk.tracer.kernel.tree.recordedtree import RecordedTree
from shstk.tracer.kernel.tree.sandbox import Sandbox
from shstk.tracer.kernel.tty.terminal import Typed
from shstk.tracer.options import GuestOptions, Running, check_options

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Recorder

Rows = Callable[[str], Iterable[Mapping[str, Any]]]


class TypedAgain:
    """The recorded input of a terminal, line by line; then the input ends, with a warning."""

    def __init__(self, lines: Iterable[bytes], size: tuple[int, int]) -> None:
        self.size = size
        self.warn: Callable[[str], None] = lambda message: None
        self._lines = list(lines)

    def read(self) -> bytes:
        if not self._lines:
            self.warn("the guest reads more from the terminal than was recorded: the input ends")
            return b""
        return self._lines.pop(0)

    def set_attributes(self, termios: bytes) -> None:
        pass


def must_be_executable(run: Path, manifest: Manifest) -> None:
    """Raises BadRun: the run was not recorded from a program."""
    if manifest.provenance.real:
        raise BadRun(
            f"{run} was recorded by {manifest.provenance.recorder}: it cannot be executed again",
            "runs that `shstk record` makes under a kernel model can be",
        )
    if not manifest.trees:
        raise BadRun(
            f"{run} has no program: it cannot be executed",
            "it was written by hand, or under schema 1; runs that `shstk record` makes can be",
        )


def set_up_again(
    run: Path,
    manifest: Manifest,
    rows: Rows,
    rec: Recorder,
    trace: int = 0,
    *,
    kernel: str | None = None,
    max_instructions: int | None = None,
    timeout: float | None = None,
    **running: Unpack[Running],
) -> Guest:
    """The guest of a run before its first instruction, in its state when it was recorded.

    rows: returns the rows of a table of the run (`tree` and `typed`). trace: _core.TRACE_* bits.
    kernel: another revision; None: the recorded switches. max_instructions: icount to stop at.
    timeout, running: as in GuestOptions. Of the host only `run` is read, and nothing is written.

    Raises BadRun (the run has no program, or lost its file), UsageError (`kernel` does not support
    the machine).
    """
    must_be_executable(run, manifest)
    files = run / FILES
    options = GuestOptions(
        program=manifest.program,
        argv=manifest.argv[1:],
        kernel=kernel or manifest.kernel,
        abi=manifest.abi,
        cpu=manifest.cpu,
        nousercfi=manifest.nousercfi,
        enable_cfi=manifest.enable_cfi,
        seed=manifest.seed,
        quantum=manifest.quantum,
        call_ns=manifest.call_ns,
        env=dict(_variable(text) for text in manifest.environ),
        stdin=read_file(run, manifest.stdin) if manifest.stdin is not None else b"",
        tty=manifest.tty is not None,
        cwd=manifest.cwd,
        memory=manifest.memory,
        storage=manifest.storage,
        pids_max=manifest.pids_max,
        max_instructions=max_instructions,
        timeout=timeout,
        rlimits={name: limit.soft for name, limit in manifest.rlimits.items()},
        **running,
    )
    row = manifest.row if kernel is None else resolve(kernel)
    check_options(options, row)
    terminal: Typed | TypedAgain | None = None
    if manifest.tty is not None and manifest.stdin is not None:
        terminal = Typed(options.stdin, manifest.tty)
    elif manifest.tty is not None:
        terminal = TypedAgain((line["bytes"] for line in rows("typed")), manifest.tty)
    sandbox = Sandbox(_mounts(manifest, rows, files), options.stdin)
    sandbox.enter(manifest.cwd)
    limits = limits_of(options)
    bare = AT_SYSINFO_EHDR not in dict(manifest.auxv)
    program, argv = manifest.program, manifest.argv
    try:
        guest = start(options, limits, row, sandbox, program, argv, terminal, rec, trace, bare)
    except BadProgram as error:
        raise BadRun(
            f"{run}: its program cannot be started again: {error.what}",
            "the run does not hold the program's file; its tables can still be checked and queried",
        ) from None
    if isinstance(terminal, TypedAgain):
        terminal.warn = guest.k.warn
    return guest


def _variable(text: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    return key, value


def _mounts(manifest: Manifest, rows: Rows, files: Path) -> tuple[Mount, ...]:
    answers: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows("tree"):
        answers[row["tree"]].append(row)
    return tuple(
        Mount(
            entry.kind,
            entry.guest,
            RecordedTree(answers[number], files),
            entry.guest,
            entry.writable,
        )
        for number, entry in enumerate(manifest.trees)
    )
