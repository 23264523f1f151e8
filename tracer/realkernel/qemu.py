"""QEMU: found, asked for its version, and run with the plugin."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shstk.schemas.errors import ShstkError, UsageError
from shstk.schemas.extensions import OPTIONAL, optional_of
from shstk.tracer.realkernel.build import plugin

NAME: Final = "qemu-system-riscv64"
_OLDEST: Final = (
    10,
    0,
)  # the first whose `-cpu max` has Zicfiss and Zicfilp, and ssp as a register
# QEMU from that version on -> its plugin interface. Where it is another, QEMU says which.
_INTERFACES: Final = (((11, 0), 7), ((10, 2), 6), ((10, 0), 4))
_KNOWN: Final = range(4, 8)
_OTHER: Final = re.compile(r"plugin requires API version \d+, but .* version (?:of )?(\d+)")
_POLL: Final = 0.05  # seconds
_MACHINE: Final = ("-M", "virt", "-nographic", "-no-reboot")
# The clock counts instructions, so that everything happens at the same place each time. With two
# harts and the plugin, QEMU 11.1.3 died of SIGSEGV under it; why is not known.
_FIXED: Final = (
    *("-icount", "shift=2,sleep=off"),
    *("-rtc", "base=2026-01-01T00:00:00,clock=vm"),
)
_OLD_FIRMWARE: Final = (1, 6)  # OpenSBI: older ones switch backward-edge CFI off, silently
_FIRMWARE: Final = re.compile(r"OpenSBI v(\d+)\.(\d+)")
# Where distributions put one that may be newer than the one inside QEMU.
_FIRMWARES: Final = (
    "/usr/lib/riscv64-linux-gnu/opensbi/generic/fw_dynamic.bin",
    "/usr/share/opensbi/generic/firmware/fw_dynamic.bin",
)


class NoQemu(ShstkError):
    """QEMU is missing, too old, or could not start; `what` says which."""


@dataclass(frozen=True)
class Qemu:
    path: str
    version: tuple[int, ...]

    @property
    def name(self) -> str:
        return ".".join(map(str, self.version))

    @property
    def interface(self) -> int:
        return next(number for since, number in _INTERFACES if self.version >= since)


@dataclass(frozen=True)
class Machine:
    """What is booted. append: the kernel's command line."""

    kernel: Path
    initrd: Path
    append: str
    firmware: Path | None
    smp: int
    cpu: str
    memory: int
    seed: int


@dataclass(frozen=True)
class Booted:
    """ended: exited (the machine turned itself off), timeout or interrupted."""

    ended: str
    console: str

    @property
    def firmware(self) -> str:
        found = _FIRMWARE.search(self.console)
        return found[0] if found else ""


def find(given: str | None) -> Qemu:
    """The QEMU of --qemu, or the one on PATH. Raises NoQemu."""
    path = shutil.which(given or NAME)
    if path is None:
        raise NoQemu(
            f"{given or NAME} is not installed" if given is None else f"--qemu {given}: not found",
            "install QEMU 10.0 or later for riscv64 (Debian and Ubuntu: qemu-system-riscv, Fedora:"
            " qemu-system-riscv, Arch: qemu-system-riscv), or name it with --qemu",
        )
    try:
        said = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=60
        ).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoQemu(f"{path} does not run: {error}") from error
    version = re.search(r"version (\d+)\.(\d+)(?:\.(\d+))?", said)
    if version is None:
        raise NoQemu(f"{path} does not say its version: {said[:80]!r}", "is it QEMU?")
    numbers = tuple(int(n) for n in version.groups() if n is not None)
    if numbers < _OLDEST:
        raise NoQemu(
            f"{path} is QEMU {'.'.join(map(str, numbers))}, which has no shadow stacks",
            f"install QEMU {'.'.join(map(str, _OLDEST))} or later, or name one with --qemu",
        )
    return Qemu(path, numbers)


