"""A real kernel's Image as the kernel of a cell. It is booted in QEMU, with the program as the only
guest.

A cell's key has what is in its files and QEMU's version, not where they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from shstk.tracer.importers.revision import expected
from shstk.tracer.realkernel import image as images
from shstk.tracer.realkernel import qemu
from shstk.tracer.realkernel.options import KernelFiles


@dataclass(frozen=True)
class Image:
    """name: in all results. kernel: the revision whose rules are expected; None: what its banner
    says. qemu: a program, or its name on PATH; None: the usual name. firmware: None: the one inside
    QEMU. contents: the digest of the files and of QEMU's version."""

    name: str
    file: str
    vmlinux: str | None = None
    system_map: str | None = None
    firmware: str | None = None
    qemu: str | None = None
    kernel: str | None = None
    append: str = ""
    user: int = 1000
    contents: str = ""

    @property
    def paths(self) -> tuple[str | None, ...]:
        """What is read of the host; not QEMU, which each machine has by itself."""
        return self.file, self.vmlinux, self.system_map, self.firmware

    @property
    def files(self) -> KernelFiles:
        return KernelFiles(
            image=Path(self.file),
            vmlinux=Path(self.vmlinux) if self.vmlinux else None,
            system_map=Path(self.system_map) if self.system_map else None,
        )

    def moved(self, there: Callable[[str], str]) -> Image:
        """The same, with its files elsewhere."""
        file, *others = (path and there(path) for path in self.paths)
        vmlinux, system_map, firmware = others
        return replace(
            self, file=file or "", vmlinux=vmlinux, system_map=system_map, firmware=firmware
        )

    @property
    def words(self) -> list[str]:
        """The options of `shstk record`."""
        words = ["--real-kernel", self.file]
        for option, value in (
            ("--vmlinux", self.vmlinux),
            ("--system-map", self.system_map),
            ("--firmware", self.firmware),
            ("--qemu", self.qemu),
            ("--kernel", self.kernel),
            ("--append", self.append),
        ):
            words += [option, value] if value else []
        return [*words, "--user", str(self.user)] if self.user != Image.user else words


def find_firmware(given: str | None) -> str | None:
    """The firmware that QEMU gets; it can travel to another machine. Raises UsageError."""
    found = qemu.find_firmware(Path(given) if given else None)
    return str(found) if found else None


def check(image: Image) -> None:
    """It must be a kernel whose rules are known. Raises UsageError, BadImage and BadRecording."""
    expected(image.kernel, images.banner(images.read(Path(image.file))))
