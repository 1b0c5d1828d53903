"""OTel's first instrumentation of the OpenAI Agents SDK: reprs in place of items, a stand-in for the agent's name."""

from __future__ import annotations

import json

import pytest

from otel_receiver.dialects.registry import read_span
from spanloop.records import QualityFlag
from tests.unit.otel_receiver.dialects.factories import brief, make_span

SCOPE = "opentelemetry.instrumentation.openai_agents"
ITEM = "ResponseFunctionToolCall(arguments='{\"c\": 1}', call_id='a', name='f', type='function_call', id='fc_a')"
MESSAGE = (
    "{'content': None, 'role': 'assistant', 'tool_calls': [{'id': 'a', 'function': {'arguments': '{\"c\": 1}', "
    "'name': 'f'}, 'type': 'function'}]}"
)


def read(output, messages=(), **fields):
    """The reading of a call that answers with this text."""

    def said(role, words):
        return {"role": role, "parts": [{"type": "text", "content": words}]}

    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.agent.name": "OpenAI Agent",
        "gen_ai.request.model": "m",
        "gen_ai.input.messages": json.dumps([said(role, words) for role, words in messages]),
        "gen_ai.output.messages": json.dumps([said("assistant", output)]),
    }
    return read_span(make_span(attributes, scope_name=SCOPE, **fields))


@pytest.mark.parametrize("output", [ITEM, MESSAGE])
def test_a_repr_of_a_call_is_a_call(output):
    """An answer without text is the repr of the Responses item, or of the chat message."""
    (call,) = read(output).model_calls
    assert [("assistant", ("a", "f", '{"c": 1}'))] == brief([call.output])


def test_a_repr_of_a_text_is_the_text():
    """Earlier answers stand in the prompt as reprs of their text items; a user's words are never read as one."""
    item = "{'annotations': [], 'text': 'Let me check.', 'type': 'output_text'}"
    (call,) = read("Done.", [("user", item), ("assistant", item)]).model_calls
    assert [("user", item), ("assistant", "Let me check.")] == brief(call.messages)


def test_untold_instructions_are_flagged():
    """Of the Responses API the instructions are never told; a chat prompt that has them is whole."""
    (bare,) = read("Done.", [("user", "Hi")]).model_calls
    (whole,) = read("Done.", [("system", "Be brief."), ("user", "Hi")]).model_calls
    assert (True, False) == tuple(QualityFlag.SYSTEM_MISSING in call.flags for call in (bare, whole))


def test_the_stand_in_for_an_agents_name_names_none():
    """The agent's own span has the name; OpenLLMetry's spans of the same scope, which say a version, are left alone."""
    assert read("Done.").context.agent_name is None
    assert "OpenAI Agent" == read("Done.", scope_version="0.62.4").context.agent_name
