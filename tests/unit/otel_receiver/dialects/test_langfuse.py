"""Langfuse SDK: observations by type, with their input and output as JSON text."""

from __future__ import annotations

import json

import pytest

from otel_receiver.dialects.base import AgentRun
from otel_receiver.dialects.registry import read_span
from otel_receiver.spans import SpanStatus
from spanloop.records import ToolDefinition, Usage
from tests.unit.otel_receiver.dialects.factories import brief, make_span

FUNCTION = {"name": "f", "description": "weather", "parameters": {"type": "object"}}
GENERATION = {
    "langfuse.observation.type": "generation",
    "langfuse.observation.input": json.dumps(
        {"tools": [{"type": "function", "function": FUNCTION}], "messages": [{"role": "user", "content": "Hi"}]}
    ),
    "langfuse.observation.output": json.dumps(
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"city": "Paris"}'}}
            ],
        }
    ),
    "langfuse.observation.model.name": "m-2025",
    "langfuse.observation.model.parameters": '{"temperature": 0.2, "max_tokens": "Infinity"}',
    "langfuse.observation.usage_details": '{"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}',
    "langfuse.observation.completion_start_time": '"2026-11-23T19:38:15.680472Z"',
    "langfuse.observation.metadata.finish_reason": '"tool_calls"',
    "session.id": "s1",
    "user.id": "u1",
}


def read_call(attributes, **fields):
    """The model call of a span with these attributes."""
    (call,) = read_span(make_span(attributes, **fields)).model_calls
    return call


def test_a_generation_is_a_model_call():
    """Prompt, tools, answer, counts, finish reason and model of a generation come out whole."""
    call = read_call(GENERATION)
    assert call.output is not None
    assert [("user", "Hi")] == brief(call.messages)
    assert [("assistant", ("a", "f", '{"city": "Paris"}'))] == brief([call.output])
    assert (ToolDefinition(name="f", description="weather", parameters='{"type":"object"}'),) == call.tools
    assert ("m-2025", "tool_calls", True) == (call.response_model, call.finish_reason, call.streamed)
    assert (Usage(input_tokens=9, output_tokens=2), frozenset()) == (call.usage, call.flags)


def test_context_of_an_observation():
    """Session and user are on every observation; an agent observation's name is the agent's."""
    context = read_span(make_span({**GENERATION, "langfuse.observation.type": "agent"}, name="planner")).context
    assert ("langfuse", "s1", "u1", "planner") == (
        context.dialect,
        context.conversation_id,
        context.user_id,
        context.agent_name,
    )


def test_older_sessions_have_their_own_key():
    """Older SDKs write `langfuse.session.id`."""
    attributes = {"langfuse.observation.type": "span", "langfuse.session.id": "s2", "langfuse.user.id": "u2"}
    context = read_span(make_span(attributes)).context
    assert ("s2", "u2") == (context.conversation_id, context.user_id)


def test_a_span_with_a_model_is_a_generation():
    """Python SDKs up to 3.3.0 wrote generations as spans."""
    assert [("user", "Hi")] == brief(read_call({**GENERATION, "langfuse.observation.type": "span"}).messages)


def test_a_failed_generation_has_the_model_asked_for():
    """Without an answer the one model name carried is the request's."""
    attributes = {key: value for key, value in GENERATION.items() if not key.endswith(".output")}
    call = read_call(attributes, status=SpanStatus.ERROR)
    assert ("m-2025", None, None) == (call.model, call.response_model, call.output)


@pytest.mark.parametrize(
    ("output", "text"), [("Yo", "Yo"), ('"Yo"', "Yo"), ('{"role": "assistant", "content": "Yo"}', "Yo")]
)
def test_an_answer_may_be_text(output, text):
    """A streamed text is carried bare, other SDKs' text as a JSON literal, an answer of the wrapper as a message."""
    call = read_call({**GENERATION, "langfuse.observation.output": output})
    assert call.output is not None
    assert text == call.output.text


