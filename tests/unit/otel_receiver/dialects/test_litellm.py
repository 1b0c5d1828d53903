"""LiteLLM's callback: the answer's calls apart, and the same call in the provider's words."""

from __future__ import annotations

import json

import pytest

from otel_receiver.dialects.registry import read_span
from otel_receiver.spans import SpanStatus
from spanloop.records import QualityFlag, ToolDefinition, Usage
from tests.unit.otel_receiver.dialects.factories import brief, make_span

CALL = {
    "gen_ai.operation.name": "chat",
    "litellm.call_id": "c1",
    "llm.request.type": "completion",
    "llm.is_streaming": "True",
    "llm.user": "u1",
    "gen_ai.request.model": "m",
    "gen_ai.response.model": "m-2025",
    "gen_ai.response.id": "r1",
    "gen_ai.usage.input_tokens": 9,
    "gen_ai.usage.output_tokens": 2,
    "llm.request.functions.0.name": "f",
    "llm.request.functions.0.parameters": '{"type": "object"}',
    "gen_ai.input.messages": json.dumps(
        [
            {"role": "user", "parts": [{"type": "text", "content": "Hi"}]},
            {
                "role": "assistant",
                "parts": [{"type": "text", "content": ""}],
                "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
            },
            {"role": "tool", "parts": [{"type": "text", "content": "sunny"}], "tool_call_id": "a"},
        ]
    ),
    "gen_ai.output.messages": json.dumps(
        [{"role": "assistant", "parts": [{"type": "text", "content": "Wait."}], "finish_reason": "tool_calls"}]
    ),
    "gen_ai.response.finish_reasons": '["tool_calls"]',
    "gen_ai.completion.0.function_call.name": "f",
    "gen_ai.completion.0.function_call.arguments": '{"city": "Paris"}',
    "gen_ai.completion.1.function_call.name": "f",
    "gen_ai.completion.1.function_call.arguments": '{"city": "Rome"}',
}
CHOICES = [
    {
        "finish_reason": "tool_calls",
        "index": 0,
        "message": {
            "content": "It's fine.",
            "role": "assistant",
            "tool_calls": [{"id": "b", "function": {"arguments": "{}", "name": "f"}, "type": "function"}],
        },
    }
]
RAW = {
    "llm.openai.messages": str([{"role": "user", "content": "Hi"}]),
    "llm.openai.tools": str([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]),
    "llm.openai.temperature": 0.2,
    "llm.openai.id": "r1",
    "llm.openai.choices": str(CHOICES),
    "llm.openai.model": "m-2025",
    "llm.openai.usage": "{'completion_tokens': 2, 'prompt_tokens': 9, 'completion_tokens_details': None}",
}


def read_call(attributes, **fields):
    """The model call of a span with these attributes."""
    (call,) = read_span(make_span(attributes, **fields)).model_calls
    return call


def test_an_answers_calls_stand_apart_and_have_no_ids():
    """The index of `gen_ai.completion` counts calls; they join the text of the answer, with made ids and a flag."""
    call = read_call(CALL, name="litellm_request")
    assert call.output is not None
    assert "Wait." == call.output.text
    assert ['{"city": "Paris"}', '{"city": "Rome"}'] == [made.arguments for made in call.output.tool_calls]
    assert ({QualityFlag.IDS_SYNTHESISED}, "tool_calls", True) == (call.flags, call.finish_reason, call.streamed)


def test_histories_hold_calls_beside_parts():
    """Earlier messages carry OpenAI's `tool_calls` and `tool_call_id` beside OTel's parts."""
    assert [("user", "Hi"), ("assistant", ("a", "f", "{}")), ("tool", ("a", "sunny"))] == brief(
        read_call(CALL).messages
    )


def test_the_single_fields_of_a_call():
    """Models, id, counts, tools and user are read from where LiteLLM writes them."""
    reading = read_span(make_span(CALL))
    (call,) = reading.model_calls
    assert ("m", "m-2025", "r1") == (call.model, call.response_model, call.response_id)
    assert (Usage(input_tokens=9, output_tokens=2), "litellm", "u1") == (
        call.usage,
        reading.context.dialect,
        reading.context.user_id,
    )
    assert (ToolDefinition(name="f", parameters='{"type":"object"}'),) == call.tools


def test_calls_without_text_are_the_answer():
    """An answer of calls only has no text, and no call is told twice."""
    output = json.dumps([{"role": "assistant", "parts": [], "finish_reason": "tool_calls"}])
    call = read_call({**CALL, "gen_ai.output.messages": output})
    assert call.output is not None
    assert ("", 2) == (call.output.text, len(call.output.tool_calls))


def test_a_failed_calls_id_is_not_the_providers():
    """Of a failed call the response id repeats LiteLLM's own call id."""
    held = {key: value for key, value in CALL.items() if not key.startswith(("gen_ai.output", "gen_ai.completion"))}
    call = read_call({**held, "gen_ai.response.id": "c1"}, status=SpanStatus.ERROR)
    assert (None, None) == (call.response_id, call.output)


@pytest.mark.parametrize("kind", ["completion", "acompletion"])
def test_older_versions_name_no_operation(kind):
    """The request's type tells a call, and messages are indexed."""
    attributes = {
        "litellm.call_id": "c1",
        "llm.request.type": kind,
        "gen_ai.prompt.0.role": "user",
        "gen_ai.prompt.0.content": "Hi",
        "gen_ai.completion.0.role": "assistant",
        "gen_ai.completion.0.content": "Yo",
    }
    call = read_call(attributes, name="litellm_request")
    assert call.output is not None
    assert ([("user", "Hi")], "Yo") == (brief(call.messages), call.output.text)


def test_the_raw_span_repeats_the_call_with_ids():
    """The provider's request and response, as Python reprs, are read whole."""
    call = read_call(RAW, name="raw_gen_ai_request")
    assert call.output is not None
    assert [("user", "Hi")] == brief(call.messages)
    assert [("assistant", "It's fine.", ("b", "f", "{}"))] == brief([call.output])
    assert ("r1", "tool_calls", Usage(input_tokens=9, output_tokens=2), frozenset()) == (
        call.response_id,
        call.finish_reason,
        call.usage,
        call.flags,
    )


def test_a_raw_span_that_was_cut_says_so():
    """A repr that ends too early is a truncated prompt."""
    call = read_call({**RAW, "llm.openai.messages": RAW["llm.openai.messages"][:-6]}, name="raw_gen_ai_request")
    assert QualityFlag.PROMPT_TRUNCATED in call.flags


def test_an_empty_raw_span_is_nothing():
    """Below a streamed call the raw span carries nothing."""
    assert () == read_span(make_span({}, name="raw_gen_ai_request")).model_calls


def test_the_second_versions_tools_are_counted():
    """It writes only as many definitions as fit; a request that declared more is flagged."""
    told = {
        "gen_ai.operation.name": "chat",
        "litellm.call_id": "c1",
        "gen_ai.input.messages": '[{"role": "user", "content": "Hi"}]',
        "gen_ai.tool.0.name": "f",
        "gen_ai.tool.0.parameters": '{"type": "object"}',
    }
    for declared, flags in ((1, set()), (2, {QualityFlag.PROMPT_TRUNCATED})):
        (call,) = read_span(make_span({**told, "litellm.request.tools.declared": declared})).model_calls
        assert (ToolDefinition(name="f", parameters='{"type":"object"}'),) == call.tools
        assert flags == call.flags
