"""The options of the commands that boot a real kernel, or read one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from shstk.cli.common import Size
from shstk.schemas.errors import UsageError
from shstk.schemas.extensions import DEFAULT_CPU
from shstk.tracer.options import Settings
from shstk.tracer.realkernel.options import (
    DEFAULT_EVENTS_LIMIT,
    DEFAULT_TIMEOUT,
    KernelFiles,
    RealOptions,
)

F = TypeVar("F", bound=Callable[..., Any])
_FILE: Final = click.Path(path_type=Path, dir_okay=False)

_KERNEL: Final = (
    click.option(
        "--vmlinux",
        type=_FILE,
        metavar="ELF",
        help="Its vmlinux, if the Image has no symbols (CONFIG_KALLSYMS) or types"
        " (CONFIG_DEBUG_INFO_BTF).",
    ),
    click.option("--system-map", type=_FILE, metavar="FILE", help="Its System.map."),
    click.option("--qemu", metavar="QEMU", help="The QEMU to use: 10.0 or later for riscv64."),
)
_MACHINE: Final = (
    click.option(
        "--firmware",
        type=_FILE,
        metavar="FILE",
        help="With --real-kernel: OpenSBI's fw_dynamic.bin, 1.6 or later.",
    ),
    click.option(
        "--smp",
        type=click.IntRange(1),
        default=1,
        show_default=True,
        help="With --real-kernel: harts.",
    ),
    click.option(
        "--append",
        default="",
        metavar="WORDS",
        help="With --real-kernel: more of its command line.",
    ),
    click.option(
        "--user",
        "uid",
        type=click.IntRange(0),
        default=1000,
        show_default=True,
        metavar="UID",
        help="With --real-kernel: the user that the program runs as; 0 is root.",
    ),
)
_RECORDED: Final = (
    click.option(
        "--real-kernel",
        type=_FILE,
        metavar="IMAGE",
        help="Boot this Image (or vmlinuz) in QEMU and record the program there.",
    ),
    click.option(
        "--keep-events", type=_FILE, metavar="FILE", help="With --real-kernel: QEMU's events."
    ),
    click.option(
        "--events-limit",
        type=Size(),
        default=DEFAULT_EVENTS_LIMIT,
        show_default="512M",
        metavar="SIZE",
        help="With --real-kernel: end the run after so many bytes of events.",
    ),
)
_COMPARED: Final = (
    click.option(
        "--real-kernel",
        type=_FILE,
        multiple=True,
        metavar="IMAGE",
        help="One more column: this Image, booted in QEMU.",
    ),
)
# Options of a guest that a real machine does not have.
_MODEL_ONLY: Final = (
    *("abi", "enable_cfi", "max_instructions", "max_size", "overlay", "plugins"),
    *("quantum", "rlimits", "tier", "trace", "tty", "verbose"),
)
_REAL_ONLY: Final = (
    "firmware",
    "smp",
    "append",
    "uid",
    "keep_events",
    "events_limit",
    "vmlinux",
    "system_map",
    "qemu",
)

REAL_OPTIONS: Final = ("real_kernel", *_REAL_ONLY)


def given(ctx: click.Context, name: str) -> bool:
    """Whether the command line has the option."""
    return ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


def kernel_options(command: F) -> F:
    """--vmlinux, --system-map and --qemu."""
    for option in reversed(_KERNEL):
        command = option(command)
    return command


def machine_options(several: bool = False) -> Callable[[F], F]:
    """--real-kernel and what goes with it. several: it can be given more than once."""
    chosen = _COMPARED if several else _RECORDED

    def add(command: F) -> F:
        for option in reversed((*chosen, *_MACHINE, *_KERNEL)):
            command = option(command)
        return command

    return add


def kernel_files(image: Path, options: dict[str, Any]) -> KernelFiles:
    return KernelFiles(image=image, vmlinux=options["vmlinux"], system_map=options["system_map"])


def check_given(ctx: click.Context, real: bool) -> None:
    """Refuse the options of the other kind of machine by name. Raises UsageError."""
    for parameter in ctx.command.params:
        name = parameter.name or ""
        if real and name in _MODEL_ONLY and given(ctx, name):
            raise UsageError(
                f"{parameter.opts[-1]} is not possible with --real-kernel",
                "it is a setting of our model of a machine",
            )
        if not real and name in _REAL_ONLY and given(ctx, name):
            raise UsageError(
                f"{parameter.opts[-1]} needs --real-kernel", "name the Image that is to be booted"
            )


def real_options(
    image: Path, program: str, args: tuple[str, ...], both: Settings, options: dict[str, Any]
) -> RealOptions:
    """both: the settings that both kinds of machine have. Raises UsageError."""
    if any(writable for _, _, writable in both.get("binds", ())):
        raise UsageError(
            "--bind …:rw is not possible with --real-kernel",
            "the guest's changes stay in its own memory",
        )
    root, timeout = both.get("root"), both.get("timeout")
    return RealOptions(
        files=kernel_files(image, options),
        program=program,
        argv=args,
        firmware=options["firmware"],
        qemu=options["qemu"],
        smp=options["smp"],
        cpu=both.get("cpu", DEFAULT_CPU),
        nousercfi=both.get("nousercfi", False),
        append=options["append"],
        uid=options["uid"],
        events=options.get("keep_events"),
        events_limit=options.get("events_limit", DEFAULT_EVENTS_LIMIT),
        root=None if root is None else Path(root),
        binds=both.get("binds", ()),
        env=both.get("env"),
        stdin=both.get("stdin", b""),
        cwd=both.get("cwd", "/"),
        memory=both.get("memory"),
        pids_max=both.get("pids_max"),
        seed=both.get("seed", 0),
        timeout=DEFAULT_TIMEOUT if timeout is None else timeout,
    )
