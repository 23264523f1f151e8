"""The guest's file system: what it shows of the host, and that no path leads out of it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from direct import Direct

from shstk.schemas.errors import BadProgram
from shstk.tracer.kernel.time.clock import EPOCH_NS
from shstk.tracer.kernel.tree.mounts import host_mounts
from shstk.tracer.kernel.tree.sandbox import Sandbox

AT_SYMLINK_NOFOLLOW = 0x100
O_PATH, O_WRONLY, O_CREAT, O_APPEND = 0o10000000, 1, 0o100, 0o2000


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A root beside a secret that no path inside may reach."""
    (tmp_path / "secret").write_text("outside")
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/passwd").write_text("guest:x:1000\n")
    (root / "bin").mkdir()
    return root


def link(root: Path, name: str, target: str) -> None:
    os.symlink(target, root / name)


@pytest.mark.parametrize(
    "path",
    [
        "../secret",
        "/../secret",
        "/../../../../secret",
        "etc/../../secret",
        "/proc/self/root/../secret",
        "/proc/self/cwd/../secret",
        "/proc/thread-self/root/../../secret",
        "absolute/secret",
        "climbing/secret",
        "file",
        "direct",
        "chained",
    ],
)
def test_no_path_leads_out(tree: Path, path: str) -> None:
    outside = tree.parent
    link(tree, "absolute", str(outside))
    link(tree, "climbing", "../../..")
    link(tree, "file", str(outside / "secret"))
    link(tree, "direct", "../secret")
    link(tree, "chained", "etc/hop")
    link(tree, "etc/hop", "../../secret")
    d = Direct(tree)
    assert d.open(path) == "ENOENT"
    assert d.stat(path) == "ENOENT"
    assert d.at("faccessat", path, 0) == "ENOENT"
    assert d.call("chdir", path.encode() + b"\0") == "ENOENT"


def test_the_root_is_its_own_parent_from_every_start(tree: Path) -> None:
    d = Direct(tree)
    root = d.stat("/")["ino"]
    assert d.stat("/..")["ino"] == d.stat("..")["ino"] == root
    assert d.stat("/proc/self/root")["ino"] == d.stat("/proc/self/root/..")["ino"] == root
    assert d.call("chroot", b"/etc\0") == "EPERM"


def test_absolute_links_are_absolute_in_the_root(tree: Path) -> None:
    link(tree, "bin/passwd", "/etc/passwd")
    assert Direct(tree).text("/bin/passwd") == b"guest:x:1000\n"


def test_links_in_circles_and_long_chains(tree: Path) -> None:
    link(tree, "a", "b")
    link(tree, "b", "a")
    link(tree, "self", "self/self")
    link(tree, "c0", "etc")
    for i in range(41):
        link(tree, f"c{i + 1}", f"c{i}")
    d = Direct(tree)
    for path in ("a", "self", "a/x", "c41"):
        assert d.open(path) == "ELOOP"
    assert isinstance(d.stat("c39"), dict)


def test_a_magic_link_leads_to_what_is_open_and_no_further(tree: Path) -> None:
    d = Direct(tree)
    fd = d.open("/etc", O_PATH)
    assert d.text(f"/proc/self/fd/{fd}/passwd") == b"guest:x:1000\n"
    assert d.open(f"/proc/self/fd/{fd}/../../secret") == "ENOENT"
    # The descriptor still refers to the file when its name is removed.
    d.save("/tmp/gone", b"kept")
    held = d.open("/tmp/gone")
    d.at("unlinkat", "/tmp/gone", 0)
    assert d.text(f"/proc/self/fd/{held}") == b"kept"


def test_names_that_are_too_long(tree: Path) -> None:
    d = Direct(tree)
    assert d.open("n" * 255) == "ENOENT"
    assert d.open("n" * 256) == "ENAMETOOLONG"
    assert d.open("a/" * 2048) == "ENAMETOOLONG"
    assert d.open("") == "ENOENT"
    assert d.open("/etc/passwd/") == "ENOTDIR"
    assert d.open("/etc/passwd/x") == "ENOTDIR"


def test_without_a_root_there_is_nothing_of_the_host() -> None:
    d = Direct()
    assert d.names("/") == [".", "..", "dev", "guest", "proc", "tmp"]
    assert d.open("/etc/passwd") == d.open("/usr") == "ENOENT"
    devices = [
        "fd",
        "full",
        "null",
        "ptmx",
        "pts",
        "random",
        "shm",
        "stderr",
        "stdin",
        "stdout",
        "tty",
    ]
    assert d.names("/dev") == [".", "..", *devices, "urandom", "zero"]


