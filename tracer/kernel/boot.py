"""The first process: created by hand, it then executes its program like any other process."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from shstk.schemas.errors import BadProgram
from shstk.tracer._core import Hart
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.fs.files import Fs
from shstk.tracer.kernel.fs.stdio import standard_files
from shstk.tracer.kernel.process import binfmt, enable_cfi, outside
from shstk.tracer.kernel.process import exec as execs
from shstk.tracer.kernel.process.limits import DEFAULTS, limit_cpu
from shstk.tracer.kernel.process.modules import module_at
from shstk.tracer.kernel.task import Process, Sighand, Task
from shstk.tracer.kernel.tree import sandbox

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel


def boot(
    k: Kernel,
    path: str,
    argv: tuple[bytes, ...],
    env: tuple[bytes, ...],
    rlimits: Mapping[str, int],
) -> Task:
    """All rows get icount 0. rlimits: soft limits that differ from the default.

    Raises BadProgram.
    """
    k.rec.module_of = partial(module_at, k)
    k.rec.open_rows = k.open_rows
    tid = k.new_tid()
    assert tid is not None
    outside.start(k)
    shell = outside.shell(k)
    group = tid if k.terminal is not None else shell.pid
    process = Process(tid, shell, Sighand(), initial_limits(rlimits), pgid=group, sid=group)
    shell.children.append(process)
    name = path.rsplit("/", 1)[-1]
    t = Task(tid, process, Hart(k.machine), None, standard_files(k), Fs(k.sandbox.cwd), name[:15])
    process.tasks.append(t)
    k.tasks[tid] = t
    k.processes[tid] = k.first = process
    limit_cpu(k, process)
    k.current = t
    k.during = k.event("created", t)
    k.event("exec_begin", t)
    try:
        file = sandbox.open_exec(k, t, path)
        program = binfmt.find(k, t, file, path, argv)
    except Errno as error:
        raise BadProgram(f"{k.sandbox.given(path)}: {error.name}") from None
    try:
        execs.begin_new_exec(k, t, program, env)
    except Errno as error:
        raise BadProgram(
            f"{k.sandbox.given(path)}: does not fit into the address space ({error.name})",
            "its segments overlap, or exceed --memory or a resource limit",
        ) from None
    k.event("exec_done", t, status=0)
    enable_cfi.before_first_instruction(k, t, program)
    k.sandbox.answers.report(k)
    k.during = None
    k.sched.add(t)
    return t


def initial_limits(soft: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Every limit as (soft, hard)."""
    limits = dict(DEFAULTS)
    for name, value in soft.items():
        limits[name] = (value, max(value, limits[name][1]))
    return limits
