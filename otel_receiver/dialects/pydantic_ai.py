"""Pydantic-AI: OTel GenAI with attributes of its own, by instrumentation version.

Source: pydantic-ai, `models/instrumented.py`. Version 1 puts all messages into one `events` attribute; version 2 names
tool attributes its own way; up to version 5 tool results stand under the role user.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from otel_receiver.dialects.base import AgentRun, Reading
from otel_receiver.dialects.candidates import Carried
from otel_receiver.dialects.fields import context_of
from otel_receiver.dialects.genai import OPERATION, Kind, kind_of, read_as
from otel_receiver.dialects.genai_events import MessageEvent, read_event_answer, read_event_prompt
from otel_receiver.dialects.genai_parts import INPUT, INSTRUCTIONS, read_attribute, read_prompt
from otel_receiver.dialects.json_text import read_structured
from otel_receiver.dialects.model_call import CallEvidence, build_call
from otel_receiver.dialects.notes import Notes
from otel_receiver.dialects.span_ref import span_ref
from otel_receiver.dialects.tools import read_tools
from otel_receiver.dialects.values import as_items, as_mapping, first_word
from otel_receiver.spans import LogRecord, Span
from spanloop.records import QualityFlag, ToolDefinition

SCOPE = "pydantic-ai"
EVENTS = "events"
ALL_MESSAGES = "pydantic_ai.all_messages"
ALL_EVENTS = "all_messages_events"
REQUEST_PARAMETERS = "model_request_parameters"


class PydanticAI:
    """Spans of Pydantic-AI."""

    name = "pydantic_ai"

    def claims(self, span: Span, logs: tuple[LogRecord, ...]) -> bool:
        """Whether Pydantic-AI wrote the span."""
        del logs
        return span.scope_name == SCOPE

    def read(self, span: Span, logs: tuple[LogRecord, ...]) -> Reading:
        """The call, tool execution or run."""
        context = context_of(span, self.name)
        if EVENTS in span.attributes:
            return _read_first_version(span, Reading(span=span_ref(span), context=context))
        kind = _kind(span)
        reading = read_as(span, logs, kind, context)
        if kind in (Kind.AGENT, Kind.RUN):
            return replace(reading, agent=_run(span))
        if kind is Kind.CALL and reading.model_calls[0].tools is None:
            return replace(reading, model_calls=(replace(reading.model_calls[0], tools=_request_tools(span)),))
        return reading


def _kind(span: Span) -> Kind:
    """The kind by operation; old releases name none and say it in the span's name or attributes."""
    if OPERATION in span.attributes:
        return kind_of(span)
    if span.name == "agent run" or "agent_name" in span.attributes:
        return Kind.AGENT
    return Kind.TOOL if "gen_ai.tool.name" in span.attributes else Kind.OTHER


def _run(span: Span) -> AgentRun:
    """An agent's run with its whole history, which holds earlier runs of the conversation too."""
    attributes = span.attributes
    if ALL_MESSAGES in attributes:
        place: Mapping[str, object] = {INPUT: attributes[ALL_MESSAGES], INSTRUCTIONS: attributes.get(INSTRUCTIONS)}
        return AgentRun(is_agent=True, history=read_prompt(place).messages)
    told = _event_prompt(attributes.get(ALL_EVENTS))
    return AgentRun(is_agent=True, history=told.messages if told is not None else ())


def _request_tools(span: Span) -> tuple[ToolDefinition, ...] | None:
    """The tools in the request's parameters, which older versions carry alone."""
    held = as_mapping(read_structured(span.attributes.get(REQUEST_PARAMETERS)).value) or {}
    functions = as_items(held.get("function_tools"))
    if functions is None:
        return None
    return read_tools((*functions, *(as_items(held.get("output_tools")) or ())), Notes())


def _read_first_version(span: Span, reading: Reading) -> Reading:
    """A call of version 1: prompt and answer are events in one attribute."""
    notes = Notes()
    events = _events(span.attributes[EVENTS], notes)
    call, blobs = build_call(
        CallEvidence(
            span=span,
            source=span.attributes,
            prompt=read_event_prompt(events),
            answer=read_event_answer(events),
            tools=_request_tools(span),
            notes=notes,
        )
    )
    return replace(reading, model_calls=(call,), blobs=blobs)


def _event_prompt(value: object) -> Carried | None:
    """The messages of an attribute that holds events."""
    return read_event_prompt(_events(value, Notes())) if value is not None else None


def _events(value: object, notes: Notes) -> tuple[MessageEvent, ...]:
    """The message events in an attribute; their own order is the messages' order."""
    items = as_items(read_attribute(value, notes, QualityFlag.PROMPT_TRUNCATED)) or ()
    held = (as_mapping(item) or {} for item in items)
    return tuple(MessageEvent(first_word(event, "event.name") or "", event) for event in held)
