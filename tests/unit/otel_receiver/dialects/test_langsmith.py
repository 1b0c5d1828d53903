"""LangSmith in OTel mode around what is no LangChain: wrapped clients, traced functions, other SDKs' runs."""

from __future__ import annotations

import json

import pytest

from otel_receiver.dialects.registry import read_span
from otel_receiver.spans import SpanStatus
from spanloop.records import ToolStatus, Usage
from tests.unit.otel_receiver.dialects.factories import brief, make_event, make_span

ASKED = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


def read_run(kind, asked, told, *, extra=None, **fields):
    """The reading of a run of this kind with these inputs and outputs."""
    attributes = {
        "langsmith.span.kind": kind,
        "langsmith.trace.name": "f",
        "gen_ai.prompt": json.dumps(asked),
        "gen_ai.completion": json.dumps(told),
        **(extra or {}),
    }
    return read_span(make_span(attributes, "f", **fields))


def read_call(asked, told, **fields):
    """The model call of an llm run."""
    (call,) = read_run("llm", asked, told, **fields).model_calls
    return call


@pytest.mark.parametrize(
    "told", ["Hello.", {"role": "assistant", "content": "Hello."}, [{"role": "assistant", "content": "Hello."}]]
)
def test_a_traced_functions_answer(told):
    """What a traced function returns stands under `output`: text, a message, a list of messages."""
    call = read_call(ASKED, {"output": told})
    assert call.output is not None
    assert ([("user", "Hi")], [("assistant", "Hello.")]) == (brief(call.messages), brief([call.output]))


def test_a_failed_call_has_no_answer():
    """The outputs of a failed run are empty; the error is the stack trace's, of which the first line counts."""
    message = "ValueError('no such city')\n\nTraceback (most recent call last):\n  File \"x.py\", line 1, in f\n"
    event = make_event("exception", {"exception.type": "Exception", "exception.message": message})
    reading = read_run("llm", ASKED, {"output": None}, status=SpanStatus.ERROR, events=(event,))
    assert (None, "ValueError('no such city')") == (reading.model_calls[0].output, reading.span.error)


def test_usage_that_only_the_metadata_tell():
    """Runs of other SDKs tell their usage in the metadata."""
    counted = {"input_tokens": 5, "output_tokens": 2, "input_token_details": {"cache_read": 3}}
    extra = {"langsmith.metadata.usage_metadata": json.dumps(counted)}
    call = read_call(ASKED, {"role": "assistant", "content": "Hello."}, extra=extra)
    assert Usage(input_tokens=5, output_tokens=2, cache_read_tokens=3) == call.usage


def test_blobs_may_be_bytes():
    """Older versions write the blobs as bytes, and the usage as a structure."""
    attributes = {
        "langsmith.span.kind": "llm",
        "gen_ai.prompt": json.dumps(ASKED).encode(),
        "gen_ai.completion": json.dumps({"role": "assistant", "content": "Grüezi."}, ensure_ascii=False).encode(),
        "langsmith.metadata.usage_metadata": {"input_tokens": 5, "output_tokens": 2},
    }
    (call,) = read_span(make_span(attributes)).model_calls
    assert call.output is not None
    assert [("user", "Hi"), ("assistant", "Grüezi.")] == brief([*call.messages, call.output])
    assert ("m", Usage(input_tokens=5, output_tokens=2), frozenset()) == (call.model, call.usage, call.flags)
    tool = {**attributes, "langsmith.span.kind": "tool", "gen_ai.prompt": b'{"a":1}', "gen_ai.completion": b'{"b":2}'}
    (execution,) = read_span(make_span(tool)).tool_executions
    assert ('{"a":1}', '{"b":2}') == (execution.arguments, execution.result)


def test_a_wrapped_responses_client():
    """Requests and responses of the Responses API, and the response that the request goes on from."""
    asked = {"model": "m", "instructions": "Be brief.", "input": "Hi", "previous_response_id": "r0"}
    said = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hello."}]}
    call = read_call(asked, {"id": "r1", "model": "m-2025", "output": [said], "status": "completed"})
    assert call.output is not None
    assert [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello.")] == brief([*call.messages, call.output])
    assert ("r0", "r1", "stop") == (call.continues_response_id, call.response_id, call.finish_reason)


@pytest.mark.parametrize(
    ("asked", "arguments"),
    [
        ({"city": "Paris"}, '{"city": "Paris"}'),
        ({"input": "{'city': 'Paris'}"}, '{"city":"Paris"}'),
        ({"input": '{"city": "Paris"}'}, '{"city":"Paris"}'),
        ({"input": "Paris"}, '{"input": "Paris"}'),
    ],
)
def test_a_tools_arguments(asked, arguments):
    """A traced function's by name; LangChain's as the text of a dictionary; an argument named input stays one."""
    (execution,) = read_run("tool", asked, {"output": "sunny"}).tool_executions
    assert arguments == execution.arguments


@pytest.mark.parametrize(
    ("told", "result", "status"),
    [
        ({"output": "sunny"}, "sunny", ToolStatus.OK),
        ({"output": ["sunny", "warm"]}, "sunny\nwarm", ToolStatus.OK),
        ({"output": None}, None, ToolStatus.ERROR),
        ({"degrees": 21}, '{"degrees": 21}', ToolStatus.OK),
        ({"output": {"content": "sunny", "tool_call_id": "a", "status": "success"}}, "sunny", ToolStatus.OK),
    ],
)
def test_a_tools_result(told, result, status):
    """What a function returned stands under `output`, unless it is a dictionary; a failed one returned nothing."""
    (execution,) = read_run(
        "tool", {}, told, status=SpanStatus.ERROR if status is ToolStatus.ERROR else SpanStatus.OK
    ).tool_executions
    assert (result, status) == (execution.result, execution.status)


def test_a_run_made_with_tools_is_an_agent():
    """The OpenAI Agents SDK's agents tell the names of their tools, and the run is named after the agent."""
    extra = {"gen_ai.tool.definitions": '["get_weather"]', "langsmith.trace.name": "weather"}
    reading = read_run("chain", {}, {}, extra=extra)
    assert reading.agent is not None
    assert reading.agent.tools is not None
    assert (True, ["get_weather"], "weather") == (
        reading.agent.is_agent,
        [tool.name for tool in reading.agent.tools],
        reading.context.agent_name,
    )
    assert read_run("chain", {}, {}).context.agent_name is None
