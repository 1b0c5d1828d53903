"""LangSmith in OTel mode: one JSON blob each for a run's inputs and outputs.

Source: langsmith-sdk, `python/langsmith/_internal/otel`. The operation name is wrong for prompts and retrievers, so the
run's own kind decides; `langsmith.trace.session_name` names a project, never a conversation. Every span is a snapshot
of the whole graph state, so only runs of kind llm are calls.
"""

from __future__ import annotations

from otel_receiver.dialects.base import AgentRun, Context, Reading
from otel_receiver.dialects.fields import context_of
from otel_receiver.dialects.genai import read_call
from otel_receiver.dialects.json_text import read_json
from otel_receiver.dialects.langgraph import langgraph_agent
from otel_receiver.dialects.messages import read_messages
from otel_receiver.dialects.notes import Notes
from otel_receiver.dialects.raw_values import RawValues
from otel_receiver.dialects.span_ref import span_ref
from otel_receiver.dialects.tool_ids import complete_ids
from otel_receiver.dialects.tool_spans import read_tool_execution
from otel_receiver.dialects.values import as_mapping, as_text, as_word
from otel_receiver.spans import LogRecord, Span
from spanloop.records import Message

KIND = "langsmith.span.kind"
PROMPT = "gen_ai.prompt"
COMPLETION = "gen_ai.completion"
METADATA = "langsmith.metadata."


class LangSmith:
    """Spans that say their LangSmith run kind."""

    name = "langsmith"

    def claims(self, span: Span, logs: tuple[LogRecord, ...]) -> bool:
        """Whether the span says its run kind."""
        del logs
        return KIND in span.attributes

    def read(self, span: Span, logs: tuple[LogRecord, ...]) -> Reading:
        """The call, tool execution or run, by the run's kind."""
        kind = (as_word(span.attributes.get(KIND)) or "").lower()
        reference, context = span_ref(span), _context(span)
        if kind == "llm":
            raw = RawValues(span.attributes.get(PROMPT), span.attributes.get(COMPLETION))
            call, blobs = read_call(span, logs, extra=raw)
            return Reading(span=reference, context=context, model_calls=(call,), blobs=blobs)
        if kind == "tool":
            return Reading(span=reference, context=context, tool_executions=(read_tool_execution(span),))
        if kind == "chain":
            return Reading(span=reference, context=context, agent=AgentRun(is_agent=False, history=_history(span)))
        return Reading(span=reference, context=context)


def _context(span: Span) -> Context:
    """The context, with the agent that LangGraph's metadata tells."""
    metadata = {key.removeprefix(METADATA): value for key, value in span.attributes.items() if key.startswith(METADATA)}
    return context_of(span, LangSmith.name, agent_name=langgraph_agent(metadata))


def _history(span: Span) -> tuple[Message, ...]:
    """The messages of a root's final state: inner nodes repeat parts of it."""
    text = as_text(span.attributes.get(COMPLETION))
    if span.parent_span_id or text is None or '"messages"' not in text:
        return ()
    held = as_mapping(read_json(text).value) or {}
    held = as_mapping(held.get("output")) or held
    notes = Notes()
    return complete_ids(read_messages(held.get("messages"), notes), notes)
