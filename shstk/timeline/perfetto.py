"""A timeline as a Perfetto trace: packets of track descriptors and track events.

Time: an instruction takes a microsecond and each step of the kernel after it a nanosecond, so that
what happens at one icount has an order and a width. 1364.1 is at 1.364001 ms.

https://perfetto.dev/docs/reference/synthetic-track-event describes the packets.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import IO, TYPE_CHECKING, Any, Final

from shstk.schemas.errors import UsageError
from shstk.schemas.seq import STEPS
from shstk.timeline.model import Details, Instant, Slice, Timeline, Track

if TYPE_CHECKING:
    from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import TracePacket, TrackEvent

_SEQUENCE: Final = 1  # all packets come from one writer
_STEPS_SHOWN: Final = 999


def nanoseconds(seq: int) -> int:
    """Where a seq is on Perfetto's axis."""
    icount, n = divmod(seq, STEPS)
    return icount * 1000 + min(n, _STEPS_SHOWN)


def write(timeline: Timeline, out: IO[bytes]) -> int:
    """Writes the trace; returns the number of packets. Raises UsageError without the package
    perfetto."""
    try:
        from perfetto.trace_builder.proto_builder import StreamingTraceProtoBuilder
    except ImportError:
        raise UsageError(
            "the timeline needs the package perfetto", "pip install 'shstk[timeline]'"
        ) from None
    return _Writer(timeline, StreamingTraceProtoBuilder(out)).write()


def nested(slices: Iterable[Slice], last: int) -> Iterator[tuple[int, Slice | None]]:
    """The slices of one track as begins (seq, slice) and ends (seq, None), each inside the one that
    was begun before it. `last` is where those end that have no end."""
    open_: list[tuple[int, Slice]] = []
    by_begin = sorted(slices, key=lambda s: (s.begin, -(last if s.end is None else s.end)))
    for it in by_begin:
        end = last if it.end is None else it.end
        while open_ and open_[-1][0] <= it.begin:
            yield open_.pop()[0], None
        while open_ and open_[-1][1].yields and open_[-1][0] < end:
            open_.pop()
            yield it.begin, None
        if open_:
            end = min(end, open_[-1][0])
        yield it.begin, it
        open_.append((end, it))
    while open_:
        yield open_.pop()[0], None


class _Writer:
    def __init__(self, timeline: Timeline, builder: Any) -> None:
        from perfetto.protos.perfetto.trace import perfetto_trace_pb2

        self._timeline = timeline
        self._builder = builder
        self._types = perfetto_trace_pb2.TrackEvent
        self._packets = 0

    def write(self) -> int:
        for track in self._timeline.tracks:
            self._descriptor(track)
        for track_id, begun in _by_track(self._timeline.slices):
            for seq, it in nested(begun, self._timeline.last):
                self._slice(track_id, seq, it)
        for instant in self._timeline.instants:
            self._instant(instant)
        for point in self._timeline.points:
            event = self._event(point.track, point.at, self._types.TYPE_COUNTER)
            event.track_event.counter_value = point.value
            self._done(event)
        return self._packets

    def _packet(self) -> TracePacket:
        packet: TracePacket = self._builder.create_packet()
        packet.trusted_packet_sequence_id = _SEQUENCE
        if not self._packets:
            packet.sequence_flags = 1  # SEQ_INCREMENTAL_STATE_CLEARED
        return packet

    def _done(self, packet: TracePacket) -> None:
        self._builder.write_packet(packet)
        self._packets += 1

    def _descriptor(self, track: Track) -> None:
        packet = self._packet()
        told = packet.track_descriptor
        told.uuid = track.id
        if track.parent is not None:
            told.parent_uuid = track.parent
        if track.tid is not None and track.pid is not None:
            told.thread.pid, told.thread.tid = track.pid, track.tid
            told.thread.thread_name = track.name
        elif track.pid is not None:
            told.process.pid = track.pid
            told.process.process_name = track.name
        else:
            told.name = track.name
        if track.unit is not None:
            told.counter.unit_name = track.unit
        self._done(packet)

    def _event(self, track: int, seq: int, type: Any) -> TracePacket:
        first, last = self._timeline.first, self._timeline.last
        packet = self._packet()
        packet.timestamp = nanoseconds(min(max(seq, first), last))
        packet.track_event.type = type
        packet.track_event.track_uuid = track
        return packet

    def _slice(self, track: int, seq: int, it: Slice | None) -> None:
        kind = self._types.TYPE_SLICE_END if it is None else self._types.TYPE_SLICE_BEGIN
        packet = self._event(track, seq, kind)
        if it is not None:
            _tell(packet.track_event, it)
        self._done(packet)

    def _instant(self, instant: Instant) -> None:
        packet = self._event(instant.track, instant.at, self._types.TYPE_INSTANT)
        _tell(packet.track_event, instant)
        self._done(packet)


def _tell(event: TrackEvent, it: Slice | Instant) -> None:
    event.name = it.name
    event.categories.append(it.category)
    event.flow_ids.extend(it.flows)
    _annotate(event, it.details)


def _annotate(event: TrackEvent, details: Details) -> None:
    for name, value in details.items():
        note = event.debug_annotations.add()
        note.name, note.string_value = name, value


def _by_track(slices: Iterable[Slice]) -> list[tuple[int, list[Slice]]]:
    found: dict[int, list[Slice]] = {}
    for it in slices:
        found.setdefault(it.track, []).append(it)
    return sorted(found.items())
