from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from shstk.cli.common import RunPath, format_option, open_run, pager_option
from shstk.cli.configured import judge, judging_options, program_of, told
from shstk.cli.confined import confine_reading
from shstk.cli.terminal import look, show_text
from shstk.render import write_rows
from shstk.schemas.errors import Exit, UsageError
from shstk.writing import whole_file

if TYPE_CHECKING:
    from shstk.replay.baseline import Baseline
    from shstk.replay.check import Report

_CONFIGURED = ("select", "ignore", "expect", "rules-from", "fail-on", "baseline")


@click.command()
@click.argument("runs", type=RunPath(), metavar="RUN...", nargs=-1)
@judging_options
@click.option(
    "--rules",
    "architecture",
    type=click.Choice(["x86", "arm64"]),
    help="Compare with that architecture's kernel instead: which rules differ, and how.",
)
@click.option(
    "--fail-on",
    type=click.Choice(["guest-death"]),
    multiple=True,
    help="Exit with 1 for this too: a signal killed the guest.",
)
@click.option(
    "--baseline",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Findings in FILE are known: only new ones are shown and make the exit code 1.",
)
@click.option(
    "--write-baseline",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write all findings to FILE, and exit with 0.",
)
@click.option("-v", "--verbose", is_flag=True, help="List satisfied and unevaluated rules too.")
@click.option("--all", "full", is_flag=True, help="List every finding, with all its evidence.")
@click.option("--show-config", is_flag=True, help="Tell what is set, and where, and judge nothing.")
@pager_option
@format_option("text", "json", "csv", "jsonl", "sarif", "junit", "github")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    runs: tuple[Path, ...],
    expect: str,
    as_: str | None,
    architecture: str | None,
    select: str,
    ignore: str,
    rules_from: tuple[Path, ...],
    fail_on: tuple[str, ...],
    baseline: Path | None,
    write_baseline: Path | None,
    verbose: bool,
    full: bool,
    show_config: bool,
    pager: bool,
    format: str,
) -> int:
    """Judge each RUN: is every shadow stack allocated, handed on and released as specified?

    Findings that follow from another are listed under it, and only the first of those that are
    alike is shown (--all shows every one). If a signal killed the guest, that is said first, and
    its likely cause (in full: shstk explain-fault).

    Exit code 1 if any rule is violated. json lists findings, satisfied and not_evaluated rules; csv
    has a row for each, and jsonl an object a line. sarif, junit and github (annotations) are for CI
    systems.

    The options --select, --ignore, --expect and --fail-on can be set for a project, also by
    program, in shstk.toml or in [tool.shstk] of pyproject.toml (docs/check.md).
    """
    from shstk.replay import baseline as baselines
    from shstk.replay.explain import death as death_of
    from shstk.replay.report import render
    from shstk.replay.rules.own import catalogue

    confine_reading(write_baseline, own_code=rules_from, verbose=verbose)
    if show_config:
        programs = dict.fromkeys(program_of(open_run(path)) for path in runs)
        write_rows(["key", "value", "from"], told(ctx, _CONFIGURED, programs), "text")
        return Exit.OK
    if not runs:
        raise click.UsageError("Missing argument 'RUN...'.", ctx)
    if architecture:
        return _elsewhere(runs, architecture, format)
    rules = catalogue(rules_from)
    known = baselines.read(baseline, rules) if baseline and not write_baseline else None
    reports, deaths = [], []
    made: baselines.Written = {}
    for path in runs:
        run = open_run(path)
        report: Report = judge(
            ctx,
            run,
            select=select,
            ignore=ignore,
            expect=expect,
            as_=as_,
            rules_from=rules_from,
        )
        if write_baseline:
            baselines.add(made, run, report)
            continue
        if known is not None:
            compared = baselines.compare(run, report, known, str(baseline))
            report = replace(report, compared=compared)
        if format == "sarif":
            named = {id(f): one for f, one in baselines.identities(run, report)}
            report = replace(report, identities=named)
        if format in ("sarif", "github"):
            report = replace(report, places=baselines.places(run, report))
        reports.append(report)
        deaths.append(death_of(run))
    if write_baseline:
        return _write(write_baseline, made)
    deadly = "guest-death" in fail_on
    rendered = render(reports, format, verbose, deaths, full, look(), deadly)
    show_text(rendered, pager and format == "text")
    died = deadly and any(death.ended for death in deaths if death)
    return Exit.FINDINGS if died or not all(made.clean for made in reports) else Exit.OK


def _write(path: Path, made: Baseline) -> int:
    from shstk.replay.baseline import to_json

    with whole_file(path, force=True) as file:
        file.write(to_json(made).encode())
    findings = sum(counts.total() for counts in made.values())
    click.echo(f"{findings} finding{'s' * (findings != 1)} written to {path}", err=True)
    return Exit.OK


def _elsewhere(runs: tuple[Path, ...], architecture: str, format: str) -> int:
    """Exit code 1 if any rule differs."""
    from shstk.replay.elsewhere import elsewhere, render

    if format not in ("text", "json"):
        raise UsageError(f"--rules does not support {format}", "use --format json")
    differs = False
    for path in runs:
        run = open_run(path)
        found = elsewhere(run, architecture)
        differs |= any(rule.verdict == "differs" for rule in found)
        click.echo(render(run.name, architecture, found, format), nl=False)
    return Exit.FINDINGS if differs else Exit.OK
