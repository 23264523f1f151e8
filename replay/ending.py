"""How and where a run ended, if its program did not exit: one line for tables of many runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from shstk.replay import decode
from shstk.replay.symbols import Symbols
from shstk.schemas import seq as positions
from shstk.schemas.uapi import SEGV_CPERR
from shstk.schemas.vocabulary import ENDINGS

if TYPE_CHECKING:
    from shstk.replay.run import Run


@dataclass(frozen=True)
class Ending:
    """how: a signal, or the manifest's ending (deadlock, limit, …). seq, tid: of a death. function:
    where the fault was that raised the signal."""

    how: str
    code: str | None = None
    seq: int | None = None
    tid: int | None = None
    function: str | None = None

    @property
    def cut_short(self) -> bool:
        """The recording ended before its program did."""
        return self.how in ENDINGS

    def __str__(self) -> str:
        words = f"{self.how} ({self.code})" if self.code else self.how
        if self.seq is not None:
            words += f" at {positions.show(self.seq)}"
        if self.function:
            words += f" in {self.function}"
        return words if self.tid is None else f"{words}, task {self.tid}"

    def as_json(self) -> dict[str, Any]:
        at = None if self.seq is None else positions.show(self.seq)
        return {**vars(self), "seq": at}


def ending(run: Run) -> Ending | None:
    """None: the program exited, and no process of it died of a CFI fault."""
    manifest = run.manifest
    fatal = run.scan("signals").filter(pl.col("kind").cast(pl.String) == "fatal")
    if manifest.ending == "exited":
        return _died(run, fatal.filter(pl.col("code") == SEGV_CPERR))
    if manifest.ending != "killed":
        return Ending(manifest.ending)
    signo = None if manifest.exit_status is None else manifest.exit_status & 0x7F
    return _died(run, fatal.filter(pl.col("signo") == signo)) or Ending(decode.signal_name(signo))


def _died(run: Run, fatal: pl.LazyFrame) -> Ending | None:
    rows = fatal.select("seq", "tid", "signo", "code").tail(1).collect().rows()
    if not rows:
        return None
    seq, tid, signo, code = rows[0]
    faults = run.scan("faults").filter(
        (pl.col("tid") == tid) & (pl.col("seq") <= seq) & (pl.col("signo") == signo)
    )
    last = faults.select("seq", "mm", "pc").tail(1).collect().rows()
    function = Symbols(run).function(last[0][1], last[0][2], last[0][0]) if last else None
    return Ending(
        decode.signal_name(signo),
        decode.signal_code(signo, code) if last else None,
        last[0][0] if last else seq,
        tid,
        function,
    )
