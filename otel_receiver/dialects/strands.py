"""Strands Agents: OTel GenAI told in span events, with Bedrock's content blocks as JSON text.

Source: strands-agents, `telemetry/tracer.py`. Only `chat` spans are model calls: the spans around them (the agent's,
and one per cycle of its loop) repeat the messages. A tool's span tells the call and the result as if they were
messages: `gen_ai.tool.message` is the call and `gen_ai.choice` the result; in the newer form both are parts in
operation-details events. Tool names stand on the agent's span, a tool's schema on the spans of its executions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from otel_receiver.dialects.base import Reading
from otel_receiver.dialects.fields import context_of
from otel_receiver.dialects.genai import KINDS, OPERATION, Kind, read_as
from otel_receiver.dialects.genai_events import CHOICE_EVENT, TOOL_EVENT
from otel_receiver.dialects.genai_parts import INPUT, OUTPUT, merged, sources
from otel_receiver.dialects.json_text import looks_like_json, read_json, read_structured
from otel_receiver.dialects.notes import Notes
from otel_receiver.dialects.parts import read_parts, result_text
from otel_receiver.dialects.tool_spans import read_tool_execution
from otel_receiver.dialects.values import as_items, as_mapping, as_text, as_word, first_present
from otel_receiver.spans import LogRecord, Span
from spanloop.records import Part, ToolCall, ToolResult

SCOPE = "strands.telemetry.tracer"
SYSTEM = "strands-agents"

Source = Mapping[str, object]


class Strands:
    """Spans of the Strands Agents SDK."""

    name = "strands"

    def claims(self, span: Span, logs: tuple[LogRecord, ...]) -> bool:
        """Whether the SDK's tracer wrote the span, or the span names the SDK as its system."""
        del logs
        return span.scope_name == SCOPE or SYSTEM in (
            span.attributes.get("gen_ai.system"),
            span.attributes.get("gen_ai.provider.name"),
        )

    def read(self, span: Span, logs: tuple[LogRecord, ...]) -> Reading:
        """The call, tool execution or run, by the span's operation; a cycle of the loop is a run."""
        kind = KINDS.get((as_word(span.attributes.get(OPERATION)) or "").lower(), Kind.RUN)
        reading = read_as(span, logs, kind, context_of(span, self.name))
        if kind is not Kind.TOOL:
            return reading
        whole = merged((_told_in_events(span), _told_in_parts(span, logs), *sources(span, logs)))
        return replace(reading, tool_executions=(read_tool_execution(span, whole),))


def _told_in_events(span: Span) -> Source:
    """Arguments, result and id of the execution, out of its two events."""
    asked = next((event.attributes for event in span.events if event.name == TOOL_EVENT), {})
    told = next((event.attributes for event in span.events if event.name == CHOICE_EVENT), {})
    return {
        "gen_ai.tool.call.id": first_present(asked, "id") or told.get("id"),
        "gen_ai.tool.call.arguments": asked.get("content"),
        "gen_ai.tool.call.result": _result(told.get("message")),
    }


def _told_in_parts(span: Span, logs: tuple[LogRecord, ...]) -> Source:
    """The same out of the parts of the newer form; the call stands under the role tool as well."""
    whole = merged(sources(span, logs))
    calls = (part for part in _parts(whole.get(INPUT)) if isinstance(part, ToolCall))
    results = (part for part in _parts(whole.get(OUTPUT)) if isinstance(part, ToolResult))
    call, result = next(calls, None), next(results, None)
    return {
        "gen_ai.tool.call.arguments": call.arguments if call is not None else None,
        "gen_ai.tool.call.result": result.content if result is not None else None,
    }


def _parts(value: object) -> Iterator[Part]:
    """The parts of all messages in an attribute."""
    for message in as_items(read_structured(value).value) or ():
        yield from read_parts((as_mapping(message) or {}).get("parts"), Notes())


def _result(value: object) -> str | None:
    """The result as the model is shown it: the text of its content blocks."""
    text = as_text(value)
    if text is None:
        return None
    items = as_items(read_json(text).value) if looks_like_json(text) else None
    return result_text(items, Notes()) if items else text
