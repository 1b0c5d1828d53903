"""Gather spans and log records by trace, and release a trace when it is complete.

In: records in any order, with duplicates, each with its position in the ingest log. Out: `OpenTrace`s. OTLP has no end
of a trace; one is taken for complete when its root span or an end marker has come and a quiet time has passed, when
nothing came for the idle time, or when a limit is reached. Times are of arrival, never of the span's clock.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from otel_receiver.config import BufferConfig
from otel_receiver.spans import LogRecord, Span, Value
from spanloop.records import EndReason

NUMBER_BYTES = 8
"""Estimated size of a value that is neither text nor bytes."""
RECORD_BYTES = 200
"""Estimated size of a record's fixed fields."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenTrace:
    """The records of one trace, as far as they came."""

    trace_id: str
    spans: tuple[Span, ...]
    logs: tuple[LogRecord, ...]
    log_positions: tuple[int, ...]
    """Of the log entry each of `logs` came in first."""
    end_reason: EndReason
    positions: tuple[int, ...]
    """Of the log entries the records came in, ascending."""


@dataclass(slots=True, kw_only=True)
class _Gathering:
    """A trace that still waits."""

    first_at: float
    last_at: float
    spans: dict[str, Span] = field(default_factory=dict)
    logs: dict[bytes, LogRecord] = field(default_factory=dict)
    log_positions: list[int] = field(default_factory=list)
    positions: set[int] = field(default_factory=set)
    first_position: int
    size: int = 0
    root_came: bool = False
    marker_came: bool = False


