"""SQL over a run: Polars SQL, with hex literals and `icount.n` positions made to work.

Polars reads 0x… as bytes, and knows nothing of positions; both are rewritten token by token, so
that strings, quoted names and comments stay as they are.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import polars as pl

from shstk.render import is_seq
from shstk.replay.views import VIEWS
from shstk.schemas import seq as positions
from shstk.schemas.errors import UsageError

if TYPE_CHECKING:
    from shstk.replay.run import Run

_TOKEN: Final = re.compile(
    r"""(?P<string>'(?:[^']|'')*')
      | (?P<quoted>"(?:[^"]|"")*")
      | (?P<comment>--[^\n]*|/\*.*?\*/)
      | (?P<hex>0[xX][0-9a-fA-F_]+\b)
      | (?P<odd>\b\d+(?:\.\d+){2,})
      | (?P<position>\b\d+\.\d+\b)
      | (?P<name>[A-Za-z_]\w*)
      | (?P<space>\s+)
      | (?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_COMPARES: Final = frozenset("=<>!,(") | {"between", "in", "and", "not"}


def rewrite(sql: str) -> str:
    """Hex literals become decimal; `icount.n` compared with a seq column becomes that seq."""
    tokens = [(m.lastgroup or "", m.group()) for m in _TOKEN.finditer(sql)]
    words = [i for i, (kind, _) in enumerate(tokens) if kind not in ("space", "comment")]
    out = [text for _, text in tokens]
    for at, i in enumerate(words):
        kind, text = tokens[i]
        if kind == "hex":
            out[i] = str(int(text.replace("_", ""), 16))
        elif kind == "position" and (
            _compared(tokens, words[:at][::-1]) or _compared(tokens, words[at + 1 :])
        ):
            out[i] = str(positions.parse(text))
    return "".join(out)


def _compared(tokens: list[tuple[str, str]], away: list[int]) -> bool:
    """Whether, going `away` from a literal over comparison signs, a seq column is met first."""
    for i in away:
        kind, text = tokens[i]
        if kind == "position" or text.lower() in _COMPARES:
            continue
        return kind in ("name", "quoted") and is_seq(text.strip('"').lower())
    return False


def names(sql: str) -> set[str]:
    """Every identifier in the query, lower case."""
    found = _TOKEN.finditer(sql)
    return {m.group().strip('"').lower() for m in found if m.lastgroup in ("name", "quoted")}


def query(run: Run, sql: str) -> pl.DataFrame:
    """The result of a query over the run's tables (Run.names) and views (shstk.replay.views).

    Raises UsageError for SQL that Polars refuses.
    """
    mentioned = names(sql)
    frames = {name: run.scan(name) for name in run.names if name in mentioned}
    frames |= {name: view.build(run).lazy() for name, view in VIEWS.items() if name in mentioned}
    try:
        with pl.SQLContext(frames=frames) as context:
            return context.execute(rewrite(sql)).collect()
    except pl.exceptions.PolarsError as error:
        known = ", ".join([*run.names, *VIEWS])
        reason = str(error).partition("\n\nResolved plan")[0]
        raise UsageError(f"query refused: {reason}", f"tables and views: {known}") from error
