"""What AgentOps' instrumentations write otherwise than OpenLLMetry, from which they come."""

from __future__ import annotations

from otel_receiver.dialects.registry import read_span
from spanloop.records import ToolDefinition
from tests.unit.otel_receiver.dialects.factories import brief, make_span

CALL = {
    "gen_ai.request.type": "chat",
    "gen_ai.request.model": "m",
    "gen_ai.prompt.0.role": "user",
    "gen_ai.prompt.0.content": "Hi",
    "gen_ai.request.functions.0.name": "f",
    "gen_ai.request.functions.0.parameters": '{"type": "object"}',
    "gen_ai.completion.0.role": "assistant",
    "gen_ai.completion.0.finish_reason": "tool_calls",
}


def test_tools_under_the_requests_functions():
    """The list has a name of its own."""
    (call,) = read_span(make_span(CALL)).model_calls
    assert (ToolDefinition(name="f", parameters='{"type":"object"}'),) == call.tools


def test_an_answer_that_only_calls_tools_lacks_no_text():
    """Its calls stand in spans of their own, so a role is all it says; one that stopped should have a text."""
    (call,) = read_span(make_span(CALL)).model_calls
    assert call.output is not None
    assert ([("assistant",)], frozenset()) == (brief([call.output]), call.flags)
    (call,) = read_span(make_span({**CALL, "gen_ai.completion.0.finish_reason": "stop"})).model_calls
    assert {"content_missing"} == call.flags
