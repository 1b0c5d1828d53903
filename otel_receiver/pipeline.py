"""Joins the stages: log entries → records → trace buffer → derivation → store; the only place that knows their order.

The clock is that of the log: a trace is complete by the times at which its entries arrived, so an outage or a replay
gives the episodes that running through would have given. Only when everything in the log is read does real time count.
Exactly once: the position up to which the log is in the store is written in the transaction that writes the episodes.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from otel_receiver.batch import Problem, WriteBatch, WriteOutcome
from otel_receiver.config import ReceiverConfig
from otel_receiver.crash_guard import CrashGuard, Poisonous
from otel_receiver.dead_letters import DeadLetters
from otel_receiver.derivation import Derived, Deriver, Gathered, Source
from otel_receiver.dialects.loose_records import home_of
from otel_receiver.dialects.quotient import Quotient
from otel_receiver.dialects.registry import read_logs_alone
from otel_receiver.episodes.trace_buffer import OpenTrace, TraceBuffer
from otel_receiver.errors import LogEntryMissing, LogMismatch, ReceiverError, StoreWriteFailed
from otel_receiver.ingest_log import IngestLog, LogEntry, Signal
from otel_receiver.otlp import parse_logs, parse_traces
from otel_receiver.spans import Span
from otel_receiver.store import Store
from otel_receiver.telemetry import Telemetry
from spanloop.records import EndReason, Feedback

logger = logging.getLogger(__name__)

NANOSECONDS = 1e9
_MARKER = Quotient()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Due:
    """A trace that has left the buffer and is not yet written."""

    trace_id: str
    gathered: Gathered
    position: int
    """Of the first of its log entries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineState:
    """How far the pipeline is."""

    position: int
    """The next log entry to read."""
    committed: int
    """Everything below is in the store."""
    open_traces: int
    waiting_traces: int
    """Complete, but not yet written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineParts:
    """What a pipeline works with."""

    log: IngestLog
    store: Store
    config: ReceiverConfig
    telemetry: Telemetry
    dead_letters: DeadLetters
    guard: CrashGuard


def open_pipeline(parts: PipelineParts) -> Pipeline:
    """A pipeline that goes on where the store stands.

    Raises LogMismatch when the store was derived from another log, and what the store raises.
    """
    _guarded(parts.store, parts.store.prepare)
    progress = parts.store.progress()
    if progress.log_id not in (None, parts.log.identity):
        raise LogMismatch(
            f"store {parts.store.path}: was derived from another ingest log than the one given; "
            "give --log-dir the directory it was made from, or --store a new file"
        )
    return Pipeline(parts, progress.committed_position)


class Pipeline:
    """Reads a log from a position on, into a store; for one thread."""

    def __init__(self, parts: PipelineParts, position: int) -> None:
        self._log = parts.log
        self._store = parts.store
        self._config = parts.config
        self._telemetry = parts.telemetry
        self._dead_letters = parts.dead_letters
        self._guard = parts.guard
        self._deriver = Deriver(parts.log, parts.store, parts.config.pipeline, parts.config.limits, parts.guard)
        self._buffer = TraceBuffer(parts.config.buffer, _ends_trace)
        self._sources: dict[tuple[str, str], Source] = {}
        self._due: list[_Due] = []
        self._feedback: list[Feedback] = []
        self._problems: list[Problem] = []
        self._position = self._committed = position
        self._batch_traces = parts.config.pipeline.batch_traces_max
        self._now = 0.0

    @property
    def state(self) -> PipelineState:
        """How far the pipeline is; may be asked from any thread."""
        return PipelineState(
            position=self._position,
            committed=self._committed,
            open_traces=len(self._buffer),
            waiting_traces=len(self._due),
        )

    def feed(self, entry: LogEntry) -> None:
        """Take the records of one log entry; one that crashes goes to the dead-letter file and is passed over."""
        error: Exception | None = None
        for _ in range(self._config.pipeline.attempts_max):
            try:
                with self._guard.attempt(f"entry {entry.position}"):
                    self._take(entry)
                error = None
                break
            except Poisonous as poisonous:
                error = poisonous
                break
            # The boundary of the queue worker: one entry must not stop all others.
            except Exception as unexpected:  # noqa: BLE001
                error = unexpected
        if error is not None:
            self._bury(entry, f"reading the entry crashed ({type(error).__name__})")
        self._position = entry.next_position
        self._now = max(self._now, entry.received_at / NANOSECONDS)

    @property
    def is_full(self) -> bool:
        """Whether the buffer is over half of its limits, so that complete traces should leave it soon."""
        limits = self._config.buffer
        return 2 * self._buffer.num_bytes > limits.bytes_max or 2 * len(self._buffer) > limits.traces_max

    def release(self, now: float | None = None) -> None:
        """Let complete traces leave the buffer: by the time of the last entry, or by real time when all are read."""
        if now is not None:
            self._now = max(self._now, now)
        self._due.extend(self._leaving(trace) for trace in self._buffer.due(self._now))

    def drain(self, reason: EndReason) -> None:
        """Let all traces leave the buffer, complete or not."""
        self.release()
        self._due.extend(self._leaving(trace) for trace in self._buffer.drain(reason))

    def write(self, *, progress_only: bool = False, until: Callable[[], float] = lambda: math.inf) -> int:
        """Write what has left the buffer, and return the number of episode revisions; raises StoreBusy, and keeps it.

        With `progress_only` the position is written even if nothing else is. No batch is begun after the time `until`
        of the monotonic clock, which may change meanwhile.
        """
        written = 0
        while self._has_work(progress_only=progress_only) and time.monotonic() < until():
            written += self._write_batch()
        return written

    def _has_work(self, *, progress_only: bool) -> bool:
        has_rows = bool(self._due or self._feedback or self._problems)
        return has_rows or (progress_only and self._committed < self._safe(0))

    def _take(self, entry: LogEntry) -> None:
        now = entry.received_at / NANOSECONDS
        if entry.signal is Signal.TRACES:
            for span in parse_traces(entry.payload, self._config.limits).records:
                if self._buffer.add_span(span, entry.position, now):
                    self._sources[span.trace_id, span.span_id] = Source(entry.position, entry.received_at)
                else:
                    self._telemetry.duplicates.add(1)
            return
        alone = []
        for record in parse_logs(entry.payload, self._config.limits).records:
            home = home_of(record)
            if home:
                self._buffer.add_log(record, entry.position, now, home)
            else:
                alone.append(record)
        self._feedback.extend(read_logs_alone(alone))

    def _write_batch(self) -> int:
        chosen = self._chosen()
        num_received = sum(len(trace.gathered.new_spans) for trace in chosen)
        try:
            derived = self._deriver.derive({trace.trace_id: trace.gathered for trace in chosen})
            committed = self._safe(len(chosen))
            outcome = self._store.write(self._batch(derived, committed))
        except ReceiverError:
            raise
        # The boundary of the queue worker: one batch must not stop all others.
        except Exception as error:  # noqa: BLE001
            self._after_crash(chosen, error)
            return 0
        self._due = self._due[len(chosen) :]
        self._feedback, self._problems, self._committed = [], [], committed
        self._batch_traces = min(2 * self._batch_traces, self._config.pipeline.batch_traces_max)
        for position in derived.poisonous:
            self._bury_position(position)
        # The derivation found the others in the log, at the position where they were received first.
        self._telemetry.duplicates.add(num_received - len(derived.spans))
        self._count(outcome)
        return outcome.new_episodes + outcome.new_revisions

    def _chosen(self) -> list[_Due]:
        """The first complete traces; one that left the buffer twice waits for the next batch the second time."""
        chosen: dict[str, _Due] = {}
        for trace in self._due[: self._batch_traces]:
            if trace.trace_id in chosen:
                break
            chosen[trace.trace_id] = trace
        return list(chosen.values())

    def _after_crash(self, chosen: list[_Due], error: Exception) -> None:
        """Find the trace that cannot be written by halving the batch, and pass over it; raises StoreWriteFailed."""
        self._telemetry.crashes.add(1)
        logger.error("batch crashed traces=%d error=%s", len(chosen), type(error).__name__)
        self._try_store()
        self._batch_traces = max(1, len(chosen) // 2)
        if len(chosen) > 1:
            return
        reason = f"writing its episodes crashed ({type(error).__name__}); see the dead-letter file"
        self._feedback = []
        for trace in chosen:
            self._due.remove(trace)
            self._problems.append(
                Problem(trace_id=trace.trace_id, reason=reason, num_records=len(trace.gathered.spans))
            )
            for position in trace.gathered.positions:
                self._bury_position(position)

    def _try_store(self) -> None:
        """Raise StoreWriteFailed when not even an empty batch can be written: then no trace is to blame."""
        batch = WriteBatch(committed_position=self._committed, log_id=self._log.identity)
        _guarded(self._store, lambda: self._store.write(batch))

    def _leaving(self, trace: OpenTrace) -> _Due:
        """A trace out of the buffer, with the source of each record."""
        gathered = Gathered(end_reason=trace.end_reason)
        for span in trace.spans:
            gathered.add_span(span, self._sources.pop((trace.trace_id, span.span_id)))
            gathered.new_spans.add(span.span_id)
        for record, position in zip(trace.logs, trace.log_positions, strict=True):
            gathered.add_log(record, position)
        return _Due(trace_id=trace.trace_id, gathered=gathered, position=trace.positions[0])

    def _safe(self, num_written: int) -> int:
        """The position below which everything is in the store once so many of the complete traces are."""
        waiting = [trace.position for trace in self._due[num_written:]]
        oldest = self._buffer.oldest_position
        return min([self._position, *waiting, *([] if oldest is None else [oldest])])

    def _batch(self, derived: Derived, committed: int) -> WriteBatch:
        return WriteBatch(
            committed_position=committed,
            log_id=self._log.identity,
            trace_ids=derived.trace_ids,
            episodes=derived.episodes,
            feedback=(*self._feedback, *derived.feedback),
            links=derived.links,
            spans=derived.spans,
            log_sources=derived.log_sources,
            blobs=derived.blobs,
            problems=(*self._problems, *derived.problems),
        )

    def _count(self, outcome: WriteOutcome) -> None:
        self._telemetry.episodes.add(outcome.new_episodes, {"change": "new"})
        self._telemetry.episodes.add(outcome.new_revisions, {"change": "revised"})
        if outcome.new_episodes or outcome.new_revisions:
            logger.info(
                "episodes written new=%d revised=%d unchanged=%d retired=%d spans=%d committed=%d",
                outcome.new_episodes,
                outcome.new_revisions,
                outcome.unchanged_episodes,
                outcome.retired_episodes,
                outcome.new_spans,
                self._committed,
            )

    def _bury_position(self, position: int) -> None:
        try:
            entry = self._log.entry(position)
        except LogEntryMissing:
            return
        self._telemetry.crashes.add(1)
        self._dead_letters.add(entry.signal, "deriving its episodes crashed", entry.payload, position)

    def _bury(self, entry: LogEntry, reason: str) -> None:
        logger.error("entry passed over position=%d reason=%s", entry.position, reason)
        self._telemetry.crashes.add(1)
        self._dead_letters.add(entry.signal, reason, entry.payload, entry.position)
        self._problems.append(Problem(log_position=entry.position, reason=reason, received_at=entry.received_at))


def _guarded(store: Store, work: Callable[[], object]) -> None:
    """Do work on the store that nothing a sender wrote can make fail; raises StoreWriteFailed."""
    try:
        work()
    except ReceiverError:
        raise
    # Whatever the database says, the answer is to wait until its disk is well.
    except Exception as error:
        raise StoreWriteFailed(
            f"store {store.path}: cannot be written ({type(error).__name__}); check its disk; nothing is lost meanwhile"
        ) from error


def _ends_trace(span: Span) -> bool:
    """Whether a span is an explicit end-of-trace marker."""
    return _MARKER.claims(span, ()) and _MARKER.read(span, ()).end_of_trace
