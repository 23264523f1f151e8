"""Descriptors, open files, names: results as on Linux, call by call."""

from __future__ import annotations

import struct

import pytest
from direct import Direct

from shstk.schemas.uapi import MAP_ANONYMOUS, MAP_PRIVATE, PAGE

O_WRONLY, O_RDWR, O_CREAT, O_EXCL, O_TRUNC, O_APPEND = 1, 2, 0o100, 0o200, 0o1000, 0o2000
O_NONBLOCK, O_DIRECTORY, O_NOFOLLOW, O_CLOEXEC = 0o4000, 0o200000, 0o400000, 0o2000000
O_PATH = 0o10000000
F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC = 0, 1, 2, 3, 4, 1030
SEEK_SET, SEEK_CUR, SEEK_END, SEEK_DATA, SEEK_HOLE = range(5)
AT_REMOVEDIR, AT_EMPTY_PATH = 0x200, 0x1000


@pytest.fixture
def d() -> Direct:
    d = Direct(stdin=b"standard input")
    d.save("/tmp/f", b"0123456789")
    return d


def test_the_lowest_free_descriptor(d: Direct) -> None:
    assert [d.open("/tmp/f") for _ in range(3)] == [3, 4, 5]
    assert d.call("close", 4) == 0
    assert d.call("close", 4) == "EBADF"
    assert d.open("/tmp/f") == 4
    d.t.process.rlimits["NOFILE"] = (6, 6)
    assert d.open("/tmp/f") == "EMFILE"
    assert d.call("dup", 3) == "EMFILE"
    assert d.call("dup3", 3, 6, 0) == "EBADF"
    assert d.call("fcntl", 3, F_DUPFD, 6) == "EINVAL"


def test_dup_shares_the_position_and_open_does_not(d: Direct) -> None:
    fd, other = d.open("/tmp/f"), d.open("/tmp/f")
    copy = d.call("dup", fd)
    assert d.read(fd, 3) == b"012"
    assert d.read(copy, 3) == b"345"
    assert d.read(other, 3) == b"012"
    d.call("close", fd)
    assert d.read(copy, 3) == b"678"


def test_dup3_replaces(d: Direct) -> None:
    fd = d.open("/tmp/f")
    reader, writer = d.pipe()
    assert d.call("dup3", fd, writer, 0) == writer
    assert d.read(writer, 2) == b"01"
    assert d.read(reader) == b""  # its only writer is closed
    assert d.call("dup3", fd, fd, 0) == "EINVAL"
    assert d.call("dup3", 99, 5, 0) == "EBADF"


def test_fork_shares_descriptions_and_clone_files_the_table(d: Direct) -> None:
    fd = d.open("/tmp/f")
    parent = d.t.files
    d.t.files = parent.copy()
    assert d.read(fd, 4) == b"0123"
    d.call("close", fd)
    d.t.files.drop(d.k)
    d.t.files = parent
    assert d.read(fd, 4) == b"4567"
    d.t.files = parent.share()
    d.call("close", fd)
    d.t.files.drop(d.k)
    d.t.files = parent
    assert d.read(fd, 1) == "EBADF"


def test_close_on_exec(d: Direct) -> None:
    kept, gone = d.open("/tmp/f"), d.open("/tmp/f", O_CLOEXEC)
    assert (d.call("fcntl", kept, F_GETFD), d.call("fcntl", gone, F_GETFD)) == (0, 1)
    also = d.call("fcntl", kept, F_DUPFD_CLOEXEC, 40)
    assert also == 40
    d.call("fcntl", gone, F_SETFD, 0)
    d.call("fcntl", kept, F_SETFD, 1)
    d.t.files.close_on_exec(d.k)
    assert sorted(d.t.files.slots) == [0, 1, 2, gone]


def test_close_range(d: Direct) -> None:
    for _ in range(4):
        d.open("/tmp/f")
    assert d.call("close_range", 4, 5, 0) == 0
    assert sorted(d.t.files.slots) == [0, 1, 2, 3, 6]
    assert d.call("close_range", 3, 2**32 - 1, 4) == 0
    assert d.t.files.cloexec == {3, 6}
    assert d.call("close_range", 5, 4, 0) == "EINVAL"


