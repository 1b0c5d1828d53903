"""What AgentOps' instrumentations write otherwise than OpenLLMetry, from which they come."""

from __future__ import annotations

import pytest

from otel_receiver.dialects.registry import read_span
from spanloop.records import ToolDefinition
from tests.unit.otel_receiver.dialects.factories import make_span

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


@pytest.mark.parametrize("reason", ["tool_calls", "stop"])
def test_an_answer_that_says_its_role_alone_is_not_told(reason):
    """Calls stand in spans of their own, and the next history has them; a role is no answer."""
    (call,) = read_span(make_span({**CALL, "gen_ai.completion.0.finish_reason": reason})).model_calls
    assert (None, reason, frozenset()) == (call.output, call.finish_reason, call.flags)
