"""The files of the host that a guest sees: the root's tree, the binds and the program."""

from __future__ import annotations

import os
import stat
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import NamedTuple

from shstk.schemas.errors import BadProgram
from shstk.schemas.partial import PARTIAL
from shstk.tracer.kernel.tree.hosttree import STAGING, HostTree, Layers, Tree
from shstk.tracer.kernel.tree.staging import cut_off


class Mount(NamedTuple):
    """A tree of the host, as an entry of manifest.trees.

    option: the command-line option that gave it. kept: the tree that receives the guest's changes
    at the end. beneath: the tree that `kept` is an overlay on.
    """

    kind: str  # of vocabulary.TREE_KINDS
    guest: str
    tree: Tree
    option: str
    writable: bool = False
    kept: HostTree | None = None
    beneath: HostTree | None = None


def host_mounts(
    root: str | Path | None = None,
    overlay: str | Path | None = None,
    binds: Iterable[tuple[str | Path, str, bool]] = (),
    run: Path | None = None,
) -> tuple[Mount, ...]:
    """The mounts of the root, if there is one, and of the binds. Raises BadProgram.

    binds: (path on the host, path in the guest, writable). run: the run directory that is being
    recorded. The guest does not see it.
    """
    hidden = [] if run is None else [os.path.realpath(run), os.path.realpath(f"{run}{PARTIAL}")]
    mounts = [_bind(Path(host), guest, writable, hidden) for host, guest, writable in binds]
    if root is not None or overlay is not None:
        mounts.insert(0, _root(_path(root), _path(overlay), hidden))
    _check_kept(mounts)
    return tuple(mounts)


def _path(text: str | Path | None) -> Path | None:
    return None if text is None else Path(text)


def _root(root: Path | None, overlay: Path | None, hidden: list[str]) -> Mount:
    option = f"--root {root}" if root is not None else f"--overlay {overlay}"
    beneath = HostTree(os.path.realpath(root), hidden) if root is not None else None
    if beneath is not None and not beneath.holds(""):
        raise BadProgram(f"{option}: not a directory")
    if overlay is None:
        assert beneath is not None
        return Mount("root", "/", beneath, option)
    above = HostTree(os.path.realpath(overlay), hidden)
    tree = Layers(above, beneath) if beneath is not None else above
    return Mount("root", "/", tree, f"--overlay {overlay}", True, above, beneath)


def _bind(host: Path, guest: str, writable: bool, hidden: list[str]) -> Mount:
    tree = HostTree(os.path.realpath(host), hidden)
    kept = tree if writable else None
    return Mount("bind", guest, tree, f"--bind {host}:{guest}", writable, kept)


def _check_kept(mounts: list[Mount]) -> None:
    """Writable mounts share no file of the host: each would undo what the other writes.

    Raises BadProgram.
    """
    places: list[tuple[Mount, list[Hashable]]] = []
    for mount in mounts:
        if mount.kept is None:
            continue
        if cut_off(mount.kept.place):
            raise BadProgram(
                f"{mount.option}: an earlier write-back was cut off",
                f"{STAGING} there holds what did not get its place: move it away and run again",
            )
        places.append((mount, _upwards(mount.kept.root)))
    for inner, above in places:
        for outer, (top, *_) in places:
            if outer is not inner and top in above:
                raise BadProgram(
                    f"{inner.option} lies within {outer.option}, and both are writable",
                    "make one of them read-only",
                )


def _upwards(path: str) -> list[Hashable]:
    """A place on the host and all above it, by device and inode: the host may have mounted one
    directory twice. What does not exist yet has only its path."""
    found: list[Hashable] = []
    while True:
        try:
            status = os.stat(path)
            found.append((status.st_dev, status.st_ino))
        except OSError:
            found.append(path)
        if path == (path := os.path.dirname(path)):
            return found


def program_mount(program: str, in_root: bool) -> Mount:
    """The host's file PROGRAM, which appears in the guest's / under its base name.

    in_root: a root was given, and the program is not in it. Raises BadProgram.
    """
    tree = HostTree(os.path.realpath(program))
    mode = tree.mode("")
    if mode is None:
        where = "in the root or on the host" if in_root else "on the host"
        raise BadProgram(f"{program}: no such file {where}", "give the path of an ELF file")
    if not stat.S_ISREG(mode):
        raise BadProgram(f"{program}: not a regular file", "give the path of an ELF file")
    if not os.access(tree.root, os.R_OK):
        raise BadProgram(f"{program}: not readable", "check the file's permissions")
    return Mount("program", f"/{os.path.basename(program)}", tree, program)
