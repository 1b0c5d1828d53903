"""The built-in checks, with scores by hand."""

from __future__ import annotations

import json

import pytest

from spanloop.records import Message, Role, TextPart, ToolDefinition
from tests.unit.trainer.factories import SEARCH, call, calls, make_answer, make_point, says, user
from trainer.rewards.checks import (
    UnusableSchemaError,
    answer_not_empty,
    finished,
    json_valid,
    no_repeated_tool_call,
    tool_calls_valid,
)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ('{"query": "fish"}', (1.0, None)),
        ('{"query": "fish", "limit": 3}', (1.0, None)),
        ('{"query": 7}', (0.0, "arguments do not fit the schema (type at $.query)")),
        ('{"limit": 3}', (0.0, "arguments do not fit the schema (required at $)")),
        ('{"query": "fish", "limit": 0}', (0.0, "arguments do not fit the schema (minimum at $.limit)")),
        ('{"query": "fish", "q": 1}', (0.0, "arguments do not fit the schema (additionalProperties at $)")),
        ("{query: fish}", (0.0, "arguments are not JSON")),
        ('["fish"]', (0.0, "arguments are not an object")),
    ],
)
def test_a_call_is_held_to_its_tools_schema(arguments, expected):
    """Valid calls score 1, invalid ones 0 with the reason; no argument value stands in a reason."""
    assert expected == tool_calls_valid(make_answer(calls(call("search", arguments))))


def test_the_score_is_the_share_of_valid_calls():
    """One good call of two is one half."""
    message = calls(call("search", '{"query": "a"}'), call("cook", "{}", call_id="c2"))
    assert (0.5, "unknown tool") == tool_calls_valid(make_answer(message))


def test_a_call_left_in_the_text_is_invalid():
    """A malformed call stays text and must not pass as an answer without calls."""
    assert (0.0, "a tool call could not be parsed") == tool_calls_valid(make_answer(says('<tool_call>\n{"name": ')))
    assert (0.0, "a tool call could not be parsed") == json_valid(make_answer(says('<tool_call>\n{"name": ')))


def test_an_answer_without_calls_is_unscored_on_calls():
    """No free credit for not calling tools, and no blame."""
    answer = make_answer(says("Here is your plan."))
    unscored = (None, "no tool calls")
    assert [unscored] * 3 == [tool_calls_valid(answer), json_valid(answer), no_repeated_tool_call(answer)]


def test_a_tool_without_a_schema_takes_any_object():
    """Nothing is known, so nothing is violated."""
    point = make_point(tools=(ToolDefinition(name="clock"),))
    assert (1.0, None) == tool_calls_valid(make_answer(calls(call("clock", '{"zone": "UTC"}')), point=point))


def test_a_broken_schema_is_not_the_answers_fault():
    """The recorded schema is no schema: an error the reward model turns into unscored."""
    point = make_point(tools=(ToolDefinition(name="search", parameters='{"type": 3}'),))
    with pytest.raises(UnusableSchemaError):
        tool_calls_valid(make_answer(calls(call("search", "{}")), point=point))


def test_json_of_the_answer_may_stand_in_a_fence():
    """`where = "answer"` judges the text, as chat models write JSON."""
    fenced = '```json\n{"plan": []}\n```'
    scores = [json_valid(make_answer(says(text)), where="answer") for text in ('{"a": 1}', fenced, "{", "a plan")]
    assert [1.0, 1.0, 0.0, 0.0] == [score for score, _ in scores]


def test_a_call_repeated_within_the_answer_or_the_history_is_redundant():
    """Arguments are compared as JSON values: key order and spaces do not count."""
    history = (user("plan"), calls(call("search", '{"query":"fish","limit":2}')))
    point = make_point(messages=history)
    repeats = call("search", '{"limit": 2, "query": "fish"}', call_id="c2")
    fresh = call("search", '{"query": "rice"}', call_id="c3")
    again = call("search", '{ "query": "rice" }', call_id="c4")
    told = "a call repeats an earlier one"
    assert (0.0, told) == no_repeated_tool_call(make_answer(calls(repeats), point=point))
    assert (1.0, None) == no_repeated_tool_call(make_answer(calls(fresh), point=point))
    assert (pytest.approx(1 / 3), told) == no_repeated_tool_call(make_answer(calls(repeats, fresh, again), point=point))
    assert (1.0, None) == no_repeated_tool_call(make_answer(calls(repeats), point=point), ignore=["search"])


@pytest.mark.parametrize(
    ("message", "finish_reason", "expected"),
    [
        (says("done"), "stop", 1.0),
        (says("done"), None, 1.0),
        (calls(call("search", "{}")), "tool_calls", 1.0),
        (says("  \n"), "stop", 0.0),
        (says(""), "stop", 0.0),
        (says("half a sent"), "length", 0.0),
    ],
)
def test_an_answer_that_is_empty_or_cut_off_is_not_finished(message, finish_reason, expected):
    """Empty, blank and truncated answers score 0."""
    assert expected == finished(make_answer(message, finish_reason=finish_reason))[0]


def test_empty_is_only_about_saying_something():
    """A truncated answer is not empty."""
    assert (1.0, 0.0) == (
        answer_not_empty(make_answer(says("half"), finish_reason="length"))[0],
        answer_not_empty(make_answer(Message(role=Role.ASSISTANT, parts=(TextPart(text=" "),))))[0],
    )


def test_the_factory_tool_has_a_schema():
    """The other tests would pass on a tool that takes anything."""
    assert ["query"] == json.loads(SEARCH.parameters or "")["required"]
