"""From complete traces to what one transaction writes: read, join with linked traces, assemble.

An episode is a function of all records of its traces. So the earlier records of a trace that is back, and those of the
traces its calls continue, are read from the ingest log again and derived together; the store only says where they are.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple, Protocol

from otel_receiver.batch import LogSource, Problem, SpanKind, SpanRow
from otel_receiver.components import components
from otel_receiver.config import LimitsConfig, PipelineConfig
from otel_receiver.crash_guard import CrashGuard, Poisonous
from otel_receiver.dialects.base import Blob, Reading
from otel_receiver.dialects.loose_records import answer_of, home_of, is_home
from otel_receiver.dialects.references import reference_root
from otel_receiver.dialects.registry import read_logs_alone, read_spans
from otel_receiver.episodes.assemble import assemble, trace_links
from otel_receiver.episodes.trace_buffer import log_key
from otel_receiver.episodes.trace_links import CallLink, record_link
from otel_receiver.errors import LogEntryMissing
from otel_receiver.ingest_log import IngestLog, LogEntry, Signal
from otel_receiver.otlp import parse_logs, parse_traces
from otel_receiver.spans import LogRecord, Span
from spanloop.records import EndReason, Episode, Feedback

logger = logging.getLogger(__name__)


LOST = (
    "came when earlier records of its trace were gone from the ingest log (log.retain_hours, log.retain_bytes_max) or "
    "over pipeline.reread_bytes_max; its episodes stay as they were"
)


class Source(NamedTuple):
    """The log entry a record came in."""

    position: int
    received_at: int


class Index(Protocol):
    """What the store knows about traces that were derived before."""

    def positions_of(self, trace_ids: Collection[str]) -> Mapping[str, Collection[int]]:
        """The log entries that hold stored records of each trace; a trace that has none is left out."""

    def linked_traces(self, links: Collection[CallLink]) -> Collection[str]:
        """Other traces whose calls continue, or are continued by, these."""

    def episodes_of(self, trace_ids: Collection[str]) -> Collection[frozenset[str]]:
        """Stored episodes that touch these traces, each as the traces of all its steps."""


@dataclass(slots=True, kw_only=True)
class Gathered:
    """All records of one trace that can be had, the first received of each."""

    spans: dict[str, Span] = field(default_factory=dict)
    span_sources: dict[str, Source] = field(default_factory=dict)
    logs: dict[bytes, LogRecord] = field(default_factory=dict)
    log_sources: dict[bytes, int] = field(default_factory=dict)
    """The log entry each record came in first."""
    new_spans: set[str] = field(default_factory=set)
    """Those that were not in the store."""
    end_reason: EndReason | None = None
    """Why it is due; `None` for a trace that is only joined to one."""

    @property
    def positions(self) -> tuple[int, ...]:
        """The log entries its records came in, ascending."""
        spans = (source.position for source in self.span_sources.values())
        return tuple(sorted({*spans, *self.log_sources.values()}))

    @property
    def ordered_logs(self) -> tuple[LogRecord, ...]:
        """The log records in the order they were received: by entry, and within one as they stand there."""
        return tuple(self.logs[key] for key in sorted(self.logs, key=self.log_sources.__getitem__))

    def add_span(self, span: Span, source: Source) -> bool:
        """Keep a span unless one with its id was received before; whether it is kept."""
        known = self.span_sources.get(span.span_id)
        if known is not None and known.position <= source.position:
            return False
        self.spans[span.span_id], self.span_sources[span.span_id] = span, source
        return known is None

    def add_log(self, record: LogRecord, position: int) -> None:
        """Keep a log record unless an equal one was received before; the order of one entry's records is kept."""
        key = log_key(record)
        if self.log_sources.get(key, position + 1) <= position:
            return
        self.logs.pop(key, None)
        self.logs[key], self.log_sources[key] = record, position


@dataclass(frozen=True, slots=True, kw_only=True)
class Derived:
    """What complete traces amount to."""

    trace_ids: frozenset[str] = frozenset()
    episodes: tuple[Episode, ...] = ()
    feedback: tuple[Feedback, ...] = ()
    links: tuple[CallLink, ...] = ()
    spans: tuple[SpanRow, ...] = ()
    log_sources: tuple[LogSource, ...] = ()
    blobs: tuple[Blob, ...] = ()
    problems: tuple[Problem, ...] = ()
    poisonous: tuple[int, ...] = ()
    """Log entries of traces that crash the derivation."""


