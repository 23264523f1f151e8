"""Runs that somebody forged: python tests/hostile/forged.py [--seed N] [--count N] [--first N]

Each is a recorded run whose values were changed at random, with a manifest that fits: right sizes,
hashes and numbers of rows. Every command must answer it: with a verdict or with an error that names
what is wrong, never with an internal error, a traceback or a hang.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import random
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from telling import tell

import shstk
from shstk.__main__ import run as shstk_command

PROGRAMS = Path(__file__).parents[2] / "fixtures/bin"
COMMANDS = (
    ("verify",),
    ("info",),
    ("check",),
    ("check", "--format", "sarif"),
    ("stacks",),
    ("stacks", "--at", "500.1"),
    ("log",),
    ("explain-fault",),
    ("query", "SELECT * FROM frames"),
    ("query", "SELECT * FROM stays"),
    ("diff", "{original}"),
    ("report", "-o", "{out}.html"),
    ("timeline", "-o", "{out}.pftrace"),
    ("replay",),
)
ANSWERS = {0, 1, 2, 3, 4}
SECONDS = 60  # of processor time, or ten times as long on the clock, after which a command hangs

_TIMERS = (
    (signal.ITIMER_PROF, signal.SIGPROF, SECONDS),
    (signal.ITIMER_REAL, signal.SIGALRM, 10 * SECONDS),
)
_NUMBERS = (0, 1, 2, 7, 8, 4095, 4096, 2**20, 2**31 - 1, 2**31, 2**32 - 1, 2**47, 2**63 - 1, 2**63)
_TEXTS = ("", "\0", "\x1b[2J", "é" * 300, "../../etc/passwd", "=1+1", "a" * 100_000, "0", "-1")


class Hangs(BaseException):
    """A command took longer than SECONDS."""


def record_all(directory: Path) -> list[Path]:
    return [
        shstk.record(
            program,
            out=directory / f"{program.stem}.run",
            trace=("cfi", "flow"),
            max_instructions=10**6,
        ).path
        for program in sorted(PROGRAMS.glob("*.elf"))
    ]


def forge(original: Path, target: Path, rng: random.Random) -> str:
    """Write a forged copy; return what was changed."""
    shutil.copytree(original, target)
    manifest = json.loads((target / "manifest.json").read_text())
    done = [_change(target, manifest, rng) for _ in range(rng.choice((1, 1, 1, 2, 4)))]
    seal(target, manifest)
    return "; ".join(done)


def replace(run: Path, name: str, data: bytes) -> None:
    """Put other bytes in place of a file. The manifest fits; if it is replaced, its hash does."""
    (run / name).write_bytes(data)
    try:
        manifest = json.loads((run / "manifest.json").read_bytes())
    except (ValueError, RecursionError):
        return
    if isinstance(manifest, dict):
        if name.endswith(".parquet"):
            found = hashlib.sha256(data).hexdigest()
            manifest["tables"][name.removesuffix(".parquet")].update(bytes=len(data), sha256=found)
        seal(run, manifest)


def seal(run: Path, manifest: dict[str, Any]) -> None:
    """Write a manifest as shstk does: its last field is a hash over the others."""

    def text(fields: dict[str, Any]) -> str:
        return json.dumps(fields, indent=1, ensure_ascii=False) + "\n"

    fields = {key: value for key, value in manifest.items() if key != "sha256"}
    fields["sha256"] = hashlib.sha256(text(fields).encode(errors="surrogateescape")).hexdigest()
    (run / "manifest.json").write_text(text(fields), errors="surrogateescape")


def _change(run: Path, manifest: dict[str, Any], rng: random.Random) -> str:
    if rng.random() < 0.15:
        return _change_manifest(manifest, rng)
    name = rng.choice(sorted(manifest["tables"]))
    file = run / f"{name}.parquet"
    table = pq.read_table(file)
    how = rng.choice((_cell,) * 8 + (_column, _drop, _double, _swap, _cut, _nulls))
    changed, said = how(table, rng)
    _put(file, changed, manifest["tables"], name)
    return f"{name}: {said}"


def _put(file: Path, table: pa.Table, entries: dict[str, Any], name: str) -> None:
    if not table.num_rows:
        file.unlink()
        del entries[name]
        return
    pq.write_table(table, file, compression="zstd")
    data = file.read_bytes()
    seqs = table["seq"].to_pylist() if "seq" in table.column_names else [0]
    entries[name].update(
        rows=table.num_rows,
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        first_seq=hex(min((s for s in seqs if s is not None), default=0)),
        last_seq=hex(max((s for s in seqs if s is not None), default=0)),
    )


def _change_manifest(manifest: dict[str, Any], rng: random.Random) -> str:
    """One value somewhere in it."""
    at: Any = manifest
    path: list[Any] = []
    while isinstance(at, (dict, list)) and at and (not path or rng.random() < 0.8):
        key = rng.choice(sorted(at)) if isinstance(at, dict) else rng.randrange(len(at))
        parent, at = at, at[key]
        path.append(key)
    parent[path[-1]] = value = rng.choice(
        (
            None,
            "",
            "x",
            "0",
            str(2**64 - 1),
            str(2**64),
            -1,
            0,
            2**63,
            1e300,
            True,
            [],
            {},
            [None],
            *_TEXTS[:4],
        )
    )
    return f"manifest{path} = {value!r}"


def _value(field: pa.Field, column: pa.ChunkedArray, rng: random.Random) -> Any:
    if rng.random() < 0.3 and len(column):
        return column[rng.randrange(len(column))].as_py()
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if pa.types.is_integer(kind):
        bits, signed = kind.bit_width, pa.types.is_signed_integer(kind)
        top = 2 ** (bits - signed)
        value = min(rng.choice((*_NUMBERS, top - 1, rng.randrange(top))), top - 1)
        return ~value if signed and rng.random() < 0.3 else value
    if pa.types.is_boolean(kind):
        return rng.random() < 0.5
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return rng.randbytes(rng.choice((0, 1, 8, 4096)))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return rng.choice(_TEXTS)
    return None


def _replaced(table: pa.Table, name: str, values: list[Any]) -> pa.Table:
    at = table.column_names.index(name)
    field = table.schema.field(at)
    array = (
        pa.array(values, field.type)
        if not pa.types.is_dictionary(field.type)
        else pa.array(values, field.type.value_type).dictionary_encode().cast(field.type)
    )
    return table.set_column(at, field.with_nullable(True) if None in values else field, array)


def _cell(table: pa.Table, rng: random.Random) -> tuple[pa.Table, str]:
    field = table.schema.field(rng.randrange(table.num_columns))
    row = rng.randrange(table.num_rows)
    values = table[field.name].to_pylist()
    values[row] = _value(field, table[field.name], rng)
    if values[row] is None and not field.nullable:
        return table, "nothing"
    return _replaced(table, field.name, values), f"{field.name}[{row}] = {values[row]!r:.60}"


def _column(table: pa.Table, rng: random.Random) -> tuple[pa.Table, str]:
    field = table.schema.field(rng.randrange(table.num_columns))
    value = _value(field, table[field.name], rng)
    if value is None and not field.nullable:
        return table, "nothing"
    return _replaced(
        table, field.name, [value] * table.num_rows
    ), f"{field.name}[:] = {value!r:.60}"


def _nulls(table: pa.Table, rng: random.Random) -> tuple[pa.Table, str]:
    nullable = [field for field in table.schema if field.nullable]
    if not nullable:
        return table, "nothing"
    name = rng.choice(nullable).name
    return _replaced(table, name, [None] * table.num_rows), f"{name}[:] = null"


def _drop(table: pa.Table, rng: random.Random) -> tuple[pa.Table, str]:
    row = rng.randrange(table.num_rows)
    return pa.concat_tables([table[:row], table[row + 1 :]]), f"row {row} dropped"


def _double(table: pa.Table, rng: random.Random) -> tuple[pa.Table, str]:
    row = rng.randrange(table.num_rows)
    return pa.concat_tables([table[: row + 1], table[row:]]), f"row {row} twice"


def _swap(table: pa.Table, rng: random.Random) -> tuple[pa.Table, str]:
    order = list(range(table.num_rows))
    rng.shuffle(order)
    return table.take(order), "rows shuffled"


def _cut(table: pa.Table, rng: random.Random) -> tuple[pa.Table, str]:
    rows = rng.randrange(table.num_rows)
    return table[:rows], f"cut after {rows} rows"


def answer(words: list[str]) -> str:
    """What was wrong with a command's answer, or nothing."""

    def ring(*_: object) -> None:
        raise Hangs

    out, err = (io.TextIOWrapper(io.BytesIO(), errors="replace") for _ in "12")
    for timer, number, seconds in _TIMERS:
        signal.signal(number, ring)
        signal.setitimer(timer, seconds)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = shstk_command(words)
    except Hangs:
        return f"takes more than {SECONDS} s"
    except BaseException as e:
        return f"raises {type(e).__name__}: {e!s:.300}"
    finally:
        for timer, *_ in _TIMERS:
            signal.setitimer(timer, 0)
    said, complained = (_text(stream) for stream in (out, err))
    if code not in ANSWERS or "Traceback" in said + complained:
        return f"exit {code}: {complained[:600]}"
    if code in (2, 3) and "\nerror:" not in f"\n{complained}" and words[0] != "verify":
        return f"exit {code} without a word: {complained[:200]!r}"
    return ""


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    return stream.buffer.getvalue().decode(errors="replace")


def campaign(
    originals: list[Path], directory: Path, seed: int, cases: Iterator[int]
) -> Iterator[str]:
    """What failed, in words that let it be repeated."""
    for case in cases:
        rng = random.Random(f"{seed} {case}")
        original = rng.choice(originals)
        forged = directory / f"{case}.run"
        changed = forge(original, forged, rng)
        for command in COMMANDS:
            options = [
                word.format(original=original, out=directory / "out") for word in command[1:]
            ]
            wrong = answer([command[0], str(forged), *options])
            if wrong:
                again = f"--seed {seed} --first {case} ({original.stem}; {changed})"
                yield f"{again}\n  {' '.join(command)}: {wrong}"
        shutil.rmtree(forged)
        for leftover in directory.glob("out*"):
            leftover.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        originals = record_all(directory)
        cases = iter(range(options.first, options.first + options.count))
        tell(campaign(originals, directory, options.seed, cases), f"{options.count} runs")


if __name__ == "__main__":
    main()
