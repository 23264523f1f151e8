"""The files of the host that a guest sees: the root's tree, the binds and the program."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from shstk.schemas.errors import BadProgram
from shstk.tracer.kernel.tree.hosttree import HostTree, Layers, Tree


@dataclass(frozen=True)
class Mount:
    """A tree of the host, as an entry of manifest.trees.

    option: the command-line option that gave it. kept: the directory or file of the host that
    receives the guest's changes at the end. beneath: the tree that `kept` is an overlay on.
    """

    kind: str  # of vocabulary.TREE_KINDS
    guest: str
    tree: Tree
    option: str
    writable: bool = False
    kept: str | None = None
    beneath: HostTree | None = None


def host_mounts(
    root: str | Path | None = None,
    overlay: str | Path | None = None,
    binds: Iterable[tuple[str | Path, str, bool]] = (),
) -> tuple[Mount, ...]:
    """The mounts of the root, if there is one, and of the binds. Raises BadProgram.

    binds: (path on the host, path in the guest, writable).
    """
    bound = (_bind(Path(host), guest, writable) for host, guest, writable in binds)
    if root is None and overlay is None:
        return tuple(bound)
    return (_root(_path(root), _path(overlay)), *bound)


def _path(text: str | Path | None) -> Path | None:
    return None if text is None else Path(text)


def _root(root: Path | None, overlay: Path | None) -> Mount:
    option = f"--root {root}" if root is not None else f"--overlay {overlay}"
    beneath = HostTree(os.path.realpath(root)) if root is not None else None
    if beneath is not None and not beneath.holds(""):
        raise BadProgram(f"{option}: not a directory")
    if overlay is None:
        assert beneath is not None
        return Mount("root", "/", beneath, option)
    above = HostTree(os.path.realpath(overlay))
    tree = Layers(above, beneath) if beneath is not None else above
    return Mount("root", "/", tree, option, True, above.root, beneath)


def _bind(host: Path, guest: str, writable: bool) -> Mount:
    real = os.path.realpath(host)
    option = f"--bind {host}:{guest}"
    return Mount("bind", guest, HostTree(real), option, writable, real if writable else None)


def program_mount(program: str, in_root: bool) -> Mount:
    """The host's file PROGRAM, which appears in the guest's / under its base name.

    in_root: a root was given, and the program is not in it. Raises BadProgram.
    """
    tree = HostTree(os.path.realpath(program))
    mode = tree.mode("")
    if mode is None:
        where = "neither in the root nor on the host" if in_root else "on the host"
        raise BadProgram(f"{program}: no such file {where}", "give the path of an ELF file")
    if not stat.S_ISREG(mode):
        raise BadProgram(f"{program}: not a regular file", "give the path of an ELF file")
    if not os.access(tree.root, os.R_OK):
        raise BadProgram(f"{program}: not readable", "check the file's permissions")
    return Mount("program", f"/{os.path.basename(program)}", tree, program)
