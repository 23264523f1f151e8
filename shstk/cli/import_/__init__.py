"""`shstk import SOURCE`: one file for each source, loaded when it is called."""

from __future__ import annotations

from typing import ClassVar, Final

import click

from shstk.cli import Commands

# name -> help text; the command is `command` in shstk/cli/import_/<name>.py.
SOURCES: Final = {
    "qemu": "Events that the QEMU plugin wrote (shstk qemu-plugin).",
    "core": "The core dump of a program that died.",
    "ftrace": "The text of trace or trace_pipe, or a trace.dat (shstk ftrace-probes).",
    "spike": "A commit log of Spike (spike --log-commits).",
    "strace": "The text of strace -f, or the files of strace -ff -ttt.",
}


class Sources(Commands):
    names: ClassVar = SOURCES
    package: ClassVar = "shstk.cli.import_"


@click.command(cls=Sources)
def command() -> None:
    """Make a run of what another recorder wrote: one command for each kind.

    The run is judged as any other. What the recorder can't observe is not judged, and is named.
    """
