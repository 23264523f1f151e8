"""Errors that reach a user (what, where, why likely, what to do) and the commands' exit codes."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of every command."""

    OK = 0  # done, nothing found
    FINDINGS = 1  # findings, or a difference
    USAGE = 2  # the command line is wrong
    INPUT = 3  # unreadable or invalid input, or an output that cannot be written
    DISAGREES = 4  # executing again disagrees with the record
    INTERNAL = 70  # a defect of shstk itself


class ShstkError(Exception):
    """Something the user can act on. Ends a command with `exit`.

    what: one sentence, with the place (file, row, task) in it.
    hint: why it is likely so, or what to do next; may be empty.
    """

    exit: Exit = Exit.INPUT

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.what}\n  {self.hint}" if self.hint else self.what


class UsageError(ShstkError):
    """An argument that cannot be right whatever the files hold."""

    exit = Exit.USAGE


class BadProgram(ShstkError):
    """The guest program cannot be loaded."""


class BadRun(ShstkError):
    """A run directory is missing, incomplete, damaged or of another schema version."""


class BadListing(ShstkError):
    """A Markdown listing cannot be read; `what` names file and line."""


class BadPlugin(ShstkError):
    """A plugin cannot be loaded, asks for what there is not, or failed while the guest ran."""


class CannotWrite(ShstkError):
    """An output cannot be written (exists already, disk full, no permission)."""
