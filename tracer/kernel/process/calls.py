"""The system calls of process/."""

from __future__ import annotations

from typing import Final

from shstk.tracer.kernel.process import (
    clone,
    exec,
    exit,
    futex,
    identity,
    iouring,
    kcmp,
    limits,
    pidfd,
    prctl,
    ptracecalls,
    schedcalls,
    unshare,
    wait,
)

CALLS: Final = (
    *clone.CALLS,
    *exec.CALLS,
    *exit.CALLS,
    *futex.CALLS,
    *identity.CALLS,
    *iouring.CALLS,
    *kcmp.CALLS,
    *limits.CALLS,
    *pidfd.CALLS,
    *prctl.CALLS,
    *ptracecalls.CALLS,
    *schedcalls.CALLS,
    *unshare.CALLS,
    *wait.CALLS,
)
