"""The two processes that the guest sees but that are not modelled: init, which is root's and adopts
orphans, and the shell that started the first process, as a script would.

They have ids, a name and a parent. They run nothing, no signal reaches them, and they reap at once.
Without a terminal the first process is in the shell's group and session; with one it leads its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shstk.tracer._core import Hart
from shstk.tracer.kernel.fs.files import Files, Fs
from shstk.tracer.kernel.process.limits import DEFAULTS
from shstk.tracer.kernel.task import BLOCKED, ROOT, UID, Process, Sighand, Task

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel

INIT_PID: Final = 1
SHELL_PID: Final = 99


def start(k: Kernel) -> None:
    """Called before the first process is made."""
    init = _process(k, INIT_PID, None, "init", ROOT)
    _process(k, SHELL_PID, init, "sh", UID)


def _process(k: Kernel, pid: int, parent: Process | None, comm: str, uid: int) -> Process:
    """It leads a group and a session, and sleeps."""
    process = Process(pid, parent, Sighand(), dict(DEFAULTS), pgid=pid, sid=pid, uid=uid)
    process.outside = True
    t = Task(pid, process, Hart(k.machine), None, Files({}), Fs(k.sandbox.root), comm)
    t.state = BLOCKED
    process.tasks.append(t)
    k.outside[pid] = t
    return process


def init(k: Kernel) -> Process:
    return k.outside[INIT_PID].process


def shell(k: Kernel) -> Process:
    return k.outside[SHELL_PID].process
