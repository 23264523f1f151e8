"""The options of a guest, and the checks of their values and combinations.

This module is cheap to import, because the command line takes its defaults from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypedDict

from shstk.schemas.errors import UsageError
from shstk.schemas.extensions import CPUS, DEFAULT_CPU
from shstk.schemas.machine import ABIS, CALL_NS, CFI_MODES, QUANTUM
from shstk.schemas.revisions import DEFAULT_REVISION, Revision, first_with
from shstk.schemas.uapi import RLIMITS

# What executes the instructions (tier.py).
TIERS: Final = ("auto", "native", "interpreter")


@dataclass(frozen=True)
class GuestOptions:
    """The options that need an explanation:

    program: a path in `root` or on the host. argv: without argv[0]. kernel: the name of a revision,
    followed by changed switches after commas. quantum: minimum and maximum instructions of a time
    slice. call_ns: virtual time that a system call takes. tty: a terminal instead of pipes: the
    host's if there is one and no stdin. overlay: the directory that keeps the guest's changes to
    `root`. binds: (path on the host, path in the guest, writable). memory: bytes. storage: bytes
    that the guest's files may have; None: 1 GiB. pids_max: as in a cgroup's pids.max. timeout:
    seconds of the host. rlimits: bytes or counts. on_output is called with (fd, bytes) when the
    guest writes, on_progress with the icount; interrupted is polled.
    """

    program: str
    argv: tuple[str, ...] = ()
    kernel: str = DEFAULT_REVISION
    abi: str = ABIS[0]
    cpu: str = DEFAULT_CPU
    nousercfi: bool = False
    enable_cfi: str = CFI_MODES[0]
    seed: int = 0
    quantum: tuple[int, int] = QUANTUM
    call_ns: int = CALL_NS
    env: Mapping[str, str] | None = None
    stdin: bytes = b""
    tty: bool = False
    root: str | Path | None = None
    overlay: str | Path | None = None
    binds: Sequence[tuple[str | Path, str, bool]] = ()
    cwd: str = "/"
    memory: int | None = None
    storage: int | None = None
    pids_max: int | None = None
    rlimits: Mapping[str, int] | None = None
    max_instructions: int | None = None
    timeout: float | None = None
    tier: str = "auto"
    on_output: Callable[[int, bytes], None] | None = None
    on_progress: Callable[[int], None] | None = None
    interrupted: Callable[[], bool] | None = None


class Tier(TypedDict, total=False):
    tier: str


class Running(Tier, total=False):
    """The GuestOptions that say how a guest is run, and that no record has."""

    on_output: Callable[[int, bytes], None] | None
    on_progress: Callable[[int], None] | None
    interrupted: Callable[[], bool] | None


class Settings(Tier, total=False):
    """The GuestOptions that a sweep gives to each of its guests, as keyword arguments."""

    kernel: str
    abi: str
    cpu: str
    nousercfi: bool
    enable_cfi: str
    seed: int
    quantum: tuple[int, int]
    call_ns: int
    env: Mapping[str, str] | None
    stdin: bytes
    tty: bool
    root: str | Path | None
    overlay: str | Path | None
    binds: Sequence[tuple[str | Path, str, bool]]
    cwd: str
    memory: int | None
    storage: int | None
    pids_max: int | None
    rlimits: Mapping[str, int] | None
    max_instructions: int | None
    timeout: float | None


class Recording(TypedDict, total=False):
    """What is recorded of each run. plugins: texts as for --plugin."""

    trace: Iterable[str]
    max_size: int | None
    plugins: Iterable[str]


class GuestArguments(Settings, Running, total=False):
    """The keyword arguments of GuestOptions, for functions that pass them on."""


def check_cpu(cpu: str) -> None:
    """Raises UsageError."""
    if cpu not in CPUS:
        raise UsageError(f"--cpu {cpu}: no such ISA", f"known: {' '.join(CPUS)}")


def check_options(options: GuestOptions, row: Revision) -> None:
    """Check the options. row: the revision of options.kernel. Raises UsageError."""
    check_cpu(options.cpu)
    if options.enable_cfi not in CFI_MODES:
        raise UsageError(f"--enable-cfi {options.enable_cfi}", f"known: {' '.join(CFI_MODES)}")
    if options.tier not in TIERS:
        raise UsageError(f"--tier {options.tier}", f"known: {' '.join(TIERS)}")
    limits = options.rlimits or {}
    for name in limits:
        if name not in RLIMITS:
            raise UsageError(f"--rlimit {name}: no such limit", f"known: {' '.join(RLIMITS)}")
    numbers = {
        "--seed": options.seed,
        "--memory": options.memory,
        "--storage": options.storage,
        "--pids-max": options.pids_max,
        "--max-instructions": options.max_instructions,
        **{f"--rlimit {name}": value for name, value in limits.items()},
    }
    low, high = options.quantum
    if not 1 <= low <= high < 2**32:
        raise UsageError(
            f"--quantum {low}:{high}: not a range of instructions", "give MIN:MAX, such as 100:1000"
        )
    if not 0 <= options.call_ns < 2**32:
        raise UsageError(f"--call-ns: {options.call_ns} is not a 32-bit number of nanoseconds")
    for option, number in numbers.items():
        if number is not None and not 0 <= number < 2**64:
            raise UsageError(f"{option}: {number} is not a 64-bit number")
    if options.timeout is not None and not 0 <= options.timeout < float("inf"):
        raise UsageError(f"--timeout: {options.timeout} is not a number of seconds")
    places = (options.cwd, *(guest for _, guest, _ in options.binds))
    variables = (f"{key}={value}" for key, value in (options.env or {}).items())
    for word in (options.program, *options.argv, *variables, *places):
        if "\0" in word or not _is_utf8(word):
            raise UsageError(
                f"{word!r} contains a NUL or is not UTF-8",
                "the program's name, arguments, environment and paths are recorded as text",
            )
    if options.nousercfi and row["nousercfi"] == "ignored":
        raise UsageError(
            f"--nousercfi: kernel {row.name} does not have the parameter riscv_nousercfi",
            f"{first_with('nousercfi', 'obeyed')} introduced it;"
            " --cpu rv64gc is a machine without shadow stacks under any kernel",
        )
    prctl = row.settings["prctl_numbers"]
    if options.abi == "own" and not prctl.confirmed:
        raise UsageError(
            f"--abi own: no source confirms the prctl numbers of {row.name}",
            "leave --abi merged, or set the switch: --kernel "
            f"{row.name},prctl_numbers={prctl.value}",
        )


def _is_utf8(word: str) -> bool:
    """Python represents command-line bytes that are not UTF-8 as lone surrogates."""
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True
