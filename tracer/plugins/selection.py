"""Selects the rows since the last delivery that each plugin wants."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from shstk.schemas.seq import STEPS
from shstk.tracer.plugins import accesses
from shstk.tracer.plugins.interface import Blocks, Instructions, Memory, Rows, Want
from shstk.tracer.plugins.wants import METHODS, SOURCES


class Selection:
    """It needs the batches of every delivery, in order, because it collects the blocks of code."""

    def __init__(self) -> None:
        self._blocks = _BlockColumns()
        self._batches: Mapping[str, pa.RecordBatch] = {}

    def begin(self, batches: Mapping[str, pa.RecordBatch]) -> None:
        """Start a delivery. batches: the rows since the last one, by table."""
        self._batches = batches
        if "code" in batches:
            self._blocks.add(batches["code"])

    def of(self, wants: Sequence[Want]) -> Iterator[tuple[str, tuple[object, ...]]]:
        """The methods to call for these wants, with arguments; none for a want without rows."""
        for kind in dict.fromkeys(type(want) for want in wants):
            if kind is Rows:
                for table in dict.fromkeys(w.table for w in wants if isinstance(w, Rows)):
                    if table in self._batches:
                        yield METHODS[Rows], (table, self._batches[table])
            elif (source := self._batches.get(SOURCES[kind][-1])) is not None:
                chosen = self._chosen(kind, source, wants)
                if chosen.num_rows:
                    yield METHODS[kind], (chosen,)

    def _chosen(
        self, kind: type[Want], source: pa.RecordBatch, wants: Sequence[Want]
    ) -> pa.RecordBatch:
        if kind is Blocks:
            blocks = self._blocks.of(source)
            return _in_ranges(blocks, [w for w in wants if isinstance(w, Blocks)])
        if kind is Instructions:
            return _in_ranges(source, [w for w in wants if isinstance(w, Instructions)])
        return _memory(source, [w for w in wants if isinstance(w, Memory)])


class _BlockColumns:
    """The columns of every block of the table code so far, to join with rows of flow."""

    def __init__(self) -> None:
        self._blocks: pa.RecordBatch | None = None  # row n is block n + 1
        self._texts: list[bytes] = []

    def add(self, code: pa.RecordBatch) -> None:
        texts = code["bytes"].to_pylist()
        self._texts += texts
        counts = [len(_sizes(text)) for text in texts]
        new = pa.record_batch(
            {
                "pc": code["pc"],
                "length": code["length"],
                "instructions": pa.array(counts, pa.uint32()),
                "module": code["module"],
            }
        )
        self._blocks = pa.concat_batches([self._blocks, new]) if self._blocks else new

    def of(self, flow: pa.RecordBatch) -> pa.RecordBatch:
        assert self._blocks is not None
        found = self._blocks.take(pc.subtract(flow["block"], pa.scalar(1, pa.uint32())))
        names = [*flow.schema.names, *found.schema.names]
        columns = {"ran": found["instructions"], "ran_bytes": found["length"]}
        if cuts := self._cuts(flow, found):
            for at, (name, whole) in enumerate(columns.items()):
                ran = whole.to_pylist()
                for row, cut in cuts.items():
                    ran[row] = cut[at]
                columns[name] = pa.array(ran, whole.type)
        return pa.record_batch(
            [*flow.columns, *found.columns, *columns.values()], names=[*names, *columns]
        )

    def _cuts(self, flow: pa.RecordBatch, found: pa.RecordBatch) -> dict[int, tuple[int, int]]:
        """The rows whose block was cut: how many of its instructions ran, and their bytes. The
        instruction of a fault that the kernel resolved runs again, in the next block."""
        icount = pc.divide(flow["seq"], pa.scalar(STEPS, pa.uint64()))
        took = pc.subtract(icount[1:], icount[:-1])
        short = pc.indices_nonzero(pc.less(took, found["instructions"][:-1].cast(pa.uint64())))
        cuts = {}
        for row in short.to_pylist():
            sizes = _sizes(self._texts[flow["block"][row].as_py() - 1])[: took[row].as_py()]
            retried = found["pc"][row].as_py() + sum(sizes[:-1])
            same = flow["tid"][row + 1] == flow["tid"][row]
            if same and found["pc"][row + 1].as_py() == retried:
                sizes.pop()
            cuts[row] = (len(sizes), sum(sizes))
        return cuts


def _sizes(text: bytes) -> list[int]:
    """The bytes of each instruction of a block: those of 32 bits end in binary 11."""
    at, sizes = 0, []
    while at < len(text):
        sizes.append(4 if text[at] & 3 == 3 else 2)
        at += sizes[-1]
    return sizes


def _in_ranges(
    rows: pa.RecordBatch, wants: Sequence[Blocks] | Sequence[Instructions]
) -> pa.RecordBatch:
    """The rows with a pc in the range of any of the wants."""
    chosen = None
    for want in wants:
        if want.start <= 0 and want.end >= 2**64:
            return rows
        low = pc.greater_equal(rows["pc"], pa.scalar(want.start, pa.uint64()))
        high = pc.less_equal(rows["pc"], pa.scalar(want.end - 1, pa.uint64()))
        inside = pc.and_(low, high)
        chosen = inside if chosen is None else pc.or_(chosen, inside)
    return rows.filter(chosen)


def _memory(insn: pa.RecordBatch, wants: Sequence[Memory]) -> pa.RecordBatch:
    """The accesses that match any of the wants, once each."""
    parts = [
        accesses.accesses(
            insn,
            want.start,
            want.end,
            accesses.READ * want.reads | accesses.WRITE * want.writes,
        )
        for want in wants
    ]
    if len(parts) == 1:
        return parts[0]
    # An instruction has one memory access, so its seq identifies the access.
    together = pa.Table.from_batches(parts).sort_by("seq").combine_chunks()
    if not together.num_rows:
        return parts[0]
    seqs = together["seq"].chunk(0)
    new = pc.not_equal(seqs[1:], seqs[:-1])
    return together.filter(pa.concat_arrays([pa.array([True]), new])).to_batches()[0]
