"""What `record` and `exec` share: the guest's options, its output, progress and interruption."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import Any, Final, TypeVar

import click

from shstk.cli.common import Kernel, Quantum, Size, progress_wanted
from shstk.schemas.errors import UsageError
from shstk.schemas.extensions import DEFAULT_CPU
from shstk.schemas.revisions import DEFAULT_REVISION

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS: Final = (
    click.option(
        "-k",
        "--kernel",
        type=Kernel(),
        default=DEFAULT_REVISION,
        show_default=True,
        help="Revision to model, and switches: 7.2,release_hook=exit_thread (see `shstk kernels`).",
    ),
    click.option(
        "--seed",
        type=click.IntRange(0),
        default=0,
        show_default=True,
        help="Schedule, random bytes.",
    ),
    click.option(
        "--quantum",
        type=Quantum(),
        default="10000:50000",
        show_default=True,
        metavar="LOW:HIGH",
        help="Instructions of a task's turn while others wait, drawn by the seed.",
    ),
    click.option(
        "--env", multiple=True, metavar="K=V", help="Set a variable (the guest has none else)."
    ),
    click.option(
        "--stdin", type=click.Path(path_type=Path), metavar="FILE", help="Standard input."
    ),
    click.option(
        "--tty",
        is_flag=True,
        help="Give the guest a terminal: this one, or one at which standard input is typed.",
    ),
    click.option(
        "--root",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="File tree of the guest; it is never changed.",
    ),
    click.option(
        "--overlay",
        type=click.Path(path_type=Path, file_okay=False),
        metavar="DIR",
        help="Keep what the guest changes in DIR, and start from what it holds.",
    ),
    click.option(
        "--bind",
        "binds",
        multiple=True,
        metavar="HOST:GUEST[:rw]",
        help="Show a file or directory to the guest; with :rw its changes are written back.",
    ),
    click.option("--cwd", default="/", show_default=True, help="Working directory in the guest."),
    click.option("--cpu", default=DEFAULT_CPU, show_default=True, help="ISA of the harts."),
    click.option(
        "--abi",
        type=click.Choice(["merged", "own"]),
        default="merged",
        show_default=True,
        help="prctl numbers: the merged kernel's, or the revision's own.",
    ),
    click.option("--nousercfi", is_flag=True, help="Boot with riscv_nousercfi."),
    click.option(
        "--enable-cfi",
        type=click.Choice(["off", "auto", "on"]),
        default="off",
        show_default=True,
        help="Have the loader do the prctls, as a libc would: if the program and its libraries are "
        "marked for it, or in any case.",
    ),
    click.option("--memory", type=Size(), metavar="SIZE", help="Memory of the machine."),
    click.option(
        "--rlimit",
        "rlimits",
        multiple=True,
        metavar="NAME=SIZE",
        help="Initial limit, such as STACK=8M.",
    ),
    click.option(
        "--max-instructions", type=click.IntRange(1), metavar="N", help="End the run after N."
    ),
    click.option("--timeout", type=float, metavar="SECONDS", help="End the run after so long."),
    click.argument("program"),
    click.argument("args", nargs=-1, type=click.UNPROCESSED),
)


def guest_options(command: F) -> F:
    """The options of a command that runs PROGRAM. See `guest_arguments`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def guest_arguments(options: dict[str, Any]) -> dict[str, Any]:
    """Keyword arguments of shstk.record and shstk.execute."""
    rlimits = (_pair(r, "--rlimit") for r in options.pop("rlimits"))
    return {
        **options,
        "stdin": _stdin(options["stdin"]),
        "env": dict(_pair(e, "--env") for e in options["env"]),
        "rlimits": {
            k: Size().convert(v, None, None) if v != "unlimited" else 2**64 - 1 for k, v in rlimits
        },
        "binds": [_bind(b) for b in options["binds"]],
        "on_output": PassThrough(),
        "on_progress": Progress() if progress_wanted() else None,
        "interrupted": Interrupt(),
    }


def show_warnings(warnings: Iterable[str]) -> None:
    for warning in warnings:
        click.echo(f"{click.style('warning', fg='yellow')}: {warning}", err=True)


def _pair(text: str, option: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise UsageError(f"{option} {text}: expected NAME=VALUE")
    return key, value


def _bind(text: str) -> tuple[str, str, bool]:
    bare = text.removesuffix(":rw")
    host, colon, guest = bare.rpartition(":")
    if not colon or not host or not guest.startswith("/"):
        raise UsageError(f"--bind {text}: expected HOST:GUEST[:rw]", "GUEST begins with a slash")
    return host, guest, bare != text


def _stdin(path: Path | None) -> bytes:
    """The bytes of --stdin; without it nothing at a terminal, else what the pipe holds."""
    if path is not None:
        return path.read_bytes()
    if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        return b""
    return sys.stdin.buffer.read()


class PassThrough:
    """The guest's output, to whoever takes it; `error` is why not all of it came there.

    A reader that has gone (head, grep -q) is no error, and what the guest does is not changed.
    """

    def __init__(self) -> None:
        self.error: OSError | None = None

    def __call__(self, fd: int, data: bytes) -> None:
        stream = sys.stderr.buffer if fd == 2 else sys.stdout.buffer
        try:
            stream.write(data)
            stream.flush()
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            if not isinstance(error, BrokenPipeError):
                self.error = error


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


class Interrupt:
    """The first SIGINT ends the guest, and what is recorded of it is kept; a second one kills."""

    def __init__(self) -> None:
        self.hit = False
        signal.signal(signal.SIGINT, self._note)

    def _note(self, _signo: int, _frame: FrameType | None) -> None:
        self.hit = True
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    def __call__(self) -> bool:
        return self.hit
