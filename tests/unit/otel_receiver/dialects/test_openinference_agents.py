"""The OpenAI Agents SDK under OpenInference."""

from __future__ import annotations

import json

import pytest

from otel_receiver.dialects.registry import read_span
from tests.unit.otel_receiver.dialects.factories import brief, make_span
from tests.unit.otel_receiver.dialects.test_openinference import KIND, llm, read_call


def agents_call(items, **changes):
    """A call of the OpenAI Agents SDK: instructions and items spelled out, the items once more in the raw input."""
    return read_call(llm(input__value=json.dumps(items) if isinstance(items, list) else items, **changes))


def test_a_call_without_arguments_is_whole():
    """openai-agents leaves empty arguments out of the spelled-out messages; its raw input and output have them."""
    made = {"type": "function_call", "call_id": "a", "name": "now", "arguments": "{}"}
    told = {"type": "function_call_output", "call_id": "a", "output": "noon"}
    listed = "llm__input_messages__2__message"
    answer = "llm__output_messages__0__message"
    call = agents_call(
        [{"role": "user", "content": "Hi"}, made, told],
        **{
            f"{listed}__role": "assistant",
            f"{listed}__tool_calls__0__tool_call__id": "a",
            f"{listed}__tool_calls__0__tool_call__function__name": "now",
            "llm__input_messages__3__message__role": "tool",
            "llm__input_messages__3__message__tool_call_id": "a",
            "llm__input_messages__3__message__content": "noon",
            f"{answer}__content": None,
            f"{answer}__tool_calls__0__tool_call__id": "b",
            f"{answer}__tool_calls__0__tool_call__function__name": "now",
            "output__value": json.dumps({"id": "r", "output": [{**made, "call_id": "b"}], "status": "completed"}),
        },
    )
    prompt = [("system", "Be brief."), ("user", "Hi"), ("assistant", ("a", "now", "{}")), ("tool", ("a", "noon"))]
    assert prompt == brief(call.messages)
    assert call.output is not None
    assert ([("assistant", ("b", "now", "{}"))], frozenset()) == (brief([call.output]), call.flags)


@pytest.mark.parametrize("following", ["message", "function_call"])
def test_reasoning_without_a_word_is_no_message(following):
    """An empty reasoning item leaves a gap among the spelled-out messages and nothing in the prompt."""
    said = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hm."}]}
    made = {"type": "function_call", "call_id": "a", "name": "now", "arguments": "{}"}
    item = said if following == "message" else made
    call = agents_call(
        [{"role": "user", "content": "Hi"}, {"type": "reasoning", "id": "rs", "summary": []}, item],
        llm__input_messages__3__message__role="assistant",
        llm__input_messages__3__message__content="Hm." if following == "message" else None,
    )
    told = "Hm." if following == "message" else ("a", "now", "{}")
    assert [("system", "Be brief."), ("user", "Hi"), ("assistant", told)] == brief(call.messages)
    assert frozenset() == call.flags


def test_an_input_that_is_text_is_the_users():
    """openai-agents spells out only inputs that are lists: beside the instructions alone the raw input counts."""
    call = agents_call(
        "What time is it?", llm__input_messages__1__message__role=None, llm__input_messages__1__message__content=None
    )
    assert [("system", "Be brief."), ("user", "What time is it?")] == brief(call.messages)


def test_the_response_tells_which_one_it_goes_on_from():
    """OpenAI's response repeats the id that the request named."""
    told = {"id": "r1", "previous_response_id": "r0", "output": [], "status": "completed"}
    call = agents_call([{"role": "user", "content": "Hi"}], output__value=json.dumps(told))
    assert ("r0", "r1") == (call.continues_response_id, call.response_id)


@pytest.mark.parametrize(
    ("scope", "attributes", "parent", "agent"),
    [
        ("openai_agents", {"graph.node.id": "weather"}, "00f067aa0ba902b7", "weather"),
        ("openai_agents", {}, "00f067aa0ba902b7", "run"),
        ("openai_agents", {}, "", None),
        ("agno", {"graph.node.id": "weather"}, "00f067aa0ba902b7", None),
    ],
)
def test_older_openai_agents_name_the_agent_by_its_node_or_span(scope, attributes, parent, agent):
    """Up to 1.4 the node's id names the agent, before that its span; a root is a workflow's, other ids no names."""
    span = make_span(
        {KIND: "AGENT", **attributes}, "run", scope_name=f"openinference.instrumentation.{scope}", parent_span_id=parent
    )
    assert agent == read_span(span).context.agent_name
