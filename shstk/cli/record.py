from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import click

from schemas.errors import UsageError
from schemas.revisions import DEFAULT_REVISION
from shstk.cli.common import Kernel, Size, progress_wanted


@click.command(context_settings={"allow_interspersed_args": False})
@click.option(
    "-k",
    "--kernel",
    type=Kernel(),
    default=DEFAULT_REVISION,
    show_default=True,
    help="Revision to model, and switches: 7.2,release_hook=exit_thread (see `shstk kernels`).",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="RUN", help="Run directory."
)
@click.option("--force", is_flag=True, help="Replace an existing run.")
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Schedule, random bytes."
)
@click.option(
    "--env", multiple=True, metavar="K=V", help="Set a variable (the guest has none else)."
)
@click.option("--stdin", type=click.Path(path_type=Path), metavar="FILE", help="Standard input.")
@click.option(
    "--root",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Read-only file tree of the guest.",
)
@click.option(
    "--cpu", default="rv64gc_zicfiss_zicfilp", show_default=True, help="ISA of the harts."
)
@click.option(
    "--abi",
    type=click.Choice(["merged", "own"]),
    default="merged",
    show_default=True,
    help="prctl numbers: the merged kernel's, or the revision's own.",
)
@click.option("--nousercfi", is_flag=True, help="Boot with riscv_nousercfi.")
@click.option("--memory", type=Size(), metavar="SIZE", help="Memory of the machine.")
@click.option(
    "--rlimit",
    "rlimits",
    multiple=True,
    metavar="NAME=SIZE",
    help="Initial limit, such as STACK=8M.",
)
@click.option(
    "--max-instructions", type=click.IntRange(1), metavar="N", help="End the run after N."
)
@click.option("--timeout", type=float, metavar="SECONDS", help="End the run after so long.")
@click.option("--trace", type=click.Choice(["insn"]), help="Also record every instruction.")
@click.option("--exit-guest", is_flag=True, help="Exit as the program did (128 + signal).")
@click.argument("program")
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def command(program: str, args: tuple[str, ...], exit_guest: bool, **options: Any) -> int:
    """Run PROGRAM (a riscv64 Linux ELF) under a kernel revision and record it.

    The program's output passes through. RUN is PROGRAM's name with .run unless -o is given. The
    command's exit code is 0 when the program was recorded, whatever the program did.
    """
    from shstk.api import record

    stdin = options.pop("stdin")
    result = record(
        program,
        *args,
        out=options.pop("output"),
        stdin=_stdin(stdin),
        env=dict(_pair(e, "--env") for e in options.pop("env")),
        rlimits={
            k: Size().convert(v, None, None) if v != "unlimited" else 2**64 - 1
            for k, v in (_pair(r, "--rlimit") for r in options.pop("rlimits"))
        },
        trace=("insn",) if options.pop("trace") else (),
        on_output=_pass_through,
        on_progress=Progress() if progress_wanted() else None,
        interrupted=_Interrupt(),
        **options,
    )
    for warning in result.warnings:
        click.echo(f"{click.style('warning', fg='yellow')}: {warning}", err=True)
    end = result.describe()
    click.echo(f"shstk: {end}, {result.icount} instructions, recorded in {result.path}", err=True)
    if not exit_guest or result.exit_status is None:
        return 0
    signo = result.exit_status & 0x7F
    return 128 + signo if signo else result.exit_status >> 8 & 0xFF


def _pair(text: str, option: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise UsageError(f"{option} {text}: expected NAME=VALUE")
    return key, value


def _stdin(path: Path | None) -> bytes:
    """The bytes of --stdin; without it nothing at a terminal, else what the pipe holds."""
    if path is not None:
        return path.read_bytes()
    if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        return b""
    return sys.stdin.buffer.read()


def _pass_through(fd: int, data: bytes) -> None:
    stream = sys.stderr.buffer if fd == 2 else sys.stdout.buffer
    stream.write(data)
    stream.flush()


class Progress:
    """A line on the terminal, rewritten at most five times a second."""

    def __init__(self) -> None:
        self.began = self.shown = time.monotonic()

    def __call__(self, icount: int) -> None:
        now = time.monotonic()
        if now - self.shown < 0.2:
            return
        self.shown = now
        rate = icount / (now - self.began) / 1e6
        sys.stderr.write(f"\r{icount / 1e6:,.0f} M instructions, {rate:,.0f} M/s \x1b[K\r")
        sys.stderr.flush()


class _Interrupt:
    """The first SIGINT ends the guest and seals the run; a second one kills the recording."""

    def __init__(self) -> None:
        self.hit = False
        signal.signal(signal.SIGINT, self._note)

    def _note(self, _signo: int, _frame: FrameType | None) -> None:
        self.hit = True
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    def __call__(self) -> bool:
        return self.hit