def test_flags_that_can_be_set(d: Direct) -> None:
    fd = d.open("/tmp/f", O_WRONLY | O_CREAT | O_TRUNC)
    assert d.call("fcntl", fd, F_GETFL) == O_WRONLY | 0o100000
    d.call("fcntl", fd, F_SETFL, O_APPEND | O_RDWR)
    assert d.call("fcntl", fd, F_GETFL) == O_WRONLY | O_APPEND | 0o100000
    assert d.call("fcntl", fd, 9999) == "EINVAL"
    assert d.call("fcntl", 99, F_GETFL) == "EBADF"


def test_append_writes_at_the_end_whatever_the_position(d: Direct) -> None:
    fd = d.open("/tmp/f", O_RDWR | O_APPEND)
    assert d.write(fd, b"ab") == 2
    assert d.call("lseek", fd, 0, SEEK_CUR) == 12
    assert d.call("pwrite64", fd, b"cd", 2, 0) == 2
    assert d.text("/tmp/f") == b"0123456789abcd"


def test_positions(d: Direct) -> None:
    fd = d.open("/tmp/f", O_RDWR)
    assert d.call("lseek", fd, -3, SEEK_END) == 7
    assert d.call("lseek", fd, 2, SEEK_CUR) == 9
    assert d.call("lseek", fd, -1, SEEK_SET) == "EINVAL"
    assert d.call("lseek", fd, 0, 9) == "EINVAL"
    assert d.call("lseek", fd, 4, SEEK_DATA) == 4
    assert d.call("lseek", fd, 4, SEEK_HOLE) == 10
    assert d.call("lseek", fd, 10, SEEK_DATA) == "ENXIO"
    assert d.call("lseek", 0, 0, SEEK_CUR) == "ESPIPE"
    d.call("lseek", fd, 12, SEEK_SET)
    assert d.read(fd) == b""
    d.write(fd, b"x")
    assert d.text("/tmp/f") == b"0123456789\0\0x"


def test_pread_and_pwrite_leave_the_position(d: Direct) -> None:
    fd = d.open("/tmp/f", O_RDWR)
    addr = d.room(4)
    assert d.call("pread64", fd, addr, 4, 6) == 4
    assert d.get(addr, 4) == b"6789"
    assert d.call("pread64", fd, addr, 4, 10) == 0
    assert d.call("pread64", fd, addr, 4, -1) == "EINVAL"
    assert d.call("pwrite64", fd, b"AB", 2, 4) == 2
    assert d.read(fd) == b"0123AB6789"
    reader, _ = d.pipe()
    assert d.call("pread64", reader, addr, 4, 0) == "ESPIPE"


def test_access_modes(d: Direct) -> None:
    reading, writing = d.open("/tmp/f"), d.open("/tmp/f", O_WRONLY)
    assert d.write(reading, b"x") == "EBADF"
    assert d.read(writing) == "EBADF"
    path_only = d.open("/tmp/f", O_PATH | O_RDWR)
    assert d.read(path_only) == d.write(path_only, b"x") == "EBADF"
    assert d.call("fstat", path_only, d.room(128)) == 0
    assert d.call("ftruncate", reading, 0) == "EINVAL"


def iovec(d: Direct, *parts: tuple[int, int]) -> bytes:
    return b"".join(struct.pack("<QQ", *part) for part in parts)


def test_vectors(d: Direct) -> None:
    fd = d.open("/tmp/f", O_RDWR)
    first, second = d.room(3), d.room(30)
    assert d.call("readv", fd, iovec(d, (first, 3), (0, 0), (second, 30)), 3) == 10
    assert (d.get(first, 3), d.get(second, 7)) == (b"012", b"3456789")
    words = iovec(d, (d.put(b"one "), 4), (d.put(b"two"), 3))
    assert d.call("pwritev", fd, words, 2, 1) == 7
    assert d.text("/tmp/f") == b"0one two89"
    assert d.call("readv", fd, words, 1025) == "EINVAL"
    assert d.call("readv", fd, iovec(d, (first, 1 << 63)), 1) == "EINVAL"


