from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from shstk import render
from shstk.cli.common import Seq, SyscallNames, Window, format_option, open_run, run_argument
from shstk.cli.escaping import Escaping
from shstk.cli.terminal import look
from shstk.schemas import seq as positions

if TYPE_CHECKING:
    from shstk.log import Line
    from shstk.log.calls import Calls


@click.command()
@run_argument
@click.option("--tid", "tids", type=int, multiple=True, help="Only this task's events. Repeatable.")
@click.option(
    "--pid", "pids", type=int, multiple=True, help="Only this process's events. Repeatable."
)
@click.option("--around", type=Seq(), metavar="SEQ", help="Only events around icount.n.")
@click.option(
    "-C",
    "--context",
    type=click.IntRange(0),
    default=10,
    show_default=True,
    help="Events on either side of --around.",
)
@click.option(
    "--range", "span", type=Window(), metavar="A..B", help="Only from icount.n A to B, or A..+N."
)
@click.option(
    "--calls",
    type=SyscallNames(),
    is_flag=False,
    flag_value="all",
    metavar="NAME,…",
    help="Only system calls; with names or groups only these: openat,%memory or !futex. Groups, as"
    " strace's: %file %desc %memory %process %signal %ipc %network %clock %creds, and %cfi.",
)
@click.option("--cfi", is_flag=True, help="Only shadow-stack and landing-pad instructions.")
@click.option(
    "-s",
    "--string",
    type=click.IntRange(0),
    default=32,
    show_default=True,
    metavar="N",
    help="Bytes of a buffer that are shown.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write here.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@format_option("text", "json", "jsonl")
def command(
    run: Path,
    tids: tuple[int, ...],
    pids: tuple[int, ...],
    around: int | None,
    context: int,
    span: tuple[int, int] | None,
    calls: Calls | None,
    cfi: bool,
    string: int,
    output: Path | None,
    force: bool,
    format: str,
) -> None:
    """List the events of RUN in order: position, task, event.

    The events within a system call are indented below it. Structs, strings and buffers are shown
    where the run holds their bytes: what the kernel wrote, the paths that it read, and what went to
    standard output. What it read otherwise is shown as an address.

    Instructions are omitted unless --cfi is given (with --calls: both). In JSON, `fields` are the
    columns of the event's table (docs/schema.md); jsonl is one object a line.
    """
    from shstk import log

    opened = open_run(run)
    wanted = log.Wanted(
        tids, pids, calls, span, around, context, ["syscalls"] * (calls is not None) + ["cfi"] * cfi
    )
    lines = log.tell(opened, wanted, string=string)
    with _written_to(output, force) as out:
        if format == "text":
            told = _write(lines, around, out)
        else:
            shown = (log.as_json(line, opened) for line in lines)
            told = True
            if format == "json":
                render.write_json(list(shown), out)
            else:
                for one in shown:
                    out.write(json.dumps(one, ensure_ascii=False) + "\n")
    if not told:
        click.echo("no such event", err=True)


def _write(lines: Iterable[Line], around: int | None, out: TextIO) -> bool:
    """With --around, > marks the asked place: its event, or where it would be."""
    from shstk import log

    told, style = False, look().paint
    here = around is None
    for line in lines:
        told = True
        if around is None:
            out.write(log.text(line) + "\n")
            continue
        if line.seq > around and not here:
            out.write(style(f"> {positions.show(around)}", "strong") + "\n")
        here = here or line.seq >= around
        asked = line.seq == around
        text = ("> " if asked else "  ") + log.text(line)
        out.write(style(text, "strong") + "\n" if asked else text + "\n")
    if told and not here and around is not None:
        out.write(style(f"> {positions.show(around)}", "strong") + "\n")
    return told


@contextmanager
def _written_to(path: Path | None, force: bool) -> Iterator[TextIO]:
    if path is None:
        yield sys.stdout
        return
    from shstk.writing import whole_file

    with whole_file(path, force) as binary:
        out = io.TextIOWrapper(binary, encoding="utf-8", errors="surrogateescape")
        yield Escaping(out, color=False)  # type: ignore[misc]
        out.flush()
        out.detach()