class TraceBuffer:
    """Open traces, in the order of their first record; not for several threads at once.

    Traces over a limit leave with the next call of `due`, so it must be called between batches of records.
    """

    def __init__(self, config: BufferConfig, ends_trace: Callable[[Span], bool] = lambda _: False) -> None:
        self._config = config
        self._ends_trace = ends_trace
        self._traces: dict[str, _Gathering] = {}
        self._leaving: dict[str, _Gathering] = {}
        """Traces over a limit, to be released."""
        self._ended: dict[str, None] = {}
        """The last traces that left with their root or marker: what comes late need not wait for one again."""
        self._size = 0
        self.num_duplicates = 0
        """Records that had come before; the first received was kept."""
        self.num_limited = 0
        """Traces that a limit closed."""

    def __len__(self) -> int:
        return len(self._traces) + len(self._leaving)

    @property
    def num_bytes(self) -> int:
        """Estimated size of what waits."""
        return self._size + sum(trace.size for trace in self._leaving.values())

    @property
    def oldest_position(self) -> int | None:
        """Position of the first log entry that a waiting record came in; `None` when nothing waits."""
        waiting = (*self._traces.values(), *self._leaving.values())
        return min((trace.first_position for trace in waiting), default=None)

    def add_span(self, span: Span, position: int, now: float) -> bool:
        """Take a span; whether it is new. `now` is monotonic, in seconds."""
        trace = self._gathering(span.trace_id, position, now)
        if span.span_id in trace.spans:
            self.num_duplicates += 1
            return False
        trace.spans[span.span_id] = span
        trace.root_came = trace.root_came or span.parent_span_id is None
        trace.marker_came = trace.marker_came or self._ends_trace(span)
        self._grow(span.trace_id, trace, span_bytes(span))
        return True

    def add_log(self, record: LogRecord, position: int, now: float, home: str = "") -> bool:
        """Take a log record that carries a trace id, or has a home of its own; whether it is new.

        A home holds log records alone, so nothing but the quiet time is waited for there.
        """
        trace_id = record.trace_id or home
        assert trace_id, "a log record without a trace id or a home is feedback of its own, nothing to wait for"
        trace = self._gathering(trace_id, position, now)
        trace.root_came = trace.root_came or not record.trace_id
        key = log_key(record)
        if key in trace.logs:
            self.num_duplicates += 1
            return False
        trace.logs[key] = record
        trace.log_positions.append(position)
        self._grow(trace_id, trace, log_bytes(record))
        return True

    def due(self, now: float) -> tuple[OpenTrace, ...]:
        """The traces that are complete, or must be taken for it; they leave the buffer."""
        ended = {
            trace_id: reason
            for trace_id, trace in self._traces.items()
            if (reason := self._end_reason(trace, now)) is not None
        }
        released = [self._release(trace_id, self._traces, reason) for trace_id, reason in ended.items()]
        return (*self._release_leaving(), *released)

    def drain(self, reason: EndReason) -> tuple[OpenTrace, ...]:
        """All traces, complete or not; those over a limit say so."""
        leaving = self._release_leaving()
        return (*leaving, *(self._release(trace_id, self._traces, reason) for trace_id in tuple(self._traces)))

    def _gathering(self, trace_id: str, position: int, now: float) -> _Gathering:
        trace = self._traces.get(trace_id) or self._leaving.get(trace_id)
        if trace is None:
            has_ended = trace_id in self._ended
            trace = _Gathering(first_at=now, last_at=now, first_position=position, root_came=has_ended)
            self._traces[trace_id] = trace
        trace.last_at = now
        trace.positions.add(position)
        trace.first_position = min(trace.first_position, position)
        return trace

    def _grow(self, trace_id: str, trace: _Gathering, size: int) -> None:
        trace.size += size
        if trace_id in self._leaving:
            return
        self._size += size
        if len(trace.spans) + len(trace.logs) >= self._config.records_per_trace_max:
            self._let_go(trace_id)
        while len(self._traces) > self._config.traces_max or self._size > self._config.bytes_max:
            self._let_go(next(iter(self._traces)))

    def _let_go(self, trace_id: str) -> None:
        trace = self._traces.pop(trace_id)
        self._size -= trace.size
        self._leaving[trace_id] = trace

    def _end_reason(self, trace: _Gathering, now: float) -> EndReason | None:
        silence = now - trace.last_at
        if now - trace.first_at >= self._config.age_max_s:
            return EndReason.LIMIT
        if silence >= self._config.quiet_s and trace.root_came:
            return EndReason.ROOT_ENDED
        if silence >= self._config.quiet_s and trace.marker_came:
            return EndReason.END_MARKER
        return EndReason.IDLE_TIMEOUT if silence >= self._config.idle_s else None

    def _release_leaving(self) -> list[OpenTrace]:
        return [self._release(trace_id, self._leaving, EndReason.LIMIT) for trace_id in tuple(self._leaving)]

    def _release(self, trace_id: str, home: dict[str, _Gathering], reason: EndReason) -> OpenTrace:
        trace = home.pop(trace_id)
        if home is self._traces:
            self._size -= trace.size
        self.num_limited += reason is EndReason.LIMIT
        if trace.root_came or trace.marker_came:
            self._remember(trace_id)
        return OpenTrace(
            trace_id=trace_id,
            spans=tuple(trace.spans.values()),
            logs=tuple(trace.logs.values()),
            log_positions=tuple(trace.log_positions),
            end_reason=reason,
            positions=tuple(sorted(trace.positions)),
        )

    def _remember(self, trace_id: str) -> None:
        """Note that a trace has ended, and forget the one that ended first when there are too many."""
        self._ended.pop(trace_id, None)
        self._ended[trace_id] = None
        if len(self._ended) > self._config.traces_max:
            del self._ended[next(iter(self._ended))]


def span_bytes(span: Span) -> int:
    """Estimated size of a span in memory: its text and bytes. The resource is shared and not counted."""
    events = sum(len(event.name) + _mapping_bytes(event.attributes) for event in span.events)
    links = sum(_mapping_bytes(link.attributes) for link in span.links)
    return RECORD_BYTES + len(span.name) + len(span.status_message) + _mapping_bytes(span.attributes) + events + links


def log_bytes(record: LogRecord) -> int:
    """Estimated size of a log record in memory."""
    return RECORD_BYTES + _value_bytes(record.body) + _mapping_bytes(record.attributes)


def _mapping_bytes(attributes: Mapping[str, Value]) -> int:
    return sum(len(key) + _value_bytes(value) for key, value in attributes.items())


def _value_bytes(value: Value) -> int:
    """Size of a value; the receiver's limit on nesting bounds the recursion."""
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, tuple):
        return sum(_value_bytes(item) for item in value)
    if isinstance(value, Mapping):
        return _mapping_bytes(value)
    return NUMBER_BYTES


def log_key(record: LogRecord) -> bytes:
    """Log records have no id: one that is equal in all it says was sent twice.

    The time of observation belongs to what it says: many senders leave the other one out.
    """
    times = (record.time_unix_nano, record.observed_time_unix_nano)
    said = (record.span_id, *times, record.event_name, record.body, record.attributes)
    return hashlib.blake2b(repr(said).encode("utf-8", "surrogatepass"), digest_size=16).digest()
