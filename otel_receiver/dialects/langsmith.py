"""LangSmith in OTel mode: one JSON blob each for a run's inputs and outputs.

Source: langsmith-sdk, `python/langsmith/_internal/otel`. The operation name is wrong for prompts and retrievers, so the
run's own kind decides; `langsmith.trace.session_name` names a project, never a conversation. Every span is a snapshot
of the whole graph state, so only runs of kind llm are calls.
"""

from __future__ import annotations

from dataclasses import replace

from otel_receiver.dialects.base import AgentRun, Blob, Context, ModelCall, Reading, SpanRef
from otel_receiver.dialects.fields import context_of
from otel_receiver.dialects.genai import read_call
from otel_receiver.dialects.genai_parts import TOOLS
from otel_receiver.dialects.json_text import read_json, read_structured
from otel_receiver.dialects.langgraph import langgraph_agent
from otel_receiver.dialects.messages import read_messages
from otel_receiver.dialects.model_call import completed_usage
from otel_receiver.dialects.notes import Notes
from otel_receiver.dialects.raw import read_usage
from otel_receiver.dialects.raw_values import RawValues
from otel_receiver.dialects.span_ref import span_ref
from otel_receiver.dialects.tool_ids import complete_ids
from otel_receiver.dialects.tool_spans import read_tool_execution
from otel_receiver.dialects.tool_wrappers import langsmith_tool
from otel_receiver.dialects.tools import read_tools
from otel_receiver.dialects.values import as_mapping, as_text, as_word, first_word
from otel_receiver.spans import LogRecord, Span
from spanloop.records import Message

KIND = "langsmith.span.kind"
NAME = "langsmith.trace.name"
PROMPT = "gen_ai.prompt"
COMPLETION = "gen_ai.completion"
METADATA = "langsmith.metadata."
_WRAPPED = '{"output":'
"""How the outputs of a traced function begin that returned anything but a dictionary."""


class LangSmith:
    """Spans that say their LangSmith run kind."""

    name = "langsmith"

    def claims(self, span: Span, logs: tuple[LogRecord, ...]) -> bool:
        """Whether the span says its run kind."""
        del logs
        return KIND in span.attributes

    def read(self, span: Span, logs: tuple[LogRecord, ...]) -> Reading:
        """The call, tool execution or run, by the run's kind."""
        span = _decoded(span)
        kind = (as_word(span.attributes.get(KIND)) or "").lower()
        reference, context = _reference(span), _context(span, kind)
        if kind == "llm":
            call, blobs = _read_call(span, logs)
            return Reading(span=reference, context=context, model_calls=(call,), blobs=blobs)
        if kind == "tool":
            source = langsmith_tool(span.attributes, span.attributes.get(PROMPT), span.attributes.get(COMPLETION))
            return Reading(span=reference, context=context, tool_executions=(read_tool_execution(span, _bare(source)),))
        if kind == "chain":
            return Reading(span=reference, context=context, agent=_read_run(span))
        return Reading(span=reference, context=context)


def _decoded(span: Span) -> Span:
    """The span with text for bytes: older versions hand the blobs over as bytes, and newer OTel SDKs send them so."""
    if not any(isinstance(value, bytes) for value in span.attributes.values()):
        return span
    attributes = {
        key: value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        for key, value in span.attributes.items()
    }
    return replace(span, attributes=attributes)


def _reference(span: Span) -> SpanRef:
    """The span's place; its error is the text of a stack trace, of which the first line tells what failed."""
    reference = span_ref(span)
    if reference.error is None:
        return reference
    told = reference.error.removeprefix("Exception: ").partition("\n\nTraceback ")[0]
    return replace(reference, error=told)


def _read_call(span: Span, logs: tuple[LogRecord, ...]) -> tuple[ModelCall, tuple[Blob, ...]]:
    """The call of an llm run; a run that a user traced may tell its usage in the metadata alone."""
    attributes = span.attributes
    raw = RawValues(attributes.get(PROMPT), _answered(attributes.get(COMPLETION)))
    call, blobs = read_call(span, logs, extra=raw)
    counted = as_mapping(read_structured(attributes.get(f"{METADATA}usage_metadata")).value)
    if counted is not None:
        call = replace(call, usage=completed_usage(call.usage, read_usage(counted)))
    return call, blobs


def _answered(value: object) -> object:
    """A run's outputs, out of the wrapper around what is no dictionary; a list is OpenAI's items of a response."""
    text = as_text(value)
    if text is None or not text.startswith(_WRAPPED):
        return value
    held = as_mapping(read_json(text).value) or {}
    output = held.get("output")
    return output if set(held) == {"output"} and not isinstance(output, list) else value


def _bare(source: dict[str, object]) -> dict[str, object]:
    """The attributes without the blobs, so that neither is read where a tool got or gave nothing."""
    return {key: value for key, value in source.items() if key not in (PROMPT, COMPLETION)}


def _read_run(span: Span) -> AgentRun:
    """A chain, or an agent where it tells what tools it was made with, as the OpenAI Agents SDK's does."""
    tools = read_tools(span.attributes.get(TOOLS), Notes())
    return AgentRun(is_agent=tools is not None, history=_history(span), tools=tools)


def _context(span: Span, kind: str) -> Context:
    """The context, with the agent that LangGraph's metadata tells, or that an agent's own run is named after."""
    metadata = {key.removeprefix(METADATA): value for key, value in span.attributes.items() if key.startswith(METADATA)}
    named = first_word(span.attributes, NAME) if kind == "chain" and TOOLS in span.attributes else None
    return context_of(span, LangSmith.name, agent_name=langgraph_agent(metadata) or named)


def _history(span: Span) -> tuple[Message, ...]:
    """The messages of a root's final state: inner nodes repeat parts of it."""
    text = as_text(span.attributes.get(COMPLETION))
    if span.parent_span_id or text is None or '"messages"' not in text:
        return ()
    held = as_mapping(read_json(text).value) or {}
    held = as_mapping(held.get("output")) or held
    notes = Notes()
    return complete_ids(read_messages(held.get("messages"), notes), notes)
