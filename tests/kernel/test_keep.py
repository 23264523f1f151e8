"""A guest's changes: discarded, kept in an overlay, or written back to a bound directory."""

from __future__ import annotations

import errno
import os
import random
import shutil
from contextlib import nullcontext, suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from direct import Direct

from shstk.schemas.errors import BadProgram, CannotWrite
from shstk.tracer.kernel.tree.hosttree import STAGING, HostTree
from shstk.tracer.kernel.tree.mounts import host_mounts
from shstk.tracer.kernel.tree.sandbox import AT_FDCWD, Sandbox
from shstk.tracer.kernel.tree.staging import Staging

AT_REMOVEDIR = 0x200
RENAME_EXCHANGE = 2


@pytest.fixture
def root(tmp_path: Path) -> Path:
    tree = tmp_path / "root"
    (tree / "etc/old").mkdir(parents=True)
    (tree / "etc/name").write_text("lower\n")
    (tree / "etc/old/file").write_text("deep\n")
    return tree


def guest(root: Path | None, **options: object) -> Direct:
    """A task in a sandbox with several mounts."""
    d = Direct()
    d.k.sandbox = Sandbox(host_mounts(root, **options))  # type: ignore[arg-type]
    d.t.fs.cwd = d.k.sandbox.root
    return d


def snapshot(tree: Path) -> dict[str, bytes | None]:
    return {
        str(p.relative_to(tree)): p.read_bytes() if p.is_file() else None
        for p in sorted(tree.rglob("*"))
    }


def change(d: Direct) -> None:
    d.save("/etc/new", b"made\n")
    assert d.at("unlinkat", "/etc/name", 0) == 0
    assert d.call("renameat2", AT_FDCWD, b"/etc/old\0", AT_FDCWD, b"/etc/moved\0", 0) == 0
    assert d.at("mkdirat", "/etc/old", 0o755) == 0
    d.k.sandbox.keep(d.k)


def test_the_root_is_never_changed(root: Path) -> None:
    before = snapshot(root)
    change(guest(root))
    assert snapshot(root) == before


def test_an_overlay_is_where_the_next_run_goes_on(root: Path, tmp_path: Path) -> None:
    before = snapshot(root)
    change(guest(root, overlay=tmp_path / "over"))
    assert snapshot(root) == before
    d = guest(root, overlay=tmp_path / "over")
    assert d.text("/etc/new") == b"made\n"
    assert d.text("/etc/name") == "ENOENT"
    assert d.text("/etc/moved/file") == b"deep\n"
    assert d.text("/etc/old/file") == "ENOENT", (
        "a directory created again hides the old one's entries"
    )
    d.save("/etc/name", b"again\n")
    d.k.sandbox.keep(d.k)
    assert guest(root, overlay=tmp_path / "over").text("/etc/name") == b"again\n"


def test_a_bound_directory_is_written_back(root: Path) -> None:
    (root / "top").mkdir()
    d = guest(None, binds=((root, "/mnt/work", True),))
    d.save("/mnt/work/etc/name", b"changed\n")
    assert d.at("unlinkat", "/mnt/work/top", AT_REMOVEDIR) == 0
    old, new = b"/mnt/work/etc/old/file\0", b"/mnt/work/up\0"
    assert d.call("renameat2", AT_FDCWD, old, AT_FDCWD, new, 0) == 0
    assert (root / "etc/name").read_text() == "lower\n", "not written before the end"
    d.k.sandbox.keep(d.k)
    assert snapshot(root) == {
        "etc": None,
        "etc/name": b"changed\n",
        "etc/old": None,
        "up": b"deep\n",
    }


def test_swapped_files_are_both_kept(root: Path) -> None:
    (root / "other").write_text("other\n")
    d = guest(None, binds=((root, "/w", True),))
    assert d.call("renameat2", AT_FDCWD, b"/w/other\0", AT_FDCWD, b"/w/etc/name\0", 2) == 0
    d.k.sandbox.keep(d.k)
    assert (root / "other").read_text() == "lower\n"
    assert (root / "etc/name").read_text() == "other\n"