def test_a_bad_address_loses_nothing(d: Direct) -> None:
    fd = d.open("/tmp/f")
    assert d.call("read", fd, 8, 4) == "EFAULT"
    assert d.read(fd, 2) == b"01"
    reader, writer = d.pipe()
    d.write(writer, b"kept")
    assert d.call("read", reader, 8, 4) == "EFAULT"
    assert d.read(reader) == b"kept"
    assert d.call("write", writer, 8, 4) == "EFAULT"


def test_a_transfer_ends_where_memory_does(d: Direct) -> None:
    """generic_file_read_iter returns the number of bytes copied."""
    d.save("/tmp/big", bytes(range(256)) * 32)
    page = d.mm.map(d.k, 0, 2 * PAGE, 3, MAP_PRIVATE | MAP_ANONYMOUS)
    d.mm.unmap(d.k, page + PAGE, PAGE)
    fd = d.open("/tmp/big")
    assert d.call("read", fd, page + PAGE - 100, 4000) == 100
    assert d.call("lseek", fd, 0, SEEK_CUR) == 100
    assert d.call("readv", fd, iovec(d, (page, 10), (page + PAGE, 10)), 2) == 10
    out = d.open("/tmp/out", O_WRONLY | O_CREAT)
    assert d.call("write", out, page + PAGE - 50, 4000) == 50


def test_reading_into_read_only_memory(d: Direct) -> None:
    page = d.mm.map(d.k, 0, PAGE, 1, MAP_PRIVATE | MAP_ANONYMOUS)
    assert d.call("read", d.open("/tmp/f"), page, 4) == "EFAULT"
    assert d.call("write", 1, page, 4) == 4


def test_a_shadow_stack_is_read_from_but_not_into(d: Direct) -> None:
    """V6: read(2) into one is -EFAULT, write(2) from one works."""
    stack = d.mm.map(d.k, 0, PAGE, 3, MAP_PRIVATE | MAP_ANONYMOUS, shadow_stack=True)
    d.mm.space.ss_write(stack, 0x4142434445464748)
    assert d.call("read", d.open("/tmp/f"), stack, 8) == "EFAULT"
    assert d.call("write", 1, stack, 8) == 8
    assert d.output == [(1, b"HGFEDCBA")]


def test_creating(d: Direct) -> None:
    assert d.open("/tmp/n", O_CREAT | O_EXCL, 0o666) == 3
    assert d.stat("/tmp/n")["mode"] == 0o100644
    assert d.call("umask", 0o077) == 0o022
    d.open("/tmp/m", O_CREAT, 0o777)
    assert d.stat("/tmp/m")["mode"] == 0o100700
    assert d.open("/tmp/n", O_CREAT | O_EXCL) == "EEXIST"
    assert d.open("/tmp/none/x", O_CREAT) == "ENOENT"
    assert d.open("/tmp/f/x", O_CREAT) == "ENOTDIR"
    assert d.open("/tmp/", O_CREAT) == "EISDIR"
    assert d.open("/tmp", O_WRONLY) == "EISDIR"
    assert d.open("/tmp/f", O_DIRECTORY) == "ENOTDIR"
    assert d.open("/proc/new", O_CREAT) == "EACCES"


def test_symlinks(d: Direct) -> None:
    assert d.call("symlinkat", b"f\0", -100, b"/tmp/l\0") == 0
    assert d.text("/tmp/l") == b"0123456789"
    assert d.open("/tmp/l", O_NOFOLLOW) == "ELOOP"
    assert d.open("/tmp/l", O_CREAT | O_EXCL) == "EEXIST"
    addr = d.room(64)
    assert d.at("readlinkat", "/tmp/l", addr, 64) == 1
    assert d.at("readlinkat", "/tmp/f", addr, 64) == "EINVAL"
    assert d.stat("/tmp/l", 0x100)["mode"] == 0o120777
    # O_CREAT through a dangling link creates the target of the link.
    d.call("symlinkat", b"/tmp/target\0", -100, b"/tmp/dangling\0")
    d.save("/tmp/dangling", b"there")
    assert d.text("/tmp/target") == b"there"


