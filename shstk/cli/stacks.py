from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

import shstk
from shstk import render
from shstk.cli.common import Address, Seq, format_option, open_run, run_argument
from shstk.cli.confined import confine_reading
from shstk.cli.terminal import working
from shstk.replay.decode import size
from shstk.schemas import seq as positions
from shstk.schemas.errors import Exit

if TYPE_CHECKING:
    import polars as pl

    from shstk.replay.run import Run


@click.command()
@run_argument
@click.argument("addr", type=Address(), required=False)
@click.option("--at", type=Seq(), metavar="SEQ", help="As of icount.n instead of the run's end.")
@format_option("text", "json", "csv")
def command(run: Path, addr: int | None, at: int | None, format: str) -> int:
    """List the shadow stacks of RUN: the owner, who allocated it, who freed it or should have.

    With ADDR, only the stack that contains it; exit code 1 if none does. `deepest` is the most
    bytes ever in use. `others` are tasks on a stack that is not their own.
    """
    confine_reading()
    opened = open_run(run)
    when = f" at {positions.show(at)}" if at is not None else ""
    if at is not None:
        opened.must_reach(at, f"--at {positions.show(at)}")
    with working(f"reading {opened.name}"):
        frame = shstk.stacks(opened, at=at, addr=addr)
    if format != "text":
        from shstk.replay.views import VIEWS

        render.write_frame(frame, VIEWS["shadow_stacks"].units, format)
    elif not frame.is_empty():
        write_text(frame, sys.stdout)
    elif addr is None:
        click.echo(f"no shadow stack{when}")
    if addr is not None and frame.is_empty():
        click.echo(
            f"no shadow stack contains {addr:#x}{when}: {_there(opened, addr, at)}", err=True
        )
        return Exit.FINDINGS
    return Exit.OK


def _there(run: Run, addr: int, at: int | None) -> str:
    from shstk.replay.symbols import Symbols

    place = Symbols(run).at(None, addr, at)
    return f"it is in {place.name}" if place else "nothing is mapped there"


def write_text(frame: pl.DataFrame, out: TextIO) -> None:
    """One line for each stack, followed by the tasks that should have freed a leaked stack."""
    shared = frame["others"].count() > 0
    header = ["base", "size", "mm", "owner", *(["others"] if shared else []), "ssp", "deepest"]
    header += ["allocated by", "freed by"]
    rows, late = [], []
    for row in frame.iter_rows(named=True):
        rows.append(
            [
                hex(row["base"]),
                size(row["size"]),
                row["mm"],
                row["owner"],
                *([row["others"]] if shared else []),
                None if row["ssp"] is None else hex(row["ssp"]),
                row["high_water"],
                _who(row["how"], row["made_by"], row["made_seq"]),
                _who(row["released_how"], row["released_by"], row["released_seq"]),
            ]
        )
        if row["should"]:
            late.append(f"{row['base']:#x} should have been freed by {row['should']}")
    render.write_table(header, rows, out)
    if late:
        out.write("\n" + "\n".join(late) + "\n")


def _who(how: str | None, task: int | None, seq: int | None) -> Any:
    if how is None or how in ("dump", "guess"):
        return how
    return f"{how}" + (f" of {task}" if task is not None else "") + f" at {positions.show(seq)}"
