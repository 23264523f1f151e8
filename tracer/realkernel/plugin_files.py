"""The plugin and its table, for a QEMU that somebody else starts."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from shstk.schemas.errors import CannotWrite
from shstk.tracer.realkernel import qemu
from shstk.tracer.realkernel.build import plugin
from shstk.tracer.realkernel.options import KernelFiles
from shstk.tracer.realkernel.prepare import prepare
from shstk.tracer.realkernel.table import with_notes


@dataclass(frozen=True)
class PluginFiles:
    """words: for QEMU's command line. blind: what this kernel hides -> why."""

    plugin: Path
    table: Path
    events: Path
    words: tuple[str, ...]
    blind: dict[str, str]


def write(files: KernelFiles, out: Path, given: str | None) -> PluginFiles:
    """Raises BadImage, NoQemu, NoCompiler, CannotWrite."""
    found = qemu.find(given)
    prepared = prepare(files)
    made = plugin(found.interface)
    target, table, events = out / "plugin.so", out / "table", out / "events"
    try:
        out.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(made, target)
        table.write_text(with_notes(prepared.table, {"qemu": found.name}))
    except OSError as error:
        raise CannotWrite(f"cannot write to {out}: {error.strerror}") from error
    words = tuple(qemu.plugin_words(target.absolute(), table.absolute(), events.absolute()))
    return PluginFiles(target, table, events, words, prepared.blind)
