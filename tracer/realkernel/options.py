"""The options of a recording of a real kernel. Cheap to import: the command line needs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shstk.schemas.extensions import DEFAULT_CPU

DEFAULT_TIMEOUT = 600.0  # seconds: a kernel that hangs says nothing
# Bytes of events, 5 million: a guest that never ends writes a gigabyte a minute.
DEFAULT_EVENTS_LIMIT = 512 << 20


@dataclass(frozen=True, kw_only=True)
class KernelFiles:
    """image: what is booted. vmlinux, system_map: where symbols and types are, if not in it."""

    image: Path
    vmlinux: Path | None = None
    system_map: Path | None = None


@dataclass(frozen=True, kw_only=True)
class RealOptions:
    """program: a path in `root` or on the host. argv: without argv[0]. kernel: the revision whose
    rules are expected; None: what the Image's banner says. append: added to the kernel's command
    line. cpu: of extensions.CPUS; QEMU's harts lack the optional extensions that it lacks. memory:
    bytes of the machine. uid: the user that the program runs as. events_limit: bytes of events that
    end the recording. on_progress: is told what happens, several times a second."""

    files: KernelFiles
    program: str
    argv: tuple[str, ...] = ()
    kernel: str | None = None
    out: Path | None = None
    force: bool = False
    firmware: Path | None = None
    qemu: str | None = None
    smp: int = 1
    cpu: str = DEFAULT_CPU
    nousercfi: bool = False
    append: str = ""
    root: Path | None = None
    binds: Sequence[tuple[str | Path, str, bool]] = ()
    env: Mapping[str, str] | None = None
    stdin: bytes = b""
    cwd: str = "/"
    memory: int | None = None
    seed: int = 0
    uid: int = 1000
    pids_max: int | None = None
    timeout: float = DEFAULT_TIMEOUT
    events: Path | None = None  # keep the events there
    events_limit: int = DEFAULT_EVENTS_LIMIT
    on_output: Callable[[int, bytes], None] | None = None
    on_progress: Callable[[str], None] | None = None
    interrupted: Callable[[], bool] | None = None