class Deriver:
    """Derives traces; for one thread."""

    def __init__(
        self, log: IngestLog, index: Index, config: PipelineConfig, limits: LimitsConfig, guard: CrashGuard
    ) -> None:
        self._log = log
        self._index = index
        self._config = config
        self._limits = limits
        self._guard = guard
        self._root = reference_root(config.reference_root, config.reference_bytes_max)

    def derive(self, due: Mapping[str, Gathered]) -> Derived:
        """The episodes of the due traces and of those they are joined to; raises StoreBusy."""
        lost = self._load(due)
        # Deriving from a part would replace whole episodes by worse ones.
        traces = {trace_id: trace for trace_id, trace in due.items() if trace_id not in lost}
        readings = {trace_id: self._readings(trace_id, trace) for trace_id, trace in due.items()}
        rows = _rows(due, readings)
        alone = {trace_id: self._component([trace_id], traces, readings) for trace_id in traces}
        links = {trace_id: part.links for trace_id, part in alone.items()}
        self._join(traces, readings, links)
        # Most traces stand alone; those are done.
        parts = [
            alone[group[0]] if len(group) == 1 and group[0] in alone else self._component(group, traces, readings)
            for group in components(links)
        ]
        problems = tuple(
            Problem(trace_id=trace_id, reason=LOST, num_records=len(due[trace_id].new_spans))
            for trace_id in sorted(lost)
        )
        # A joint derivation drops what it resolves, a retried attempt for one; found again by any of its traces, a
        # component must be the same, so what each trace says by itself is stored as well.
        derived = sorted(trace_id for part in parts for trace_id in part.trace_ids)
        own_links = [link for trace_id in derived for link in links[trace_id]]
        return _together(parts, rows, problems, own_links)

    def _join(
        self,
        traces: dict[str, Gathered],
        readings: dict[str, tuple[Reading, ...]],
        links: dict[str, tuple[CallLink, ...]],
    ) -> None:
        """Add the traces that the store says are linked, and those linked to them."""
        new = list(chain.from_iterable(links.values()))
        stored = {trace_id for trace_id, trace in traces.items() if len(trace.new_spans) < len(trace.spans)}
        seen = set(traces)
        while new:
            others = sorted(set(self._index.linked_traces(new)) - seen)
            room = self._config.component_traces_max
            if len(others) > room:
                logger.warning("traces left apart found=%d limit=pipeline.component_traces_max=%d", len(others), room)
            joined = self._loaded(set(others[:room]), stored, traces.keys())
            stored = set()
            seen.update(others, joined)
            new = []
            for trace_id in joined:
                traces[trace_id] = joined[trace_id]
                readings[trace_id] = self._readings(trace_id, joined[trace_id])
                links[trace_id] = (*trace_links(readings[trace_id]), *_record_links(trace_id, joined[trace_id]))
                new.extend(links[trace_id])

    def _loaded(self, chosen: set[str], stored: set[str], held: Collection[str]) -> dict[str, Gathered]:
        """The chosen traces with those that share a stored episode with them, as far as the log still has them whole.

        `stored` are due traces that were derived before, `held` all that are read already.

        What is derived replaces the stored episodes of its traces, so an episode is read again with all its traces or
        stays as it is.
        """
        episodes = self._index.episodes_of(chosen | stored)
        wanted, new = set(chosen), frozenset().union(*episodes) - chosen - set(held)
        while new:
            wanted |= new
            more = self._index.episodes_of(new)
            episodes = (*episodes, *more)
            new = frozenset().union(*more) - wanted - set(held)
        joined = {trace_id: Gathered() for trace_id in sorted(wanted)}
        lost = self._load(joined)
        while broken := {trace_id for episode in episodes if episode & lost for trace_id in episode} - lost:
            lost |= broken
        return {trace_id: trace for trace_id, trace in joined.items() if trace_id not in lost}

    def _load(self, traces: Mapping[str, Gathered]) -> set[str]:
        """Add to each trace what the log still holds of it from before; the traces that cannot be had whole."""
        held_in: dict[int, list[str]] = defaultdict(list)
        for trace_id, positions in (self._index.positions_of(traces.keys()) if traces else {}).items():
            for position in positions:
                held_in[position].append(trace_id)
        budget = self._config.reread_bytes_max
        lost: set[str] = set()
        for position in sorted(held_in):
            entry = self._entry(position) if budget > 0 else None
            if entry is None:
                lost.update(held_in[position])
            else:
                budget -= len(entry.payload)
                # An entry may hold records of other due traces too: those came with the buffer and are not stored yet.
                self._add_entry(entry, {trace_id: traces[trace_id] for trace_id in held_in[position]})
        return lost

    def _entry(self, position: int) -> LogEntry | None:
        try:
            return self._log.entry(position)
        except LogEntryMissing:
            return None

    def _add_entry(self, entry: LogEntry, traces: Mapping[str, Gathered]) -> None:
        source = Source(entry.position, entry.received_at)
        if entry.signal is Signal.TRACES:
            for span in parse_traces(entry.payload, self._limits).records:
                if span.trace_id in traces:
                    trace = traces[span.trace_id]
                    trace.add_span(span, source)
                    trace.new_spans.discard(span.span_id)
        else:
            for record in parse_logs(entry.payload, self._limits).records:
                home = home_of(record)
                if home in traces:
                    traces[home].add_log(record, entry.position)

    def _readings(self, trace_id: str, trace: Gathered) -> tuple[Reading, ...]:
        """What the dialects make of a trace's spans, each with its own log records."""
        with self._guard.attempt(f"trace {trace_id}"):
            return read_spans(trace.spans.values(), trace.ordered_logs, self._root)

    def _together(
        self, trace_ids: Sequence[str], traces: Mapping[str, Gathered], readings: Mapping[str, tuple[Reading, ...]]
    ) -> tuple[Reading, ...]:
        """The readings of several traces; read again where there are log records that may belong to any of them."""
        if not any(is_home(trace_id) for trace_id in trace_ids):
            return tuple(reading for trace_id in trace_ids for reading in readings[trace_id])
        spans = (span for trace_id in trace_ids for span in traces[trace_id].spans.values())
        logs = (record for trace_id in trace_ids for record in traces[trace_id].ordered_logs)
        return read_spans(spans, logs, self._root)

    def _component(
        self, trace_ids: Sequence[str], traces: Mapping[str, Gathered], readings: Mapping[str, tuple[Reading, ...]]
    ) -> Derived:
        """The episodes of traces that belong together; of traces that crash the derivation, the problem."""
        error: Exception | None = None
        for _ in range(self._config.attempts_max):
            try:
                with self._guard.attempt(f"trace {min(trace_ids)}"):
                    together = self._together(trace_ids, traces, readings)
                    return _derived(trace_ids, traces, together)
            except Poisonous as poisonous:
                error = poisonous
                break
            # The boundary of the queue worker: one trace must not stop all others.
            except Exception as unexpected:  # noqa: BLE001
                error = unexpected
        logger.error("derivation crashed traces=%s error=%s", ",".join(trace_ids[:8]), type(error).__name__)
        reason = f"deriving its episodes crashed ({type(error).__name__}); see the dead-letter file"
        positions = {position for trace_id in trace_ids for position in traces[trace_id].positions}
        return Derived(
            problems=tuple(
                Problem(trace_id=trace_id, reason=reason, num_records=len(traces[trace_id].spans))
                for trace_id in trace_ids
            ),
            poisonous=tuple(sorted(positions)),
        )


