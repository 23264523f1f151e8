"""Record a run's program, with the run's inputs, under another kernel revision."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Unpack

from shstk.replay.run import Run
from shstk.rerun.guest import set_up
from shstk.schemas.tables import AUTO
from shstk.tracer.options import Running
from shstk.tracer.record import RecordResult, record_guest


def record_under(
    run: Run, kernel: str, out: Path, *, force: bool = False, **running: Unpack[Running]
) -> RecordResult:
    """Record it into `out`. Raises BadRun (the run has no program), UsageError, CannotWrite."""
    manifest = run.manifest
    again = partial(
        set_up,
        run,
        kernel=kernel,
        max_instructions=manifest.max_instructions,
        timeout=manifest.timeout,
        **running,
    )
    return record_guest(again, out, trace={*manifest.traced, AUTO}, force=force)
