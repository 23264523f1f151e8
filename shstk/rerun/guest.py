"""Set up the guest of a recorded run again, from the run's directory."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

from shstk.replay.run import Run
from shstk.schemas.errors import BadRun
from shstk.tracer.guest import Guest
from shstk.tracer.kernel.kernel import Recorder
from shstk.tracer.options import Running
from shstk.tracer.rerun.setup import set_up_again


def directory(run: Run) -> Path:
    """Raises BadRun."""
    if run.path is None:
        raise BadRun(f"{run.name} is in memory only: it cannot be executed")
    return run.path


def set_up(
    run: Run,
    rec: Recorder,
    trace: int = 0,
    *,
    kernel: str | None = None,
    max_instructions: int | None = None,
    timeout: float | None = None,
    **running: Unpack[Running],
) -> Guest:
    """See `set_up_again`."""
    return set_up_again(
        directory(run),
        run.manifest,
        lambda table: run.table(table).iter_rows(named=True),
        rec,
        trace,
        kernel=kernel,
        max_instructions=max_instructions,
        timeout=timeout,
        **running,
    )
