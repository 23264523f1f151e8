"""The system calls of fs/."""

from __future__ import annotations

from typing import Final

from shstk.tracer.kernel.fs import (
    aio,
    devices,
    epoll,
    eventfds,
    fcntl,
    files,
    filestat,
    handles,
    inotify,
    ioctl,
    locks,
    opening,
    pathcalls,
    pipes,
    poll,
    signalfds,
    sizecalls,
    splice,
    transfer,
)

CALLS: Final = (
    *aio.CALLS,
    *devices.CALLS,
    *epoll.CALLS,
    *eventfds.CALLS,
    *fcntl.CALLS,
    *files.CALLS,
    *filestat.CALLS,
    *handles.CALLS,
    *inotify.CALLS,
    *ioctl.CALLS,
    *locks.CALLS,
    *opening.CALLS,
    *pathcalls.CALLS,
    *pipes.CALLS,
    *poll.CALLS,
    *signalfds.CALLS,
    *sizecalls.CALLS,
    *splice.CALLS,
    *transfer.CALLS,
)