def test_permission_bits_bind_the_owner(d: Direct) -> None:
    assert d.at("fchmodat", "/tmp/f", 0o444) == 0
    assert d.open("/tmp/f", O_WRONLY) == "EACCES"
    assert d.at("faccessat", "/tmp/f", 2) == "EACCES"
    assert d.at("faccessat", "/tmp/f", 4) == 0
    d.at("mkdirat", "/tmp/d", 0o755)
    d.save("/tmp/d/in", b"")
    d.at("fchmodat", "/tmp/d", 0o600)
    assert d.stat("/tmp/d/in") == "EACCES"
    d.at("fchmodat", "/tmp/d", 0o500)
    assert d.open("/tmp/d/new", O_CREAT) == "EACCES"
    assert d.at("unlinkat", "/tmp/d/in", 0) == "EACCES"
    assert d.at("fchownat", "/tmp/f", 0, 0, 0) == "EPERM"
    assert d.at("fchownat", "/tmp/f", 1000, -1, 0) == 0


def test_an_open_file_outlives_its_name(d: Direct) -> None:
    fd = d.open("/tmp/f", O_RDWR)
    assert d.at("unlinkat", "/tmp/f", 0) == 0
    assert d.open("/tmp/f") == "ENOENT"
    addr = d.room(128)
    d.call("fstat", fd, addr)
    assert struct.unpack_from("<I", d.get(addr, 128), 20) == (0,)
    assert d.read(fd) == b"0123456789"
    stored = d.k.sandbox.stored
    d.call("close", fd)
    assert d.k.sandbox.stored == stored - 10


def test_links(d: Direct) -> None:
    assert d.at("linkat", "/tmp/f", -100, b"/tmp/g\0", 0) == 0
    f, g = d.stat("/tmp/f"), d.stat("/tmp/g")
    assert f["ino"] == g["ino"]
    assert f["nlink"] == 2
    d.at("unlinkat", "/tmp/f", 0)
    assert d.text("/tmp/g") == b"0123456789"
    assert d.at("linkat", "/tmp", -100, b"/tmp/t\0", 0) == "EPERM"
    assert d.at("linkat", "/tmp/g", -100, b"/tmp/g\0", 0) == "EEXIST"


def test_directories(d: Direct) -> None:
    assert d.at("mkdirat", "/tmp/d", 0o777) == 0
    assert d.stat("/tmp/d")["mode"] == 0o40755
    assert d.at("mkdirat", "/tmp/d/", 0o777) == "EEXIST"
    assert d.at("mkdirat", "/tmp/d/e/", 0o777) == 0
    assert d.at("unlinkat", "/tmp/d", AT_REMOVEDIR) == "ENOTEMPTY"
    assert d.at("unlinkat", "/tmp/d", 0) == "EISDIR"
    assert d.at("unlinkat", "/tmp/f", AT_REMOVEDIR) == "ENOTDIR"
    assert d.at("unlinkat", "/tmp/d/e/.", AT_REMOVEDIR) == "EINVAL"
    assert d.at("unlinkat", "/proc", AT_REMOVEDIR) == "EBUSY"
    assert d.at("unlinkat", "/tmp/d/e", AT_REMOVEDIR) == 0
    assert d.at("unlinkat", "/tmp/d", AT_REMOVEDIR) == 0


def test_the_working_directory(d: Direct) -> None:
    def cwd() -> object:
        addr = d.room(64)
        n = d.call("getcwd", addr, 64)
        return d.get(addr, n - 1).decode() if isinstance(n, int) else n

    assert cwd() == "/"
    d.at("mkdirat", "/tmp/d", 0o777)
    assert d.call("chdir", b"/tmp/d\0") == 0
    assert cwd() == "/tmp/d"
    d.save("rel", b"x")
    assert d.text("/tmp/d/rel") == b"x"
    d.call("renameat2", -100, b"/tmp/d\0", -100, b"/tmp/e\0", 0)
    assert cwd() == "/tmp/e"
    assert d.call("getcwd", d.room(8), 3) == "ERANGE"
    d.at("unlinkat", "rel", 0)
    d.at("unlinkat", "/tmp/e", AT_REMOVEDIR)
    assert cwd() == "ENOENT"
    assert d.open("new", O_CREAT) == "ENOENT"
    fd = d.open("/tmp")
    assert d.call("fchdir", fd) == 0
    assert cwd() == "/tmp"
    assert d.call("chdir", b"/tmp/f\0") == "ENOTDIR"


