"""LlamaIndex's own OpenTelemetry package: requests and answers stand flattened in the events of a call's span.

Source: llama-index-observability-otel, `base.py`. Nested fields are joined by dots down to lists, which are JSON text,
as is `null`. A streamed answer is not told: its span ends before the stream does. Attributes say only which step of the
workflow a span belongs to: the event that started it, as the beginning of its repr.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from otel_receiver.dialects.base import AgentRun, Reading, ToolExecution
from otel_receiver.dialects.fields import context_of
from otel_receiver.dialects.genai import read_call
from otel_receiver.dialects.json_text import read_structured
from otel_receiver.dialects.pyrepr import read_repr
from otel_receiver.dialects.python_reprs import llama_index_message
from otel_receiver.dialects.raw_values import RawValues
from otel_receiver.dialects.span_ref import span_ref
from otel_receiver.dialects.values import as_items, as_mapping, as_text, compact_json, first_present, first_word
from otel_receiver.spans import LogRecord, Span, SpanStatus
from spanloop.records import ToolStatus

SCOPE = "llamaindex.opentelemetry.tracer"
STARTS = ("LLMChatStartEvent", "LLMCompletionStartEvent")
ENDS = ("LLMChatEndEvent", "LLMCompletionEndEvent")
STEP = "llamaindex.step.input_event"
STEP_EVENT = "llamaindex.step.input_summary"
_TOOL = re.compile(r"\w*Tool\.a?call")
_STATUSES = {SpanStatus.ERROR: ToolStatus.ERROR, SpanStatus.OK: ToolStatus.OK, SpanStatus.UNSET: ToolStatus.UNKNOWN}

Source = Mapping[str, object]


class LlamaIndex:
    """Spans of LlamaIndex's own OpenTelemetry package."""

    name = "llama_index"

    def claims(self, span: Span, logs: tuple[LogRecord, ...]) -> bool:
        """Whether the package's tracer wrote the span."""
        del logs
        return span.scope_name == SCOPE

    def read(self, span: Span, logs: tuple[LogRecord, ...]) -> Reading:
        """The call that the span's events tell, a tool's execution, or an agent's run."""
        reference, context = span_ref(span), context_of(span, self.name)
        started = next((event.attributes for event in span.events if event.name in STARTS), None)
        if started is not None:
            ended = next((event.attributes for event in reversed(span.events) if event.name in ENDS), None)
            call, blobs = read_call(span, logs, extra=RawValues(_request(started), ended and _response(ended)))
            return Reading(span=reference, context=context, model_calls=(call,), blobs=blobs)
        if _TOOL.fullmatch(span.name) and span.attributes.get(STEP) == "ToolCall":
            return Reading(span=reference, context=context, tool_executions=_execution(span))
        run = AgentRun(is_agent=span.name.endswith("Agent.run")) if span.name.endswith(".run") else None
        return Reading(span=reference, context=context, agent=run)


def _request(told: Source) -> Source:
    """The request in the chat form."""
    messages = as_items(read_structured(told.get("messages")).value)
    prompt = told.get("prompt") if messages is None else [_message(as_mapping(item) or {}) for item in messages]
    return {
        "messages": prompt,
        "tools": read_structured(told.get("additional_kwargs.tools")).value,
        "model": first_word(told, "model_dict.model_name", "model_dict.model"),
    }


def _response(told: Source) -> Source:
    """The answer as a chat message, with what the provider's response says about itself."""
    raw = _below(told, "response.raw.")
    usage = {**_below(told, "response.additional_kwargs."), **_below(raw, "usage.")}
    choice = as_mapping((as_items(raw.get("choices")) or (None,))[0]) or {}
    return {
        **_message(_below(told, "response.message.")),
        "role": "assistant",
        "finish_reason": first_present({**raw, **choice}, "finish_reason", "stop_reason"),
        "id": raw.get("id"),
        "model": raw.get("model"),
        "usage": usage,
    }


def _below(told: Source, head: str) -> dict[str, object]:
    """The fields below a name, lists and nothing as what their text spells."""
    return {
        key.removeprefix(head): read_structured(value).value if str(value)[:1] in "[{" or value == "null" else value
        for key, value in told.items()
        if key.startswith(head)
    }


def _message(held: Source) -> dict[str, object]:
    """LlamaIndex's message in the chat form; up to 0.12 its tool calls stood in the extra arguments alone."""
    extra = as_mapping(held.get("additional_kwargs")) or _below(held, "additional_kwargs.")
    return {**llama_index_message({**held, "additional_kwargs": extra}), "additional_kwargs": extra}


def _execution(span: Span) -> tuple[ToolExecution, ...]:
    """The tool that the step's event names; its result stands in the next call's history."""
    told = as_mapping(read_repr(as_text(span.attributes.get(STEP_EVENT)) or "").value) or {}
    name, arguments = first_word(told, "tool_name"), as_mapping(told.get("tool_kwargs"))
    if name is None:
        return ()
    return (
        ToolExecution(
            name=name,
            call_id=first_word(told, "tool_id"),
            arguments=None if arguments is None else compact_json(arguments),
            status=_STATUSES[span.status],
        ),
    )