def _derived(trace_ids: Sequence[str], traces: Mapping[str, Gathered], readings: Sequence[Reading]) -> Derived:
    """A component's episodes, with the feedback of log records whose span is not there."""
    derivation = assemble(readings, _end_reason(trace_ids, traces))
    orphans = [
        record
        for trace_id in trace_ids
        for record in traces[trace_id].logs.values()
        if record.span_id not in traces[trace_id].spans
    ]
    return Derived(
        trace_ids=frozenset(trace_ids),
        episodes=derivation.episodes,
        feedback=(*derivation.feedback, *read_logs_alone(orphans)),
        links=(
            *derivation.links,
            *(link for trace_id in trace_ids for link in _record_links(trace_id, traces[trace_id])),
        ),
        blobs=tuple(blob for reading in readings for blob in reading.blobs),
    )


def _record_links(trace_id: str, trace: Gathered) -> tuple[CallLink, ...]:
    """The loose end of records that name only their answer; a trace has none of this kind."""
    answer = answer_of(next(iter(trace.logs.values()))) if is_home(trace_id) and trace.logs else None
    return () if answer is None else (record_link(trace_id, answer.service_name, answer.response_id),)


_REASONS = (EndReason.LIMIT, EndReason.IDLE_TIMEOUT, EndReason.ROOT_ENDED, EndReason.END_MARKER, EndReason.IMPORTED)