def rename(d: Direct, old: str, new: str, flags: int = 0) -> object:
    return d.call("renameat2", -100, old.encode() + b"\0", -100, new.encode() + b"\0", flags)


def test_renaming(d: Direct) -> None:
    d.save("/tmp/g", b"g")
    d.at("mkdirat", "/tmp/d", 0o777)
    d.at("mkdirat", "/tmp/d/e", 0o777)
    assert rename(d, "/tmp/f", "/tmp/g", 1) == "EEXIST"
    assert rename(d, "/tmp/f", "/tmp/d") == "EISDIR"
    assert rename(d, "/tmp/d", "/tmp/f") == "ENOTDIR"
    assert rename(d, "/tmp/d", "/tmp/d/e/x") == "EINVAL"
    assert rename(d, "/tmp/none", "/tmp/x") == "ENOENT"
    assert rename(d, "/proc", "/tmp/x") == "EBUSY"
    assert rename(d, "/tmp/f", "/proc/f") == "EXDEV"
    assert rename(d, "/tmp/f", "/tmp/g", 2) == 0
    assert (d.text("/tmp/f"), d.text("/tmp/g")) == (b"g", b"0123456789")
    assert rename(d, "/tmp/g", "/tmp/f") == 0
    assert d.names("/tmp") == [".", "..", "d", "f"]
    assert rename(d, "/tmp/d/e", "/tmp/e") == 0
    assert d.stat("/tmp/e/..")["ino"] == d.stat("/tmp")["ino"]


def test_listing_in_small_pieces(d: Direct) -> None:
    names = [f"file{i:02}" for i in range(20)]
    for name in reversed(names):
        d.save(f"/tmp/{name}", b"")
    assert d.names("/tmp", room=64) == [".", "..", "f", *names]
    fd = d.open("/tmp")
    assert d.call("getdents64", fd, d.room(20), 20) == "EINVAL"
    assert d.call("getdents64", d.open("/tmp/f"), d.room(64), 64) == "ENOTDIR"
    assert d.read(fd) == "EISDIR"


def test_sizes(d: Direct) -> None:
    assert d.call("truncate", b"/tmp/f\0", 4) == 0
    assert d.text("/tmp/f") == b"0123"
    fd = d.open("/tmp/f", O_RDWR)
    assert d.call("ftruncate", fd, 6) == 0
    assert d.text("/tmp/f") == b"0123\0\0"
    assert d.call("fallocate", fd, 0, 0, 8) == 0
    assert d.call("fallocate", fd, 1, 0, 100) == 0
    assert d.stat("/tmp/f")["size"] == 8
    assert d.call("ftruncate", fd, -1) == "EINVAL"
    assert d.call("ftruncate", fd, 1 << 40) == "ENOSPC"
    d.t.process.rlimits["FSIZE"] = (10, 10)
    d.t.sigmask = 2**64 - 1
    assert d.call("pwrite64", fd, b"abcdef", 6, 6) == 4
    assert d.call("pwrite64", fd, b"x", 1, 10) == "EFBIG"
    assert [info.signo for info in d.t.pending] == [25]  # SIGXFSZ
    assert d.call("truncate", b"/tmp\0", 0) == "EISDIR"


def test_times(d: Direct) -> None:
    before = d.stat("/tmp/f")["times"]
    d.idle(5 * 10**9)
    fd = d.open("/tmp/f", O_WRONLY)
    d.write(fd, b"x")
    atime, mtime, ctime = d.stat("/tmp/f")["times"]
    assert (atime, mtime - before[1], ctime - before[2]) == (before[0], 5, 5)
    times = struct.pack("<qqqq", 77, 0, 0, 0x3FFFFFFE)  # UTIME_OMIT
    assert d.at("utimensat", "/tmp/f", times, 0) == 0
    assert d.stat("/tmp/f")["times"][:2] == (77, mtime)
    assert d.call("utimensat", fd, 0, struct.pack("<qqqq", 1, 0, 2, 10**9), 0) == "EINVAL"
    assert d.call("utimensat", fd, 0, 0, 0) == 0


