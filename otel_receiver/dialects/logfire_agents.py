"""OpenAI's Agents SDK as Logfire reports it: one span for each of the SDK's own, named by Logfire's templates.

Source: logfire, `_internal/integrations/openai_agents.py`. On the Responses API a call's span holds the items sent and
the whole response; on the chat API the messages of both sides, and neither tools nor a finish reason.
"""

from __future__ import annotations

from dataclasses import replace

from otel_receiver.dialects.base import AgentRun, Reading, ToolExecution
from otel_receiver.dialects.fields import context_of
from otel_receiver.dialects.genai import read_call
from otel_receiver.dialects.json_text import read_structured
from otel_receiver.dialects.notes import Notes
from otel_receiver.dialects.parts import result_text
from otel_receiver.dialects.raw_values import RawValues
from otel_receiver.dialects.span_ref import span_ref
from otel_receiver.dialects.tools import read_tools
from otel_receiver.dialects.values import as_items, as_mapping, as_text, first_word
from otel_receiver.spans import LogRecord, Span, SpanStatus
from spanloop.records import ToolStatus

SCOPE = "logfire.openai_agents"
_CALL, _CHAT = "Responses API", "Chat completion"
_AGENT, _TOOL, _GUARDRAIL = "Agent run", "Function: ", "Guardrail"


class LogfireAgents:
    """Spans of Logfire's instrumentation of the OpenAI Agents SDK."""

    name = "pydantic_ai"

    def claims(self, span: Span, logs: tuple[LogRecord, ...]) -> bool:
        """Whether the instrumentation wrote the span."""
        del logs
        return span.scope_name == SCOPE

    def read(self, span: Span, logs: tuple[LogRecord, ...]) -> Reading:
        """The call, tool execution, agent or step, by the span's template."""
        reading = _placed(span)
        if span.name.startswith((_CALL, _CHAT)):
            call, blobs = read_call(span, logs, extra=_raw(span))
            return replace(reading, model_calls=(call,), blobs=blobs)
        if span.name.startswith(_TOOL):
            return replace(reading, tool_executions=(_execution(span),))
        if not span.name.startswith(_AGENT):
            return replace(reading, agent=AgentRun(is_agent=False, auxiliary=span.name.startswith(_GUARDRAIL)))
        return replace(reading, agent=AgentRun(is_agent=True, tools=read_tools(span.attributes.get("tools"), Notes())))


def _placed(span: Span) -> Reading:
    """The reading's place: a trace names its group of traces, which is the conversation, and an agent its name."""
    name = first_word(span.attributes, "name") if span.name.startswith(_AGENT) else None
    context = context_of(span, LogfireAgents.name, agent_name=name)
    group = first_word(span.attributes, "group_id")
    return Reading(span=span_ref(span), context=context if group is None else replace(context, conversation_id=group))


def _raw(span: Span) -> RawValues:
    """The call's request and response, put together from what the span holds of them."""
    attributes = span.attributes
    if span.name.startswith(_CHAT):
        output = as_items(read_structured(attributes.get("output")).value) or ()
        usage = read_structured(attributes.get("usage")).value
        answer = {"choices": [{"message": output[0]}] if output else [], "usage": usage}
        return RawValues({"messages": read_structured(attributes.get("input")).value}, answer)
    response = as_mapping(read_structured(attributes.get("response")).value) or {}
    request = {key: response.get(key) for key in ("instructions", "tools", "previous_response_id")}
    return RawValues({**request, "input": read_structured(attributes.get("raw_input")).value}, response or None)


def _execution(span: Span) -> ToolExecution:
    attributes, notes = span.attributes, Notes()
    output = attributes.get("output")
    return ToolExecution(
        name=first_word(attributes, "name") or span.name.removeprefix(_TOOL),
        arguments=as_text(attributes.get("input")),
        result=result_text(output, notes) if output is not None else None,
        status=ToolStatus.ERROR if span.status is SpanStatus.ERROR else ToolStatus.UNKNOWN,
        flags=notes.flags,
    )
