"""Options, parameter types and helpers that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

import shstk
from shstk.cli.terminal import Progress, show_warnings, working
from shstk.schemas import revisions
from shstk.schemas import seq as positions
from shstk.schemas.errors import UsageError
from shstk.schemas.own_revisions import installed

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from shstk.replay.run import Run
    from shstk.tracer.plugins.session import Finished

_PLACES = 100  # that a completion offers
F = TypeVar("F", bound=Callable[..., Any])


class Seq(click.ParamType[Any]):
    """A position in a run, typed as icount.n."""

    name = "seq"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return positions.parse(value)
        except (ValueError, OverflowError) as error:
            self.fail(str(error), param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The places of the run's faults, signals and clones."""
        from click.shell_completion import CompletionItem

        # What stands before an option that still lacks its value is in ctx.args.
        typed = [ctx.params.get("run"), *ctx.args]
        run = next((t for t in typed if t and (Path(t) / "manifest.json").is_file()), None)
        if run is None:
            return []
        opened = shstk.open(run, verify=False, derive=False)
        found = []
        for table in ("faults", "signals", "clones"):
            for seq in opened.scan(table).select("seq").collect()["seq"]:
                if (place := positions.show(seq)).startswith(incomplete):
                    found.append(CompletionItem(place, help=table))
        return found[:_PLACES]


class Window(click.ParamType[Any]):
    """Two positions, or a position and a number of instructions after it: A..B, A..+N."""

    name = "window"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        first, dots, last = value.partition("..")
        try:
            begin = positions.parse(first)
            if last.startswith("+"):
                end = begin + positions.parse(last[1:])
            else:
                end = positions.parse(last)
        except (ValueError, OverflowError):
            dots = ""
        if dots and begin > end:
            self.fail(f"{value!r} ends before it begins", param, ctx)
        if not dots:
            self.fail(f"{value!r} is not A..B or A..+N (such as 1042..1060, 7.2..+100)", param, ctx)
        return begin, end


class RunPath(click.Path):
    """The directory of a run: completed to runs, and to directories that may hold some."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        folder, _, begun = incomplete.rpartition("/")
        head = f"{folder}/" if "/" in incomplete else ""
        try:
            found = sorted(p for p in Path(head or ".").iterdir() if p.is_dir())
        except OSError:
            return []
        runs = [p for p in found if p.name.startswith(begun) and (p / "manifest.json").is_file()]
        if runs:
            return [CompletionItem(head + p.name) for p in runs]
        return [CompletionItem(incomplete, type="dir")]


class PluginName(click.ParamType[Any]):
    """A plugin that ships, or file.py:Class."""

    name = "plugin"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        from shstk.plugins import SHIPPED

        names = [name for name in SHIPPED if name.startswith(incomplete)]
        return [CompletionItem(n) for n in names] or [CompletionItem(incomplete, type="file")]


class SyscallNames(click.ParamType[Any]):
    """System calls by name or group, separated by commas (see shstk.log.calls)."""

    name = "calls"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from shstk.log.calls import choose

        return choose(value) if isinstance(value, str) else value

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        from shstk.log.calls import GROUPS
        from shstk.schemas.syscalls import SYSCALLS

        head, comma, tail = incomplete.rpartition(",")
        words = [*SYSCALLS, *(f"%{group}" for group in GROUPS)]
        return [CompletionItem(head + comma + w) for w in words if w.startswith(tail)]


class Address(click.ParamType[Any]):
    """An address: 0x… or decimal, below 2**64."""

    name = "addr"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            number = value if isinstance(value, int) else int(value, 0)
        except ValueError:
            self.fail(f"{value!r} is not an address (expected 0x… or decimal)", param, ctx)
        if not 0 <= number < 2**64:
            self.fail(f"{value!r} is not a 64-bit address", param, ctx)
        return number


class Size(click.ParamType[Any]):
    """Bytes, with K, M or G."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        unit = {"K": 2**10, "M": 2**20, "G": 2**30}.get(value[-1:].upper(), 1)
        number = value if unit == 1 else value[:-1]
        try:
            return int(number, 0) * unit
        except ValueError:
            self.fail(f"{value!r} is not a size (such as 8M, 0x21000)", param, ctx)


