"""OpenInference spans that a Collector's normaliser rewrote, with or without what they had."""

from __future__ import annotations

import json

import pytest

from otel_receiver.dialects.registry import read_span
from spanloop.records import QualityFlag
from tests.unit.otel_receiver.dialects.factories import brief, make_span

CALL = {"type": "tool_call", "id": "a", "name": "f", "arguments": {}}
REWRITTEN = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "m-2025",
    "gen_ai.input.messages": json.dumps([{"role": "user", "parts": [{"type": "text", "content": "Hi"}]}]),
    "gen_ai.output.messages": json.dumps([{"role": "assistant", "parts": [CALL]}]),
    "llm.invocation_parameters": '{"model":"m"}',
}
RESPONSE = (
    '{"id":"r1","choices":[{"message":{"role":"assistant","content":"Let me check.",'
    '"tool_calls":[{"id":"a","function":{"name":"f","arguments":"{}"}}]}}]}'
)
SCOPE = "openinference.instrumentation.openai"


def read(attributes, scope=SCOPE, **fields):
    """The reading of such a span."""
    return read_span(make_span(attributes, scope_name=scope, **fields))


def test_a_renamed_span_is_read_as_what_it_was():
    """The answering model, which took the place of the one asked for, is told apart by the parameters."""
    reading = read({**REWRITTEN, "output.value": RESPONSE})
    (call,) = reading.model_calls
    assert ("openinference", "m", "m-2025") == (reading.context.dialect, call.model, call.response_model)
    assert [("assistant", "Let me check.", ("a", "f", "{}"))] == brief([call.output])
    assert call.lossy_history


def test_text_that_no_raw_value_has_is_flagged():
    """The normaliser drops the text beside calls; without the raw response it stands nowhere."""
    (call,) = read(REWRITTEN).model_calls
    assert QualityFlag.TEXT_DROPPED in call.flags


@pytest.mark.parametrize(("named", "is_agent"), [({"gen_ai.agent.name": "w"}, True), ({}, False)])
def test_chains_and_agents_have_one_operation(named, is_agent):
    """A run that names no agent is a chain: else each node of a graph were an agent."""
    run = read({"gen_ai.operation.name": "invoke_agent", **named}).agent
    assert is_agent is run.is_agent


def test_the_preparation_of_a_call_stays_no_call():
    """What a flavour knows of its spans' names holds after the rewriting too."""
    scope = "openinference.instrumentation.llama_index"
    assert () == read(REWRITTEN, scope, name="OpenAI._prepare_chat_with_tools").model_calls


def test_a_copied_model_is_not_the_one_asked_for():
    """A normaliser that keeps what it renames copies the answering model to the key of the one asked for."""
    kept = {**REWRITTEN, "openinference.span.kind": "LLM", "llm.model_name": "m-2025"}
    (call,) = read(kept).model_calls
    assert ("m", "m-2025") == (call.model, call.response_model)
