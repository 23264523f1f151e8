from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from schemas.errors import Exit, UsageError
from schemas.revisions import resolve
from shstk.cli.common import Kernel, Size, format_option, progress_wanted

if TYPE_CHECKING:
    from replay.check import Report


@click.command(context_settings={"allow_interspersed_args": False})
@click.option(
    "--kernels",
    default="v3,v6,7.0,7.2,7.3",
    show_default=True,
    help="Revisions, by commas; one with switches turned needs an option of its own: --kernel.",
)
@click.option("-k", "--kernel", "more", type=Kernel(), multiple=True, help="One more column.")
@click.option(
    "--keep", type=click.Path(path_type=Path), metavar="DIR", help="Keep the runs in DIR."
)
@click.option("--all", "all_rules", is_flag=True, help="Also rules that no revision violates.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option(
    "--root", type=click.Path(path_type=Path), metavar="DIR", help="File tree of the guest."
)
@click.option("--memory", type=Size(), metavar="SIZE", help="Memory of the machine.")
@click.option(
    "--max-instructions", type=click.IntRange(1), metavar="N", help="End each run after N."
)
@click.option("--timeout", type=float, metavar="SECONDS", help="End each run after so long.")
@format_option("text", "json", "csv")
@click.argument("program")
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def command(
    program: str,
    args: tuple[str, ...],
    kernels: str,
    more: tuple[str, ...],
    keep: Path | None,
    all_rules: bool,
    seed: int,
    root: Path | None,
    memory: int | None,
    max_instructions: int | None,
    timeout: float | None,
    format: str,
) -> int:
    """Record PROGRAM under several revisions and print finding x revision.

    A cell is the number of violations of intent; `ok (n)`: n instances were as they should be; `-`:
    nothing to judge. Exit code 1 if any revision has findings.
    """
    from shstk import api, render

    names = [resolve(name.strip()).name for name in kernels.split(",") if name.strip()] + list(more)
    if not names:
        raise UsageError("--kernels: no revision is named", "`shstk kernels` lists them")
    reports = api.matrix(
        program,
        *args,
        kernels=names,
        keep=keep,
        seed=seed,
        root=root,
        memory=memory,
        max_instructions=max_instructions,
        timeout=timeout,
        on_kernel=_progress if progress_wanted() else None,
    )
    if progress_wanted():
        sys.stderr.write("\r\x1b[K")
    if format == "text":
        write_text(reports, all_rules, sys.stdout)
    else:
        from replay.matrix import matrix

        render.write_frame(matrix(reports, all_rules), format)
    return Exit.OK if all(report.clean for report in reports.values()) else Exit.FINDINGS


def write_text(reports: dict[str, Report], all_rules: bool, out: TextIO) -> None:
    from replay.matrix import matrix
    from shstk import render

    frame = matrix(reports, all_rules)
    if frame.is_empty():
        out.write(f"no findings under {', '.join(reports)}\n")
        return
    render.write_frame(frame, "text", out)


def _progress(kernel: str) -> None:
    sys.stderr.write(f"\rrecording under {kernel} \x1b[K")
    sys.stderr.flush()
