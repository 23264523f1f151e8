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
from shstk.cli.confined import confine_rerun
from shstk.cli.guest import tier_option, verbose_option
from shstk.cli.terminal import show_tier
from shstk.schemas.errors import UsageError
from shstk.schemas.tables import WINDOWED


@click.command()
@run_argument
@click.option("--until", type=Seq(), metavar="SEQ", help="Stop after this position (icount.n).")
@click.option(
    "-k",
    "--kernel",
    type=Kernel(),
    help="Record the program under another revision instead.",
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
    help="The part of the run: from position A to B, or A..+N instructions. Implies --trace.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="With --kernel: the new run. With --trace: a .arrow, .csv or .json file.",
)
@click.option("--force", is_flag=True, help="With -o: replace an existing run or file.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Give up after SECONDS.",
)
@plugin_option
@tier_option
@verbose_option
@format_option("text", "json", "csv", "arrow")
def command(
    run: Path,
    until: int | None,
    kernel: str | None,
    traced: str | None,
    window: tuple[int, int] | None,
    output: Path | None,
    force: bool,
    timeout: float | None,
    plugins: tuple[str, ...],
    tier: str,
    verbose: bool,
    format: str,
) -> int:
    """Execute RUN again, from its directory alone, and compare it with the record.

    Every call, switch, signal, fault, mapping, byte and traced instruction must be the same. The
    first difference is shown, with the last event at which both still agreed, and the exit code is
    4.

    --trace shows the instructions of a part of the run, whether or not they were recorded.
    Checkpoints are kept in the user's cache: the first --trace takes as long as executing the run,
    later ones about a second.
    """
    if verbose:
        show_tier(tier)
    confine_rerun(plugins, verbose, output or (run.resolve() if kernel is not None else None))
    if traced is not None or window is not None:
        if until is not None or plugins:
            raise UsageError("--until and --plugin cannot be combined with --trace", "use --window")
        if timeout is not None:
            raise UsageError("--timeout cannot be combined with --trace")
        from shstk.cli.replay.window import show

        return show(open_run(run), traced or "insn", window, kernel, output, force, tier, format)
    if format not in ("text", "json"):
        raise UsageError(f"--format {format} needs --trace")
    if kernel is not None:
        if until is not None:
            raise UsageError("--until cannot be combined with --kernel, which records another run")
        if plugins:
            raise UsageError("--plugin cannot be combined with --kernel")
        if timeout is not None:
            raise UsageError("--timeout cannot be combined with --kernel")
        from shstk.cli.replay.kernel import record

        return record(open_run(run), run, kernel, output, force, tier)
    if output is not None or force:
        raise UsageError(
            "-o and --force need --kernel or --trace", "without these nothing is written"
        )
    from shstk.cli.replay.compare import compare

    return compare(open_run(run), run, until, timeout, plugins, tier, format)
