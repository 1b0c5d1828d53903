"""LlamaIndex's own OpenTelemetry package: events with flattened fields, and tools that a step's event names."""

from __future__ import annotations

import json

import pytest

from otel_receiver.dialects.base import AgentRun
from otel_receiver.dialects.registry import read_span
from otel_receiver.spans import SpanStatus
from spanloop.records import QualityFlag, ToolDefinition, ToolStatus, Usage
from tests.unit.otel_receiver.dialects.factories import brief, make_event, make_span

SCOPE = {"scope_name": "llamaindex.opentelemetry.tracer"}
CALLED = {"block_type": "tool_call", "tool_call_id": "a", "tool_name": "f", "tool_kwargs": '{"city": "Paris"}'}
MESSAGES = [
    {"role": "user", "additional_kwargs": {}, "blocks": [{"block_type": "text", "text": "Hi"}]},
    {"role": "assistant", "additional_kwargs": {}, "blocks": [{"block_type": "text", "text": "Wait."}, CALLED]},
    {"role": "tool", "additional_kwargs": {"tool_call_id": "a"}, "blocks": [{"block_type": "text", "text": "sunny"}]},
]
START = {
    "messages": json.dumps(MESSAGES),
    "additional_kwargs.tools": '[{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]',
    "model_dict.model_name": "m",
}
END = {
    "response.message.role": "assistant",
    "response.message.blocks": json.dumps([CALLED]),
    "response.raw.id": "r1",
    "response.raw.model": "m-2025",
    "response.raw.choices": '[{"index": 0, "finish_reason": "tool_calls"}]',
    "response.raw.usage.prompt_tokens": "9",
    "response.raw.usage.completion_tokens": "2",
    "response.raw.usage.prompt_tokens_details": "null",
}


def read(*events, name="OpenAI.achat", **attributes):
    """The reading of a span with these events and attributes."""
    return read_span(make_span(attributes, name=name, events=events, **SCOPE))


def test_a_call_is_told_by_its_events():
    """Prompt, tools, answer and what the response says about itself come out of the two events."""
    (call,) = read(make_event("LLMChatStartEvent", START), make_event("LLMChatEndEvent", END)).model_calls
    said = ("a", "f", '{"city": "Paris"}')
    assert [("user", "Hi"), ("assistant", "Wait.", said), ("tool", ("a", "sunny"))] == brief(call.messages)
    assert (ToolDefinition(name="f", parameters='{"type":"object"}'),) == call.tools
    assert call.output is not None
    assert [("assistant", said)] == brief([call.output])
    assert ("m", "m-2025", "r1") == (call.model, call.response_model, call.response_id)
    assert ("tool_calls", Usage(input_tokens=9, output_tokens=2), frozenset[QualityFlag]()) == (
        call.finish_reason,
        call.usage,
        call.flags,
    )


def test_a_streamed_call_has_no_answer():
    """Its span ends before the stream does."""
    (call,) = read(make_event("LLMChatStartEvent", START)).model_calls
    assert (None, None) == (call.output, call.finish_reason)


def test_tool_calls_in_the_extra_arguments():
    """Older messages hold their calls beside the blocks."""
    extra = {"tool_calls": [{"id": "b", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}
    told = {**START, "messages": json.dumps([{"role": "assistant", "additional_kwargs": extra, "blocks": []}])}
    (call,) = read(make_event("LLMChatStartEvent", told)).model_calls
    assert [("assistant", ("b", "f", "{}"))] == brief(call.messages)


def test_a_tool_is_named_by_the_event_of_its_step():
    """The repr of the event has name, arguments and id; the span's status is the tool's."""
    told = "ToolCall(tool_name='f', tool_kwargs={'city': 'Paris'}, tool_id='a')"
    attributes = {"llamaindex.step.input_event": "ToolCall", "llamaindex.step.input_summary": told}
    span = make_span(attributes, name="FunctionTool.acall", status=SpanStatus.ERROR, **SCOPE)
    (execution,) = read_span(span).tool_executions
    assert ("f", "a", '{"city":"Paris"}', ToolStatus.ERROR) == (
        execution.name,
        execution.call_id,
        execution.arguments,
        execution.status,
    )
    assert () == read(name="OpenAI.achat", **attributes).tool_executions


@pytest.mark.parametrize(
    ("name", "agent"),
    [("FunctionAgent.run", AgentRun(is_agent=True)), ("MyFlow.run", AgentRun(is_agent=False)), ("X.parse", None)],
)
def test_runs_by_name(name, agent):
    """An agent's run and any other workflow's."""
    assert agent == read(name=name).agent
