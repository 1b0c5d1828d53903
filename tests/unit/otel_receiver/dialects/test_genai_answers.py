"""Which of the messages a span lists as answers are the answer, and what its reasons are of."""

from __future__ import annotations

import json

import pytest

from otel_receiver.dialects.registry import read_span
from tests.unit.otel_receiver.dialects.factories import brief, make_span
from tests.unit.otel_receiver.dialects.test_genai import CHAT, read_call

TOOL_CALL = {"type": "tool_call", "id": "a", "name": "f", "arguments": {}}


@pytest.mark.parametrize("said", [{"finish_reason": "tool_call"}, {}])
def test_reasons_of_an_answers_items_are_not_reasons_of_choices(said):
    """The Responses API has a reason for each item: the answer's own counts, else that of its calls."""
    answer = {"role": "assistant", "parts": [{"type": "text", "content": "Hm."}, TOOL_CALL], **said}
    held = {"gen_ai.response.finish_reasons": ("stop", "tool_calls"), "gen_ai.output.messages": json.dumps([answer])}
    assert "tool_calls" == read_call(make_span({**CHAT, **held})).finish_reason


def test_the_items_of_one_answer_are_one_message():
    """Items told as a message each: all up to the one that ends the answer are the answer."""
    items = [
        {"role": "assistant", "parts": [TOOL_CALL]},
        {"role": "assistant", "parts": [{**TOOL_CALL, "id": "b"}]},
        {"role": "assistant", "parts": [{"type": "text", "content": "Hm."}], "finish_reason": "completed"},
    ]
    call = read_call(make_span({**CHAT, "gen_ai.output.messages": json.dumps(items)}))
    assert [("assistant", "Hm.", ("a", "f", "{}"), ("b", "f", "{}"))] == brief([call.output])


@pytest.mark.parametrize(
    "held", [{"gen_ai.response.finish_reasons": ("stop", "stop")}, {"gen_ai.request.choice.count": 2}]
)
def test_choices_without_reasons_of_their_own_stay_choices(held):
    """The span lists a reason for each, or says how many were asked for: only the first is the answer."""
    choices = [{"role": "assistant", "parts": [{"type": "text", "content": words}]} for words in ("One", "Two")]
    call = read_call(make_span({**CHAT, **held, "gen_ai.output.messages": json.dumps(choices)}))
    assert [("assistant", "One")] == brief([call.output])


def test_a_text_that_repeats_its_tools_result_is_told_once():
    """A tool's message may hold its result as a text too; another text beside it is said to the model."""
    parts = [{"type": "text", "content": "sunny"}, {"type": "tool_call_response", "id": "a", "result": "sunny"}]
    messages = [{"role": "assistant", "parts": [TOOL_CALL]}, {"role": "tool", "parts": parts}]
    call = read_call(make_span({**CHAT, "gen_ai.input.messages": json.dumps(messages)}))
    assert [("assistant", ("a", "f", "{}")), ("tool", ("a", "sunny"))] == brief(call.messages)


@pytest.mark.parametrize(
    ("conversation", "kind", "is_kept"),
    [
        ("conv_1", "responses", True),
        ("sess-1", "responses", False),
        ("conv_1", "chat_completions", False),
    ],
)
def test_a_conversation_of_openais_holds_the_history(conversation, kind, is_kept):
    """A Responses request that names one sends only what is new; a session of the application's says nothing."""
    held = {"gen_ai.conversation.id": conversation, "openai.api.type": kind}
    assert is_kept is read_call(make_span({**CHAT, **held})).continues_conversation


def test_anthropics_own_span_tells_the_finish_reason_its_own_way():
    """The SDK's telemetry carries no content; its twin may lack what it knows."""
    span = make_span({"gen_ai.operation.name": "chat", "anthropic.message.stop_reason": "tool_use"})
    (call,) = read_span(span).model_calls
    assert "tool_calls" == call.finish_reason