def find_firmware(given: Path | None) -> Path | None:
    """The firmware of --firmware, or an installed one; None: the one inside QEMU."""
    if given is not None and not given.is_file():
        raise UsageError(f"--firmware {given}: no such file", "give OpenSBI's fw_dynamic.bin")
    return given or next((Path(p) for p in _FIRMWARES if Path(p).is_file()), None)


def plugin_words(plugin_file: Path, table: Path, events: Path) -> list[str]:
    """The words of a QEMU command line that load the plugin. A comma in a path is doubled."""
    quoted = [str(path).replace(",", ",,") for path in (plugin_file, table, events)]
    return ["-plugin", "{},table={},events={}".format(*quoted)]


def boot(
    qemu: Qemu,
    machine: Machine,
    table: Path,
    events: Path,
    stop: Callable[[], str | None],
) -> Booted:
    """Boot the machine and wait until it is off. stop: returns an ending to stop with, or None.
    Raises NoQemu, NoCompiler, CannotWrite."""
    interface = qemu.interface
    booted, status, said = _boot(qemu, interface, machine, table, events, stop)
    if (other := _OTHER.search(said)) and (interface := int(other[1])) in _KNOWN:
        booted, status, said = _boot(qemu, interface, machine, table, events, stop)
    if status and booted.ended == "exited":
        last = said.strip().splitlines() or ["without a word"]
        raise NoQemu(f"{qemu.path} ended with {status}: {last[-1]}")
    _check_firmware(booted)
    return booted


def _boot(
    qemu: Qemu,
    interface: int,
    machine: Machine,
    table: Path,
    events: Path,
    stop: Callable[[], str | None],
) -> tuple[Booted, int, str]:
    """(how it ended, QEMU's exit status, what it said on standard error)."""
    console, errors = table.with_name("console"), table.with_name("errors")
    loaded = plugin_words(plugin(interface), table, events)
    loaded[-1] += ",alone=off"  # QEMU is not left running alone if we are killed
    words = [*_ends_with_us(), qemu.path, *_words(machine), *loaded]
    with console.open("wb") as out, errors.open("wb") as err:
        try:
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
            )
        except OSError as error:
            raise NoQemu(f"{qemu.path} does not run: {error.strerror}") from error
        try:
            ended = _wait(process, stop)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    booted = Booted(ended, console.read_text("utf-8", "replace").replace("\r\n", "\n"))
    return booted, process.returncode, errors.read_text("utf-8", "replace")


def _ends_with_us() -> list[str]:
    """Words before a command that end it when the thread that started it ends: a recorder that is
    killed leaves no machine running. Python's own way, preexec_fn, may hang beside threads."""
    setpriv = shutil.which("setpriv")  # util-linux
    return [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []


def _wait(process: subprocess.Popen[bytes], stop: Callable[[], str | None]) -> str:
    while process.poll() is None:
        if (ending := stop()) is not None:
            process.terminate()  # QEMU ends in order, and so do the events
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
            return ending
        time.sleep(_POLL)
    return "exited"


def _words(machine: Machine) -> Sequence[str]:
    missing = sorted({*OPTIONAL} - optional_of(machine.cpu))
    firmware = ("-bios", str(machine.firmware)) if machine.firmware else ()
    return (
        *_MACHINE,
        *firmware,
        *("-cpu", ",".join(("max", *(f"{name}=off" for name in missing)))),
        *("-smp", str(machine.smp)),
        *("-m", str(machine.memory >> 20)),
        *("-kernel", str(machine.kernel)),
        *("-initrd", str(machine.initrd)),
        *("-append", machine.append),
        *(_FIXED if machine.smp == 1 else ()),
        *("-seed", str(machine.seed)),
    )


def _check_firmware(booted: Booted) -> None:
    found = _FIRMWARE.search(booted.console)
    if found and (int(found[1]), int(found[2])) < _OLD_FIRMWARE:
        raise NoQemu(
            f"the firmware is {found[0]}, which switches shadow stacks off without a word",
            "give the fw_dynamic.bin of OpenSBI 1.6 or later with --firmware (Debian: opensbi)",
        )