def test_statx_and_statfs(d: Direct) -> None:
    addr = d.room(256)
    assert d.at("statx", "/tmp/f", 0, 0xFFF, addr) == 0
    data = d.get(addr, 256)
    assert struct.unpack_from("<I", data, 0) == (0x7FF,)
    assert struct.unpack_from("<IIIH", data, 16) == (1, 1000, 1000, 0o100644)
    assert struct.unpack_from("<QQ", data, 32) == (d.stat("/tmp/f")["ino"], 10)
    assert d.call("statx", d.open("/tmp/f"), b"\0", AT_EMPTY_PATH, 0xFFF, addr) == 0
    assert d.call("statfs", b"/proc\0", addr) == 0
    assert struct.unpack_from("<Q", d.get(addr, 8)) == (0x9FA0,)


def test_copying_between_files(d: Direct) -> None:
    source, out = d.open("/tmp/f"), d.open("/tmp/o", O_RDWR | O_CREAT)
    assert d.call("sendfile", out, source, 0, 4) == 4
    offset = d.put(struct.pack("<Q", 8))
    assert d.call("sendfile", out, source, offset, 100) == 2
    assert d.get(offset, 8) == struct.pack("<Q", 10)
    assert d.call("copy_file_range", source, 0, out, 0, 2, 0) == 2
    assert d.text("/tmp/o") == b"01238945"
    assert d.call("copy_file_range", source, 0, d.pipe()[1], 0, 1, 0) == "EINVAL"
    assert d.call("sendfile", 1, source, 0, 100) == 4
    assert d.output == [(1, b"6789")]


def test_devices(d: Direct) -> None:
    null, zero, full = (d.open(f"/dev/{n}", O_RDWR) for n in ("null", "zero", "full"))
    assert (d.read(null), d.write(null, b"gone")) == (b"", 4)
    assert (d.read(zero, 5), d.write(zero, b"gone")) == (bytes(5), 4)
    assert d.write(full, b"x") == "ENOSPC"
    assert d.open("/dev/tty") == "ENXIO"
    random = d.open("/dev/urandom")
    assert d.read(random, 16) != d.read(random, 16)
    assert d.stat("/dev/null")["mode"] == 0o20666


def test_memfd(d: Direct) -> None:
    fd = d.call("memfd_create", b"buffer\0", 1)
    assert d.call("fcntl", fd, F_GETFD) == 1
    d.write(fd, b"abc")
    assert d.call("lseek", fd, 0, SEEK_SET) == 0
    assert d.read(fd) == b"abc"
    assert d.call("memfd_create", b"x\0", 0x8000) == "EINVAL"


def test_standard_streams(d: Direct) -> None:
    assert d.read(0, 8) == b"standard"
    copy = d.call("dup", 0)
    assert d.read(copy) == b" input"
    assert d.read(0) == b""
    assert [name for name, *_ in d.rows.inputs].count("/dev/stdin") == 1
    d.write(1, b"out")
    d.write(d.call("dup", 2), b"err")
    assert d.output == [(1, b"out"), (2, b"err")]
    assert d.call("ioctl", 1, 0x5401, d.room(64)) == "ENOTTY"
    assert d.call("ioctl", 0, 0x541B, d.room(4)) == 0
    assert d.read(1) == d.write(0, b"x") == "EBADF"
    d.write(d.open("/dev/stdout", O_WRONLY), b"again")
    assert d.output[-1] == (1, b"again")


def test_mapping_a_file_names_its_input(d: Direct) -> None:
    fd = d.open("/guest")
    addr = d.call("mmap", 0, PAGE, 1, MAP_PRIVATE, fd, 0)
    assert d.get(addr, 4) == b"\x7fELF"
    assert d.rows.tables["mappings"][-1]["input"] == 1
    assert d.call("mmap", 0, PAGE, 3, 1, d.open("/tmp/f"), 0) == "EACCES"
    assert d.call("mmap", 0, PAGE, 1, MAP_PRIVATE, d.pipe()[0], 0) == "ENODEV"
    assert d.call("mmap", 0, PAGE, 1, MAP_PRIVATE, 99, 0) == "EBADF"
