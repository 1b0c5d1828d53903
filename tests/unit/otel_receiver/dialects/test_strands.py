"""Strands Agents: span events with Bedrock's content blocks, and the newer operation-details events."""

from __future__ import annotations

import json

from otel_receiver.dialects.registry import read_span
from otel_receiver.spans import SpanStatus
from spanloop.records import ToolDefinition, ToolStatus, Usage
from tests.unit.otel_receiver.dialects.factories import brief, make_event, make_span

SCOPE = "strands.telemetry.tracer"
DETAILS = "gen_ai.client.inference.operation.details"
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
PARIS, ROME = {"toolUseId": "a", "name": "f", "input": {"city": "Paris"}}, {"toolUseId": "b", "name": "f", "input": {}}
CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.system": "strands-agents",
    "gen_ai.request.model": "m",
    "gen_ai.usage.prompt_tokens": 9,
    "gen_ai.usage.input_tokens": 9,
    "gen_ai.usage.completion_tokens": 2,
    "gen_ai.usage.output_tokens": 2,
}
PROMPT = [
    ("user", "Hi"),
    ("assistant", "Let me see.", ("a", "f", '{"city":"Paris"}'), ("b", "f", "{}")),
    ("tool", ("a", "sunny")),
    ("tool", ("b", "no city")),
]


def blocks(*items):
    """Content blocks as the SDK writes them."""
    return json.dumps(list(items))


def result(call_id, text, status):
    """A tool result block."""
    return {"toolResult": {"toolUseId": call_id, "status": status, "content": [{"text": text}]}}


def read(attributes, events, **fields):
    """What a span of the SDK's tracer says."""
    timed = tuple(make_event(name, held, time=number) for number, (name, held) in enumerate(events, 1))
    return read_span(make_span(attributes, scope_name=SCOPE, events=timed, **fields))


EVENTS = [
    ("gen_ai.system.message", {"content": blocks({"text": "Be kind."})}),
    ("gen_ai.user.message", {"content": blocks({"text": "Hi"})}),
    (
        "gen_ai.assistant.message",
        {"content": blocks({"text": "Let me see."}, {"toolUse": PARIS}, {"toolUse": ROME})},
    ),
    (
        "gen_ai.tool.message",
        {"content": blocks(result("a", "sunny", "success"), result("b", "no city", "error"))},
    ),
    ("gen_ai.choice", {"finish_reason": "end_turn", "message": blocks({"text": "Sunny."})}),
]


def test_blocks_in_span_events():
    """Both results of parallel calls stand in one event; the finish reason is Bedrock's word."""
    (call,) = read(CHAT, EVENTS).model_calls
    assert [("system", "Be kind."), *PROMPT] == brief(call.messages)
    statuses = [message.tool_result.status for message in call.messages if message.tool_result is not None]
    assert [ToolStatus.OK, ToolStatus.ERROR] == statuses
    assert call.output is not None
    assert ("Sunny.", "stop") == (call.output.text, call.finish_reason)
    assert (Usage(input_tokens=9, output_tokens=2), frozenset()) == (call.usage, call.flags)


def test_an_answer_that_calls_tools():
    """A choice with tool-use blocks finishes with tool calls."""
    message = blocks({"text": "Let me see."}, {"toolUse": PARIS})
    (call,) = read(
        CHAT, [*EVENTS[:2], ("gen_ai.choice", {"finish_reason": "tool_use", "message": message})]
    ).model_calls
    assert call.output is not None
    assert [("assistant", "Let me see.", ("a", "f", '{"city":"Paris"}'))] == brief([call.output])
    assert "tool_calls" == call.finish_reason


def test_details_events_are_read_as_one():
    """System, input and output each have an event of the same name."""
    events = [
        (DETAILS, {"gen_ai.system_instructions": json.dumps([{"type": "text", "content": "Be kind."}])}),
        (
            DETAILS,
            {
                "gen_ai.input.messages": json.dumps(
                    [
                        {"role": "user", "parts": [{"type": "text", "content": "Hi"}]},
                        {
                            "role": "assistant",
                            "parts": [{"type": "tool_call", "id": "a", "name": "f", "arguments": {}}],
                        },
                        {
                            "role": "user",
                            "parts": [{"type": "tool_call_response", "id": "a", "response": [{"text": "sunny"}]}],
                        },
                    ]
                )
            },
        ),
        (
            DETAILS,
            {
                "gen_ai.output.messages": json.dumps(
                    [
                        {
                            "role": "assistant",
                            "parts": [{"type": "text", "content": "Sunny."}],
                            "finish_reason": "end_turn",
                        }
                    ]
                )
            },
        ),
    ]
    (call,) = read(CHAT, events).model_calls
    expected = [
        ("system", "Be kind."),
        ("user", "Hi"),
        ("assistant", ("a", "f", "{}")),
        ("tool", ("a", "sunny")),
    ]
    assert expected == brief(call.messages)
    assert call.output is not None
    assert ("Sunny.", "stop", frozenset()) == (call.output.text, call.finish_reason, call.flags)


TOOL = {
    "gen_ai.operation.name": "execute_tool",
    "gen_ai.tool.name": "f",
    "gen_ai.tool.call.id": "a",
    "gen_ai.tool.description": "The weather.",
    "gen_ai.tool.json_schema": json.dumps(SCHEMA),
    "gen_ai.tool.status": "error",
}


def test_a_tool_span_tells_call_and_result_as_messages():
    """The tool message is the call, the choice its result."""
    events = [
        ("gen_ai.tool.message", {"role": "tool", "content": '{"city": "Paris"}', "id": "a"}),
        ("gen_ai.choice", {"message": blocks({"text": "no city"}), "id": "a"}),
    ]
    (execution,) = read(TOOL, events, status=SpanStatus.OK).tool_executions
    assert ("f", "a", '{"city": "Paris"}', "no city", ToolStatus.ERROR) == (
        execution.name,
        execution.call_id,
        execution.arguments,
        execution.result,
        execution.status,
    )
    schema = json.dumps(SCHEMA, separators=(",", ":"))
    assert ToolDefinition(name="f", description="The weather.", parameters=schema) == execution.definition


def test_a_tool_span_of_the_newer_form():
    """Call and result are parts in two details events."""
    asked = {"type": "tool_call", "name": "f", "id": "a", "arguments": {"city": "Paris"}}
    told = {"type": "tool_call_response", "id": "a", "response": [{"text": "sunny"}]}
    events = [
        (DETAILS, {"gen_ai.input.messages": json.dumps([{"role": "tool", "parts": [asked]}])}),
        (DETAILS, {"gen_ai.output.messages": json.dumps([{"role": "tool", "parts": [told]}])}),
    ]
    (execution,) = read(TOOL, events).tool_executions
    assert ('{"city":"Paris"}', "sunny") == (execution.arguments, execution.result)


def test_only_chat_spans_are_model_calls():
    """The agent and the cycles of its loop repeat the messages; the agent names the tools."""
    agent = {**CHAT, "gen_ai.operation.name": "invoke_agent", "gen_ai.agent.tools": '["f", "g"]'}
    run = read(agent, EVENTS, name="invoke_agent x")
    cycle = read({"event_loop.cycle_id": "1", "gen_ai.request.model": "m"}, EVENTS, name="execute_event_loop_cycle")
    assert ((), ()) == (run.model_calls, cycle.model_calls)
    assert run.agent is not None
    assert cycle.agent is not None
    assert (True, (ToolDefinition(name="f"), ToolDefinition(name="g"))) == (run.agent.is_agent, run.agent.tools)
    assert cycle.agent.is_agent is False
