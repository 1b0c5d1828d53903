"""Spans and log records for tests of the dialects, with short forms of messages to compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from otel_receiver.spans import LogRecord, Span, SpanEvent, SpanLink, SpanStatus
from spanloop.records import MediaPart, Message, ReasoningPart, TextPart, ToolCall, ToolResult

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"


def make_span(attributes: Mapping[str, object], name: str = "chat", **fields: object) -> Span:
    """A finished span of two seconds with these attributes."""
    held = {
        "trace_id": TRACE,
        "span_id": SPAN,
        "name": name,
        "start_time_unix_nano": 1_000_000_000,
        "end_time_unix_nano": 3_000_000_000,
        "status": SpanStatus.UNSET,
    }
    return Span(**{**held, **fields}, attributes=attributes)


def make_event(name: str, attributes: Mapping[str, object], time: int = 2_000_000_000) -> SpanEvent:
    """A span event."""
    return SpanEvent(name=name, time_unix_nano=time, attributes=attributes)


def make_link(trace_id: str, span_id: str) -> SpanLink:
    """A link to another span."""
    return SpanLink(trace_id=trace_id, span_id=span_id)


def make_log(name: str, body: object = None, time: int = 0, **fields: object) -> LogRecord:
    """A log record of the span."""
    held = {"trace_id": TRACE, "span_id": SPAN, "observed_time_unix_nano": time}
    return LogRecord(**{**held, **fields}, event_name=name, body=body)


def brief(messages: Sequence[Message]) -> list[tuple[object, ...]]:
    """Messages as tuples: the role, then each part in short."""
    return [(message.role.value, *(_brief(part) for part in message.parts)) for message in messages]


def _brief(part: object) -> object:
    if isinstance(part, TextPart):
        return part.text
    if isinstance(part, ToolCall):
        return (part.id, part.name, part.arguments)
    if isinstance(part, ToolResult):
        return (part.call_id, part.content)
    if isinstance(part, ReasoningPart):
        return {"reasoning": part.text}
    assert isinstance(part, MediaPart)
    return {"media": part.kind.value, "sha256": part.sha256, "uri": part.uri}
