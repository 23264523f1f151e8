"""The plugin, compiled at its first use and kept in the user's cache.

It is not compiled with the package: which interface QEMU has is known only where it runs.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from shstk.schemas.errors import CannotWrite, ShstkError

SOURCES: Final = Path(__file__).with_name("plugin")
_FLAGS: Final = ("-std=c11", "-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-pthread")


class NoCompiler(ShstkError):
    """The plugin can't be compiled."""


def plugin(interface: int) -> Path:
    """The plugin for that version of QEMU's plugin interface. Raises NoCompiler, CannotWrite."""
    compiler = _compiler()
    target = _cache() / f"{_key(compiler, interface)}.so"
    if not target.exists():
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _compile(compiler, interface, target)
        except OSError as error:
            raise CannotWrite(f"cannot write to {target.parent}: {error.strerror}") from error
    return target


def _compile(compiler: str, interface: int, target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as work:
        made = Path(work, "plugin.so")
        command = [
            *(compiler, f"-DINTERFACE={interface}", *_FLAGS),
            *(str(SOURCES / "plugin.c"), "-o", str(made)),
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise NoCompiler(
                f"{compiler} could not compile the QEMU plugin: {done.stderr.strip()[-400:]}",
                "set CC to a C compiler for this machine",
            )
        made.rename(target)  # whole, or not at all


def _compiler() -> str:
    for name in _compilers():
        if found := shutil.which(name):
            return found
    raise NoCompiler(
        "there is no C compiler here, which recording a real kernel needs",
        "install gcc or clang, or set CC",
    )


def _compilers() -> Iterator[str]:
    """The user's choice, what compiled the core, then the usual names."""
    from shstk.tracer._core import C_COMPILER

    if given := os.environ.get("CC"):
        yield given
    yield from (C_COMPILER, "cc", "gcc", "clang")


def _key(compiler: str, interface: int) -> str:
    digest = hashlib.sha256(f"{compiler} {interface} {_FLAGS}".encode())
    for source in sorted(SOURCES.glob("*.[ch]")):
        digest.update(source.read_bytes())
    return digest.hexdigest()


def _cache() -> Path:
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # the user has no home directory
        home = Path(tempfile.gettempdir())
    return home / "shstk" / "qemu-plugin"
