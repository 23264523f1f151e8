"""The file of a trace: text or a trace.dat, which may be packed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from shstk.schemas.errors import BadRecording
from shstk.tracer.importers.ftrace import dat, text
from shstk.tracer.importers.ftrace.event import Event
from shstk.tracer.packed import unpacked

_HEADER: Final = 20  # lines at whose beginning the header stands


@dataclass(frozen=True)
class Source:
    """events: reads them from the beginning; raises BadRecording. What is not known is 0 or empty:
    kernel: as uname or the banner name it. harts: of the machine. overwritten: events that the ring
    buffers no longer held."""

    events: Callable[[], Iterator[Event]]
    kernel: str = ""
    harts: int = 0
    overwritten: int = 0


def opened(path: Path) -> Source:
    """Raises BadRecording, Damaged."""
    try:
        data = unpacked(path, path.read_bytes())
    except OSError as error:
        raise BadRecording(f"{path}: {error.strerror or error}") from error
    if data.startswith(dat.MAGIC):
        trace = dat.read(data, str(path))
        return Source(trace.events, trace.uname, trace.harts)
    lines = data.decode("latin-1").split("\n")  # a byte a character: columns count bytes
    harts, overwritten = text.header(islice(lines, _HEADER))
    return Source(lambda: text.events(lines, str(path)), harts=harts, overwritten=overwritten)
