from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

import shstk
from shstk import render
from shstk.cli.common import Kernel, format_option
from shstk.cli.configured import config_options
from shstk.cli.confined import confine_sweep
from shstk.cli.guest import guest_options, recording, recording_options, settings
from shstk.cli.realkernel import REAL_OPTIONS, check_given, machine_options, real_options
from shstk.cli.terminal import Interrupt, Status
from shstk.schemas.errors import Exit, UsageError
from shstk.schemas.revisions import COMPARED, resolve

if TYPE_CHECKING:
    from shstk.replay.check import Report
    from shstk.replay.matrix import Died, Line


@click.command(context_settings={"allow_interspersed_args": False})
@click.option(
    "--kernels",
    default=",".join(COMPARED),
    show_default=True,
    help="Revisions, separated by commas; a revision with changed switches goes with --kernel.",
)
@click.option("-k", "--kernel", "more", type=Kernel(), multiple=True, help="One more column.")
@click.option(
    "--run",
    "runs",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="RUN",
    help="One more column: a run that was recorded before, maybe elsewhere.",
)
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
@config_options
@format_option("text", "json", "csv")
@machine_options(several=True)
@guest_options("kernel", "program", "args")
@recording_options
@click.argument("program", required=False)
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def command(
    ctx: click.Context,
    /,
    program: str | None,
    args: tuple[str, ...],
    kernels: str,
    more: tuple[str, ...],
    runs: tuple[Path, ...],
    others: tuple[str, ...],
    keep: Path | None,
    all_rules: bool,
    format: str,
    **options: Any,
) -> int:
    """Record PROGRAM under several kernels and print finding x kernel.

    A cell is the number of violations of intent; `ok (n)`: n instances were correct; `-`: nothing
    to judge. `changes` names the kernels at which a finding appears and disappears. With
    --program: program x finding x kernel. Exit code 1 if any kernel has findings.

    Columns of real kernels are booted in QEMU (--real-kernel IMAGE) or are runs that exist (--run).
    Without PROGRAM there are only the columns of runs.
    """
    images = options["real_kernel"]
    check_given(ctx, bool(images))
    names = [resolve(name.strip()).name for name in kernels.split(",") if name.strip()] + list(more)
    if not names and not images and not runs:
        raise UsageError("--kernels names no revision", "`shstk kernels` lists them")
    programs = {} if runs and program is None and not others else _programs(program, args, others)
    if runs and len(programs) > 1:
        raise UsageError("--run goes with one program", "name the program that the run is of")
    verbose, record = options["verbose"], recording(options)
    guest = settings({k: v for k, v in options.items() if k not in REAL_OPTIONS}, piped=False)
    if not images:  # QEMU writes its own files
        confine_sweep(guest, record["plugins"], verbose, keep)
    from shstk.replay.matrix import deaths, matrix  # after that: it starts threads

    recorded: dict[str, Report] = {name: shstk.check(path) for name, path in _named(runs).items()}
    status, interrupted = Status(), Interrupt()
    reports = {
        name: shstk.matrix(
            *words,
            kernels=names,
            real={
                image: real_options(path, words[0], tuple(words[1:]), guest, options)
                for image, path in _named(images).items()
            },
            keep=keep and (keep if len(programs) == 1 else keep / Path(words[0]).name),
            on_kernel=partial(_show, status, name),
            interrupted=interrupted,
            **record,
            **guest,
        )
        | recorded
        for name, words in programs.items()
    } or {_program_of(runs[0]): recorded}
    status.clear()
    if interrupted() and not any(reports.values()):
        raise click.Abort
    if format == "text":
        write_text(reports, all_rules, sys.stdout)
    elif format == "json":
        lines: list[Died | Line] = [*deaths(reports), *matrix(reports, all_rules)]
        render.write_json([line.as_json() for line in lines])
    else:
        render.write_rows(*_table(reports, all_rules), format)
    if interrupted():
        click.echo("interrupted", err=True)
        return Exit.INTERRUPTED
    clean = all(report.clean for made in reports.values() for report in made.values())
    return Exit.OK if clean else Exit.FINDINGS


def write_text(reports: Mapping[str, Mapping[str, Report]], all_rules: bool, out: TextIO) -> None:
    """reports: by program and kernel."""
    from shstk.replay.matrix import deaths

    header, rows = _table(reports, all_rules)
    if not rows:
        out.write(f"no findings under {', '.join(next(iter(reports.values())))}\n")
        return
    render.write_table(header, rows, out)
    for died in deaths(reports):
        told = [
            f"{died.program}, {place}" if len(reports) > 1 else place for place in died.places()
        ]
        out.writelines(f"died under {place}\n" for place in told)
    if len(reports) > 1:
        broken = {program for program, *_ in rows}
        if clean := [program for program in reports if program not in broken]:
            out.write(f"no findings: {', '.join(clean)}\n")


def _table(
    reports: Mapping[str, Mapping[str, Report]], all_rules: bool
) -> tuple[list[str], list[list[str]]]:
    """Header and rows, with a column for the program if there are several."""
    from shstk.replay.matrix import deaths, matrix

    several = len(reports) > 1
    kernels = next(iter(reports.values()))
    header = ["program"] * several + ["rule", "slug", *kernels, "changes"]
    lines: list[Died | Line] = [*deaths(reports), *matrix(reports, all_rules)]
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


def _program_of(run: Path) -> str:
    return Path(shstk.open(run, verify=False).manifest.program).name


def _named(paths: Iterable[Path]) -> dict[str, Path]:
    """Each path's name in the table: the file's, or all of it where two have the same."""
    found = list(paths)
    names = Counter(path.name for path in found)
    return {path.name if names[path.name] == 1 else str(path): path for path in found}


def _show(status: Status, program: str, kernel: str) -> None:
    status.show(f"recording {program} under {kernel}")
