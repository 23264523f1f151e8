from __future__ import annotations

import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import click

import shstk
from shstk.cli.common import open_run, run_argument
from shstk.schemas.errors import UsageError

_GDBS = ("gdb-multiarch", "riscv64-linux-gnu-gdb", "riscv64-unknown-linux-gnu-gdb")


@click.command(context_settings={"allow_interspersed_args": False})
@run_argument
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
@click.option("--gdb", metavar="GDB", help=f"The gdb to start (default: {_GDBS[0]}).")
def command(run: Path, args: tuple[str, ...], gdb: str | None) -> int:
    """Start gdb on RUN, connected to `shstk gdb`. ARGS are gdb's, such as -ex or -batch.

    The program is before its first instruction. `continue` goes to the signal that ended it, if one
    did, and `reverse-continue` back.
    """
    from shstk.tracer.rerun.setup import must_be_executable

    found = shutil.which(gdb) if gdb else next(filter(None, map(shutil.which, _GDBS)), None)
    if found is None:
        raise UsageError(
            f"{gdb or _GDBS[0]} is not installed",
            "apt install gdb-multiarch, or name one with --gdb",
        )
    must_be_executable(run, open_run(run).manifest)
    server = [sys.executable, "-P", "-m", "shstk", "gdb", "--stdio", str(run)]
    script = Path(shstk.__file__).parent / "gdb" / "commands.gdb"
    connect = f"target remote | {shlex.join(server)}"
    if args[:1] == ("--",):  # behind it gdb would take options for names of files
        args = args[1:]
    signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C is gdb's; SIG_IGN would be inherited
    return subprocess.run([found, "-q", "-x", script, "-ex", connect, *args]).returncode
