"""The guest options, for every command that runs a program."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import click

from shstk.cli.common import Kernel, Quantum, Size, plugin_option
from shstk.cli.terminal import show_tier
from shstk.schemas.errors import UsageError
from shstk.schemas.machine import ABIS, CFI_MODES
from shstk.schemas.tables import DEFAULT_TRACE, MAX_SIZE, TRACES
from shstk.tracer.options import TIERS, GuestOptions, Recording, Settings

F = TypeVar("F", bound=Callable[..., Any])

tier_option = click.option(
    "--tier",
    type=click.Choice(TIERS),
    default=GuestOptions.tier,
    show_default=True,
    help="What executes the guest's instructions. It changes nothing but the speed.",
)
verbose_option = click.option(
    "-v", "--verbose", is_flag=True, help="Say what executes the guest's instructions."
)

_OPTIONS: Final = {
    "kernel": click.option(
        "-k",
        "--kernel",
        type=Kernel(),
        default=GuestOptions.kernel,
        show_default=True,
        help="Revision to model, with switches: 7.2,release_hook=exit_thread (`shstk kernels`).",
    ),
    "seed": click.option(
        "--seed",
        type=click.IntRange(0),
        default=GuestOptions.seed,
        show_default=True,
        help="Determines the schedule and random bytes.",
    ),
    "quantum": click.option(
        "--quantum",
        type=Quantum(),
        default=":".join(map(str, GuestOptions.quantum)),
        show_default=True,
        metavar="LOW:HIGH",
        help="Instructions in a time slice while other tasks wait, drawn from the seed.",
    ),
    "call_ns": click.option(
        "--call-ns",
        type=click.IntRange(0, 2**32 - 1),
        default=GuestOptions.call_ns,
        show_default=True,
        metavar="NS",
        help="Virtual time that a system call takes; an instruction takes one nanosecond.",
    ),
    "env": click.option(
        "--env",
        multiple=True,
        metavar="K=V",
        help="Set a variable (default: none are set).",
    ),
    "stdin": click.option(
        "--stdin", type=click.Path(path_type=Path), metavar="FILE", help="Standard input."
    ),
    "tty": click.option(
        "--tty",
        is_flag=True,
        help="Give the guest a terminal: this one, or one whose input is standard input.",
    ),
    "root": click.option(
        "--root",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="File tree of the guest; it is never modified.",
    ),
    "overlay": click.option(
        "--overlay",
        type=click.Path(path_type=Path, file_okay=False),
        metavar="DIR",
        help="Keep the guest's changes in DIR, and start from its contents.",
    ),
    "binds": click.option(
        "--bind",
        "binds",
        multiple=True,
        metavar="HOST:GUEST[:rw]",
        help="Give the guest a file or directory; with :rw, changes are written back.",
    ),
    "cwd": click.option(
        "--cwd", default=GuestOptions.cwd, show_default=True, help="Working directory in the guest."
    ),
    "cpu": click.option(
        "--cpu", default=GuestOptions.cpu, show_default=True, help="ISA of the harts."
    ),
    "abi": click.option(
        "--abi",
        type=click.Choice(ABIS),
        default=GuestOptions.abi,
        show_default=True,
        help="prctl numbers: those of the merged kernel, or of the revision.",
    ),
    "nousercfi": click.option("--nousercfi", is_flag=True, help="Boot with riscv_nousercfi."),
    "enable_cfi": click.option(
        "--enable-cfi",
        type=click.Choice(CFI_MODES),
        default=GuestOptions.enable_cfi,
        show_default=True,
        help="Let the loader issue the prctls, as a libc would: if the program and its libraries "
        "are marked for it, or always.",
    ),
    "memory": click.option("--memory", type=Size(), metavar="SIZE", help="Memory of the machine."),
    "storage": click.option(
        "--storage",
        type=Size(),
        metavar="SIZE",
        help="Bytes that files the guest makes may have; then ENOSPC (default: 1G).",
    ),
    "pids_max": click.option(
        "--pids-max",
        type=click.IntRange(0),
        metavar="N",
        help="Limit of the guest's cgroup: more tasks at once are EAGAIN (pids.max).",
    ),
    "rlimits": click.option(
        "--rlimit",
        "rlimits",
        multiple=True,
        metavar="NAME=SIZE",
        help="Initial limit, such as STACK=8M.",
    ),
    "max_instructions": click.option(
        "--max-instructions", type=click.IntRange(1), metavar="N", help="End after N instructions."
    ),
    "timeout": click.option(
        "--timeout", type=float, metavar="SECONDS", help="End the run after SECONDS."
    ),
    "tier": tier_option,
    "program": click.argument("program"),
    "args": click.argument("args", nargs=-1, type=click.UNPROCESSED),
}


_REPRODUCED: Final = {*_OPTIONS, "trace", "max_size", "plugins"}


def guest_options(*without: str) -> Callable[[F], F]:
    """The options and arguments of a command that runs PROGRAM. See `settings`."""

    def decorate(command: F) -> F:
        for name in reversed(_OPTIONS):
            if name not in without:
                command = _OPTIONS[name](command)
        return command

    return decorate


_RECORDED: Final = (
    click.option(
        "--trace",
        default=",".join(DEFAULT_TRACE),
        show_default=True,
        metavar="TABLES",
        help=f"Instruction tables to keep in a run: {', '.join(TRACES)}, or none; auto: cfi and"
        " flow while they are few. Those that a run lacks are made when they are read, by executing"
        " it again, but insn only for a window.",
    ),
    click.option(
        "--max-size",
        type=Size(),
        default=MAX_SIZE,
        show_default=f"{MAX_SIZE >> 30}G",
        metavar="SIZE",
        help="End the run when it takes SIZE on disk; 0: no limit.",
    ),
    plugin_option,
    verbose_option,
)


def recording_options(command: F) -> F:
    """What a command that records runs takes beside `guest_options`. See `recording`."""
    for option in reversed(_RECORDED):
        command = option(command)
    return command


def recording(options: dict[str, Any]) -> Recording:
    """Keyword arguments of shstk.record, shstk.matrix and shstk.explore, from click's values of
    `recording_options`, which are taken out of `options`."""
    if options.pop("verbose"):
        show_tier(options["tier"])
    return Recording(
        trace=[] if (trace := options.pop("trace")) == "none" else trace.split(","),
        max_size=options.pop("max_size") or None,
        plugins=options.pop("plugins"),
    )


def settings(options: dict[str, Any], *, piped: bool = True) -> Settings:
    """Keyword arguments of shstk.record, from click's values of `guest_options`.

    piped: without --stdin, the guest reads what is piped into this command.
    """
    rlimits = (_pair(r, "--rlimit") for r in options["rlimits"])
    given = {
        **options,
        "stdin": _stdin(options["stdin"], piped),
        "env": dict(_pair(e, "--env") for e in options["env"]),
        "rlimits": {
            k: Size().convert(v, None, None) if v != "unlimited" else 2**64 - 1 for k, v in rlimits
        },
        "binds": [_bind(b) for b in options["binds"]],
    }
    return cast(Settings, given)


def record_line(ctx: click.Context, seed: int) -> str:
    """The command line that records the guest of this command under that seed."""
    words = ["shstk", "record", "--seed", str(seed)]
    for parameter in ctx.command.params:
        name = parameter.name or ""
        given = ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        if not given or name not in _REPRODUCED or name == "seed":
            continue
        value = ctx.params[name]
        if isinstance(parameter, click.Argument):
            words += [value] if isinstance(value, str) else value
        elif isinstance(parameter, click.Option) and parameter.is_flag:
            words.append(parameter.opts[-1])
        elif isinstance(parameter, click.Option):
            for one in value if parameter.multiple else [value]:
                text = ":".join(map(str, one)) if isinstance(one, tuple) else str(one)
                words += [parameter.opts[-1], text]
    return shlex.join(words)


def _pair(text: str, option: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise UsageError(f"{option} {text}: expected NAME=VALUE")
    return key, value


def _bind(text: str) -> tuple[str, str, bool]:
    bare = text.removesuffix(":rw")
    host, colon, guest = bare.rpartition(":")
    if not colon or not host or not guest.startswith("/"):
        raise UsageError(f"--bind {text}: expected HOST:GUEST[:rw]", "GUEST begins with a slash")
    return host, guest, bare != text


def _stdin(path: Path | None, piped: bool) -> bytes:
    """The bytes of --stdin. Without it, the contents of the pipe; nothing at a terminal."""
    if path is not None:
        return path.read_bytes()
    if not piped or sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        return b""
    return sys.stdin.buffer.read()
