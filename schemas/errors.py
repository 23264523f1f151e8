"""Errors that reach a user (what, where, why likely, what to do) and the commands' exit codes."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of every command."""

    OK = 0  # success, nothing found
    FINDINGS = 1  # findings, or a difference
    USAGE = 2  # the command line is wrong
    INPUT = 3  # input that cannot be read, or output that cannot be written
    DISAGREES = 4  # a replay disagrees with the record
    INTERRUPTED = 130  # Ctrl-C, as shells say it
    INTERNAL = 70  # a bug in shstk itself


class ShstkError(Exception):
    """An error that the user can act on. It ends a command with `exit`.

    what: one sentence that names the place (file, row, task).
    hint: the likely reason, or what to do next; may be empty.
    """

    exit: Exit = Exit.INPUT

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.what}\n  {self.hint}" if self.hint else self.what


class UsageError(ShstkError):
    """An argument that is wrong whatever the files contain."""

    exit = Exit.USAGE


class BadProgram(ShstkError):
    """The guest program cannot be loaded."""


class BadRun(ShstkError):
    """A run directory is missing, incomplete, damaged or of another schema version."""


class BadListing(ShstkError):
    """A Markdown listing cannot be read; `what` names file and line."""


class BadRecording(ShstkError):
    """What another recorder wrote cannot be read; `what` names the file and the place in it."""


class BadPlugin(ShstkError):
    """A plugin cannot be loaded, wants rows that do not exist, or failed while the guest ran."""


class CannotWrite(ShstkError):
    """An output cannot be written (disk full, no permission)."""


class OutputExists(CannotWrite):
    """An output exists already, and --force was not given."""

    exit = Exit.USAGE