def test_without_rw_nothing_can_be_changed(root: Path) -> None:
    d = guest(None, binds=((root, "/w", False), (root / "etc/name", "/file", False)))
    assert d.text("/w/etc/name") == d.text("/file") == b"lower\n"
    assert d.open("/w/etc/name", 1) == d.open("/file", 2) == d.open("/w/x", 0o101) == "EROFS"
    assert d.at("unlinkat", "/w/etc/name", 0) == "EROFS"
    assert d.at("fchmodat", "/file", 0o600) == "EROFS"
    assert d.at("unlinkat", "/file", 0) == "EBUSY"


def test_a_guest_s_symlink_is_kept_as_one(root: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("outside")
    d = guest(None, binds=((root, "/w", True),))
    assert d.call("symlinkat", str(tmp_path).encode() + b"\0", AT_FDCWD, b"/w/away\0") == 0
    assert d.text("/w/away/secret") == "ENOENT"
    d.k.sandbox.keep(d.k)
    assert (root / "away").is_symlink()
    assert (tmp_path / "secret").read_text() == "outside"


@pytest.mark.parametrize("place", ["/", "relative/..", "/a/../b"])
def test_no_place_for_a_bind(root: Path, place: str) -> None:
    with pytest.raises(BadProgram):
        Sandbox(host_mounts(binds=((root, place, False),)))


@pytest.mark.parametrize("at", ["etc", "."])
def test_a_symlink_made_meanwhile_leads_no_write_out(root: Path, tmp_path: Path, at: str) -> None:
    """A directory is replaced by a symlink while the guest runs: by a guest of the same bind."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "name").write_text("mine\n")
    d = guest(None, binds=((root, "/w", True),))
    d.save("/w/etc/name", b"guest\n")
    (root / at).rename(tmp_path / "away")
    (root / at).symlink_to(outside)
    with pytest.raises(CannotWrite) if at == "etc" else nullcontext():
        d.k.sandbox.keep(d.k)
    assert snapshot(outside) == {"name": b"mine\n"}


@pytest.mark.parametrize("inner", ["", "etc"])
def test_writable_binds_that_overlap_are_refused(root: Path, tmp_path: Path, inner: str) -> None:
    link = tmp_path / "link"
    link.symlink_to(root)
    with pytest.raises(BadProgram, match="both are writable"):
        host_mounts(binds=((root, "/a", True), (link / inner, "/b", True)))
    assert host_mounts(binds=((root, "/a", True), (link / inner, "/b", False)))


def test_a_full_disk_changes_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    d = guest(None, binds=((root, "/w", True),))
    d.save("/w/etc/name", b"changed\n")
    d.save("/w/new", b"new\n")
    before = snapshot(root)

    def full(self: Staging, data: bytes, mode: int) -> bytes:
        if data == b"new\n":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return file(self, data, mode)

    file = Staging.file
    monkeypatch.setattr(Staging, "file", full)
    with pytest.raises(CannotWrite, match="No space left"):
        d.k.sandbox.keep(d.k)
    assert snapshot(root) == before


def test_killed_at_any_step_no_file_is_torn(root: Path) -> None:
    """Each file is the old one or the new one, or waits in the staging directory."""
    options = {"binds": ((root, "/w", True),)}
    kills = 0
    for step in count():
        shutil.rmtree(root)
        (root / "etc").mkdir(parents=True)
        for n in range(3):
            (root / f"etc/{n}").write_bytes(b"old" * 1000)
        d = guest(None, **options)
        for n in range(3):
            d.save(f"/w/etc/{n}", b"new" * 1000)
        pid = os.fork()
        if pid == 0:
            _exit_at_rename(step)
            d.k.sandbox.keep(d.k)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        if status == 0:
            break
        kills += 1
        contents = [root / f"etc/{n}" for n in range(3)]
        assert {file.read_bytes() for file in contents} <= {b"old" * 1000, b"new" * 1000}
        with pytest.raises(BadProgram, match="cut off"):
            guest(None, **options)
    assert kills == 3
    assert STAGING not in os.listdir(root)


def _exit_at_rename(step: int) -> None:
    rename, steps = os.rename, count()

    def dies(*args: Any, **keywords: Any) -> None:
        if next(steps) == step:
            os._exit(9)
        rename(*args, **keywords)

    os.rename = dies


def test_the_run_is_neither_seen_nor_changed(root: Path) -> None:
    (root / "run.partial").mkdir()
    d = guest(None, binds=((root, "/w", True),), run=root / "run")
    assert d.at("openat", "/w/run.partial", 0) == "ENOENT"
    assert d.at("mkdirat", "/w/run", 0o755) == 0
    d.save("/w/run/manifest.json", b"forged\n")
    d.save("/w/kept", b"yes\n")
    (root / "run.partial").rename(root / "run")
    (root / "run/manifest.json").write_text("true\n")
    d.k.sandbox.keep(d.k)
    assert (root / "run/manifest.json").read_text() == "true\n"
    assert (root / "kept").read_text() == "yes\n"
    assert d.k.warnings == [
        f"{path} is not written to {root}: that name is shstk's own"
        for path in ("run", "run/manifest.json")
    ]


def test_a_guest_can_not_take_the_staging_directory_s_name(root: Path) -> None:
    d = guest(None, binds=((root, "/w", True),))
    d.save(f"/w/{STAGING}", b"mine\n")
    d.save("/w/etc/name", b"changed\n")
    d.k.sandbox.keep(d.k)
    assert (root / "etc/name").read_text() == "changed\n"
    assert STAGING not in os.listdir(root)
    assert d.k.warnings == [f"{STAGING} is not written to {root}: that name is shstk's own"]


def test_a_tree_of_any_depth_is_kept_and_removed(root: Path) -> None:
    depth = 1200
    d = guest(None, binds=((root, "/w", True),))
    d.t.fs.cwd = d.k.sandbox.root.lookup(d.k, "w")
    for _ in range(depth):
        assert d.at("mkdirat", "d", 0o755) == 0
        d.t.fs.cwd = d.t.fs.cwd.lookup(d.k, "d")
    d.k.sandbox.keep(d.k)
    with HostTree(str(root)).place.folder(b"/".join([b"d"] * depth)) as bottom:
        assert os.listdir(f"/proc/self/fd/{bottom}") == []
    with Staging(HostTree(str(root)).place) as staging:
        staging.remove(b"d")
    assert "d" not in os.listdir(root)


PATHS = ("a", "b", "a/a", "a/b", "a/a/b", "c")
STEPS = ("mkdir", "symlink", "up", "file", "file", "move", "swap", "link", "remove", "mode")


@pytest.mark.parametrize("seed", range(300))
def test_nothing_outside_changes(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a guest does in a bind or an overlay, and another process in the same place: before
    it runs, after, or in the middle of the write-back."""
    rng = random.Random(seed)
    guests, hosts = (
        [(rng.choice(STEPS), rng.choice(PATHS), rng.choice(PATHS)) for _ in range(rng.randrange(n))]
        for n in (12, 6)
    )
    when = rng.choice(("before", "after", "between", "between"))
    base = tmp_path / "base"
    bound, outside = base / "bound", base / "outside"
    (bound / "a/a").mkdir(parents=True)
    (bound / "b").mkdir()
    (outside / "a/b").mkdir(parents=True)
    (outside / "a/c").write_text("canary")
    os.link(outside / "a/c", bound / "c")
    before = _inodes(outside)

    def on_host() -> None:
        for what, one, other in hosts:
            _on_host(what, bound / one, bound / other, outside)

    if rng.random() < 0.5:
        d = guest(None, binds=((bound, "/w", True),))
    else:
        (base / "lower").mkdir()
        shutil.copytree(bound, base / "lower/w")
        shutil.rmtree(bound)
        (bound / "w").mkdir(parents=True)
        d, bound = guest(base / "lower", overlay=bound), bound / "w"
    if when == "before":
        on_host()
    for what, one, other in guests:
        _in_guest(d, what, f"/w/{one}", f"/w/{other}", outside)
    if when == "after":
        on_host()
    with suppress(CannotWrite), monkeypatch.context() as patch:
        if when == "between":
            _at_call(rng.randrange(60), on_host, patch)
        d.k.sandbox.keep(d.k)
    assert _inodes(outside) == before


def _inodes(tree: Path) -> list[tuple[Any, ...]]:
    """All that can be changed of a tree without going into it by its name."""
    return [
        (str(path), status.st_ino, status.st_mode, path.read_bytes() if path.is_file() else b"")
        for path in [tree, *sorted(tree.rglob("*"))]
        for status in [path.lstat()]
    ]


def _at_call(number: int, act: Any, patch: pytest.MonkeyPatch) -> None:
    """Do something before the n-th call of the write-back that looks a name up in a directory."""
    calls = count()

    def patched(function: Any) -> Any:
        def call(*args: Any, **keywords: Any) -> Any:
            if any("dir_fd" in word for word in keywords) and next(calls) == number:
                patch.undo()
                act()
            return function(*args, **keywords)

        return call

    for name in ("open", "rename", "mkdir", "chmod", "stat", "symlink", "link", "unlink", "rmdir"):
        patch.setattr(os, name, patched(getattr(os, name)))


def _on_host(what: str, one: Path, other: Path, outside: Path) -> None:
    if any(parent.is_symlink() for path in (one, other) for parent in path.parents):
        return  # the test itself must not follow its links out
    with suppress(OSError):
        match what:
            case "mkdir":
                one.mkdir()
            case "symlink" | "up":
                if one.exists():
                    one.rename(outside.parent / f"away{len(os.listdir(outside.parent))}")
                one.symlink_to(outside if what == "symlink" else "../../outside/a")
            case "file":
                one.unlink(missing_ok=True)  # it may be a link to the canary
                one.write_text("host")
            case "move":
                one.rename(other)
            case "swap":
                one.rename(other.with_name("swapped"))
                other.rename(one)
                other.with_name("swapped").rename(other)
            case "link":
                os.link(outside / "a/c", one)
            case "mode" if one.is_dir() and not one.is_symlink():
                one.chmod(0o755)
            case "remove" if one.is_dir() and not one.is_symlink():
                one.rmdir()
            case "remove":
                one.unlink()


def _in_guest(d: Direct, what: str, one: str, other: str, outside: Path) -> None:
    link = {"symlink": str(outside), "up": "../../outside/a"}
    match what:
        case "mkdir":
            d.at("mkdirat", one, 0o755)
        case "symlink" | "up":
            d.call("symlinkat", link[what].encode() + b"\0", AT_FDCWD, one.encode() + b"\0")
        case "file":
            if isinstance(fd := d.open(one, 0o1101), int):
                d.write(fd, b"guest")
        case "move" | "swap":
            names = AT_FDCWD, one.encode() + b"\0", AT_FDCWD, other.encode() + b"\0"
            d.call("renameat2", *names, RENAME_EXCHANGE if what == "swap" else 0)
        case "link":
            names = AT_FDCWD, one.encode() + b"\0", AT_FDCWD, other.encode() + b"\0"
            d.call("linkat", *names, 0)
        case "mode":
            d.call("fchmodat", AT_FDCWD, one.encode() + b"\0", 0o705)
        case "remove":
            if d.at("unlinkat", one, 0) != 0:
                d.at("unlinkat", one, AT_REMOVEDIR)
