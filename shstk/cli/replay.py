from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from shstk.cli.common import (
    Kernel,
    Seq,
    Window,
    format_option,
    open_run,
    plugin_option,
    progress_wanted,
    run_argument,
    show_plugins,
)
from shstk.cli.guest import Interrupt, PassThrough, Progress, show_warnings
from shstk.schemas import seq as positions
from shstk.schemas.errors import CannotWrite, Exit, UsageError
from shstk.schemas.version import VERSION

if TYPE_CHECKING:
    from shstk.replay.disagreement import Disagreement, Event
    from shstk.replay.run import Run
    from shstk.replaying import Replayed


@click.command()
@run_argument
@click.option("--until", type=Seq(), metavar="SEQ", help="Stop after this position (icount.n).")
@click.option(
    "-k",
    "--kernel",
    type=Kernel(),
    help="Record what would have happened under another revision instead.",
)
@click.option(
    "--trace",
    "traced",
    type=click.Choice(("insn", "cfi")),
    help="Show each instruction, or each shadow-stack event, of the window instead.",
)
@click.option(
    "--window",
    type=Window(),
    metavar="A..B",
    help="Of what part of the run: from position A to B, or A..+N instructions. Implies --trace.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="With --kernel: its run. With --trace: a file, .arrow, .csv or .json by its name.",
)
@click.option("--force", is_flag=True, help="With -o: replace what is there.")
@plugin_option
@format_option("text", "json", "csv", "arrow")
def command(
    run: Path,
    until: int | None,
    kernel: str | None,
    traced: str | None,
    window: tuple[int, int] | None,
    output: Path | None,
    force: bool,
    plugins: tuple[str, ...],
    format: str,
) -> int:
    """Execute RUN again, from its directory alone, and hold it against the record.

    Every call, switch, signal, fault, mapping, byte and traced instruction must be the same; the
    first that is not is shown, with the last event at which both still agreed, and the exit code
    is 4.

    With --trace the rows of a part of it are shown, recorded or not. Checkpoints on the way there
    are kept in the user's cache: the first look at a run takes as long as executing it does, any
    later one about a second.
    """
    if traced is not None or window is not None:
        if until is not None or plugins:
            raise UsageError("--until and --plugin don't go with --trace: say what --window is")
        return _window(open_run(run), traced or "insn", window, kernel, output, force, format)
    if format not in ("text", "json"):
        raise UsageError(f"--format {format} goes with --trace")
    if kernel is not None:
        if until is not None:
            raise UsageError("--until holds a run against its record; --kernel makes another run")
        if plugins:
            raise UsageError("--plugin looks on while a run is held against its record")
        return _under(open_run(run), run, kernel, output, force)
    if output is not None or force:
        raise UsageError(
            "-o and --force go with --kernel or --trace", "without them nothing is written"
        )
    from shstk.plugins.loading import load
    from shstk.replaying import replay

    progress = Progress() if progress_wanted() else None
    record = open_run(run)
    result = replay(
        record,
        until=until,
        plugins=[load(plugin) for plugin in plugins],
        interrupted=Interrupt(),
        on_progress=progress or (lambda icount: None),
    )
    if progress:
        sys.stderr.write("\x1b[K")
    if format == "json":
        click.echo(json.dumps(_as_json(result), indent=1))
    else:
        click.echo(_text(run, result), nl=False)
    show_plugins(result.plugins)
    if result.disagreement and record.manifest.tool_version != VERSION:
        recorded_by = record.manifest.tool_version
        show_warnings([f"it was recorded by shstk {recorded_by}; this is {VERSION}"])
    return Exit.DISAGREES if result.disagreement else Exit.OK


def _window(
    run: Run,
    table: str,
    window: tuple[int, int] | None,
    kernel: str | None,
    output: Path | None,
    force: bool,
    format: str,
) -> int:
    from shstk import windowing

    end = run.manifest.icount
    first, last = window or (0, end * positions.STEPS)
    if kernel is None and first > end * positions.STEPS:
        raise UsageError(f"--window {positions.show(first)}..: the run ends at {end}.0")
    progress = Progress() if progress_wanted() else None
    frames = windowing.window(
        run,
        first,
        last,
        table=table,
        kernel=kernel,
        on_progress=progress or (lambda icount: None),
    )
    by_name = output.suffix[1:] if output and format == "text" else format
    wanted = by_name if by_name in ("json", "csv", "arrow") else format
    if output is None and wanted == "arrow":
        raise UsageError("--format arrow needs a file", "name it with -o FILE.arrow")
    with _opened(output, wanted, force) as out:
        windowing.write(frames, wanted, out)
    if progress:
        sys.stderr.write("\x1b[K")
    return Exit.OK


