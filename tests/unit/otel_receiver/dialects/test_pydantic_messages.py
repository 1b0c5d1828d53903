"""Pydantic-AI's own messages, as MLflow carries them."""

from __future__ import annotations

import json

from otel_receiver.dialects.registry import read_span
from spanloop.records import QualityFlag, ToolDefinition, ToolStatus, Usage
from tests.unit.otel_receiver.dialects.factories import brief, make_span

SCHEMA = {"type": "object"}
ASKED = {
    "kind": "request",
    "conversation_id": "c1",
    "instructions": "Be brief.",
    "parts": [
        {"part_kind": "system-prompt", "content": "You help."},
        {"part_kind": "user-prompt", "content": ["Look:", {"kind": "image-url", "url": "http://x/a.png"}]},
    ],
}
ANSWER = {
    "kind": "response",
    "parts": [
        {"part_kind": "thinking", "content": "Hm.", "signature": "s", "id": None},
        {"part_kind": "text", "content": "Wait."},
        {"part_kind": "tool-call", "tool_name": "f", "args": {"a": 1}, "tool_call_id": "x"},
        {"part_kind": "tool-call", "tool_name": "f", "args": '{"a": 2}', "tool_call_id": "y"},
    ],
    "usage": {"input_tokens": 9, "output_tokens": 2, "cache_read_tokens": 4, "cache_write_tokens": 1},
    "model_name": "m-2025",
    "provider_response_id": "r1",
    "finish_reason": "tool_call",
}
RESULTS = {
    "kind": "request",
    "conversation_id": "c2",
    "parts": [
        {"part_kind": "tool-return", "tool_name": "f", "content": {"b": 1}, "tool_call_id": "x", "outcome": "success"},
        {"part_kind": "retry-prompt", "tool_name": "f", "content": "No such a.", "tool_call_id": "y"},
        {"part_kind": "retry-prompt", "tool_name": None, "content": "Answer in JSON."},
    ],
}
PARAMETERS = {
    "function_tools": [{"name": "f", "description": "d", "parameters_json_schema": SCHEMA}],
    "output_tools": [{"name": "final_result", "parameters_json_schema": SCHEMA}],
}


def read(messages, answer=ANSWER):
    """The reading of a model call's span with these messages."""
    inputs = {"messages": messages, "model_request_parameters": PARAMETERS}
    attributes = {
        "mlflow.spanType": '"LLM"',
        "mlflow.message.format": '"pydantic_ai"',
        "mlflow.spanInputs": json.dumps(inputs),
        "mlflow.spanOutputs": json.dumps(answer),
        "mlflow.llm.model": '"m"',
    }
    return read_span(make_span(attributes))


def test_a_request_with_everything():
    """Prompts, the last instructions after the system prompt, an earlier answer, results and retries."""
    (call,) = read([ASKED, ANSWER, RESULTS]).model_calls
    assert [
        ("system", "You help."),
        ("system", "Be brief."),
        ("user", "Look:", {"media": "image", "sha256": None, "uri": "http://x/a.png"}),
        ("assistant", {"reasoning": "Hm."}, "Wait.", ("x", "f", '{"a":1}'), ("y", "f", '{"a": 2}')),
        ("tool", ("x", '{"b":1}')),
        ("tool", ("y", "No such a.")),
        ("user", "Answer in JSON."),
    ] == brief(call.messages)
    results = [message.tool_result.status for message in call.messages if message.tool_result is not None]
    assert [ToolStatus.OK, ToolStatus.ERROR] == results
    assert frozenset[QualityFlag]() == call.flags


def test_what_is_said_about_the_answer():
    """Tools of both kinds, models, id, finish reason, counts, and the conversation the last message names."""
    reading = read([ASKED, ANSWER, RESULTS])
    (call,) = reading.model_calls
    schema = '{"type":"object"}'
    assert call.tools == (
        ToolDefinition(name="f", description="d", parameters=schema),
        ToolDefinition(name="final_result", parameters=schema),
    )
    assert ("m", "m-2025", "r1", "tool_calls") == (
        call.model,
        call.response_model,
        call.response_id,
        call.finish_reason,
    )
    assert Usage(input_tokens=9, output_tokens=2, cache_read_tokens=4, cache_write_tokens=1) == call.usage
    assert "c2" == reading.context.conversation_id


def test_an_agents_span_names_the_agent_in_an_attribute():
    """The span itself is named after the method."""
    attributes = {"mlflow.spanType": '"AGENT"', "mlflow.message.format": '"pydantic_ai"', "name": '"weather"'}
    assert "weather" == read_span(make_span(attributes, name="Agent.run_sync")).context.agent_name
