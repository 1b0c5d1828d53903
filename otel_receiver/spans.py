"""Spans and log records as the receiver passes them about: frozen, decoded, free of OTLP messages.

`otlp.py` makes them from wire messages; `dialects/` reads them. Attribute values are plain Python: bytes stay
bytes, arrays are tuples, key-value lists are dicts, so a structured log attribute and its JSON twin on a span can be
told apart. Nobody writes on another stage's record: treat the mappings as read-only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

Value = str | bool | int | float | bytes | None | tuple["Value", ...] | Mapping[str, "Value"]
Attributes = Mapping[str, Value]


class SpanStatus(StrEnum):
    """OTLP's span status."""

    UNSET = "unset"
    OK = "ok"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanEvent:
    """A timed event on a span."""

    name: str
    time_unix_nano: int
    attributes: Attributes = field(default_factory=dict)
    dropped_attributes_count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanLink:
    """A link from a span to another."""

    trace_id: str
    span_id: str
    attributes: Attributes = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One finished span."""

    trace_id: str
    """32 hex digits, lower case."""
    span_id: str
    """16 hex digits, lower case."""
    parent_span_id: str | None = None
    name: str
    start_time_unix_nano: int
    """0 when the sender left it out."""
    end_time_unix_nano: int
    status: SpanStatus = SpanStatus.UNSET
    status_message: str = ""
    attributes: Attributes = field(default_factory=dict)
    """In the order of the wire; a later duplicate key wins."""
    events: tuple[SpanEvent, ...] = ()
    links: tuple[SpanLink, ...] = ()
    dropped_attributes_count: int = 0
    dropped_events_count: int = 0
    scope_name: str = ""
    scope_version: str = ""
    resource: Attributes = field(default_factory=dict)
    """Attributes of the resource, shared by the spans of one request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRecord:
    """One log record. The ids are empty when the record belongs to no span."""

    trace_id: str = ""
    span_id: str = ""
    time_unix_nano: int = 0
    observed_time_unix_nano: int = 0
    event_name: str = ""
    """The OTLP field; older senders use the attribute `event.name` instead, which stays in `attributes`."""
    body: Value = None
    attributes: Attributes = field(default_factory=dict)
    dropped_attributes_count: int = 0
    scope_name: str = ""
    scope_version: str = ""
    resource: Attributes = field(default_factory=dict)
