from __future__ import annotations

from pathlib import Path

import click

from shstk.cli.common import (
    Kernel,
    Seq,
    Window,
    format_option,
    open_run,
    plugin_option,
    run_argument,
)
from shstk.schemas.errors import UsageError
from shstk.schemas.tables import WINDOWED


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
    type=click.Choice(WINDOWED),
    help="Show each shadow-stack event, or each instruction, of the window instead.",
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
        from shstk.cli.replay.window import show

        return show(open_run(run), traced or "insn", window, kernel, output, force, format)
    if format not in ("text", "json"):
        raise UsageError(f"--format {format} goes with --trace")
    if kernel is not None:
        if until is not None:
            raise UsageError("--until holds a run against its record; --kernel makes another run")
        if plugins:
            raise UsageError("--plugin looks on while a run is held against its record")
        from shstk.cli.replay.kernel import record

        return record(open_run(run), run, kernel, output, force)
    if output is not None or force:
        raise UsageError(
            "-o and --force go with --kernel or --trace", "without them nothing is written"
        )
    from shstk.cli.replay.compare import compare

    return compare(open_run(run), run, until, plugins, format)
