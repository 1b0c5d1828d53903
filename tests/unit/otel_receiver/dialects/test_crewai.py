"""CrewAI as OpenInference shows it: wrappers around the client's own spans, or the event listener's spans."""

from __future__ import annotations

import json

import pytest

from otel_receiver.dialects.registry import read_span
from spanloop.records import ToolDefinition
from tests.unit.otel_receiver.dialects.factories import brief, make_span

SCOPE = "openinference.instrumentation.crewai._event_listener"
HEAD = "llm.input_messages.1.message.tool_calls.0.tool_call"


def llm(attributes, **fields):
    """The event listener's model call."""
    span = make_span({"openinference.span.kind": "LLM", **attributes}, "m.llm_call", scope_name=SCOPE, **fields)
    (call,) = read_span(span).model_calls
    return call


def test_tool_calls_stand_in_the_output_alone():
    """An answer that calls tools has no output messages: the raw output is the list of its calls."""
    called = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": "sky"}'}, "index": 0}
    call = llm({"output.value": json.dumps([called, {**called, "id": "c2", "index": 1}])})
    assert call.output is not None
    looks = (("c1", "look", '{"at": "sky"}'), ("c2", "look", '{"at": "sky"}'))
    assert [("assistant", *looks)] == brief([call.output])


def test_quotes_around_names_and_arguments_are_the_listeners():
    """A history's calls are written as reprs of strings; the tool's name has no quotes."""
    attributes = {
        "llm.input_messages.0.message.role": "user",
        "llm.input_messages.0.message.content": "'Well?'",
        "llm.input_messages.1.message.role": "assistant",
        f"{HEAD}.id": "c1",
        f"{HEAD}.function.name": "'look'",
        f"{HEAD}.function.arguments": '\'{"at": "it\\\'s"}\'',
    }
    call = llm(attributes)
    assert [("user", "'Well?'"), ("assistant", ("c1", "look", '{"at": "it\'s"}'))] == brief(call.messages)


def test_a_results_tool_is_named_in_the_raw_request():
    """The listener's own messages leave it out."""
    raw = [{"role": "user", "content": "Well?"}, {"role": "tool", "tool_call_id": "c1", "name": "look", "content": "x"}]
    attributes = {
        "input.value": json.dumps(raw),
        "llm.input_messages.0.message.role": "user",
        "llm.input_messages.0.message.content": "Well?",
        "llm.input_messages.1.message.role": "tool",
        "llm.input_messages.1.message.content": "x",
        "llm.input_messages.1.message.tool_call_id": "c1",
    }
    assert [None, "look"] == [message.name for message in llm(attributes).messages]


def test_a_schema_is_whole_again():
    """Below its fifth level the listener writes reprs; what they say is the schema that was offered."""
    schema = {
        "type": "object",
        "properties": {"at": "{'type': 'array', 'items': {'enum': ['sky', \"sea's\"]}, 'default': None}"},
        "required": ["'at'"],
        "additionalProperties": False,
    }
    function = {"name": "look", "description": "{'Looks'}", "parameters": schema, "strict": True}
    call = llm({"llm.tools": json.dumps([{"type": "function", "function": function}])})
    expected = (
        '{"type":"object","properties":{"at":{"type":"array","items":{"enum":["sky","sea\'s"]},"default":null}},'
        '"required":["at"],"additionalProperties":false}'
    )
    assert call.tools == (ToolDefinition(name="look", description="{'Looks'}", parameters=expected),)


def test_an_agent_goes_by_its_role():
    """The agent's span names it as a node of the graph; nodes that have a name as well go by that."""
    attributes = {"openinference.span.kind": "AGENT", "graph.node.id": "weather"}
    assert read_span(make_span(attributes)).context.agent_name == "weather"
    named = {**attributes, "graph.node.name": "the weather"}
    assert read_span(make_span(named)).context.agent_name == "the weather"


@pytest.mark.parametrize("kind", ["CHAIN", "LLM", "TOOL"])
def test_nodes_that_are_no_agents_name_none(kind):
    """A step of a graph is no agent."""
    reading = read_span(make_span({"openinference.span.kind": kind, "graph.node.id": "weather"}))
    assert reading.context.agent_name is None
