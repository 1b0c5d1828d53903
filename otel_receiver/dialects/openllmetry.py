"""OpenLLMetry and the Traceloop SDK: model calls indexed (up to 0.54) or as parts, and entities around them.

Source: openllmetry, `packages/opentelemetry-instrumentation-openai` and `packages/traceloop-sdk`.
"""

from __future__ import annotations

from otel_receiver.dialects.base import AgentRun, Context, Reading
from otel_receiver.dialects.fields import context_of
from otel_receiver.dialects.genai import OPERATION, Kind, kind_of, read_as
from otel_receiver.dialects.span_ref import span_ref
from otel_receiver.dialects.tool_spans import read_tool_execution
from otel_receiver.dialects.values import as_word, first_word
from otel_receiver.spans import LogRecord, Span

ENTITY_KIND = "traceloop.span.kind"
REQUEST_TYPE = "llm.request.type"
_MARKS = (ENTITY_KIND, REQUEST_TYPE, "gen_ai.is_streaming", "llm.is_streaming", "gen_ai.prompt.0.role", "llm.headers")
_CALL_TYPES = frozenset({"chat", "completion"})


class OpenLLMetry:
    """Spans of an OpenLLMetry instrumentation, and entities of the Traceloop SDK."""

    name = "openllmetry"

    def claims(self, span: Span, logs: tuple[LogRecord, ...]) -> bool:
        """Whether the span carries a mark that only OpenLLMetry writes."""
        del logs
        return any(key in span.attributes for key in _MARKS)

    def read(self, span: Span, logs: tuple[LogRecord, ...]) -> Reading:
        """The call, by operation or request type; else the entity."""
        context = _context(span)
        kind = _kind(span)
        if kind is not Kind.OTHER:
            return read_as(span, logs, kind, context)
        entity = (as_word(span.attributes.get(ENTITY_KIND)) or "").lower()
        if entity == "tool":
            return Reading(span=span_ref(span), context=context, tool_executions=(read_tool_execution(span),))
        run = AgentRun(is_agent=entity == "agent") if entity else None
        return Reading(span=span_ref(span), context=context, agent=run)


def _kind(span: Span) -> Kind:
    """The kind of a span that makes a call or runs an agent; the entity's kind decides the rest."""
    if OPERATION in span.attributes:
        return kind_of(span)
    is_call = (as_word(span.attributes.get(REQUEST_TYPE)) or "").lower() in _CALL_TYPES
    return Kind.CALL if is_call or "gen_ai.prompt.0.role" in span.attributes else Kind.OTHER


def _context(span: Span) -> Context:
    """The context; an agent entity's name is the agent's."""
    is_agent = (as_word(span.attributes.get(ENTITY_KIND)) or "").lower() == "agent"
    named = first_word(span.attributes, "traceloop.entity.name") if is_agent else None
    return context_of(span, OpenLLMetry.name, agent_name=first_word(span.attributes, "gen_ai.agent.name") or named)