class Quantum(click.ParamType[Any]):
    """LOW:HIGH instructions of a time slice, or one number for both."""

    name = "quantum"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        low, _, high = value.partition(":")
        try:
            return int(low), int(high or low)
        except ValueError:
            self.fail(f"{value!r} is not a range of instructions (such as 100:1000)", param, ctx)


class Kernel(click.ParamType[Any]):
    """A revision name or a file of one, followed by changed switches, separated by commas."""

    name = "kernel"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return revisions.resolve(value).name
        except UsageError as error:
            self.fail(f"{error.what}; {error.hint}" if error.hint else error.what, param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        head, comma, tail = incomplete.rpartition(",")
        if not comma:
            words = [*revisions.REVISIONS, *installed()]
        else:
            words = [
                f"{switch.name}={value}"
                for switch in revisions.SWITCHES.values()
                for value in switch.values or ("",)
            ]
        return [CompletionItem(head + comma + w) for w in words if w.startswith(tail)]


class RuleNames(click.ParamType[Any]):
    """Rules by id, name or family, separated by commas: it completes the last of them."""

    name = "rules"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        from shstk.replay.rules.own import catalogue

        rules = catalogue(ctx.params.get("rules_from") or ())
        head, comma, tail = incomplete.rpartition(",")
        helps = {rule.id: rule.title for rule in rules.values()}
        helps |= {rule.family: f"all rules {rule.family}…" for rule in rules.values()}
        helps |= {rule.slug: rule.title for rule in rules.values()}
        matching = (name for name in helps if name.lower().startswith(tail.lower()))
        return [CompletionItem(head + comma + name, help=helps[name]) for name in matching]


select_option = click.option(
    "--select",
    type=RuleNames(),
    metavar="RULES",
    default="",
    help="Only these rules: ids, names or families (A: all rules of A), separated by commas.",
)
ignore_option = click.option(
    "--ignore", type=RuleNames(), metavar="RULES", default="", help="Not these rules."
)
rules_from_option = click.option(
    "--rules-from",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE.py",
    help="Judge by a rule of your own too (docs/extending.md). Repeatable.",
)
plugin_option = click.option(
    "--plugin",
    "plugins",
    type=PluginName(),
    multiple=True,
    metavar="PLUGIN[,K=V]",
    help="Attach a plugin: one of `shstk plugins`, or your own: file.py:Class. Repeatable.",
)
expect_option = click.option(
    "--expect",
    type=click.Choice(["intent", "revision"]),
    default="intent",
    show_default=True,
    help="Judge by what the patch and the merged kernel intend, or by that revision's code.",
)
as_option = click.option(
    "--as", "as_", type=Kernel(), metavar="REV", help="Judge by another revision."
)
pager_option = click.option(
    "--no-pager",
    "pager",
    is_flag=True,
    flag_value=False,
    default=True,
    help="Do not show text that is longer than the terminal in $PAGER.",
)
run_argument = click.argument("run", type=RunPath(), metavar="RUN")
runs_argument = click.argument("runs", type=RunPath(), metavar="RUN...", nargs=-1, required=True)


def format_option(*formats: str) -> Callable[[F], F]:
    """--format with the formats of a command; the first is the default."""
    return click.option(
        "--format",
        "format",
        type=click.Choice(formats),
        default=formats[0],
        show_default=True,
        help="Output format.",
    )


def show_plugins(finished: Iterable[Finished]) -> None:
    """Print each plugin's summary to standard error."""
    for plugin in finished:
        if plugin.summary:
            click.echo(f"{click.style(plugin.name, bold=True)}: {plugin.summary}", err=True)


def open_run(path: Path) -> Run:
    """The run in a directory, verified. Raises BadRun."""
    context = click.get_current_context(silent=True)
    derive = context is None or not context.find_root().params.get("no_derive")
    progress = Progress(what=f"{path}: executed again, ")
    with working(f"verifying {path}"):
        return shstk.open(
            path,
            derive=derive,
            on_progress=progress,
            done=progress.clear,
            warn=lambda text: show_warnings([text]),
        )


def between_commas(text: str) -> list[str]:
    """The items of a comma-separated list."""
    return [word.strip() for word in text.split(",") if word.strip()]