@pytest.mark.parametrize(
    ("details", "usage"),
    [
        (
            {"input": 5, "output": 2, "input_cached_tokens": 4, "output_reasoning_tokens": 1},
            Usage(input_tokens=9, output_tokens=2, cache_read_tokens=4, reasoning_tokens=1),
        ),
        ({"input_tokens": 9, "output_tokens": 2}, Usage(input_tokens=9, output_tokens=2)),
    ],
)
def test_counts_in_langfuses_words_and_in_a_providers(details, usage):
    """Langfuse's own `input` leaves cached tokens out, so they are added to it."""
    assert usage == read_call({**GENERATION, "langfuse.observation.usage_details": json.dumps(details)}).usage


@pytest.mark.parametrize(("carried", "result"), [("sunny", "sunny"), ('"sunny"', "sunny"), ('{"a": 1}', '{"a": 1}')])
def test_a_tool_observation(carried, result):
    """Arguments are the observed function's keywords, the result is its output."""
    attributes = {
        "langfuse.observation.type": "tool",
        "langfuse.observation.input": '{"args": [], "kwargs": {"city": "Paris"}}',
        "langfuse.observation.output": carried,
    }
    (execution,) = read_span(make_span(attributes, name="f")).tool_executions
    assert ("f", '{"city":"Paris"}', result) == (execution.name, execution.arguments, execution.result)


def test_langchains_handler_puts_the_tools_behind_the_messages():
    """What it writes as a message of the role tool that answers no call is a definition; a real result stays."""
    told = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "", "tool_calls": [{"name": "f", "args": {}, "id": "a", "type": "tool_call"}]},
        {"role": "tool", "content": "sunny", "tool_call_id": "a"},
        {"role": "tool", "content": {"type": "function", "function": FUNCTION}},
    ]
    call = read_call({**GENERATION, "langfuse.observation.input": json.dumps(told)})
    assert [("user", "Hi"), ("assistant", ("a", "f", "{}")), ("tool", ("a", "sunny"))] == brief(call.messages)
    assert (ToolDefinition(name="f", description="weather", parameters='{"type":"object"}'),) == call.tools


def test_langchains_handler_names_the_model_asked_for_and_writes_whole_answers():
    """Its metadata tells the request's model; of a streamed answer it knows no other, and no finish reason."""
    attributes = {
        **GENERATION,
        "langfuse.observation.metadata.ls_provider": '"openai"',
        "langfuse.observation.metadata.ls_model_name": '"m"',
    }
    call = read_call(attributes)
    assert ("m", "m-2025", True) == (call.model, call.response_model, call.is_whole)
    call = read_call({**attributes, "langfuse.observation.model.name": "m"})
    assert ("m", None) == (call.model, call.response_model)
    assert not read_call(GENERATION).is_whole


def test_a_level_of_error_is_a_failure():
    """SDKs up to 3.3 leave the status of a failed observation unset."""
    attributes = {
        **GENERATION,
        "langfuse.observation.level": "ERROR",
        "langfuse.observation.status_message": "overloaded",
    }
    span = read_span(make_span(attributes)).span
    assert (True, "overloaded") == (span.failed, span.error)


def test_a_tool_that_langchain_ran():
    """Its arguments are the text of a Python dictionary, its call's id stands in the metadata."""
    attributes = {
        "langfuse.observation.type": "tool",
        "langfuse.observation.input": "{'city': 'Paris'}",
        "langfuse.observation.metadata.tool_call_id": '"call_1"',
    }
    (execution,) = read_span(make_span(attributes, name="f")).tool_executions
    assert ("call_1", '{"city":"Paris"}') == (execution.call_id, execution.arguments)


@pytest.mark.parametrize(
    ("kind", "agent"),
    [
        ("agent", AgentRun(is_agent=True)),
        ("chain", AgentRun(is_agent=False)),
        ("span", AgentRun(is_agent=False)),
        ("evaluator", AgentRun(is_agent=False, auxiliary=True)),
        ("embedding", None),
        ("retriever", None),
        ("event", None),
    ],
)
def test_runs_by_type(kind, agent):
    """Agents, chains, spans and evaluators are runs; the rest says nothing."""
    reading = read_span(make_span({"langfuse.observation.type": kind}))
    assert (agent, ()) == (reading.agent, reading.model_calls)
