"""From an importer's rows to an ordinary run directory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from shstk.schemas import uapi
from shstk.schemas.extensions import DEFAULT_CPU
from shstk.schemas.machine import ABIS
from shstk.schemas.manifest import U64, Manifest, Provenance, Rlimit
from shstk.schemas.revisions import resolve
from shstk.schemas.selections import table_of
from shstk.schemas.tables import TABLES, TRACES
from shstk.schemas.version import VERSION
from shstk.tracer.importers.rows import Rows
from shstk.tracer.recording.rundir import write


@dataclass(frozen=True, kw_only=True)
class About:
    """What an importer knows of a recording beside its rows.

    recorder: who observed, such as qemu, ftrace or core.
    facts: of the observed machine, by name, as far as they are known: the kernel's banner, the
    Image's sha256, the version of QEMU, the firmware. smp: the harts that ran at once.
    observed: of each table, or selection of its rows (schemas/selections.py), the columns that this
    recorder can observe; a table that it doesn't list could not be observed.
    blind: a table, selection or `table.column` -> why this one recording could not observe it
    although its recorder can (a symbol that the kernel lacks).
    rlimits: of the first process, as far as they are known.
    """

    recorder: str
    facts: Mapping[str, str] = field(default_factory=dict)
    smp: int = 1
    observed: Mapping[str, tuple[str, ...]]
    blind: Mapping[str, str] = field(default_factory=dict)
    kernel: str  # the revision whose rules are expected, with switches
    program: str  # path in the guest
    argv: tuple[str, ...]
    environ: tuple[str, ...] = ()
    rlimits: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    memory: int | None = None
    cpu: str = DEFAULT_CPU
    nousercfi: bool = False
    auxv: tuple[tuple[int, int], ...] = ()
    first_tid: int
    ending: str  # of vocabulary.ENDINGS
    exit_status: int | None
    warnings: tuple[str, ...] = ()


def observed(
    seen: Iterable[str], unseen: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[str, ...]]:
    """About.observed. seen: tables, or selections of their rows. unseen: columns of a table that
    the recorder can't observe."""
    found = {}
    for rows in seen:
        table = table_of(rows)
        lost = unseen.get(table, ())
        found[rows] = tuple(name for name in TABLES[table].names if name not in lost)
    return found


def seal(
    out: Path, rows: Rows, about: About, files: Iterable[bytes] = (), force: bool = False
) -> Path:
    """Write the run. files: the bytes of its inputs. Raises UsageError (about.kernel),
    BadRecording, CannotWrite."""
    return write(out, manifest_of(about, rows.icount), rows.tables(), files, force)


def manifest_of(about: About, icount: int) -> Manifest:
    """Raises UsageError (about.kernel)."""
    revision = resolve(about.kernel)
    observed = tuple(word for word in TRACES if word in about.observed)
    return Manifest(
        tool_version=VERSION,
        program=about.program,
        argv=about.argv,
        environ=about.environ,
        cwd="/",
        cpu=about.cpu,
        nousercfi=about.nousercfi,
        kernel=revision.name,
        switches=revision.settings,
        abi=ABIS[0],
        seed=U64(0),
        quantum=(1, 1),
        rlimits={
            name: Rlimit(U64(soft), U64(hard)) for name, (soft, hard) in about.rlimits.items()
        },
        memory=None if about.memory is None else U64(about.memory),
        page_size=uapi.PAGE,
        auxv=tuple((U64(key), U64(value)) for key, value in about.auxv),
        first_tid=about.first_tid,
        max_instructions=None,
        timeout=None,
        traced=observed,
        ending=about.ending,
        exit_status=about.exit_status,
        icount=U64(icount),
        provenance=Provenance(
            recorder=about.recorder,
            facts=dict(about.facts),
            smp=about.smp,
            observed=dict(about.observed),
            blind=dict(about.blind),
        ),
        warnings=about.warnings,
    )
