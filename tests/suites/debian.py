"""Debian packages as the tests' material: fetched by apt when a test wants them, kept in a cache.

Nothing of the machine is changed and nobody need be root: apt gets lists and archives of its own.
The cache is $XDG_CACHE_HOME/shstk, by default ~/.cache/shstk.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shstk"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


class NotToBeHad(Exception):
    """Why a package can't be fetched here."""


@contextmanager
def skipping_loudly(what: str) -> Iterator[None]:
    """`what` was not tested, and why, instead of an error, where the material is not to be had."""
    try:
        yield
    except NotToBeHad as why:
        pytest.skip(f"{what} did not run: {why}")


def package(name: str, *suites: str) -> Path:
    """The .deb, of the release that this machine follows, or of `suites`."""
    target = CACHE / "debs" / name
    _once(target, lambda place: _run([*_apt(suites), "download", name], place))
    return next(target.glob("*.deb"))


def unpacked(deb: Path) -> Path:
    """The folder that holds the package's files."""
    target = CACHE / "unpacked" / deb.stem
    _once(target, lambda place: _run(["dpkg-deb", "-x", str(deb), str(place)]))
    return target


def files_of_tarball(deb: Path, member: str, wanted: tuple[str, ...]) -> Path:
    """The folder with what lies under the paths `wanted` (without the tarball's first folder) in
    the source tarball `member` (a pattern) of the package. The rest is not unpacked: it is big."""
    target = CACHE / "unpacked" / f"{deb.stem}.sources"

    def unpack(place: Path) -> None:
        data = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE)
        inner = subprocess.Popen(
            ["tar", "-xO", "--wildcards", member], stdin=data.stdout, stdout=subprocess.PIPE
        )
        assert inner.stdout is not None
        try:
            with tarfile.open(fileobj=inner.stdout, mode="r|xz") as tar:
                for info in tar:
                    path = info.name.partition("/")[2]
                    if info.isfile() and path.startswith(wanted):
                        info.name = path
                        tar.extract(info, place, filter="data")
        except tarfile.ReadError as error:
            raise NotToBeHad(f"{deb.name} has no readable {member}") from error
        finally:
            for process in (inner, data):
                process.communicate()

    _once(target, unpack)
    return target


def _once(target: Path, fill: Callable[[Path], object]) -> None:
    """`target` appears only when it is whole."""
    if target.exists():
        return
    partial = target.with_name(f"{target.name}.{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    fill(partial)
    try:
        partial.rename(target)
    except OSError:
        if not target.exists():  # else another process was faster
            raise
        shutil.rmtree(partial)


def _apt(suites: tuple[str, ...]) -> list[str]:
    """apt-get with lists of its own, up to date, of this machine's sources or of `suites`."""
    if shutil.which("apt-get") is None:
        raise NotToBeHad("there is no apt-get on this machine")
    place = CACHE / "apt" / ("-".join(suites) or "own")
    (place / "lists/partial").mkdir(parents=True, exist_ok=True)
    (place / "archives/partial").mkdir(parents=True, exist_ok=True)
    options = {
        "Dir::State::Lists": place / "lists",
        "Dir::Cache": place,
        "Debug::NoLocking": "1",
        "APT::Sandbox::User": "",
        "quiet": "2",
    }
    if suites:
        mirror = _mirror()
        sources = place / "sources.list"
        sources.write_text(
            "".join(f"deb [signed-by={KEYRING}] {mirror} {suite} main\n" for suite in suites)
        )
        options |= {"Dir::Etc::SourceList": sources, "Dir::Etc::SourceParts": "/dev/null"}
    apt = ["apt-get", *(f"-o{key}={value}" for key, value in options.items())]
    _run([*apt, "update"])
    return apt


def _mirror() -> str:
    """The Debian mirror that this machine uses."""
    template = "$(REPO_URI) $(COMPONENT) $(SIGNED_BY)"
    for line in _run(["apt-get", "indextargets", "--format", template]).splitlines():
        uri, component = line.split()[:2]
        if component == "main" and uri.rstrip("/").endswith("/debian"):
            return uri
    raise NotToBeHad("apt knows no Debian mirror here")


def _run(command: list[str], cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise NotToBeHad(f"{command[0]}: {said[-1] if said else 'failed without a word'}")
    return done.stdout
