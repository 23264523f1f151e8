"""A real kernel, firmware and QEMU from Debian's packages, for the tests: fetched by apt into the
user's cache when they are asked for. Nothing of the machine is changed and nobody need be root.

`python tests/realkernel/machine.py` prints where they are, and fetches them first if need be: 10 MB
for the kernel, 40 MB for QEMU with all that it needs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shstk" / "realkernel"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
MIRROR = "http://deb.debian.org/debian"
# sid's kernels go with time, so these are patterns; the newest is taken.
KERNEL = "^linux-binary-[0-9.]+\\+deb[0-9]+-riscv64$"
# A QEMU of each plugin interface that Debian has.
QEMUS = {"11": "sid", "10": "trixie"}
DIRECTORIES = (
    *("etc/apt/apt.conf.d", "etc/apt/preferences.d", "etc/apt/sources.list.d"),
    *("var/cache/apt/archives/partial", "var/lib/apt/lists/partial", "var/lib/dpkg"),
)


class NotToBeHad(Exception):
    """Why this machine can't fetch the packages."""


@dataclass(frozen=True)
class Machine:
    kernel: Path
    firmware: Path
    qemu: Path


def machine(qemu: str = "11") -> Machine:
    """qemu: a key of QEMUS. Raises NotToBeHad."""
    kernel = _once("kernel", lambda place: _kernel(place))
    program = _once(f"qemu-{qemu}", lambda place: _qemu(place, QEMUS[qemu]))
    return Machine(
        next(kernel.glob("usr/lib/modules/*/vmlinuz")),
        next(kernel.glob("usr/lib/riscv64-linux-gnu/opensbi/generic/fw_dynamic.bin")),
        program / "qemu-system-riscv64",
    )


def tools() -> Path:
    """A tree of riscv64 programs: busybox and trace-cmd. Raises NotToBeHad."""
    wanted = ["busybox-static", "trace-cmd"]
    return _once("tools", lambda place: _Apt("sid", "riscv64").unpack(wanted, place))


def _kernel(place: Path) -> None:
    apt = _Apt("sid", "riscv64")
    found = apt.run("apt-cache", "search", "--names-only", KERNEL).splitlines()
    if not found:
        raise NotToBeHad("Debian has no riscv64 kernel at the moment")
    apt.unpack([max(line.split()[0] for line in found), "opensbi"], place, alone=True)


def _qemu(place: Path, suite: str) -> None:
    """With the libraries that it needs, and a command that starts it with them."""
    native = subprocess.run(
        ["dpkg", "--print-architecture"], capture_output=True, text=True, check=True
    ).stdout.strip()
    _Apt(suite, native).unpack(["qemu-system-riscv"], place)
    loader = next(path for path in place.glob("usr/lib*/**/ld-linux-*") if path.is_file())
    folders = {library.parent for library in place.glob("usr/lib/**/*.so*")}
    command = place / "qemu-system-riscv64"
    root = CACHE / place.name.partition(".")[0]
    at = [str(root / folder.relative_to(place)) for folder in sorted(folders)]
    command.write_text(
        f"#!/bin/sh\nexec {root / loader.relative_to(place)} --library-path {':'.join(at)}"
        f' {root}/usr/bin/qemu-system-riscv64 -L {root}/usr/share/qemu "$@"\n'
    )
    command.chmod(0o755)


def _once(name: str, fill) -> Path:  # type: ignore[no-untyped-def]
    """The folder appears only when it is whole."""
    target = CACHE / name
    if not target.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        partial = CACHE / f"{name}.{os.getpid()}"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            fill(partial)
            partial.rename(target)
        except (OSError, StopIteration, subprocess.CalledProcessError) as error:
            if not target.exists():  # else another process was faster
                raise NotToBeHad(f"{name}: {error or 'a package has other files'}") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return target


class _Apt:
    """apt with lists of its own, of one suite and one architecture, that has nothing installed."""

    def __init__(self, suite: str, architecture: str) -> None:
        if not shutil.which("apt-get") or not KEYRING.exists():
            raise NotToBeHad("this machine has no apt of Debian's")
        self._place = Path(tempfile.mkdtemp(prefix="shstk-apt-"))
        for name in DIRECTORIES:
            (self._place / name).mkdir(parents=True)
        (self._place / "var/lib/dpkg/status").touch()
        (self._place / "etc/apt/sources.list.d/debian.sources").write_text(
            f"Types: deb\nURIs: {MIRROR}\nSuites: {suite}\nComponents: main\n"
            f"Architectures: {architecture}\nSigned-By: {KEYRING}\n"
        )
        self._config = self._place / "apt.conf"
        self._config.write_text(
            f'Dir "{self._place}";\nDir::State::status "{self._place}/var/lib/dpkg/status";\n'
            f'Dir::Bin::Methods "/usr/lib/apt/methods";\nAPT::Architecture "{architecture}";\n'
            f'APT::Architectures {{ "{architecture}"; }};\nAcquire::Languages "none";\n'
            'Acquire::Check-Valid-Until "false";\nAPT::Sandbox::User "root";\n'
            'APT::Install-Recommends "false";\n'
        )
        self.run("apt-get", "update")

    def unpack(self, packages: list[str], place: Path, *, alone: bool = False) -> None:
        """The packages, and all that they depend on unless `alone`."""
        archives = self._place / "var/cache/apt/archives"
        if alone:
            self.run("apt-get", "download", *packages, cwd=archives)
        else:
            self.run("apt-get", "install", "--yes", "--download-only", *packages)
        # base-files first: it has the links that the others rely on.
        found = sorted(archives.glob("*.deb"), key=lambda p: not p.name.startswith("base-files"))
        for package in found:
            subprocess.run(["dpkg-deb", "-x", str(package), str(place)], check=True)
        shutil.rmtree(self._place)

    def run(self, *command: str, cwd: Path | None = None) -> str:
        done = subprocess.run(
            command,
            cwd=cwd,
            env={**os.environ, "APT_CONFIG": str(self._config), "LC_ALL": "C"},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            said = done.stderr.strip().splitlines() or ["failed without a word"]
            raise NotToBeHad(f"{command[0]} {command[1]}: {said[-1]}")
        return done.stdout


if __name__ == "__main__":
    for which in QEMUS:
        print(machine(which))
