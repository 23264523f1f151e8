"""Which revision's rules are expected of a recorded kernel."""

from __future__ import annotations

import re
from typing import Final

from shstk.schemas.errors import BadRecording, UsageError
from shstk.schemas.revisions import REVISIONS, resolve

# Of the banner (Linux version 7.2.13…) or of uname (Linux NODE 7.2.13…).
_RELEASE: Final = re.compile(r"Linux \S+ (\d{1,9})\.(\d{1,9})\b")

_SHOWN: Final = 60  # characters of a damaged banner


def expected(kernel: str | None, banner: str) -> tuple[str, tuple[str, ...]]:
    """The revision whose rules are expected, and what is to be said about it. banner: empty if the
    recording has none. Raises UsageError, BadRecording."""
    if kernel is not None:
        return resolve(kernel).name, ()
    found = _RELEASE.search(banner)
    if found is None:
        hint = "name the revision whose rules hold with --kernel"
        if banner:
            raise BadRecording(f"the kernel's banner is damaged: {banner[:_SHOWN]!r}", hint)
        raise UsageError("nothing says which kernel this is", hint)
    name = f"{found[1]}.{found[2]}"
    releases = [r for r in REVISIONS if re.fullmatch(r"\d+\.\d+", r)]
    if name in releases:
        return name, ()
    newest = releases[-1]
    if _number(name) < _number(releases[0]):
        raise UsageError(
            f"Linux {name} was released without shadow stacks for riscv64",
            "if the patches are in it, name their revision with --kernel (see `shstk kernels`)",
        )
    return newest, (f"Linux {name} is newer than the revisions known here: judged as {newest}",)


def _number(name: str) -> tuple[int, ...]:
    return tuple(map(int, name.split(".")))