@contextmanager
def _opened(path: Path | None, format: str, force: bool) -> Iterator[IO[Any]]:
    """Raises CannotWrite."""
    if path is None:
        yield sys.stdout
        return
    binary = format == "arrow"
    mode = ("w" if force else "x") + ("b" if binary else "")
    try:
        with path.open(mode, encoding=None if binary else "utf-8") as out:
            yield out
    except FileExistsError:
        raise CannotWrite(
            f"{path} exists already", "choose another with -o, or use --force"
        ) from None
    except OSError as error:
        raise CannotWrite(f"cannot write to {path}: {error.strerror or error}") from error


def _under(run: Run, path: Path, kernel: str, output: Path | None, force: bool) -> int:
    from shstk.replaying import record_under

    named = path if path.name else path.absolute()
    out = output or named.with_name(f"{named.name.removesuffix('.run')}.{kernel}.run")
    passing = PassThrough()
    result = record_under(
        run,
        kernel,
        out,
        force=force,
        on_output=passing,
        on_progress=Progress() if progress_wanted() else lambda icount: None,
        interrupted=Interrupt(),
    )
    show_warnings(result.warnings)
    click.echo(
        f"shstk: under {kernel} it {result.describe()}, {result.icount} instructions,"
        f" recorded in {result.path}\n  compare them with `shstk diff {path} {result.path}`",
        err=True,
    )
    if passing.error:
        raise passing.error
    return Exit.OK


def _text(path: Path, result: Replayed) -> str:
    counts = ", ".join(f"{rows} {table}" for table, rows in result.agreed.items()) or "no rows"
    found = result.disagreement
    if found is None:
        end = "" if result.whole else ", as far as it was to go"
        lines = [f"{path} agrees: {result.icount} instructions executed again{end}"]
    else:
        lines = [f"{path} disagrees at {_event(found.at)}"]
        lines += [f"  {line}" for line in _difference(found)]
        last = _event(found.agreed) if found.agreed else "nothing"
        lines.append(f"the last event that is the same: {last}")
    return "\n".join([*lines, f"the same: {counts}"]) + "\n"


def _event(event: Event) -> str:
    shown = f"{positions.show(event.seq)}: {event.table}"
    if event.what is not None:
        shown += f" {event.what}"
    if event.tid is not None:
        shown += f" of task {event.tid}"
    if event.pc is not None:
        shown += f" at {event.pc:#x}"
    if event.place:
        shown += f" in {event.place}"
    return shown if event.began == event.seq else f"{shown}, begun at {positions.show(event.began)}"


def _difference(found: Disagreement) -> list[str]:
    if found.columns == ("seq",):
        return [f"recorded: {_row(found.recorded)}", f"now:      {_row(found.now)}"]
    assert found.recorded is not None
    assert found.now is not None
    width = max(len(column) for column in found.columns)
    lines = []
    for column in found.columns:
        was, now = found.recorded[column], found.now[column]
        if isinstance(was, bytes) and isinstance(now, bytes):
            was, now = _around(was, now)
        shown = f"recorded {_value(column, was)}, now {_value(column, now)}"
        lines.append(f"{column:{width}}  {shown}")
    return lines


def _row(row: dict[str, Any] | None) -> str:
    """What tells a row, in one line."""
    if row is None:
        return "no more of these"
    told = {name: value for name, value in row.items() if value is not None and name != "seq"}
    shown = " ".join(f"{name}={_value(name, value)}" for name, value in told.items())
    return f"{positions.show(row['seq'])} {shown}"


def _around(was: bytes, now: bytes) -> tuple[str, str]:
    """Both where they begin to differ."""
    pairs = zip(was, now, strict=False)
    at = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(was), len(now)))
    start = max(at - 4, 0)

    def shown(data: bytes) -> str:
        return f"{data[start : at + 8]!r} ({len(data)} bytes)"

    return f"[{start}:] {shown(was)}", f"[{start}:] {shown(now)}"


def _value(column: str, value: Any) -> str:
    from shstk.render import is_seq

    if isinstance(value, int) and not isinstance(value, bool):
        if is_seq(column):
            return positions.show(value)
        return hex(value) if abs(value) >= 4096 and column != "icount" else str(value)
    if isinstance(value, bytes):
        return repr(value[:24]) + ("…" if len(value) > 24 else "")
    return "-" if value is None else str(value)


def _as_json(result: Replayed) -> dict[str, Any]:
    from shstk import render

    def shown(name: str, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: shown(key, item) for key, item in value.items()}
        if isinstance(value, tuple | list):
            return [shown(name, item) for item in value]
        if isinstance(value, bytes):
            return value.hex()
        if isinstance(value, int) and not isinstance(value, bool):
            if render.is_seq(name):
                return positions.show(value)
            return hex(value) if value >= 2**53 or name in ("pc", "addr") else value
        return value

    raw = {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
    raw["disagreement"] = result.disagreement and dataclasses.asdict(result.disagreement)
    answer: dict[str, Any] = shown("", raw)
    return answer
