"""Options whose values a project's settings give (shstk/config.py): the command line wins."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from click.core import ParameterSource

import shstk
from shstk.cli.common import (
    as_option,
    between_commas,
    expect_option,
    ignore_option,
    rules_from_option,
    select_option,
)
from shstk.cli.terminal import working
from shstk.config import Setting, Settings, find, load
from shstk.schemas.errors import UsageError

if TYPE_CHECKING:
    from shstk.replay.check import Report
    from shstk.replay.run import Run

F = TypeVar("F", bound=Callable[..., Any])
_SETTINGS: Final = "shstk.settings"
_SOURCES: Final = {
    ParameterSource.COMMANDLINE: "the command line",
    ParameterSource.ENVIRONMENT: "the environment",
    ParameterSource.DEFAULT: "default",
}


def config_options(command: F) -> F:
    """--config and --no-config. Keys of the file that are options of the command set them."""
    command = click.option(
        "--config",
        type=click.Path(path_type=Path),
        metavar="FILE",
        is_eager=True,
        expose_value=False,
        callback=_configure,
        help="Take settings from FILE [default: the nearest shstk.toml, or pyproject.toml with"
        " tool.shstk].",
    )(command)
    return click.option(
        "--no-config",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_no_config,
        help="Take no settings from files.",
    )(command)


def _no_config(ctx: click.Context, param: click.Parameter, given: bool) -> None:
    if given and _SETTINGS in ctx.meta:
        raise click.UsageError("--config and --no-config exclude each other", ctx)
    if given:
        ctx.meta[_SETTINGS] = Settings()


def _configure(ctx: click.Context, param: click.Parameter, given: Path | None) -> None:
    if ctx.resilient_parsing:
        return
    if given and _SETTINGS in ctx.meta:
        raise click.UsageError("--config and --no-config exclude each other", ctx)
    path = given or (find(Path.cwd()) if _SETTINGS not in ctx.meta else None)
    if path is None:
        ctx.meta.setdefault(_SETTINGS, Settings())
        return
    settings = load(path)
    ctx.meta[_SETTINGS] = settings
    ctx.default_map = _as_typed(ctx, settings.values)
    for own in settings.per_program.values():
        _as_typed(ctx, own)  # to refuse what the option would refuse


def _as_typed(ctx: click.Context, values: Mapping[str, Setting]) -> dict[str, Any]:
    """The values for the options of the command, as they would be typed. Raises UsageError."""
    options = {o.name: o for o in ctx.command.params if isinstance(o, click.Option)}
    typed = {}
    for key, setting in values.items():
        option = options.get(key.replace("-", "_"))
        if option is None or option.name is None:
            continue
        value = setting.value
        several = isinstance(value, tuple) and not option.multiple
        typed[option.name] = ",".join(value) if several else value
        try:
            option.type_cast_value(ctx, typed[option.name])
        except click.BadParameter as error:
            raise UsageError(f"{setting.source}: {key}: {error.message}") from error
    return typed


@dataclass(frozen=True)
class Judging:
    """How the run of a program is judged."""

    select: list[str]
    ignore: list[str]
    expect: str


def judging(ctx: click.Context, program: str, select: str, ignore: str, expect: str) -> Judging:
    """By the command line, else by what is set for the program, else by what is set for all.
    select, ignore, expect: the values of the options."""
    own = {name: setting.value for name, setting in _of_program(ctx, program).items()}
    return Judging(
        list(own.get("select", between_commas(select))),
        list(own.get("ignore", between_commas(ignore))),
        own.get("expect", expect),
    )


def judging_options(command: F) -> F:
    """How runs are judged, for commands that show their findings: see `judge`."""
    for option in (
        config_options,
        rules_from_option,
        ignore_option,
        select_option,
        as_option,
        expect_option,
    ):
        command = option(command)
    return command


def judge(
    ctx: click.Context,
    run: Run,
    *,
    select: str,
    ignore: str,
    expect: str,
    as_: str | None,
    rules_from: tuple[Path, ...],
) -> Report:
    """The report on a run, by the values of `judging_options`. Raises UsageError."""
    how = judging(ctx, program_of(run), select, ignore, expect)
    try:
        with working(f"judging {run.name}"):
            return shstk.check(run, as_=as_, rules_from=rules_from, **vars(how))
    except UsageError as error:
        raise source_hint(ctx, error) from error


def program_of(run: Run) -> str:
    """The name of the program that a run is of."""
    return Path(run.manifest.program).name


def _of_program(ctx: click.Context, program: str) -> Mapping[str, Setting]:
    settings: Settings = ctx.meta[_SETTINGS]
    typed = ParameterSource.COMMANDLINE
    own = settings.of(program)
    return {name: s for name, s in own.items() if ctx.get_parameter_source(name) is not typed}


def source_hint(ctx: click.Context, error: UsageError) -> UsageError:
    """The error, with the file that its words may stand in."""
    settings: Settings = ctx.meta[_SETTINGS]
    where = f"settings are taken from {settings.path}" if settings.path else ""
    return UsageError(error.what, "; ".join(filter(None, (error.hint, where))))


def told(ctx: click.Context, keys: Iterable[str], programs: Iterable[str]) -> list[list[str]]:
    """Rows of key, value, where the value comes from; then what is set for each program."""
    settings: Settings = ctx.meta[_SETTINGS]
    rows = []
    for key in keys:
        name = key.replace("-", "_")
        source = ctx.get_parameter_source(name) or ParameterSource.DEFAULT
        where = _SOURCES.get(source) or settings.values[key].source
        rows.append([key, _shown(ctx.params[name]), where])
    for program in programs:
        for key, setting in _of_program(ctx, program).items():
            rows.append([f"{key} of {program}", _shown(setting.value), setting.source])
    return rows


def _shown(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value or "")
