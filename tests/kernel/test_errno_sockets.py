"""Sockets: which error comes first (net/socket.c, net/unix, net/ipv4), options, requests."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from stage import Stage, hold, table

from shstk.schemas import uapi
from shstk.schemas.uapi import MSG_DONTWAIT, MSG_MORE

CREATING = """
socket 46 99 0                          EINVAL  # unknown flags of the type, before the family
socket 46 1 0                           EAFNOSUPPORT
socket -1 1 0                           EAFNOSUPPORT
socket AF_INET 75 0                     EINVAL
socket AF_INET 11 0                     EINVAL  # SOCK_MAX
socket AF_INET SOCK_RAW 0               EPROTONOSUPPORT
socket AF_INET SOCK_RAW 6               EPERM
socket AF_INET 0 0                      ESOCKTNOSUPPORT
socket AF_INET SOCK_SEQPACKET 0         ESOCKTNOSUPPORT
socket AF_INET SOCK_STREAM IPPROTO_UDP  EPROTONOSUPPORT
socket AF_INET SOCK_DGRAM IPPROTO_TCP   EPROTONOSUPPORT
socket AF_INET SOCK_STREAM 1            EPROTONOSUPPORT
socket AF_INET SOCK_DGRAM 1             EACCES  # net.ipv4.ping_group_range is empty
socket AF_INET SOCK_DGRAM 263           EINVAL
socket AF_INET SOCK_DGRAM -1            EINVAL
socket AF_INET6 SOCK_STREAM IPPROTO_UDP EPROTONOSUPPORT
socket AF_UNIX 9 9                      EPROTONOSUPPORT # the protocol, before the type
socket AF_UNIX 9 0                      ESOCKTNOSUPPORT
socket AF_UNIX SOCK_RAW 1               ok
socketpair 0 1 0 bad                    EFAULT  # the descriptors are stored first
socketpair 0 1 0 room                   EAFNOSUPPORT
socketpair AF_INET 75 0 bad             EINVAL
socketpair AF_INET SOCK_DGRAM 0 room    EOPNOTSUPP
socketpair AF_INET SOCK_DGRAM 6 room    EPROTONOSUPPORT
socketpair AF_INET SOCK_STREAM 6 room   EOPNOTSUPP
socketpair AF_INET SOCK_STREAM 1 room   EPROTONOSUPPORT
bind closed bad 129                     EBADF
bind file bad 129                       ENOTSOCK
bind unix bad 129                       EINVAL
bind unix bad -1                        EINVAL
bind unix bad 16                        EFAULT
bind unix in 16                         EINVAL
bind unix un 111                        EINVAL
bind unix un 0                          EINVAL
bind unix un 2                          0       # it chooses a name
bind unix un_file 16                    EADDRINUSE
bind unix un_none 20                    ENOENT
bind tcp in 15                          EINVAL
bind tcp un 16                          EAFNOSUPPORT
bind tcp in_80 16                       EACCES  # a port below 1024
bind tcp in_far_80 16                   EADDRNOTAVAIL
bind tcp6 in 16                         EINVAL
bind tcp6 in 28                         EAFNOSUPPORT
listen closed 1                         EBADF
listen file 1                           ENOTSOCK
listen udp 1                            EOPNOTSUPP
listen unix_dgram 1                     EOPNOTSUPP
listen unix 1                           EINVAL
listen tcp 1                            0
accept closed bad bad                   EBADF
accept file bad bad                     ENOTSOCK
accept udp null null                    EOPNOTSUPP
accept tcp null null                    EINVAL  # it doesn't listen
accept4 closed null null 1              EBADF
accept4 file null null 1                EINVAL  # the flags, before what the descriptor is
accept4 unix null null 0                EINVAL
"""

CONNECTING = """
connect closed bad 16                   EBADF
connect file bad 16                     ENOTSOCK
connect tcp bad 129                     EINVAL
connect tcp bad 16                      EFAULT
connect tcp in 3                        EINVAL
connect tcp un 16                       EAFNOSUPPORT
connect tcp in 1                        EINVAL
connect tcp in_none 16                  ECONNREFUSED
connect tcp in_far 16                   ENETUNREACH
connect tcp unspec 16                   0       # it was not connected
connect tcp_end un 16                   EISCONN # before the address
connect unix in 16                      EINVAL
connect unix un_none 20                 ENOENT
connect unix un_file 9                  ECONNREFUSED
connect unix abstract 6                 ECONNREFUSED    # it is a datagram socket's name
connect unix_dgram abstract 6           0
connect stream abstract 6               ECONNREFUSED
connect udp un 16                       EAFNOSUPPORT
connect udp in 3                        EINVAL
getsockname closed bad bad              EBADF
getsockname file bad bad                ENOTSOCK
getsockname tcp room bad                EFAULT
getsockname tcp room i32:-1             EINVAL
getsockname tcp bad i32:16              EFAULT
getpeername tcp bad bad                 ENOTCONN
getpeername unix bad bad                ENOTCONN
getpeername stream room bad             EFAULT
shutdown closed 9                       EBADF
shutdown file 9                         ENOTSOCK
shutdown tcp 3                          EINVAL
shutdown tcp -1                         EINVAL
shutdown tcp 0                          ENOTCONN
shutdown udp 2                          ENOTCONN
shutdown unix 2                         0
shutdown unix 3                         EINVAL
"""

SENDING = """
sendto closed wild 1 0 null 0           EFAULT  # access_ok, before the descriptor
sendto closed bad 1 0 null 0            EBADF
sendto file bad 1 0 null 0              ENOTSOCK
sendto udp bad 1 0 bad 129              EINVAL
sendto udp bad 1 0 bad 16               EFAULT
sendto udp room 1 0 null 0              EDESTADDRREQ
sendto udp room 1 0 in 15               EINVAL
sendto udp room 1 0 un 16               EAFNOSUPPORT
sendto udp room 1 0 in_0 16             EINVAL  # port 0
sendto udp room 1 MSG_OOB in 16         EOPNOTSUPP
sendto udp room 65508 MSG_OOB in 16     EMSGSIZE        # the size, before the flags
sendto udp bad 1 0 in 16                EFAULT
sendto tcp bad 1 MSG_NOSIGNAL null 0    EPIPE
sendto tcp_end bad 1 0 null 0           EFAULT
sendto tcp_end room 1 0 in 16           1       # TCP takes no notice of a name
sendto unix room 1 0 null 0             ENOTCONN
sendto unix bad 1 MSG_OOB un 16         EOPNOTSUPP
sendto unix room 1 0 un 16              EOPNOTSUPP      # not even connected
sendto stream room 1 0 un 16            EISCONN
sendto stream bad 1 0 null 0            EFAULT
sendto unix_dgram room 1 0 null 0       ENOTCONN
sendto unix_dgram room 1 0 in 16        EINVAL
sendto unix_dgram bad 1 0 un_none 20    EFAULT  # the message is copied before its receiver is found
sendto unix_dgram room 1 0 un_none 20   ENOENT
sendto dgram room 1 MSG_OOB null 0      EOPNOTSUPP
sendto dgram big 212961 0 null 0        EMSGSIZE
sendto unix_packet room 1 0 null 0      ENOTCONN
sendmsg closed bad 0                    EBADF
sendmsg file bad 0                      ENOTSOCK
sendmsg stream bad 0                    EFAULT
sendmsg stream head_1025 0              EMSGSIZE
sendmsg stream head_bad_iov 0           EFAULT
sendmsg stream head_control 0           ENOBUFS
sendmmsg closed bad 1 0                 EBADF
sendmmsg stream bad 1 0                 EFAULT
"""

RECEIVING = """
recvfrom closed wild 1 0 null null      EFAULT
recvfrom closed room 1 0 null null      EBADF
recvfrom file room 1 0 null null        ENOTSOCK
recvfrom tcp room 1 0 null null         ENOTCONN
recvfrom tcp_end room 1 MSG_OOB null null       EINVAL  # there is no urgent data
recvfrom tcp_end room 1 MSG_ERRQUEUE null null  EAGAIN  # nor a report of an error
recvfrom tcp_end room 1 MSG_DONTWAIT null null  EAGAIN
recvfrom listener room 1 MSG_ERRQUEUE null null ENOTCONN
recvfrom udp room 1 MSG_ERRQUEUE null null      EAGAIN
recvfrom udp room 1 MSG_OOB|MSG_DONTWAIT null null      EAGAIN  # UDP doesn't know the flag
recvfrom unix room 1 MSG_OOB null null          EINVAL
recvfrom stream room 1 MSG_OOB null null        EINVAL
recvfrom dgram room 1 MSG_OOB null null         EOPNOTSUPP
recvfrom unix_packet room 1 MSG_OOB null null   ENOTCONN
recvmsg closed bad 0                    EBADF
recvmsg file bad 0                      ENOTSOCK
recvmsg stream bad 0                    EFAULT
recvmsg stream head_1025 0              EMSGSIZE
recvmsg stream head_bad_iov 0           EFAULT
recvmsg stream head MSG_DONTWAIT        EAGAIN
recvmmsg closed bad 1 0 null            EBADF
"""

OPTIONS = """
getsockopt closed 99 9 bad bad          EBADF
getsockopt file 99 9 bad bad            ENOTSOCK
getsockopt tcp 500 10 bad bad           EOPNOTSUPP      # the level, before the length is read
getsockopt tcp IPPROTO_UDP 10 room u32:4 EOPNOTSUPP
getsockopt udp IPPROTO_TCP 1 room u32:4 EOPNOTSUPP
getsockopt tcp6 500 10 room u32:4       ENOPROTOOPT
getsockopt unix IPPROTO_TCP 1 room u32:4 EOPNOTSUPP
getsockopt tcp IPPROTO_IP -1 room u32:4 ENOPROTOOPT
getsockopt tcp IPPROTO_TCP -1 room u32:4 ENOPROTOOPT
getsockopt tcp SOL_SOCKET 999 room i32:-1 EINVAL
getsockopt tcp SOL_SOCKET 999 room bad  EFAULT
getsockopt tcp SOL_SOCKET 999 room u32:4 ENOPROTOOPT
getsockopt tcp SOL_SOCKET 2 bad u32:4   EFAULT
getsockopt tcp SOL_SOCKET 32 room u32:4 ENOPROTOOPT     # SO_SNDBUFFORCE can only be set
setsockopt closed 99 9 bad -1           EBADF
setsockopt file 99 9 bad -1             ENOTSOCK
setsockopt tcp 500 10 bad -1            EINVAL
setsockopt tcp 500 10 bad 4             ENOPROTOOPT
setsockopt tcp IPPROTO_UDP 10 bad 4     ENOPROTOOPT
setsockopt unix IPPROTO_TCP 1 bad 4     EOPNOTSUPP
setsockopt tcp IPPROTO_IP -1 bad 4      ENOPROTOOPT
setsockopt tcp IPPROTO_TCP -1 room 4    ENOPROTOOPT
setsockopt tcp IPPROTO_TCP 1 bad 3      EINVAL
setsockopt tcp IPPROTO_TCP 1 bad 4      EFAULT
setsockopt tcp IPPROTO_IP 2 bad 0       EINVAL  # no value is 0, which is no time to live
setsockopt tcp IPPROTO_IP 2 u8:64 1     0
setsockopt tcp IPPROTO_IP 2 i32:256 4   EINVAL
setsockopt tcp IPPROTO_TCP 2 i32:87 4   EINVAL
setsockopt tcp IPPROTO_TCP 13 /none 5   ENOENT
setsockopt tcp SOL_SOCKET 999 bad 3     EINVAL
setsockopt tcp SOL_SOCKET 999 bad 4     EFAULT
setsockopt tcp SOL_SOCKET 999 room 4    ENOPROTOOPT
setsockopt tcp SOL_SOCKET 3 room 4      ENOPROTOOPT     # SO_TYPE can only be read
setsockopt tcp SOL_SOCKET 1 i32:1 4     EACCES
setsockopt tcp SOL_SOCKET 12 i32:7 4    EPERM
setsockopt tcp SOL_SOCKET 13 room 7     EINVAL
setsockopt tcp SOL_SOCKET 16 i32:1 4    EOPNOTSUPP
setsockopt tcp SOL_SOCKET 20 room 8     EINVAL
setsockopt tcp SOL_SOCKET 20 i64:0,-1 16        EDOM
setsockopt tcp SOL_SOCKET 20 i64:0,1000000 16   EDOM
setsockopt tcp SOL_SOCKET 32 i32:1 4    EPERM
setsockopt tcp SOL_SOCKET 36 i32:0 4    EPERM
setsockopt unix SOL_SOCKET 15 i32:1 4   EOPNOTSUPP
setsockopt unix SOL_SOCKET 15 i32:0 4   0
ioctl closed SIOCATMARK room            EBADF
ioctl devnull SIOCATMARK room           ENOTTY
ioctl tcp SIOCATMARK bad                EFAULT
ioctl tcp SIOCATMARK room               0
ioctl udp SIOCATMARK room               ENOTTY
ioctl tcp FIONREAD bad                  EFAULT
ioctl listener FIONREAD room            EINVAL
ioctl listener SIOCOUTQ room            EINVAL
ioctl tcp 0x1234 room                   ENOTTY
ioctl tcp TCGETS room                   ENOTTY
ioctl tcp 0x89ff bad                    EFAULT
ioctl tcp 0x89ff room                   ENOTTY
ioctl tcp FIOSETOWN bad                 EFAULT
ioctl tcp FIOSETOWN i32:99999           ESRCH
ioctl tcp FIOGETOWN bad                 EFAULT
ioctl tcp SIOCGSTAMP room               ENOENT
ioctl unix SIOCGSTAMP room              ENOTTY
ioctl udp SIOCGIFCONF bad               EFAULT
ioctl udp SIOCGIFFLAGS bad              EFAULT
ioctl udp SIOCGIFFLAGS eth0             ENODEV
ioctl udp SIOCGIFFLAGS lo               0
ioctl unix SIOCGIFINDEX lo              0
ioctl unix SIOCGIFADDR lo               ENOTTY
ioctl udp 0x8914 bad                    EFAULT  # SIOCSIFFLAGS
ioctl udp 0x8914 lo                     EPERM
"""


def inet(port: int, *octets: int, family: int = 2) -> bytes:
    return struct.pack("<H", family) + struct.pack(">H", port) + bytes(octets) + bytes(20)


def made() -> Stage:
    stage = Stage()
    loopback = (127, 0, 0, 1)
    data = {"un": b"\1\0/tmp/n\0", "un_file": b"\1\0/tmp/f\0", "un_none": b"\1\0/tmp/none/socket\0"}
    data |= {"in": inet(9009, *loopback), "in_0": inet(0, *loopback), "in_80": inet(80, *loopback)}
    data |= {"in_far": inet(9009, 10, 0, 0, 1), "in_far_80": inet(80, 10, 0, 0, 1)}
    data |= {"in_none": inet(9010, *loopback), "unspec": bytes(16), "abstract": b"\1\0\0abc"}
    data |= {"lo": b"lo".ljust(40, b"\0"), "eth0": b"eth0".ljust(40, b"\0")}
    words = stage.words
    words |= {name: stage.put(value.ljust(130, b"\0")) for name, value in data.items()}
    words["big"] = stage.room(212961)
    iov = stage.put(struct.pack("<QQ", words["room"], 1))
    heads = {"head": (iov, 1, 0, 0), "head_1025": (iov, 1025, 0, 0), "head_bad_iov": (8, 1, 0, 0)}
    heads |= {"head_control": (iov, 1, 8, 1 << 17)}
    for name, (parts, count, control, size) in heads.items():
        head = struct.pack("<QIIQQQQQ", 0, 0, 0, parts, count, control, size, 0)
        words[name] = stage.put(head)
    named = stage.call("socket", 1, 2, 0)
    assert stage.call("bind", named, words["abstract"], 6) == 0
    words["listener"] = stage.call("socket", 2, 1, 0)
    assert stage.call("bind", words["listener"], words["in"], 16) == 0
    assert stage.call("listen", words["listener"], 1) == 0
    words["tcp_end"] = stage.call("socket", 2, 1, 0)
    assert stage.call("connect", words["tcp_end"], words["in"], 16) == 0
    return stage


@pytest.fixture
def stage() -> Stage:
    return made()


@table(CREATING + CONNECTING + SENDING + RECEIVING + OPTIONS)
def test_which_error_comes_first(line: str) -> None:
    hold(made, line)


def receive(stage: Stage, fd: int) -> Any:
    room = stage.words["room"]
    n = stage.call("recvfrom", fd, room, 100, MSG_DONTWAIT, 0, 0)
    return stage.get(room, n) if isinstance(n, int) else n


def bound(stage: Stage, port: int) -> tuple[int, bytes]:
    fd = stage.call("socket", 2, 2, 0)
    name = inet(port, 127, 0, 0, 1)[:16]
    assert stage.call("bind", fd, name, 16) == 0
    return fd, name


def test_more_parts_of_a_datagram(stage: Stage) -> None:
    """MSG_MORE: it goes to the place of its first part, when a part comes without the flag."""
    (fd, name), (other, elsewhere), udp = bound(stage, 5001), bound(stage, 5002), stage.words["udp"]
    assert stage.call("sendto", udp, b"one ", 4, MSG_MORE, name, 16) == 4
    assert stage.call("sendto", udp, b"two ", 4, MSG_MORE, elsewhere, 16) == 4
    assert receive(stage, fd) == "EAGAIN"
    assert stage.call("sendto", udp, b"three", 5, 0, 0, 0) == 5
    assert receive(stage, fd) == b"one two three"
    assert receive(stage, other) == "EAGAIN"


def test_a_cork_is_pulled(stage: Stage) -> None:
    (fd, name), udp = bound(stage, 5001), stage.words["udp"]
    assert stage.call("connect", udp, name, 16) == 0
    assert stage.call("setsockopt", udp, 17, 1, struct.pack("<i", 1), 4) == 0
    assert stage.write(udp, b"half ") == 5
    assert stage.write(udp, b"done") == 4
    assert receive(stage, fd) == "EAGAIN"
    assert stage.call("setsockopt", udp, 17, 1, struct.pack("<i", 0), 4) == 0
    assert receive(stage, fd) == b"half done"


def test_a_corked_datagram_that_grows_too_long_is_dropped(stage: Stage) -> None:
    (fd, name), udp, big = bound(stage, 5001), stage.words["udp"], stage.words["big"]
    assert stage.call("sendto", udp, big, 60000, MSG_MORE, name, 16) == 60000
    assert stage.call("sendto", udp, big, 6000, 0, name, 16) == "EMSGSIZE"
    assert stage.call("sendto", udp, b"new", 3, 0, name, 16) == 3
    assert receive(stage, fd) == b"new"


def get(stage: Stage, fd: int, level: int, option: int, size: int = 4) -> bytes:
    room, length = stage.words["room"], stage.put(struct.pack("<I", size))
    assert stage.call("getsockopt", fd, level, option, room, length) == 0
    return stage.get(room, struct.unpack("<I", stage.get(length, 4))[0])


@pytest.mark.parametrize(
    ("level", "option", "default", "value", "kept"),
    [
        (1, 2, 0, 5, 1),  # SO_REUSEADDR
        (1, 7, 16384, 5000, 10000),  # SO_SNDBUF is doubled
        (1, 7, 16384, 1, 4608),
        (1, 8, 131072, 1 << 30, 425984),  # SO_RCVBUF has a limit
        (1, 18, 1, 0, 1),  # SO_RCVLOWAT
        (0, 2, 64, 33, 33),  # IP_TTL
        (6, 4, 7200, 60, 60),  # TCP_KEEPIDLE
    ],
)
def test_an_option_is_kept(
    stage: Stage, level: int, option: int, default: int, value: int, kept: int
) -> None:
    fd = stage.words["tcp"]
    assert get(stage, fd, level, option) == struct.pack("<i", default)
    assert stage.call("setsockopt", fd, level, option, struct.pack("<i", value), 4) == 0
    assert get(stage, fd, level, option) == struct.pack("<i", kept)


def test_options_of_other_forms(stage: Stage) -> None:
    tcp, linger = stage.words["tcp"], struct.pack("<ii", 1, 30)
    assert stage.call("setsockopt", tcp, 1, 13, linger, 8) == 0
    assert get(stage, tcp, 1, 13, 8) == linger
    states = [get(stage, stage.words[s], 6, 11, 1) for s in ("tcp", "listener", "tcp_end")]
    assert states == [b"\7", b"\x0a", b"\1"]
    assert get(stage, tcp, 6, 13, 16) == b"cubic".ljust(16, b"\0")


def test_a_negative_timeout_is_over_at_once(stage: Stage) -> None:
    fd = stage.words["stream"]
    assert stage.call("setsockopt", fd, 1, 20, struct.pack("<qq", -1, 0), 16) == 0
    assert stage.read(fd) == stage.call("recvfrom", fd, 8, 1, 0, 0, 0) == "EAGAIN"


def test_the_one_interface(stage: Stage) -> None:
    udp, room = stage.words["udp"], stage.words["room"]
    conf = stage.put(struct.pack("<i4xQ", 4096, room))
    assert stage.call("ioctl", udp, uapi.SIOCGIFCONF, conf) == 0
    assert struct.unpack("<i", stage.get(conf, 4)) == (40,)
    assert stage.get(room, 24) == b"lo".ljust(16, b"\0") + inet(0, 127, 0, 0, 1)[:8]
    lo = stage.words["lo"]
    assert stage.call("ioctl", udp, uapi.SIOCGIFINDEX, lo) == 0
    assert struct.unpack("<i", stage.get(lo + 16, 4)) == (1,)


def test_owners_by_ioctl(stage: Stage) -> None:
    fd, room, group = stage.words["tcp"], stage.words["room"], stage.call("getpgid", 0)
    assert stage.call("ioctl", fd, uapi.FIOSETOWN, struct.pack("<i", -group)) == 0
    assert stage.call("ioctl", fd, uapi.SIOCGPGRP, room) == 0
    assert struct.unpack("<i", stage.get(room, 4)) == (-group,)


def test_a_stream_can_be_disconnected(stage: Stage) -> None:
    end, unspec = stage.words["tcp_end"], stage.words["unspec"]
    other = stage.call("accept", stage.words["listener"], 0, 0)
    assert stage.call("connect", end, unspec, 16) == 0
    assert stage.read(other) == "ECONNRESET"
    assert receive(stage, end) == "ENOTCONN"
