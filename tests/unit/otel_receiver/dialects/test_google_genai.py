"""OTel's instrumentation of Google's SDK: chunks kept as messages, stand-in ids, Gemini's schemas."""

from __future__ import annotations

import json

from otel_receiver.dialects.registry import read_span
from spanloop.records import QualityFlag, ToolDefinition
from tests.unit.otel_receiver.dialects.factories import brief, make_span

SCOPE = "opentelemetry.instrumentation.google_genai"


def read_call(messages, output=(), tools=()):
    """The call of a span with these messages."""
    attributes = {
        "gen_ai.operation.name": "generate_content",
        "gen_ai.request.model": "gemini",
        "gen_ai.input.messages": json.dumps(messages),
        "gen_ai.output.messages": json.dumps(output),
        "gen_ai.tool.definitions": json.dumps(tools),
    }
    (call,) = read_span(make_span(attributes, scope_name=SCOPE)).model_calls
    return call


def text(words):
    """A text part."""
    return {"type": "text", "content": words}


def asks(call_id):
    """A call of the tool."""
    return {"type": "tool_call", "id": call_id, "name": "f", "arguments": {}}


def test_the_chunks_of_a_streamed_answer_are_one_message():
    """A chat keeps each chunk as a message of its own; their texts join without anything between them."""
    chunks = [{"role": "assistant", "parts": [part]} for part in (text("Let "), text("me check."), asks("a"), text(""))]
    call = read_call([{"role": "user", "parts": [text("Hi")]}, *chunks])
    assert [("user", "Hi"), ("assistant", "Let me check.", ("a", "f", "{}"))] == brief(call.messages)


def test_chunks_of_the_answer_are_one_text():
    """Up to 0.7 the answer of a stream is told by chunks too, and only the last has a reason."""
    chunks = [{"role": "assistant", "parts": [text(words)]} for words in ("Tomorrow ", "it rains.")]
    call = read_call([], [*chunks[:-1], {**chunks[-1], "finish_reason": "stop"}])
    assert [("assistant", "Tomorrow it rains.")] == brief([call.output])


def test_a_name_with_a_position_is_no_id():
    """The model's call has its id; the SDK's result has a stand-in, which names the tool."""
    told = {"role": "user", "parts": [{"type": "tool_call_response", "id": "f_0", "response": {"result": 1}}]}
    call = read_call([{"role": "assistant", "parts": [text("Hm."), asks("a")]}, told])
    assert ("tool", ("a", '{"result":1}')) == brief(call.messages)[1]
    assert "f" == call.messages[1].tool_result.name


def test_stand_ins_of_calls_are_replaced_and_flagged():
    """On Vertex neither calls nor results have ids: equal stand-ins of two turns are not one call."""
    call = read_call([{"role": "user", "parts": [text("Hi")]}], [{"role": "assistant", "parts": [asks("f_0")]}])
    (made,) = call.output.tool_calls
    assert made.id not in ("f_0", "")
    assert QualityFlag.IDS_SYNTHESISED in call.flags


def test_a_gemini_schema_becomes_json_schema():
    """Gemini's type words are in upper case."""
    tool = {"type": "function", "name": "f", "parameters": {"type": "OBJECT", "properties": {"c": {"type": "STRING"}}}}
    schema = '{"properties":{"c":{"type":"string"}},"type":"object"}'
    (read,) = read_call([], tools=[tool]).tools
    assert json.loads(schema) == json.loads(read.parameters)
    assert ToolDefinition(name="f", parameters=read.parameters) == read
