"""What the pipeline hands to the store, and what the store answers: records only, no database.

A batch is written whole or not at all, together with the position up to which the ingest log is now in the store.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from otel_receiver.dialects.base import Blob
from otel_receiver.episodes.trace_links import CallLink
from spanloop.records import Episode, Feedback, QualityFlag


class SpanKind(StrEnum):
    """What a span was read as."""

    MODEL_CALL = "model_call"
    TOOL = "tool"
    AGENT = "agent"
    FEEDBACK = "feedback"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanRow:
    """The light row of a span; the span itself stays in the ingest log."""

    trace_id: str
    span_id: str
    parent_span_id: str | None = None
    name: str
    kind: SpanKind = SpanKind.OTHER
    dialect: str | None = None
    service_name: str | None = None
    scope: str | None = None
    """Instrumentation scope and version."""
    started_at: int | None = None
    ended_at: int | None = None
    error: str | None = None
    received_at: int | None = None
    log_position: int


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class LogSource:
    """An ingest log entry that holds log records of a trace."""

    trace_id: str
    log_position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Records that could not be turned into rows."""

    log_position: int | None = None
    trace_id: str | None = None
    reason: str
    """Why, without content."""
    num_records: int = 1
    received_at: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteBatch:
    """Everything one transaction writes."""

    committed_position: int
    """Byte offset in the ingest log below which everything is in the store once this is written."""
    log_id: str | None = None
    """Identity of that ingest log; `None` leaves what the store has."""
    trace_ids: frozenset[str] = frozenset()
    """Every trace that was derived: earlier episodes of these that are not in `episodes` are retired."""
    episodes: tuple[Episode, ...] = ()
    feedback: tuple[Feedback, ...] = ()
    links: tuple[CallLink, ...] = ()
    """All loose ends of `trace_ids`; they replace the earlier ones."""
    spans: tuple[SpanRow, ...] = ()
    log_sources: tuple[LogSource, ...] = ()
    blobs: tuple[Blob, ...] = ()
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteOutcome:
    """What a batch changed."""

    new_episodes: int
    new_revisions: int
    unchanged_episodes: int
    retired_episodes: int
    new_spans: int
    known_spans: int
    """Spans of the batch that were stored before: duplicates, or read again for a later derivation."""
    lock_wait_s: float
    """Time another process kept the store from being opened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far an ingest log has been turned into rows."""

    log_id: str | None
    """`None` until a batch named one."""
    committed_position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEpisode:
    """An episode read back from the store."""

    cursor: int
    """Ask for what comes after it; grows with every revision that is written."""
    revision: int
    episode: Episode


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderStatus:
    """What one sender's spans of one dialect and scope became."""

    service_name: str | None
    dialect: str | None
    """`None`: spans of no known dialect."""
    scope: str | None
    num_spans: int
    num_episodes: int
    num_steps: int
    num_trainable: int
    num_merged: int
    """Its spans of calls that another span reports more fully, where the step is counted."""
    flags: tuple[tuple[QualityFlag, int], ...]
    """Steps per flag, most frequent first; an episode's own flags count once per episode."""
    last_received_at: int | None

    @property
    def trainable_share(self) -> float | None:
        """Of the steps; `None` where there are none."""
        return self.num_trainable / self.num_steps if self.num_steps else None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreStatus:
    """What is in the store."""

    schema_version: int
    log_id: str | None
    committed_position: int
    num_batches: int
    updated_at: int | None
    num_episodes: int
    num_steps: int
    num_trainable: int
    num_spans: int
    num_feedback: int
    num_conversations: int
    problems: tuple[tuple[str, int], ...]
    """Reasons and the records concerned, most frequent first."""
    senders: tuple[SenderStatus, ...]
