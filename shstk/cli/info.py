from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

import shstk
from shstk import render
from shstk.cli.common import format_option, run_argument
from shstk.replay.decode import size
from shstk.schemas import seq as positions
from shstk.schemas import uapi
from shstk.schemas.selections import table_of
from shstk.schemas.tables import DERIVABLE, TABLES

if TYPE_CHECKING:
    from shstk.schemas.manifest import Manifest, Provenance


@click.command()
@run_argument
@click.option("--no-verify", is_flag=True, help="Do not check the files against their hashes.")
@format_option("text", "json")
def command(run: Path, no_verify: bool, format: str) -> None:
    """Describe RUN: program, kernel, how it ended, its tables.

    --format json prints the manifest itself.
    """
    manifest = shstk.open(run, verify=not no_verify).manifest
    if format == "json":
        click.echo(manifest.to_json(), nl=False)
        return
    lines = _lines(manifest)
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        click.echo(f"{name:{width}}  {value}".rstrip())
    _tables(manifest)


def _lines(m: Manifest) -> list[tuple[str, str]]:
    switches = [f"{name}={setting}" for name, setting in m.row.settings.items()]
    limits = [
        f"{name}={_amount(limit.soft)}"
        + (f":{_amount(limit.hard)}" if limit.hard != limit.soft else "")
        for name, limit in m.rlimits.items()
        if limit.soft != uapi.RLIM_INFINITY
    ]
    return [
        ("program", f"{m.program}  ({shlex.join(m.argv)})"),
        *(("environ", entry) for entry in m.environ),
        ("kernel", f"{m.kernel}, numbers {m.abi}" + (", riscv_nousercfi" if m.nousercfi else "")),
        *(("", switch) for switch in switches),
        ("cpu", m.cpu),
        ("seed", str(m.seed)),
        ("memory", "unlimited" if m.memory is None else _amount(m.memory)),
        *([("storage", _amount(m.storage))] if m.storage is not None else []),
        *([("pids.max", str(m.pids_max))] if m.pids_max is not None else []),
        ("rlimits", " ".join(limits) or ("all infinity" if m.rlimits else "not recorded")),
        ("traced", _traced(m)),
        ("ended", _ending(m)),
        *(("warning", text) for text in m.warnings),
        *_provenance(m.provenance),
        (
            "imported by" if m.provenance.real else "recorded by",
            f"shstk {m.tool_version}, schema {m.schema_version}",
        ),
    ]


def _provenance(p: Provenance) -> list[tuple[str, str]]:
    """Of a run that was recorded elsewhere: by what, on what, and what could be seen."""
    if not p.real:
        return []
    seen = [
        rows if set(columns) == {*TABLES[table_of(rows)].names} else f"{rows}: {' '.join(columns)}"
        for rows, columns in (p.observed or {}).items()
    ]
    return [
        ("recorded by", p.recorder + (f", {p.smp} harts" if p.smp > 1 else "")),
        *((name, fact) for name, fact in p.facts.items()),
        *([] if seen else [("observed", "one moment, no events")]),
        *(("observed" if i == 0 else "", text) for i, text in enumerate(seen)),
        *(("blind", f"{need}: {why}") for need, why in p.blind.items()),
    ]


def _traced(m: Manifest) -> str:
    again = [word for word in DERIVABLE if word not in m.traced] if m.executable else []
    more = f"({', '.join(again)}: executed again when they are read)" if again else ""
    return " ".join(filter(None, (*m.traced, more)))


def _ending(m: Manifest) -> str:
    seen = m.provenance.observed
    counted = "instructions" if seen is None or "cfi" in seen else "events of the guest"
    text = f"{m.ending} after {m.icount} {counted}" if seen != {} else m.ending
    if m.recovered_up_to is not None:
        return f"cut off; complete up to {positions.show(m.recovered_up_to)}"
    if m.exit_status is None:
        return text
    code, signal = m.exit_status >> 8, m.exit_status & 0x7F
    return f"{text}, " + (f"by signal {signal}" if signal else f"exit code {code}")


def _amount(number: int) -> str:
    if number == uapi.RLIM_INFINITY:
        return "infinity"
    return size(number) if number % 1024 == 0 and number else str(number)


def _tables(m: Manifest) -> None:
    click.echo()
    header = ["table", "rows", "bytes", "first", "last"]
    rows = [
        [name, t.rows, t.bytes, positions.show(t.first_seq), positions.show(t.last_seq)]
        for name, t in m.tables.items()
    ]
    rows += [[f"plugin_{name}", p.rows, p.bytes, None, None] for name, p in m.plugins.items()]
    render.write_rows(header, rows, "text")
