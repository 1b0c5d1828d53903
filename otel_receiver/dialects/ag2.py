"""AG2: OpenAI's chat messages under OTel GenAI's keys, never with the system prompt or the tools.

Source: ag2, `middleware/builtin/telemetry.py`. An agent's instructions are sent apart from the history, and only the
history is told: so every prompt is known to lack its beginning (`system_missing`). Long tool results are cut.
`record_usage` spans repeat token counts and name a model, and are no calls.
"""

from __future__ import annotations

from dataclasses import replace

from otel_receiver.dialects.base import ModelCall, Reading
from otel_receiver.dialects.fields import context_of
from otel_receiver.dialects.genai import OPERATION, Kind, kind_of, read_as
from otel_receiver.spans import LogRecord, Span
from spanloop.records import QualityFlag, Role

SPAN_TYPE = "ag2.span.type"
SCOPE = "opentelemetry.instrumentation.ag2"
CUT_RESULT = "...[truncated]"


class AG2:
    """Spans of AG2's telemetry."""

    name = "ag2"

    def claims(self, span: Span, logs: tuple[LogRecord, ...]) -> bool:
        """Whether AG2 wrote the span."""
        del logs
        return SPAN_TYPE in span.attributes or span.scope_name == SCOPE

    def read(self, span: Span, logs: tuple[LogRecord, ...]) -> Reading:
        """The call, tool execution or run, by the span's operation."""
        kind = kind_of(span) if OPERATION in span.attributes else Kind.OTHER
        reading = read_as(span, logs, kind, context_of(span, self.name))
        return replace(reading, model_calls=tuple(_flagged(call) for call in reading.model_calls))


def _flagged(call: ModelCall) -> ModelCall:
    """The call, flagged where its prompt is known to lack something."""
    has_system = any(message.role in (Role.SYSTEM, Role.DEVELOPER) for message in call.messages)
    results = (message.tool_result for message in call.messages)
    is_cut = any(result is not None and result.content.endswith(CUT_RESULT) for result in results)
    lost = {QualityFlag.SYSTEM_MISSING: not has_system, QualityFlag.PROMPT_TRUNCATED: is_cut}
    return replace(call, flags=call.flags.union(flag for flag, holds in lost.items() if holds))
