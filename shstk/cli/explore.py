from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import shstk
from shstk import render
from shstk.cli.common import format_option, ignore_option, rules_from_option, select_option
from shstk.cli.configured import config_options, judging
from shstk.cli.confined import confine_sweep
from shstk.cli.guest import guest_options, record_line, recording, recording_options, settings
from shstk.cli.terminal import Status
from shstk.schemas.errors import Exit

if TYPE_CHECKING:
    from shstk.sweep.seeds import Tried


@click.command(context_settings={"allow_interspersed_args": False})
@click.option(
    "--seeds", type=click.IntRange(1), default=100, show_default=True, help="How many seeds to try."
)
@click.option("--all", "all_seeds", is_flag=True, help="Try every seed, even after a finding.")
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(1),
    default=lambda: os.cpu_count() or 1,
    show_default="processors",
    help="Runs at a time.",
)
@click.option(
    "--expect",
    type=click.Choice(["intent", "revision"]),
    default="intent",
    show_default=True,
    help="As for `shstk check`.",
)
@select_option
@ignore_option
@rules_from_option
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Where to keep the run with the first finding [default: PROGRAM.seedN.run].",
)
@click.option("--force", is_flag=True, help="Replace an existing run.")
@config_options
@format_option("text", "json")
@guest_options()
@recording_options
@click.pass_context
def command(
    ctx: click.Context,
    /,
    program: str,
    args: tuple[str, ...],
    seeds: int,
    seed: int,
    all_seeds: bool,
    jobs: int,
    expect: str,
    select: str,
    ignore: str,
    rules_from: tuple[Path, ...],
    output: Path | None,
    force: bool,
    format: str,
    **options: Any,
) -> int:
    """Run PROGRAM under many schedules, and stop at the first finding.

    The seeds start at --seed. A finding is a violated rule, death by a signal, or a deadlock. The
    seed that shows it is printed, with the command that records it again. Exit code 1 if there is
    a finding. --trace and --plugin are for the run that is kept.
    """
    verbose, record, guest = options["verbose"], recording(options), settings(options)
    confine_sweep(guest, record["plugins"], verbose, output.parent if output else Path.cwd())
    status = Status()
    tried: list[Tried] = []
    interrupted = False
    try:
        for one in shstk.explore(
            program,
            *args,
            seeds=range(seed, seed + seeds),
            jobs=jobs,
            rules_from=rules_from,
            max_size=record["max_size"],
            **vars(judging(ctx, Path(program).name, select, ignore, expect)),
            **guest,
        ):
            tried.append(one)
            found = sum(one.found for one in tried)
            status.show(
                f"{len(tried)} of {seeds} seeds" + (f", {found} with findings" * bool(found))
            )
            if one.found and not all_seeds:
                break
    except KeyboardInterrupt:
        if not tried:
            raise
        interrupted = True
    status.clear()
    first = next((t for t in tried if t.found), None)
    kept = None
    if first is not None:
        kept = output or Path(f"{Path(program).stem}.seed{first.seed}.run")
        guest["seed"] = first.seed
        shstk.record(program, *args, out=kept, force=force, **record, **guest)
    if format == "json":
        from shstk.replay.report import findings_json

        render.write_json(
            {
                "seeds": len(tried),
                "schedules": len({t.schedule for t in tried}),
                "outputs": len({t.output for t in tried}),
                "first": first.seed if first else None,
                "run": str(kept) if kept else None,
                "tried": [
                    {
                        "seed": t.seed,
                        "ending": t.ending,
                        "died": t.died.as_json() if t.died else None,
                        "findings": [f for result in t.violated for f in findings_json(result)],
                    }
                    for t in tried
                ],
            }
        )
    else:
        _write_text(tried, first, ctx)
        if first:
            click.echo(f"kept: {kept} (shstk check {kept})")
    if interrupted:
        click.echo("interrupted", err=True)
        return Exit.INTERRUPTED
    return Exit.FINDINGS if first else Exit.OK


def _write_text(tried: list[Tried], first: Tried | None, ctx: click.Context) -> None:
    from shstk.replay.verdict import finding_lines

    schedules = len({t.schedule for t in tried})
    click.echo(f"{_count(tried, 'seed')} tried, {schedules} different schedules")
    for ending, times in Counter(t.ending for t in tried).most_common():
        where = next(t.seed for t in tried if t.ending == ending)
        click.echo(f"  {times} {ending} (first: seed {where})")
    places = {str(t.died): t for t in reversed(tried) if t.died and t.died.seq is not None}
    for place, t in places.items():
        click.echo(f"  died: {place} (seed {t.seed})")
    outputs = [next(t.seed for t in tried if t.output == o) for o in {t.output: 0 for t in tried}]
    if len(outputs) > 1:
        some = ", ".join(map(str, outputs[:8]))
        click.echo(f"  {len(outputs)} different outputs (first seen with seeds {some})")
    if schedules == 1 and len(tried) > 1:
        click.echo("  every seed has the same schedule: try shorter slices, --quantum 50:500")
    seeds: dict[str, list[int]] = {}  # by rule
    for t in tried:
        for result in t.violated:
            seeds.setdefault(f"{result.rule.id} {result.rule.slug}", []).append(t.seed)
    for rule, violating in seeds.items():
        click.echo(f"  {rule}: {_count(violating, 'seed')} (first: seed {violating[0]})")
    if first is None:
        click.echo("no findings")
        return
    click.echo(f"\nseed {first.seed}: {first.ending}")
    for result in first.violated:
        click.echo(f"{result.rule.id} {result.rule.slug}")
        click.echo("\n".join(finding_lines(result.findings[0], result.doubtful)))
    click.echo(f"\nreproduce: {record_line(ctx, first.seed)}")


def _count(items: list[Any], noun: str) -> str:
    return f"{len(items)} {noun}" + ("" if len(items) == 1 else "s")
