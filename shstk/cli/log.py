from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

import click

from shstk import render
from shstk.cli.common import Seq, SyscallNames, Window, format_option, open_run, run_argument
from shstk.cli.confined import confine_reading
from shstk.cli.escaping import Escaping
from shstk.cli.terminal import Progress, look, show_warnings
from shstk.schemas import seq as positions
from shstk.schemas.errors import UsageError

if TYPE_CHECKING:
    import polars as pl

    from shstk.log import Line
    from shstk.log.calls import Calls
    from shstk.replay.run import Run

_SHORT: Final = 2**27  # instructions
_FEW_CALLS: Final = 2**14


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
@click.option(
    "--execute/--no-execute",
    default=None,
    help="Execute RUN again for what system calls read, unless that was done before."
    "  [default: if RUN is short]",
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
    execute: bool | None,
    output: Path | None,
    force: bool,
    format: str,
) -> None:
    """List the events of RUN in order: position, task, event.

    The events within a system call are indented below it. Structs, strings and buffers are shown as
    strace shows them. RUN holds the bytes that the kernel wrote, and the paths that it read. For
    what it read otherwise, and for contents of files, RUN is executed again; where it is not, an
    address is shown.

    Instructions are omitted unless --cfi is given (with --calls: both). In JSON, `fields` are the
    columns of the event's table (docs/schema.md); jsonl is one object a line.
    """
    from shstk import log

    confine_reading(output)
    opened = open_run(run)
    wanted = log.Wanted(
        tids, pids, calls, span, around, context, ["syscalls"] * (calls is not None) + ["cfi"] * cfi
    )
    calls_too = "syscalls" in wanted.tables
    with _call_memory(opened, run, execute if calls_too else False) as memory:
        lines = log.tell(opened, wanted, string=string, memory=memory)
        told = _shown(lines, opened, around, format, output, force)
    if not told:
        click.echo("no such event", err=True)


def _shown(
    lines: Iterable[Line],
    run: Run,
    around: int | None,
    format: str,
    output: Path | None,
    force: bool,
) -> bool:
    """Whether there were any."""
    from shstk import log

    with _written_to(output, force) as out:
        if format == "text":
            return _write(lines, around, out)
        shown = (log.as_json(line, run) for line in lines)
        if format == "json":
            render.write_json(list(shown), out)
        else:
            for one in shown:
                out.write(json.dumps(one, ensure_ascii=False) + "\n")
        return True


@contextmanager
def _call_memory(run: Run, path: Path, execute: bool | None) -> Iterator[pl.LazyFrame | None]:
    """What calls read, while it is needed. execute: None: if that takes about a second."""
    import polars as pl

    from shstk.replay.run import CannotDerive
    from shstk.rerun.derive import Deriver

    if click.get_current_context().find_root().params.get("no_derive"):
        if execute:
            raise UsageError("--execute contradicts --no-derive")
        yield None
        return
    if not run.manifest.executable:
        if execute:
            from shstk.tracer.rerun.setup import must_be_executable

            must_be_executable(path, run.manifest)
        yield None
        return
    if execute is None:
        calls = run.scan("syscalls").select(pl.len()).collect().item()
        execute = run.manifest.icount <= _SHORT and calls <= _FEW_CALLS
    progress = Progress(run.manifest.icount, f"{path}: executed again, ")
    try:
        deriver = Deriver(on_progress=progress, done=progress.clear)
        made = deriver.call_memory(run, execute)
    except CannotDerive as error:
        show_warnings([f"{path}: what system calls read is not known: {error}"])
        made = None
    yield None if made is None else pl.scan_parquet(made)


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
