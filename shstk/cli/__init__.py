"""The command line: one file for each command, loaded when it is called.

A command's module defines its options, which --help and completion need at once. The code that runs
the command (Polars, the rules, the executor) loads too slowly for that. So the modules import
`shstk`, whose functions import what they need when they are called. The few other imports are in
the command's body.
"""

from __future__ import annotations

import importlib
import keyword
import os
from collections.abc import Mapping
from typing import Any, ClassVar, Final

import click

from shstk.schemas.nearest import did_you_mean
from shstk.schemas.version import VERSION

# name -> help text; the command is `command` in shstk/cli/<name>.py, with _ for -.
COMMANDS: Final = {
    "demo": "Record the pthread program under v3, v6 and 7.2 and explain what differs.",
    "record": "Run a program under a kernel revision and record it.",
    "exec": "Run a program without recording; exit with its exit code.",
    "check": "Judge runs: is each shadow stack allocated and released as specified?",
    "stacks": "List the shadow stacks of a run: owner, size, who allocated and freed each.",
    "log": "List the events of a run in order: calls, clones, mappings, signals, ssp moves.",
    "explain-fault": "Explain a fault: expected, found, who pushed it, the likely cause.",
    "matrix": "Record a program under several revisions: revision x finding.",
    "replay": "Execute a run again and compare it with the record, or under another kernel.",
    "explore": "Run a program under many schedules and stop at the first finding.",
    "corpus": "Judge many programs under many kernels and seeds: a campaign.",
    "debug": "Start gdb on a run, to go forwards and backwards in it.",
    "gdb": "Serve a run to gdb: breakpoints, watchpoints, reverse execution.",
    "diff": "Compare two runs of one program, task by task.",
    "report": "Write a page on runs: verdicts, findings, a picture of tasks and shadow stacks.",
    "timeline": "Write a run as a timeline for Perfetto: tasks, shadow stacks, who was on them.",
    "query": "Run SQL over a run's tables and views.",
    "export": "Write a run's tables as Arrow, Parquet or CSV.",
    "info": "Describe a run: program, kernel, how it ended, its tables.",
    "verify": "Verify that runs are whole: every file is there, and is what was recorded.",
    "rules": "List the rules.",
    "explain": "Explain a rule: what it checks, why, and its source.",
    "test-rule": "Test a rule of your own by the listing beside it.",
    "syscalls": "List the system calls: modelled, simple or refused, and why.",
    "plugins": "List the plugins that come with shstk, and their arguments.",
    "kernels": "List the kernel revisions and their switches.",
    "build": "Build a run from a Markdown listing of events.",
    "import": "Make a run of what another recorder wrote.",
    "ftrace-probes": "Print the probes and the commands that record a real kernel with ftrace.",
    "qemu-plugin": "Write the QEMU plugin that records a real kernel, for a machine of your own.",
    "recover": "Salvage a recording that was cut off.",
    "completion": "Print the shell completion script.",
}


def module_of(command: str, package: str = "shstk.cli") -> str:
    """The module that has a command."""
    name = command.replace("-", "_")
    return f"{package}.{name}_" if keyword.iskeyword(name) else f"{package}.{name}"


class ReaderGone(Exception):
    """The reader of our pipe (head, less) has exited."""


class Commands(click.Group):
    """Loads the module of a command only when that command is called."""

    names: ClassVar[Mapping[str, str]] = COMMANDS
    package: ClassVar = "shstk.cli"

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.names)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.names:
            return None
        found = importlib.import_module(module_of(cmd_name, self.package)).command
        assert isinstance(found, click.Command)
        return found

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise ReaderGone from error  # click would exit with 1, which means findings here

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.names and not args[0].startswith("-"):
            near = did_you_mean(args[0], self.names, most=1)
            ctx.fail(f"no such command {args[0]!r}" + (f"; {near}" if near else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(self.names.items()))


@click.command(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 success; 1 findings or a difference; 2 wrong usage; 3 unreadable input or"
    " unwritable output; 4 a replay disagrees with the record.",
)
@click.version_option(VERSION, "-V", "--version", prog_name="shstk")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option(
    "--no-derive",
    is_flag=True,
    help="Never execute a run to make instruction tables that it does not hold.",
)
def cli(debug: bool, no_derive: bool) -> None:
    """Whose shadow stack is this, who allocated it, who should have freed it?

    shstk records RISC-V Linux programs under a model of a kernel revision and judges their Zicfiss
    shadow stacks against the rules of the kernel's patches and the ISA.
    """
    if debug:
        os.environ["SHSTK_DEBUG"] = "1"
