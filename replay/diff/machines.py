"""What our model of a machine and a real one may rightly differ in.

Addresses, pids, times and descriptors are named by what they stand for (names.py). Listed here are
the calls that ask about the machine, the user and the terminal. They are left out if one run is of
a real kernel and the other is not.
"""

from __future__ import annotations

from typing import Final

from shstk.schemas.manifest import Provenance

# A call, or the variant of one -> why.
RIGHTLY: Final = {
    **dict.fromkeys(("sched_getaffinity", "getcpu"), "how many harts there are"),
    **dict.fromkeys(
        ("ioctl(TCGETS)", "ioctl(TIOCGWINSZ)"), "whether standard output is a terminal"
    ),
    **dict.fromkeys(("getuid", "geteuid", "getgid", "getegid"), "who runs the program"),
    **dict.fromkeys(("getppid", "getpgid", "getsid"), "what started the program"),
    **dict.fromkeys(("umask", "getcwd"), "where it was started"),
}


def rightly(a: Provenance, b: Provenance) -> frozenset[str]:
    """What to leave out."""
    return frozenset(RIGHTLY) if a.real != b.real else frozenset()
