"""agent-lightning (0.3): reward spans. Its rewards are read by `feedback`; here the span is only named.

Source: agent-lightning, `semconv.py` at 0.3.0.
"""

from __future__ import annotations

from otel_receiver.dialects.base import Reading
from otel_receiver.dialects.fields import context_of
from otel_receiver.dialects.span_ref import span_ref
from otel_receiver.spans import LogRecord, Span

SPAN_NAME = "agentlightning.annotation"
PREFIX = "agentlightning.reward."


class AgentLightning:
    """Annotation spans with rewards."""

    name = "agent_lightning"

    def claims(self, span: Span, logs: tuple[LogRecord, ...]) -> bool:
        """Whether the span is an annotation."""
        del logs
        return span.name == SPAN_NAME or any(key.startswith(PREFIX) for key in span.attributes)

    def read(self, span: Span, logs: tuple[LogRecord, ...]) -> Reading:
        """Where the span stands."""
        del logs
        return Reading(span=span_ref(span), context=context_of(span, self.name))