def test_what_is_no_file_link_or_directory_is_not_there(tree: Path) -> None:
    os.mkfifo(tree / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tree / "socket"))
        d = Direct(tree)
        assert d.names("/") == [".", "..", "bin", "dev", "etc", "guest", "proc", "tmp"]
        assert d.open("/fifo") == d.open("/socket") == "ENOENT"


def test_stat_tells_nothing_of_the_host(tree: Path) -> None:
    (tree / "etc/passwd").chmod(0o640)
    os.utime(tree / "etc/passwd", (1, 1))
    seen = Direct(tree).stat("/etc/passwd")
    host = os.stat(tree / "etc/passwd")
    assert seen["mode"] == 0o100640
    assert (seen["uid"], seen["gid"], seen["nlink"], seen["size"]) == (1000, 1000, 1, 13)
    assert (seen["blksize"], seen["blocks"]) == (4096, 8)
    assert seen["times"] == (EPOCH_NS // 10**9,) * 3
    assert seen["ino"] != host.st_ino
    assert seen["dev"] != host.st_dev


def test_copies_of_a_tree_look_the_same(tmp_path: Path) -> None:
    looks = []
    for name in ("one", "two"):
        root = tmp_path / name
        (root / "d").mkdir(parents=True)
        for file in ("z", "a", "m") if name == "one" else ("m", "z", "a"):
            (root / "d" / file).write_text(file)
        d = Direct(root)
        looks.append((d.names("/d"), [d.stat(f"/d/{f}") for f in "amz"], d.stat("/d")))
    assert looks[0] == looks[1]
    assert looks[0][0] == [".", "..", "a", "m", "z"]


def test_the_host_never_changes(tree: Path) -> None:
    def state() -> dict[str, tuple[int, float, bytes]]:
        files = sorted(p for p in tree.rglob("*"))
        return {
            str(p): (p.lstat().st_mode, p.lstat().st_mtime, p.read_bytes() if p.is_file() else b"")
            for p in files
        }

    before = state()
    d = Direct(tree)
    d.save("/etc/passwd", b"changed")
    d.save("/etc/new", b"new")
    assert d.at("mkdirat", "/bin/d", 0o755) == 0
    assert d.at("fchmodat", "/bin", 0o700) == 0
    assert d.text("/etc/passwd") == b"changed"
    assert d.at("unlinkat", "/etc/passwd", 0) == 0
    assert d.open("/etc/passwd") == "ENOENT"
    assert d.names("/etc") == [".", "..", "new"]
    assert state() == before


def test_inputs_are_what_the_guest_learned(tree: Path) -> None:
    (tree / "unseen").write_text("x")
    link(tree, "l", "etc/passwd")
    d = Direct(tree)
    d.rows.inputs.clear()
    d.open("/etc/none")
    assert d.rows.inputs == []
    d.stat("/etc/passwd")
    d.text("/l")
    d.text("/etc/passwd")
    assert d.rows.inputs == [
        ("/etc/passwd", b"guest:x:1000\n", 0o100644),
        ("/l", b"etc/passwd", 0o120777),
    ]
    d.names("/etc")
    assert d.rows.inputs[2:] == [("/etc", b"passwd\0", 0o40755)]


def test_bytes_of_an_input_are_recorded_once_and_others_as_memory(tree: Path) -> None:
    d = Direct(tree)
    d.text("/etc/passwd")
    assert [r["bytes"] for r in d.rows.tables["kernel_memory"] if r["op"] == "write"] == []
    d.call("close", d.open("/etc/passwd", O_WRONLY | O_APPEND))
    fd = d.open("/etc/passwd", O_WRONLY | O_APPEND)
    d.write(fd, b"more")
    assert d.text("/etc/passwd") == b"guest:x:1000\nmore"
    written = [r["bytes"] for r in d.rows.tables["kernel_memory"] if r["op"] == "write"]
    assert written == [b"guest:x:1000\nmore"]


def test_the_programs_place(tree: Path, tmp_path: Path) -> None:
    inside = tree / "bin/prog"
    inside.write_bytes(b"\x7fELF")
    outside = tmp_path / "other"
    outside.write_bytes(b"\x7fELF")
    link(tree, "bin/p", "prog")
    sandbox = Sandbox(host_mounts(tree))
    assert sandbox.place("/bin/prog") == sandbox.place("bin/prog") == "/bin/prog"
    assert sandbox.place("bin/p") == "/bin/p"
    assert sandbox.place("prog", ["/usr/bin", "/bin"]) == "/bin/prog"
    assert sandbox.place(str(outside)) == "/other"
    assert Sandbox().place(str(inside)) == "/prog"
    with pytest.raises(BadProgram, match="no such file in the root or on the host"):
        sandbox.place("/bin/none")
    with pytest.raises(BadProgram, match="not a directory"):
        host_mounts(outside)


def test_names_of_any_bytes(tree: Path) -> None:
    name = b"caf\xe9"
    (Path(os.fsdecode(bytes(tree) + b"/" + name))).write_text("latin")
    d = Direct(tree)
    fd = d.call("openat", -100, b"/" + name + b"\0", 0)
    assert d.read(fd) == b"latin"
    assert d.rows.inputs[-1][0] == "/caf\\xe9"


RESOLVE = {"xdev": 1, "magic": 2, "links": 4, "beneath": 8, "root": 16, "cached": 32}


@pytest.mark.parametrize(
    ("path", "how", "answer"),
    [
        ("f", "beneath", None),
        ("sub/../f", "beneath", None),
        ("../f", "beneath", "EXDEV"),
        ("/dir/f", "beneath", "EXDEV"),
        ("out", "beneath", "EXDEV"),
        ("up", "beneath", "EXDEV"),
        ("sub/in", "beneath", None),
        ("/f", "root", None),
        ("../../f", "root", None),
        ("absolute", "root", None),
        ("out", "root", "ENOENT"),
        ("sub/in", "links", "ELOOP"),
        ("f", "links", None),
        ("/proc/self/fd/0", "magic", "ELOOP"),
        ("/proc/self/stat", "magic", None),
        ("/proc/self/stat", "links", "ELOOP"),
        ("/proc/self/stat", "xdev", "EXDEV"),
        ("out", "xdev", None),
        ("f", "cached", None),
    ],
)
def test_openat2_stays_where_it_is_told(path: str, how: str, answer: str | None) -> None:
    d = Direct()
    for name in ("/dir", "/dir/sub"):
        d.at("mkdirat", name, 0o755)
    d.save("/dir/f", b"")
    d.save("/elsewhere", b"")
    for name, target in (
        ("/dir/out", "/elsewhere"),
        ("/dir/up", "../elsewhere"),
        ("/dir/sub/in", "../f"),
        ("/dir/absolute", "/f"),
    ):
        assert d.call("symlinkat", target.encode() + b"\0", -100, name.encode() + b"\0") == 0
    fd = d.open("/dir", 0o200000)
    asked = b"".join(n.to_bytes(8, "little") for n in (0, 0, RESOLVE[how]))
    got = d.call("openat2", fd, path.encode() + b"\0", asked, 24)
    assert (got if isinstance(got, str) else None) == answer


@pytest.mark.parametrize(
    ("flags", "mode", "resolve", "size", "answer"),
    [
        (0, 0, 0, 23, "EINVAL"),
        (0, 0, 0, 4097, "E2BIG"),
        (0, 0, 0x40, 24, "EINVAL"),
        (0, 0, 0x18, 24, "EINVAL"),
        (1 << 35, 0, 0, 24, "EINVAL"),
        (0, 0o600, 0, 24, "EINVAL"),
        (O_CREAT, 0o10000, 0, 24, "EINVAL"),
        (O_PATH | O_WRONLY, 0, 0, 24, "EINVAL"),
        (O_CREAT | O_WRONLY, 0o600, 0x20, 24, "EAGAIN"),
        (O_WRONLY | 0o4010000, 0, 0, 24, None),
    ],
)
def test_openat2_refuses_what_it_does_not_know(
    flags: int, mode: int, resolve: int, size: int, answer: str | None
) -> None:
    d = Direct()
    d.save("/f", b"")
    how = b"".join(n.to_bytes(8, "little") for n in (flags, mode, resolve, 0))
    got = d.call("openat2", -100, b"/f\0", how, size)
    assert (got if isinstance(got, str) else None) == answer