def _end_reason(trace_ids: Iterable[str], traces: Mapping[str, Gathered]) -> EndReason:
    """Of the due traces of a component, the reason that says most against its being whole."""
    reasons = {traces[trace_id].end_reason for trace_id in trace_ids}
    if all(traces[trace_id].end_reason is not EndReason.LIMIT for trace_id in trace_ids if not is_home(trace_id)):
        reasons.discard(EndReason.LIMIT)  # a limit that closed a home cut no trace
    return next((reason for reason in _REASONS if reason in reasons), EndReason.IDLE_TIMEOUT)


class _Rows(NamedTuple):
    spans: tuple[SpanRow, ...]
    log_sources: tuple[LogSource, ...]
    blobs: tuple[Blob, ...]


def _rows(due: Mapping[str, Gathered], readings: Mapping[str, tuple[Reading, ...]]) -> _Rows:
    """The light rows of what is new in the due traces."""
    spans: list[SpanRow] = []
    blobs: dict[str, Blob] = {}
    for trace_id, trace in due.items():
        for reading in readings[trace_id]:
            blobs.update((blob.sha256, blob) for blob in reading.blobs)
            if reading.span.span_id in trace.new_spans:
                spans.append(_span_row(reading, trace))
    held = ((trace_id, position) for trace_id, trace in due.items() for position in trace.log_sources.values())
    sources = {LogSource(trace_id=trace_id, log_position=position) for trace_id, position in held}
    return _Rows(tuple(spans), tuple(sorted(sources)), tuple(blobs.values()))


def _span_row(reading: Reading, trace: Gathered) -> SpanRow:
    ref, source = reading.span, trace.span_sources[reading.span.span_id]
    return SpanRow(
        trace_id=ref.trace_id,
        span_id=ref.span_id,
        parent_span_id=ref.parent_span_id,
        name=ref.name,
        kind=_kind(reading),
        dialect=reading.context.dialect,
        service_name=reading.context.service_name,
        scope=reading.context.dialect_version,
        started_at=ref.started_at,
        ended_at=ref.ended_at,
        error=ref.error,
        received_at=source.received_at,
        log_position=source.position,
    )


def _kind(reading: Reading) -> SpanKind:
    if reading.model_calls:
        return SpanKind.MODEL_CALL
    if reading.tool_executions:
        return SpanKind.TOOL
    if reading.agent is not None:
        return SpanKind.AGENT
    return SpanKind.FEEDBACK if reading.feedback else SpanKind.OTHER


def _together(
    parts: Sequence[Derived], rows: _Rows, problems: tuple[Problem, ...], own_links: Iterable[CallLink]
) -> Derived:
    return Derived(
        trace_ids=frozenset().union(*(part.trace_ids for part in parts)),
        episodes=tuple(episode for part in parts for episode in part.episodes),
        feedback=tuple(item for part in parts for item in part.feedback),
        links=tuple(dict.fromkeys((*own_links, *(link for part in parts for link in part.links)))),
        spans=rows.spans,
        log_sources=rows.log_sources,
        blobs=tuple({blob.sha256: blob for blob in (*rows.blobs, *chain(*(part.blobs for part in parts)))}.values()),
        problems=problems + tuple(problem for part in parts for problem in part.problems),
        poisonous=tuple(position for part in parts for position in part.poisonous),
    )
