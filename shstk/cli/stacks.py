from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

import shstk
from shstk import render
from shstk.cli.common import Address, Seq, format_option, open_run, run_argument
from shstk.replay.decode import size
from shstk.schemas import seq as positions

if TYPE_CHECKING:
    import polars as pl


@click.command()
@run_argument
@click.argument("addr", type=Address(), required=False)
@click.option("--at", type=Seq(), metavar="SEQ", help="As of icount.n instead of the run's end.")
@format_option("text", "json", "csv")
def command(run: Path, addr: int | None, at: int | None, format: str) -> None:
    """List the shadow stacks of RUN: the owner, who allocated it, who freed it or should have.

    With ADDR, only the stack that contains it. `deepest` is the most bytes ever in use.
    """
    frame = shstk.stacks(open_run(run), at=at, addr=addr)
    if format != "text":
        from shstk.replay.views import VIEWS

        render.write_frame(frame, VIEWS["shadow_stacks"].units, format)
    elif frame.is_empty():
        where = f" contains {addr:#x}" if addr is not None else ""
        when = f" at {positions.show(at)}" if at is not None else ""
        click.echo(f"no shadow stack{where}{when}")
    else:
        write_text(frame, sys.stdout)


def write_text(frame: pl.DataFrame, out: TextIO) -> None:
    """One line for each stack, followed by the tasks that should have freed a leaked stack."""
    header = ["base", "size", "mm", "owner", "ssp", "deepest", "allocated by", "freed by"]
    rows, late = [], []
    for row in frame.iter_rows(named=True):
        rows.append(
            [
                hex(row["base"]),
                size(row["size"]),
                row["mm"],
                row["owner"],
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
    if how is None:
        return None
    return f"{how}" + (f" of {task}" if task is not None else "") + f" at {positions.show(seq)}"
