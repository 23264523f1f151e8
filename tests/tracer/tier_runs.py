"""One program recorded by several tiers, which must make the same run."""

from __future__ import annotations

from pathlib import Path

from shstk.tracer.record import RecordOptions, record

TIERS = ("interpreter", "native", "auto")


def recorded(program: Path, out: Path, **options: object) -> dict[str, bytes]:
    """The files of the run, and what the guest wrote."""
    written = bytearray()
    record(
        RecordOptions(
            str(program),
            out=out,
            on_output=lambda fd, data: written.extend(data),
            **options,  # type: ignore[arg-type]
        )
    )
    files = {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    return files | {"output": bytes(written)}


def differing(
    program: Path, folder: Path, tiers: tuple[str, ...] = TIERS[:2], **options: object
) -> set[str]:
    """The names of the files that are not the same in the runs of all tiers."""
    runs = [recorded(program, folder / f"{tier}.run", tier=tier, **options) for tier in tiers]
    names = {name for run in runs for name in run}
    return {name for name in names if len({run.get(name) for run in runs}) > 1}
