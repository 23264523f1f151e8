from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

import shstk
from shstk import render
from shstk.cli.common import Kernel, format_option
from shstk.cli.guest import guest_options, settings
from shstk.cli.terminal import Status
from shstk.schemas.errors import Exit, UsageError
from shstk.schemas.revisions import COMPARED, resolve

if TYPE_CHECKING:
    from shstk.replay.check import Report


@click.command(context_settings={"allow_interspersed_args": False})
@click.option(
    "--kernels",
    default=",".join(COMPARED),
    show_default=True,
    help="Revisions, separated by commas; a revision with changed switches goes with --kernel.",
)
@click.option("-k", "--kernel", "more", type=Kernel(), multiple=True, help="One more column.")
@click.option(
    "-p",
    "--program",
    "others",
    multiple=True,
    metavar="COMMAND",
    help="One more program with its arguments, quoted as one word.",
)
@click.option(
    "--keep", type=click.Path(path_type=Path), metavar="DIR", help="Keep the runs in DIR."
)
@click.option("--all", "all_rules", is_flag=True, help="List rules that no revision violates too.")
@format_option("text", "json", "csv")
@guest_options("kernel", "program", "args")
@click.argument("program", required=False)
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def command(
    program: str | None,
    args: tuple[str, ...],
    kernels: str,
    more: tuple[str, ...],
    others: tuple[str, ...],
    keep: Path | None,
    all_rules: bool,
    format: str,
    **options: Any,
) -> int:
    """Record PROGRAM under several revisions and print finding x revision.

    A cell is the number of violations of intent; `ok (n)`: n instances were correct; `-`: nothing
    to judge. `changes` names the revisions at which a finding appears and disappears. With
    --program: program x finding x revision. Exit code 1 if any revision has findings.
    """
    from shstk.replay.matrix import matrix

    names = [resolve(name.strip()).name for name in kernels.split(",") if name.strip()] + list(more)
    if not names:
        raise UsageError("--kernels names no revision", "`shstk kernels` lists them")
    programs = _programs(program, args, others)
    guest = settings(options, piped=False)
    status = Status()
    reports = {
        name: shstk.matrix(
            *words,
            kernels=names,
            keep=keep and (keep if len(programs) == 1 else keep / Path(words[0]).name),
            on_kernel=partial(_show, status, name),
            **guest,
        )
        for name, words in programs.items()
    }
    status.clear()
    if format == "text":
        write_text(reports, all_rules, sys.stdout)
    elif format == "json":
        render.write_json([line.as_json() for line in matrix(reports, all_rules)])
    else:
        render.write_rows(*_table(reports, all_rules), format)
    clean = all(report.clean for made in reports.values() for report in made.values())
    return Exit.OK if clean else Exit.FINDINGS


def write_text(reports: Mapping[str, Mapping[str, Report]], all_rules: bool, out: TextIO) -> None:
    """reports: by program and kernel."""
    header, rows = _table(reports, all_rules)
    if not rows:
        out.write(f"no findings under {', '.join(next(iter(reports.values())))}\n")
        return
    render.write_table(header, rows, out)
    if len(reports) > 1:
        broken = {program for program, *_ in rows}
        if clean := [program for program in reports if program not in broken]:
            out.write(f"no findings: {', '.join(clean)}\n")


def _table(
    reports: Mapping[str, Mapping[str, Report]], all_rules: bool
) -> tuple[list[str], list[list[str]]]:
    """Header and rows, with a column for the program if there are several."""
    from shstk.replay.matrix import matrix

    several = len(reports) > 1
    kernels = next(iter(reports.values()))
    header = ["program"] * several + ["rule", "slug", *kernels, "changes"]
    lines = matrix(reports, all_rules)
    return header, [[line.program] * several + line.words() for line in lines]


def _programs(
    program: str | None, args: tuple[str, ...], others: tuple[str, ...]
) -> dict[str, list[str]]:
    """Each program's name in the table, and its arguments."""
    commands = [[program, *args]] if program is not None else []
    for text in others:
        try:
            commands.append(shlex.split(text))
        except ValueError as error:
            raise UsageError(f"--program {text}: {error}", "quote it as a shell would") from error
    if not all(commands) or not commands:
        raise UsageError("no program is given", "shstk matrix PROGRAM, or --program 'PROGRAM ARG…'")
    names = [shlex.join([Path(words[0]).name, *words[1:]]) for words in commands]
    if len(set(names)) < len(names):
        names = [shlex.join(words) for words in commands]
    return dict(zip(names, commands, strict=True))


def _show(status: Status, program: str, kernel: str) -> None:
    status.show(f"recording {program} under {kernel}")
