"""Compare two runs: what each task did in one run but not in the other."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from shstk.replay.derive.history import Task
from shstk.replay.diff.align import Gap, align, gaps
from shstk.replay.diff.events import EXIT, FIELDS, Teller, What, Whats
from shstk.replay.diff.handlers import Handlers
from shstk.replay.diff.machines import rightly
from shstk.replay.diff.names import Common, Names
from shstk.replay.diff.observed import Observed, observed
from shstk.replay.diff.tasks import Cast, match
from shstk.replay.facts import Facts
from shstk.replay.symbols import Symbols
from shstk.replay.uncollected import uncollected
from shstk.schemas.errors import UsageError
from shstk.schemas.syscalls import SYSCALLS

if TYPE_CHECKING:
    from shstk.replay.run import Run

PLACES: Final = 20  # places kept for each kind of difference
_SHOWN: Final = 4  # events kept of a stretch that only one run has
_LAST: Final = 2**64
_KIND_EVENTS: Final = 32
TABLES: Final = tuple(dict.fromkeys(name.split(".")[0] for name in FIELDS))
WHOLE: Final = "the whole run"  # used when the order of all tasks' events is compared
_PROGRAM: Final = "the program"


@dataclass(frozen=True)
class Event:
    """An event and its seq in each run; None in a run without it."""

    a: int | None
    b: int | None
    what: What

    @property
    def seq(self) -> int:
        """The seq of an event that only one run has."""
        seq = self.b if self.a is None else self.a
        assert seq is not None
        return seq


@dataclass(frozen=True)
class Difference:
    """One difference, or several of one kind.

    a, b: if an event changed, that event in each run; otherwise the first few of the `a_count` or
    `b_count` events that only one run has. fields: (name, in A, in B) of each changed field, empty
    text for none. before, after: equal events around it. places: (task, seq in A, seq in B) of the
    first differences of this kind, out of `count`, starting with this one.
    """

    task: str
    a: tuple[Event, ...]
    b: tuple[Event, ...]
    a_count: int
    b_count: int
    fields: tuple[tuple[str, str, str], ...]
    before: tuple[Event, ...]
    after: tuple[Event, ...]
    places: tuple[tuple[str, int | None, int | None], ...]
    count: int = 1

    @property
    def changed(self) -> bool:
        return bool(self.a and self.b)


@dataclass(frozen=True)
class Pair:
    """A task in both runs: tids and event counts. A tid is None if that run lacks the task."""

    path: str
    a_tid: int | None
    b_tid: int | None
    a_events: int
    b_events: int
    differences: int


@dataclass(frozen=True)
class Options:
    """tasks: compare only these paths. ignored: words of --ignore. context: equal events kept
    around each difference. order: compare the order of all tasks' events too. exact: compare
    values that depend on that order too."""

    tasks: tuple[str, ...] = ()
    ignored: frozenset[str] = frozenset()
    context: int = 2
    order: bool = False
    exact: bool = False


@dataclass(frozen=True)
class Diff:
    """The result. programs: same, builds (two builds of one) or different. left_out: what was
    not compared, because a recorder could not observe it."""

    a: Side
    b: Side
    programs: str
    left_out: tuple[str, ...]
    pairs: list[Pair]
    differences: list[Difference]

    @property
    def same(self) -> bool:
        return not self.differences


class Side:
    """One of the two runs, with the data derived from it."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.facts = Facts(run, run.row, "intent")
        self.cast = Cast(self.facts.history)
        self.streams: dict[Task, dict[str, Stream]] = {}  # by the signal being handled, "" for none
        self.cut: frozenset[Task] = frozenset()

    @property
    def cut_short(self) -> bool:
        """Whether the recording ended before the program did."""
        manifest = self.run.manifest
        return not manifest.complete and manifest.ending != "deadlock"

    def program(self) -> tuple[str, str | None]:
        """The program's path and sha256."""
        inputs = self.run.table("inputs").select("guest_path", "sha256").rows()
        return self.run.manifest.program, dict(inputs).get(self.run.manifest.program)

    def tell(self, common: Common, seen: Observed, whats: Whats, options: Options) -> None:
        names = Names(self.facts, self.cast, Symbols(self.run), common, options.exact)
        ignored = options.ignored | seen.unseen
        teller = Teller(self.facts, self.cast, names, ignored, seen.strings, options.exact)
        self.cut = teller.cut
        handlers = Handlers(self.facts, self.cast, "signals.sender" not in ignored)
        told: dict[Task, dict[str, list[tuple[int, int]]]] = {}
        for task, seq, what in teller.steps():
            if options.order:
                what = what._replace(task=self.cast.path(task))
            handling = "" if options.exact else handlers.at(task, seq)
            lanes = told.setdefault(task, {})
            lanes.setdefault(handling, []).append((seq, whats.number(what)))
        self.streams = {
            task: {handling: Stream(events) for handling, events in lanes.items()}
            for task, lanes in told.items()
        }

    def lanes(self, task: Task | None) -> dict[str, Stream]:
        """A task's events: outside handlers, and in the handler of each external signal."""
        return self.streams.get(task, {}) if task else {}


