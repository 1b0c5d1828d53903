"""Quotient SDK: an end-of-trace marker, and retriever spans of its own vector-store instrumentations.

Source: quotient-python, `quotientai/tracing`. It has no model-call spans of its own: those come from the OpenInference
instrumentors that it is given.
"""

from __future__ import annotations

from otel_receiver.dialects.base import Reading
from otel_receiver.dialects.fields import context_of
from otel_receiver.dialects.span_ref import span_ref
from otel_receiver.dialects.values import as_bool
from otel_receiver.spans import LogRecord, Span

SCOPE = "quotient.sdk.python"
MARKER_NAME = "quotient.end_of_trace"
MARKER_KEYS = ("quotient.trace.complete", "quotient.trace.marker")


class Quotient:
    """Markers and retriever spans."""

    name = "quotient"

    def claims(self, span: Span, logs: tuple[LogRecord, ...]) -> bool:
        """Whether the SDK wrote the span, or it is a marker."""
        del logs
        return span.scope_name == SCOPE or span.name == MARKER_NAME or MARKER_KEYS[0] in span.attributes

    def read(self, span: Span, logs: tuple[LogRecord, ...]) -> Reading:
        """The end of a trace, or where the span stands."""
        del logs
        is_end = span.name == MARKER_NAME or any(as_bool(span.attributes.get(key)) is True for key in MARKER_KEYS)
        return Reading(span=span_ref(span), context=context_of(span, self.name), end_of_trace=is_end)
