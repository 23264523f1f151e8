"""SQL over a run: Polars SQL, with hex and octal literals and `icount.n` positions.

Polars reads 0x… as bytes and does not know positions. Both are rewritten token by token, so
strings, quoted names and comments are unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import polars as pl

from shstk.replay.views import VIEWS
from shstk.schemas import seq as positions
from shstk.schemas.errors import BadRun, UsageError
from shstk.schemas.units import Unit

if TYPE_CHECKING:
    from shstk.replay.run import Run

_TOKEN: Final = re.compile(
    r"""(?P<string>'(?:[^']|'')*')
      | (?P<quoted>"(?:[^"]|"")*")
      | (?P<comment>--[^\n]*|/\*.*?\*/)
      | (?P<literal>0[xX][0-9a-fA-F][0-9a-fA-F_]*\b|0[oO][0-7][0-7_]*\b)
      | (?P<odd>\b\d+(?:\.\d+){2,})
      | (?P<position>\b\d+\.\d+\b)
      | (?P<name>[A-Za-z_]\w*)
      | (?P<space>\s+)
      | (?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_COMPARES: Final = frozenset("=<>!,(") | {"between", "in", "and", "not"}
_BLANK: Final = frozenset({"space", "comment"})
_NAMES: Final = frozenset({"name", "quoted"})
# Matches tokens joined by spaces: `[table.]column AS name`, also with min(), max(), first() or
# last() around the column. Any other `… AS name` matches without a column.
_ALIAS: Final = re.compile(
    r"""(?:(?:\bselect|\bdistinct|,)[ ](?:(?:min|max|first|last)[ ]\([ ])?(?:\w+[ ]\.[ ])?
        (?P<column>\w+)[ ](?:\)[ ])?)?\bas[ ](?P<alias>\w+)""",
    re.VERBOSE,
)
_READS: Final = re.compile("(read|scan)_")  # table functions of Polars' SQL

Token = tuple[str, str]  # a group of _TOKEN, the text
Meaning = tuple[Unit, pl.DataType]


@dataclass(frozen=True)
class Answer:
    """units: for the columns whose values come from a table or view, under whatever name."""

    frame: pl.DataFrame
    units: dict[str, Unit]


def query(run: Run, sql: str, allow_files: bool = False) -> Answer:
    """The result of a query over the run's tables (Run.names) and views (shstk.replay.views).

    allow_files: SQL may read files and URLs with read_csv and its kin. Raises UsageError for that
    without it, and for SQL that Polars refuses; BadRun if a table can't be made again.
    """
    tokens = _words(sql)
    if not allow_files:
        _refuse_files(tokens)
    mentioned = {_name(text) for kind, text in tokens if kind in _NAMES}
    read = {*_relations(tokens)}  # code is a column too
    wanted = [n for n in run.names if n in (read if run.derivable(n) else mentioned)]
    run.prepare(wanted)
    for name in wanted:
        if why := run.missing(name):
            raise BadRun(f"{run.name} has no {name} table: {why}")
    frames = {name: run.scan(name) for name in wanted}
    units = {name: run.units(name) for name in frames}
    for name, view in VIEWS.items():
        if name in mentioned:
            frames[name] = view.build(run).lazy()
            units[name] = view.units
    try:
        return over(frames, units, sql, allow_files, known=[*run.names, *VIEWS])
    except UsageError as error:
        if isinstance(error.__cause__, pl.exceptions.ComputeError) and (damaged := _undecodable()):
            raise damaged from error
        raise


def _undecodable() -> BadRun | None:
    from shstk.replay.run import undecodable  # a corpus is asked without it

    return undecodable()


def over(
    frames: Mapping[str, pl.LazyFrame],
    units: Mapping[str, dict[str, Unit]],
    sql: str,
    allow_files: bool = False,
    known: Iterable[str] = (),
) -> Answer:
    """The result of a query over frames. units: of their columns. known: what an error names, if
    there is more than `frames`. Raises UsageError as `query`."""
    tokens = _words(sql)
    if not allow_files:
        _refuse_files(tokens)
    meant = _known(tokens, frames, units)
    seqs = {name for name, (unit, _) in meant.items() if unit == "seq"}
    try:
        with pl.SQLContext(frames=frames) as context:
            frame = context.execute(rewrite(sql, seqs)).collect()
    except pl.exceptions.PolarsError as error:
        relations = ", ".join(known or frames)
        reason = str(error).partition("\n\nResolved plan")[0]
        raise UsageError(f"query refused: {reason}", f"tables and views: {relations}") from error
    shown = {}
    for name, dtype in frame.schema.items():
        unit, its_dtype = meant.get(name.lower(), (None, None))
        if unit and dtype == its_dtype:  # Polars names count(seq) seq as well
            shown[name] = unit
    return Answer(frame, shown)


# The words that end the list of relations that FROM or JOIN begins.
_PAST_FROM: Final = frozenset(
    {"where", "group", "having", "order", "limit", "offset", "select", "union", "except"}
    | {"intersect", "on", "using", ")", ";"}
)


def _relations(tokens: list[Token]) -> Iterator[str]:
    """The names in a query that name a table, a view, or a table of the query's own."""
    listing, before = False, ""
    for kind, text in tokens:
        if before in ("from", "join"):
            listing = True
        if kind in _NAMES and listing and before in ("from", "join", ",", "("):
            yield _name(text)
        before = text.lower()
        listing = listing and before not in _PAST_FROM


def _refuse_files(tokens: list[Token]) -> None:
    """A query may come from somebody else, like a run. Raises UsageError."""
    for (kind, text), (_, following) in pairwise(tokens):
        if kind in _NAMES and following == "(" and _READS.match(_name(text)):
            raise UsageError(
                f"query refused: {_name(text)} reads files of this machine",
                "--allow-files lets SQL do that",
            )


def rewrite(sql: str, seqs: Collection[str]) -> str:
    """Hex and octal literals become decimal; `icount.n` compared with one of the columns `seqs`
    becomes that seq."""
    tokens = _tokens(sql)
    words = [i for i, (kind, _) in enumerate(tokens) if kind not in _BLANK]
    out = [text for _, text in tokens]
    for at, i in enumerate(words):
        kind, text = tokens[i]
        if kind == "literal":
            out[i] = str(int(text.replace("_", ""), 0))
        elif kind == "position":
            sides = (words[:at][::-1], words[at + 1 :])
            if any(_compared((tokens[j] for j in side), seqs) for side in sides):
                out[i] = str(_position(text))
    return "".join(out)


def _position(text: str) -> int:
    try:
        return positions.parse(text)
    except ValueError as error:
        raise UsageError(f"query refused: {error}") from error


def _compared(away: Iterable[Token], seqs: Collection[str]) -> bool:
    """Whether the first name in direction `away` from a literal, past comparison operators, is a
    seq column."""
    for kind, text in away:
        if kind != "position" and text.lower() not in _COMPARES:
            return kind in _NAMES and _name(text) in seqs
    return False


def _known(
    tokens: list[Token],
    frames: Mapping[str, pl.LazyFrame],
    units: Mapping[str, Mapping[str, Unit]],
) -> dict[str, Meaning]:
    """Unit and type of each name in a query: of the columns on which its tables agree, and of the
    names that the query gives to columns."""
    met: dict[str, set[Meaning | None]] = {}
    for relation, frame in frames.items():
        for name, dtype in frame.collect_schema().items():
            unit = units[relation].get(name)
            met.setdefault(name.lower(), set()).add((unit, dtype) if unit else None)
    columns = {name: meanings.pop() for name, meanings in met.items() if len(meanings) == 1}
    aliases = dict(_aliases(tokens))

    def meaning(name: str) -> Meaning | None:
        gone: set[str] = set()
        while name in aliases and name not in gone:
            gone.add(name)
            name = aliases[name]
        return columns.get(name)

    found = {name: meaning(name) for name in (*columns, *aliases)}
    return {name: meant for name, meant in found.items() if meant}


def _aliases(tokens: list[Token]) -> Iterator[tuple[str, str]]:
    """(name, column) for each `… AS name`; the column is empty if the values are computed."""
    text = " ".join("''" if kind == "string" else _name(text) for kind, text in tokens)
    for match in _ALIAS.finditer(text):
        yield match["alias"], match["column"] or ""


def _tokens(sql: str) -> list[Token]:
    return [(m.lastgroup or "", m.group()) for m in _TOKEN.finditer(sql)]


def _words(sql: str) -> list[Token]:
    return [token for token in _tokens(sql) if token[0] not in _BLANK]


def _name(text: str) -> str:
    return text.strip('"').lower()