class Stream:
    """A task's events in order: their positions and numbers."""

    def __init__(self, events: Iterable[tuple[int, int]] = ()) -> None:
        ordered = sorted(events)
        self.seqs = array("Q", (seq for seq, _ in ordered))
        self.whats = array("L", (what for _, what in ordered))

    def __len__(self) -> int:
        return len(self.seqs)

    def rows(self) -> Iterator[tuple[int, int]]:
        return zip(self.seqs, self.whats, strict=True)


@uncollected()
def diff(a: Run, b: Run, options: Options) -> Diff:
    """Raises UsageError for a task that neither run has, or an unknown word to ignore."""
    _check_ignored(options.ignored)
    left, right = Side(a), Side(b)
    matched = match(left.cast, right.cast)
    provenances = left.run.manifest.provenance, right.run.manifest.provenance
    seen = observed(provenances)
    options = replace(options, ignored=options.ignored | rightly(*provenances))
    common, programs = _common(left, right, seen)
    whats = Whats()
    for side in (left, right):
        side.tell(common, seen, whats, options)
    compared = _Comparison(left, right, whats, options)
    if options.order:
        compared.whole()
    else:
        for x, y in _chosen(matched, left, right, options.tasks):
            compared.task(x, y)
    return Diff(left, right, programs, seen.left_out, compared.pairs, compared.sorted())


class _Comparison:
    def __init__(self, a: Side, b: Side, whats: Whats, options: Options) -> None:
        self._a = a
        self._b = b
        self._whats = whats
        self._around = options.context
        self.pairs: list[Pair] = []
        self._found: dict[object, tuple[int, int, Difference]] = {}  # kind → (place in A, turn, …)

    def sorted(self) -> list[Difference]:
        return [found for *_, found in sorted(self._found.values(), key=lambda f: f[:2])]

    def whole(self) -> None:
        streams = [
            Stream(
                row
                for lanes in side.streams.values()
                for lane in lanes.values()
                for row in lane.rows()
            )
            for side in (self._a, self._b)
        ]
        found = self._streams(WHOLE, streams[0], streams[1], False, False)
        counts = [len(stream) for stream in streams]
        self.pairs.append(Pair(WHOLE, None, None, counts[0], counts[1], found))

    def task(self, a: Task | None, b: Task | None) -> None:
        path = self._a.cast.path(a) if a else self._b.cast.path(b) if b else ""
        left, right = self._a.lanes(a), self._b.lanes(b)
        found = 0
        for handling in dict.fromkeys([*left, *right]):
            x, y = left.get(handling, Stream()), right.get(handling, Stream())
            if a and b:
                found += self._streams(path, x, y, a in self._a.cut, b in self._b.cut)
            elif not (self._b if a else self._a).cut_short:
                found += self._add(path, x, y, Gap(0, len(x), 0, len(y)), a.born if a else _LAST)
        a_tid, b_tid = (task.tid if task else None for task in (a, b))
        counts = [sum(map(len, lanes.values())) for lanes in (left, right)]
        self.pairs.append(Pair(path, a_tid, b_tid, counts[0], counts[1], found))

    def _streams(self, path: str, a: Stream, b: Stream, a_cut: bool, b_cut: bool) -> int:
        """Add the differences of two streams; return how many."""
        ends = [len(stream) - self._exits(stream) for stream in (a, b)]
        runs = align(a.whats[: ends[0]], b.whats[: ends[1]])
        found = 0
        for gap in gaps(runs, *ends):
            if (a_cut and gap.i == ends[0]) or (b_cut and gap.j == ends[1]):
                continue  # how far the task got before it was ended depends on scheduling
            for part in self._parts(a, b, gap):
                found += self._add(path, a, b, part)
        last = Gap(ends[0], len(a), ends[1], len(b))
        reached = (last.i < last.i_end or not self._a.cut_short) and (
            last.j < last.j_end or not self._b.cut_short
        )
        if reached and a.whats[ends[0] :] != b.whats[ends[1] :]:
            found += self._add(path, a, b, last)
        return found

    def _exits(self, stream: Stream) -> int:
        """1 if the last event is the task's exit, which is compared only with the other's exit."""
        last = self._whats.all[stream.whats[-1]] if len(stream) else None
        return int(last is not None and last.name == EXIT)

    def _parts(self, a: Stream, b: Stream, gap: Gap) -> Iterator[Gap]:
        """Split a gap: each changed event is a part, and so is each stretch in only one run."""
        keys = [
            [self._whats.key(what) for what in whats]
            for whats in (a.whats[gap.i : gap.i_end], b.whats[gap.j : gap.j_end])
        ]
        i, j = gap.i, gap.j
        for run in [*align(*keys), None]:
            i_end, j_end = (gap.i + run.i, gap.j + run.j) if run else (gap.i_end, gap.j_end)
            if i < i_end:
                yield Gap(i, i_end, j, j)
            if j < j_end:
                yield Gap(i_end, i_end, j, j_end)
            for at in range(run.n if run else 0):
                x, y = i_end + at, j_end + at
                if a.whats[x] != b.whats[y]:
                    yield Gap(x, x + 1, y, y + 1)
            if run:
                i, j = i_end + run.n, j_end + run.n

    def _add(self, path: str, a: Stream, b: Stream, gap: Gap, place: int | None = None) -> int:
        """Add a difference, to its kind if that is known. place: position in A's order."""
        i, i_end, j, j_end = gap
        whats = self._whats.all
        fields = _changed(whats[a.whats[i]], whats[b.whats[j]]) if i < i_end and j < j_end else ()
        kind = (fields, self._kind(a.whats[i:i_end]), self._kind(b.whats[j:j_end]))
        here = (path, a.seqs[i] if i < i_end else None, b.seqs[j] if j < j_end else None)
        if place is None:
            place = a.seqs[i] if i < len(a) else a.seqs[-1] + 1 if len(a) else 0
        known = self._found.get(kind)
        if known and known[0] <= place:
            at, turn, first = known
            places = first.places + ((here,) if len(first.places) < PLACES else ())
            self._found[kind] = at, turn, replace(first, places=places, count=first.count + 1)
            return 1
        others = known[2] if known else None
        made = Difference(
            task=path,
            a=tuple(Event(a.seqs[x], None, whats[a.whats[x]]) for x in _few(i, i_end)),
            b=tuple(Event(None, b.seqs[y], whats[b.whats[y]]) for y in _few(j, j_end)),
            a_count=i_end - i,
            b_count=j_end - j,
            fields=fields,
            before=self._equal(a, b, i, j, -1),
            after=self._equal(a, b, i_end, j_end, 1),
            places=(here, *(others.places if others else ()))[:PLACES],
            count=others.count + 1 if others else 1,
        )
        self._found[kind] = place, len(self._found), made
        return 1

    def _kind(self, whats: Sequence[int]) -> tuple[int, ...]:
        """The distinct kinds of several events of one run."""
        return tuple(dict.fromkeys(self._whats.key(what) for what in whats[:_KIND_EVENTS]))

    def _equal(self, a: Stream, b: Stream, x: int, y: int, step: int) -> tuple[Event, ...]:
        """The equal events that end before (step -1) or start at (1) these places, in order."""
        if step < 0:
            x, y = x - 1, y - 1
        kept: list[Event] = []
        while len(kept) < self._around and 0 <= x < len(a) and 0 <= y < len(b):
            if a.whats[x] != b.whats[y]:
                break
            kept.append(Event(a.seqs[x], b.seqs[y], self._whats.all[a.whats[x]]))
            x, y = x + step, y + step
        return tuple(kept[::step])


