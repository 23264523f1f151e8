"""A worker process: it pays for the imports once, then executes one cell after the other.

It imports nothing heavy until its limits are set.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from shstk.confined import caches, confine

_PR_SET_PDEATHSIG: Final = 1


def main(pipe: Connection, scratch: Path, memory: int, confined: bool) -> None:
    """Executes the jobs from the pipe, and answers each with its row. memory: see HostLimits.

    confined: it can write to the folder for its runs and to the caches alone, whatever a guest
    makes it do, and start no program, as QEMU is.

    It ends with its driver, however that ends. Ctrl-C is the driver's to handle: SIGINT is blocked
    in every thread that this starts. To ignore it is not enough: Polars handles it while it
    collects, and raises KeyboardInterrupt.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # RLIMIT_DATA and not RLIMIT_AS: allocators reserve address space many times larger than what
    # they use, but map it without permissions. glibc's arenas, one a thread, are counted.
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.environ["TMPDIR"] = str(scratch)  # where nothing is left of a worker that is killed
    os.environ["POLARS_MAX_THREADS"] = "1"  # the workers are what runs in parallel
    if confined:
        confine([scratch, *caches()])
    from shstk.corpus.execute import execute

    try:
        pipe.send(None)  # ready
        while True:
            job = pipe.recv()
            row = execute(job, scratch)
            pipe.send(row)
            if row["outcome"] in ("memory", "error"):
                return  # whatever state that left
    except (EOFError, BrokenPipeError):
        return


if __name__ == "__main__":
    main(
        Connection(int(sys.argv[1])), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "confined"
    )
