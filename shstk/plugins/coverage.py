from __future__ import annotations

import struct
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

import polars as pl
import pyarrow as pa

from shstk.plugin import Blocks, Module, Plugin
from shstk.plugins.outputs import write
from shstk.plugins.places import Image, Places
from shstk.plugins.tally import Tally

_BLOCK: Final = struct.Struct("<IHH")  # drcov: offset, size, module


class Coverage(Plugin):
    """Which code ran: by block, as a drcov file for Lighthouse and others, and by line for lcov.

    Arguments: drcov=FILE: write the blocks in drcov's format, version 2 (Lighthouse, Cartographer,
    bncov read it). lcov=FILE: write a tracefile for genhtml and editors: how often each function
    and line ran, or that it did not, for files with DWARF line tables.

    Table plugin_coverage, one row for each block, by module and address: module str (path in the
    guest), offset u64 (from the start of the module), pc u64, length i64 (bytes), runs i64, symbol
    str or null, line str or null (file:line), first_seq u64, first_tid u32.
    """

    wants = (Blocks(),)

    def __init__(self, drcov: Path | None = None, lcov: Path | None = None) -> None:
        self._drcov, self._lcov = drcov, lcov
        self._places = Places()
        self._tally = Tally(
            "block", pc="first", length="first", module="first", runs="sum", seq="first",
            tid="first",
        )  # fmt: skip
        self._ran = Tally("block", "ran_bytes", pc="first", module="first", runs="sum")
        self._blocks: list[dict[str, Any]] = []

    def on_module(self, module: Module) -> None:
        self._places.add(module)

    def on_blocks(self, batch: pa.RecordBatch) -> None:
        rows = pl.DataFrame(batch).with_columns(runs=pl.lit(1, pl.Int64))
        self._tally.add(rows)
        self._ran.add(rows)

    def finish(self) -> pa.Table:
        self._blocks = self._tally.rows()
        rows = []
        for block in self._blocks:
            place = self._places.at(block["module"], block["pc"])
            image = self._image(block)
            rows.append(
                (
                    place.module,
                    block["pc"] - (image.span[0] if image else 0),
                    block["pc"],
                    block["length"],
                    block["runs"],
                    place.symbol,
                    place.source,
                    block["seq"],
                    block["tid"],
                )
            )
        if self._drcov:
            write(self._drcov, self._drcov_file())
        if self._lcov:
            write(self._lcov, "".join(self._lcov_records()).encode())
        schema: dict[str, type[pl.DataType]] = {
            "module": pl.String,
            "offset": pl.UInt64,
            "pc": pl.UInt64,
            "length": pl.Int64,
            "runs": pl.Int64,
            "symbol": pl.String,
            "line": pl.String,
            "first_seq": pl.UInt64,
            "first_tid": pl.UInt32,
        }
        rows.sort(key=lambda row: row[:3])
        return pl.DataFrame(rows, schema=schema, orient="row").to_arrow()

    def summary(self) -> str:
        lines = [f"{len(self._blocks)} blocks ran"]
        by_file = defaultdict(list)
        for block in self._blocks:
            image = self._image(block)
            by_file[image.module.path if image else "no file"].append(block["length"])
        lines += [f"  {path}: {len(n)} blocks, {sum(n)} bytes" for path, n in by_file.items()]
        lines += [f"  written: {path}" for path in (self._drcov, self._lcov) if path]
        return "\n".join(lines)

    def _image(self, block: dict[str, Any]) -> Image | None:
        return None if block["module"] is None else self._places.images[block["module"]]

    def _drcov_file(self) -> bytes:
        """https://dynamorio.org/page_drcov.html; blocks without a file have no module."""
        images = list(dict.fromkeys(self._places.images.values()))
        numbers = {image: number for number, image in enumerate(images)}
        blocks = [
            _BLOCK.pack(block["pc"] - image.span[0], block["length"], numbers[image])
            for block in self._blocks
            if (image := self._image(block))
        ]
        lines = [
            "DRCOV VERSION: 2",
            "DRCOV FLAVOR: drcov",
            f"Module Table: version 2, count {len(images)}",
            "Columns: id, base, end, entry, path",
            *(
                f"{number:3}, {image.span[0]:#018x}, {image.span[1]:#018x}, {0:#018x}, "
                f"{image.module.path}"
                for image, number in numbers.items()
            ),
            f"BB Table: {len(blocks)} bbs",
        ]
        return "\n".join(lines).encode() + b"\n" + b"".join(blocks)

    def _lcov_records(self) -> Iterator[str]:
        """geninfo(1), "FILES": one record for each source file."""
        ran = defaultdict(list)
        for block in self._ran.rows():
            if image := self._image(block):
                ran[image].append((block["pc"] - image.bias, block["ran_bytes"], block["runs"]))
        lines: defaultdict[str, dict[int, int]] = defaultdict(dict)
        functions: defaultdict[str, dict[str, tuple[int, int]]] = defaultdict(dict)
        for image, blocks in ran.items():
            times = _Times(blocks)
            for address, file, line in image.names.lines():
                lines[file][line] = max(lines[file].get(line, 0), times.at(address))
            for name, start in image.names.functions():
                if place := image.names.line(start):
                    functions[place[0]][name] = (place[1], times.at(start))
        for file in sorted(lines):
            yield f"TN:\nSF:{file}\n"
            named = sorted(functions[file].items(), key=lambda item: (item[1], item[0]))
            yield from (f"FN:{line},{name}\n" for name, (line, _) in named)
            yield from (f"FNDA:{count},{name}\n" for name, (_, count) in named)
            yield f"FNF:{len(named)}\nFNH:{sum(count > 0 for _, (_, count) in named)}\n"
            counts = sorted(lines[file].items())
            yield from (f"DA:{line},{count}\n" for line, count in counts)
            yield f"LF:{len(counts)}\nLH:{sum(count > 0 for _, count in counts)}\nend_of_record\n"


class _Times:
    """How often the instruction at an address ran, from overlapping blocks (start, length,
    runs)."""

    def __init__(self, blocks: list[tuple[int, int, int]]) -> None:
        self._starts = sorted((start, runs) for start, _, runs in blocks)
        self._ends = sorted((start + length, runs) for start, length, runs in blocks)
        self._begun = [0, *accumulate(runs for _, runs in self._starts)]
        self._over = [0, *accumulate(runs for _, runs in self._ends)]

    def at(self, address: int) -> int:
        begun = bisect_right(self._starts, address, key=lambda item: item[0])
        over = bisect_right(self._ends, address, key=lambda item: item[0])
        return self._begun[begun] - self._over[over]