def _few(start: int, end: int) -> range:
    return range(start, min(end, start + _SHOWN))


def _changed(a: What, b: What) -> tuple[tuple[str, str, str], ...]:
    left, right = dict(a.fields), dict(b.fields)
    names = [name for name in FIELDS if name in left or name in right]
    pairs = [(name, left.get(name, ""), right.get(name, "")) for name in names]
    return tuple(pair for pair in pairs if pair[1] != pair[2])


def _common(a: Side, b: Side, seen: Observed) -> tuple[Common, str]:
    hashes = [
        {sha256 for (sha256,) in side.run.table("inputs").select("sha256").iter_rows()}
        for side in (a, b)
    ]
    (a_path, a_hash), (b_path, b_hash) = a.program(), b.program()
    paths = [a_path, b_path]
    if a.run.manifest.provenance.real or b.run.manifest.provenance.real:  # it lies elsewhere there
        paths = [path.rpartition("/")[2] for path in paths]
    name = a_path.rpartition("/")[2] if paths[0] == paths[1] else _PROGRAM
    programs = "same" if paths[0] == paths[1] else "different"
    if paths[0] == paths[1] and None not in (a_hash, b_hash) and a_hash != b_hash:
        programs = "builds"
    return Common(frozenset(hashes[0] & hashes[1]), name, seen.places), programs


def _check_ignored(ignored: frozenset[str]) -> None:
    known = {*TABLES, *FIELDS, *SYSCALLS}
    for word in sorted(ignored - known):
        raise UsageError(
            f"--ignore {word}: no table, column or call has that name",
            f"tables: {' '.join(TABLES)}; columns: {' '.join(FIELDS)}; or a call's name",
        )


def _chosen(
    matched: list[tuple[Task | None, Task | None]], a: Side, b: Side, wanted: tuple[str, ...]
) -> list[tuple[Task | None, Task | None]]:
    """The pairs in which a task has a wanted path or tid."""
    if not wanted:
        return matched
    chosen = []
    left = set(wanted)
    for x, y in matched:
        names = {a.cast.path(x), str(x.tid)} if x else set()
        names |= {b.cast.path(y), str(y.tid)} if y else set()
        if not names.isdisjoint(wanted):
            chosen.append((x, y))
            left -= names
    if left:
        paths = [a.cast.path(x) for x, _ in matched if x]
        raise UsageError(f"--task {min(left)}: neither run has it", f"tasks: {' '.join(paths)}")
    return chosen
