"""The terminal: colors, the pager; while guests run, a status line, the guest's output, Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

import click

from shstk.cli.escaping import escaped

if TYPE_CHECKING:
    from shstk.replay.look import Look

_SILENT: Final = 1.0  # seconds until something is said
_STYLES: Final[dict[str, dict[str, Any]]] = {
    "error": {"fg": "red", "bold": True},
    "warning": {"fg": "yellow", "bold": True},
    "good": {"fg": "green"},
    "place": {"fg": "cyan"},
    "label": {"dim": True},
    "strong": {"bold": True},
}


def wants_color() -> bool | None:
    """What NO_COLOR (https://no-color.org) or else FORCE_COLOR asks for; None: color if it is a
    terminal."""
    if os.environ.get("NO_COLOR"):
        return False
    return True if os.environ.get("FORCE_COLOR") else None


def look() -> Look:
    """How text is set on standard output: lines are broken for a terminal only, so that a pipe can
    be searched line by line."""
    import shutil  # loads three packers, which no guest needs

    from shstk.replay.look import Look

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    return Look(width, _styled)


def _styled(text: str, style: str) -> str:
    return click.style(text, **_STYLES.get(style, {})) if text else ""


def show_text(text: str, pager: bool) -> None:
    """Print a text; if it is longer than the terminal, in a pager ($PAGER, less)."""
    import shutil

    lines = text.count("\n")
    if pager and sys.stdout.isatty() and lines >= shutil.get_terminal_size().lines:
        click.echo_via_pager(escaped(text), color=wants_color() is not False)
    else:
        click.echo(text, nl=False)


class Status:
    """A status line, overwritten by the next; silent if standard error is not a terminal."""

    def __init__(self) -> None:
        self.wanted = sys.stderr.isatty()
        self._out = getattr(sys.stderr, "raw", sys.stderr)  # these escape sequences are meant

    def show(self, text: str) -> None:
        if self.wanted:
            self._out.write(f"\r{text} \x1b[K\r")
            self._out.flush()

    def clear(self) -> None:
        if self.wanted:
            self._out.write("\r\x1b[K")


@contextmanager
def working(what: str) -> Iterator[None]:
    """Says what takes so long, once it takes longer than a second: `judging a.run, 3 s`."""
    status, ended = Status(), Event()

    def show() -> None:
        began = time.monotonic()
        while not ended.wait(_SILENT):
            status.show(f"{what}, {time.monotonic() - began:.0f} s")

    shows = Thread(target=show, daemon=True)
    if status.wanted:
        shows.start()
    try:
        yield
    finally:
        ended.set()
        if status.wanted:
            shows.join()
            status.clear()


class Progress:
    """Shows a guest's progress after a second, at most five times a second:
    GuestOptions.on_progress."""

    def __init__(self, total: int = 0, what: str = "") -> None:
        """total: instructions of the whole run, if that is known. what: told before it."""
        self._what = what
        self._status = Status()
        self._of = f" of {total / 1e6:,.0f}" if total else ""
        self._began = time.monotonic()
        self._shown = self._began + _SILENT - 0.2

    def __call__(self, icount: int) -> None:
        now = time.monotonic()
        if now - self._shown < 0.2:
            return
        self._shown = now
        rate = icount / (now - self._began) / 1e6
        self._status.show(
            f"{self._what}{icount / 1e6:,.0f}{self._of} M instructions, {rate:,.0f} M/s"
        )

    def clear(self) -> None:
        self._status.clear()


class PassThrough:
    """Copies the guest's output to ours: GuestOptions.on_output.

    A failed write does not affect the guest; `check` reports it later. A reader that has exited
    (head, grep -q) is not an error.
    """

    def __init__(self) -> None:
        self._error: OSError | None = None

    def __call__(self, fd: int, data: bytes) -> None:
        stream = sys.stderr.buffer if fd == 2 else sys.stdout.buffer
        try:
            stream.write(data)
            stream.flush()
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            if not isinstance(error, BrokenPipeError):
                self._error = error

    def check(self) -> None:
        """Raises the OSError of a failed write, if there was one."""
        if self._error:
            raise self._error


class Interrupt:
    """The first of these signals ends the guest and keeps its recording; a second one kills the
    command. timeout(1) sends SIGTERM, a terminal that is closed SIGHUP."""

    SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self._hit = False
        # nohup has SIGHUP ignored, and it stays so.
        self._caught = [s for s in self.SIGNALS if signal.getsignal(s) is not signal.SIG_IGN]
        for signo in self._caught:
            signal.signal(signo, self._note)

    def _note(self, _signo: int, _frame: FrameType | None) -> None:
        self._hit = True
        for signo in self._caught:
            signal.signal(signo, signal.SIG_DFL)

    def __call__(self) -> bool:
        return self._hit


def as_ctrl_c() -> None:
    """What ends a batch job, SIGTERM, and a terminal that is closed do what Ctrl-C does."""
    for signo in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(signo) is not signal.SIG_IGN:
            signal.signal(signo, signal.default_int_handler)


def show_tier(tier: str) -> None:
    """For -v: what executes the guest."""
    from shstk.tracer.tier import why_interpreted

    why = "--tier interpreter" if tier == "interpreter" else why_interpreted()
    click.echo(f"shstk: interpreted ({why})" if why else "shstk: native code", err=True)


def show_warnings(warnings: Iterable[str]) -> None:
    for warning in warnings:
        click.echo(f"{click.style('warning', fg='yellow')}: {warning}", err=True)
