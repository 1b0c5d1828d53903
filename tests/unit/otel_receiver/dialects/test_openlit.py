"""OpenLIT: content twice, tools only in the log record, histories without tool calls."""

from __future__ import annotations

import json

from otel_receiver.dialects.registry import read_span
from spanloop.records import ToolDefinition
from tests.unit.otel_receiver.dialects.factories import brief, make_log, make_span

SCOPE = "openlit.instrumentation.openai"
INPUT = [
    {"role": "user", "parts": [{"type": "text", "content": "Hi"}]},
    {"role": "tool", "parts": [{"type": "tool_call_response", "id": "a", "response": "sunny"}]},
]
OUTPUT = [
    {
        "role": "assistant",
        "parts": [
            {"type": "text", "content": "Wait."},
            {"type": "tool_call", "id": "b", "name": "f", "arguments": {"city": "Paris"}},
        ],
        "finish_reason": "tool_call",
    }
]
CALL = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "m",
    "gen_ai.request.stream": True,
    "gen_ai.tool.name": "f, g",
    "gen_ai.tool.call.id": "b, c",
    "gen_ai.input.messages": json.dumps(INPUT),
    "gen_ai.output.messages": json.dumps(OUTPUT),
}
RECORD = make_log(
    "gen_ai.client.inference.operation.details",
    attributes={
        "gen_ai.input.messages": tuple(INPUT),
        "gen_ai.output.messages": tuple(OUTPUT),
        "gen_ai.tool.definitions": ({"type": "function", "name": "f", "parameters": {"type": "object"}},),
    },
)


def read(attributes, logs=(), **fields):
    """The reading of a span of OpenLIT's."""
    return read_span(make_span(attributes, scope_name=SCOPE, **fields), logs)


def test_content_that_is_told_twice_is_read_once():
    """The span and its log record hold the same messages; tools stand in the record alone."""
    reading = read(CALL, (RECORD,))
    (call,) = reading.model_calls
    assert call.output is not None
    assert [("user", "Hi"), ("tool", ("a", "sunny"))] == brief(call.messages)
    assert [("assistant", "Wait.", ("b", "f", '{"city":"Paris"}'))] == brief([call.output])
    assert (ToolDefinition(name="f", parameters='{"type":"object"}'),) == call.tools
    assert ("openlit", "tool_calls", True, frozenset()) == (
        reading.context.dialect,
        call.finish_reason,
        call.streamed,
        call.flags,
    )


def test_histories_are_known_to_be_lossy():
    """Earlier tool calls are dropped, so assembly may put them back; the joined tool names make the call no tool."""
    reading = read(CALL)
    assert (True, ()) == (reading.model_calls[0].lossy_history, reading.tool_executions)


def test_reasoning_stands_apart():
    """Reasoning has an attribute of its own and comes before the text."""
    (call,) = read({**CALL, "gen_ai.content.reasoning": "Hm."}).model_calls
    assert call.output is not None
    assert [("assistant", {"reasoning": "Hm."}, "Wait.", ("b", "f", '{"city":"Paris"}'))] == brief([call.output])


def test_other_operations_are_read_as_otel():
    """Tools and agents of OpenLIT's framework instrumentations are OTel's."""
    tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "f", "gen_ai.tool.call.id": "a"}
    agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "planner"}
    (execution,) = read(tool).tool_executions
    run = read(agent)
    assert run.agent is not None
    assert ("f", "a", True, "planner") == (
        execution.name,
        execution.call_id,
        run.agent.is_agent,
        run.context.agent_name,
    )


def test_the_nodes_of_a_graph_are_no_agents():
    """Its spans of nodes say that they invoke an agent; the graph's own names the agent, and so may a node."""
    node = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "model"}
    graph = {"gen_ai.operation.name": "invoke_workflow", "gen_ai.workflow.name": "weather"}
    found = []
    for attributes in (node, {**node, "gen_ai.agent.name": "researcher"}, graph):
        reading = read_span(make_span(attributes, scope_name="openlit.instrumentation.langgraph"))
        assert reading.agent is not None
        found.append((reading.agent.is_agent, reading.context.agent_name))
    assert [(False, None), (True, "researcher"), (False, "weather")] == found
