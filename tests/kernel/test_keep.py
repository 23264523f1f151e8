"""A guest's changes: discarded, kept in an overlay, or written back to a bound directory."""

from __future__ import annotations

from pathlib import Path

import pytest
from direct import Direct

from shstk.schemas.errors import BadProgram
from shstk.tracer.kernel.tree.mounts import host_mounts
from shstk.tracer.kernel.tree.sandbox import AT_FDCWD, Sandbox

AT_REMOVEDIR = 0x200


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
