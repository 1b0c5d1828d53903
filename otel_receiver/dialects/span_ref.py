"""Where a reading comes from, and what failed."""

from __future__ import annotations

from otel_receiver.dialects.base import SpanRef
from otel_receiver.dialects.values import first_word
from otel_receiver.spans import Span, SpanStatus


def span_ref(span: Span) -> SpanRef:
    """The span's place in its trace, its times (`None` where the sender left them out) and its error."""
    failed = span.status is SpanStatus.ERROR
    return SpanRef(
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_span_id=span.parent_span_id or None,
        name=span.name,
        started_at=span.start_time_unix_nano or None,
        ended_at=span.end_time_unix_nano or None,
        failed=failed,
        succeeded=span.status is SpanStatus.OK,
        error=_error(span) if failed else None,
    )


def _error(span: Span) -> str | None:
    """Exception type and message; else the status message; else the error type."""
    event = next((event for event in reversed(span.events) if event.name == "exception"), None)
    if event is not None:
        kind = first_word(event.attributes, "exception.type")
        message = first_word(event.attributes, "exception.message")
        said = ": ".join(word for word in (kind, message) if word)
        if said:
            return said
    return span.status_message or first_word(span.attributes, "error.type")
