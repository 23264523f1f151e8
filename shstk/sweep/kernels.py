"""One program under several kernels, modelled and real: each run recorded and judged."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from shstk.replay.check import Report, check
from shstk.replay.rules.own import catalogue
from shstk.replay.run import Run
from shstk.schemas.revisions import resolve
from shstk.schemas.tables import AUTO, DEFAULT_TRACE, DERIVABLE, MAX_SIZE
from shstk.tracer.guest import set_up
from shstk.tracer.options import GuestOptions
from shstk.tracer.plugins.interface import Plugin
from shstk.tracer.realkernel.options import RealOptions
from shstk.tracer.realkernel.record import record as record_real
from shstk.tracer.record import record_guest


def run_name(kernel: str) -> str:
    """The directory of a kernel's run in `keep`."""
    return f"{kernel.replace(',', '_').replace(':', '-').replace('/', '-')}.run"


def matrix(
    options: GuestOptions,
    kernels: Iterable[str],
    *,
    real: Mapping[str, RealOptions] | None = None,
    keep: Path | None = None,
    on_output: Callable[[str, int, bytes], None] | None = None,
    on_kernel: Callable[[str], None] | None = None,
    interrupted: Callable[[], bool] = lambda: False,
    trace: Iterable[str] = DEFAULT_TRACE,
    max_size: int | None = MAX_SIZE,
    plugins: Callable[[], Sequence[Plugin]] = tuple,
) -> dict[str, Report]:
    """kernel -> the report on the run under it.

    options: of the guest; its own kernel is not used. real: real kernels by name. keep: a directory
    for the runs, as <keep>/<kernel>.run; without it they are deleted. on_output gets (kernel, fd,
    bytes); on_kernel is called before each recording. interrupted: polled; the kernels whose runs
    are not complete when it is true are left out. plugins: new ones for each run.
    """
    if AUTO in (words := {*trace}):
        trace = words - {AUTO} | {*DERIVABLE}  # the rules read them at once
    base = keep if keep is not None else Path(tempfile.mkdtemp(prefix="shstk-matrix-"))
    reports, rules = {}, catalogue()
    try:
        base.mkdir(parents=True, exist_ok=True)
        for kernel in (resolve(text).name for text in kernels):
            if interrupted():
                break
            if on_kernel:
                on_kernel(kernel)
            forward = partial(on_output, kernel) if on_output else None
            guest = replace(options, kernel=kernel, on_output=forward, interrupted=interrupted)
            result = record_guest(
                partial(set_up, guest),
                base / run_name(kernel),
                trace=trace,
                force=keep is not None,
                max_size=max_size,
                plugins=plugins(),
            )
            if result.ending == "interrupted":
                break
            reports[kernel] = check(Run.open(result.path), rules=rules)
        for kernel, machine in (real or {}).items():
            if interrupted():
                break
            if on_kernel:
                on_kernel(kernel)
            out, forward = (
                base / run_name(kernel),
                partial(on_output, kernel) if on_output else None,
            )
            recorded = record_real(
                replace(
                    machine,
                    out=out,
                    force=keep is not None,
                    on_output=forward,
                    interrupted=interrupted,
                )
            )
            if recorded.ending == "interrupted":
                break
            reports[kernel] = check(Run.open(recorded.path), rules=rules)
    finally:
        if keep is None:
            shutil.rmtree(base, ignore_errors=True)
    return reports
