from __future__ import annotations

from pathlib import Path

import click

from shstk.cli.common import open_run, run_argument
from shstk.cli.confined import confine_rerun
from shstk.cli.guest import tier_option


@click.command()
@run_argument
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    help="TCP port of this machine to listen on (default: a free one).",
)
@click.option("--stdio", is_flag=True, help="Talk to gdb on standard input and output instead.")
@tier_option
def command(run: Path, port: int, stdio: bool, tier: str) -> None:
    """Serve RUN to gdb, which can go forwards and backwards in it.

    gdb-multiarch connects with `target remote :PORT`. Breakpoints, watchpoints (of shadow-stack
    words too), threads, processes and every reverse- command work; nothing can be changed.
    `monitor help` lists what gdb has no command for, such as `monitor catch` for system calls. See
    docs/gdb.md.
    """
    confine_rerun((), False, tcp=not stdio)
    from shstk.gdb.server import serve_port, serve_stdio

    opened = open_run(run)
    if stdio:
        serve_stdio(opened, tier)
    else:
        serve_port(opened, port, tier, lambda text: click.echo(f"shstk gdb: {text}", err=True))
