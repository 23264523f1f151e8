"""Record the events in tests/realkernel/events again: ``python tests/realkernel/record_events.py
[NAME…]``, with the names of recorded.py. It takes six seconds each; kernel, firmware and QEMU come
from Debian (machine.py).

Linux, QEMU and what follows from them change with Debian's packages. The names of what was used are
in each file, and in `shstk info` of a run made of it.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import pyarrow as pa
from machine import Machine, machine
from mutants import MUTANTS, broken
from recorded import EVENTS, RECORDED, Recorded

import shstk
from shstk.tracer.realkernel.options import KernelFiles, RealOptions

_LIMIT = 32 << 20  # bytes; the longest has 3 MB


class Endless(Exception):
    """See recorded.ENDLESS."""


def record(r: Recorded, m: Machine, out: Path) -> Path:
    """Record into the run `out`; return the file of events beside it."""
    image = m.kernel
    if r.kernel:
        image = out.with_suffix(".Image")
        image.write_bytes(broken(m.kernel.read_bytes(), MUTANTS[r.kernel]))
    events = out.with_suffix(".events")
    options = RealOptions(
        files=KernelFiles(image=image),
        program=str(r.path),
        argv=r.args,
        out=out,
        firmware=m.firmware,
        qemu=str(m.qemu),
        events=events,
        events_limit=_LIMIT,
        **r.options,
        **r.machine,
    )
    ended = shstk.record_real_kernel(options)
    if ended.ending == "limit":
        raise Endless(f"{r.name} does not end")
    return events


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="which to record (default: all)")
    parser.add_argument("--missing", action="store_true", help="those that are not there yet")
    options = parser.parse_args()
    chosen = options.names or [
        name for name, r in RECORDED.items() if not (options.missing and r.file.exists())
    ]
    EVENTS.mkdir(exist_ok=True)
    for name in chosen:
        r = RECORDED[name]
        with tempfile.TemporaryDirectory() as work:
            try:
                events = record(r, machine(r.qemu), Path(work, f"{name}.run"))
            except Endless as why:
                print(why, flush=True)
                continue
            with pa.output_stream(str(r.file), compression="zstd") as stream:
                stream.write(events.read_bytes())
        print(f"{name}: {r.file.stat().st_size} bytes", flush=True)


if __name__ == "__main__":
    main()
