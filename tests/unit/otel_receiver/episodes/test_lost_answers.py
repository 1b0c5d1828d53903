"""Answers of which a span lost part, completed from the history that repeats them."""

from __future__ import annotations

from dataclasses import replace

from spanloop.records import QualityFlag, ToolCall
from tests.unit.otel_receiver.episodes.factories import (
    SYSTEM,
    asks,
    call,
    episodes,
    flags,
    result,
    root,
    says,
    spans,
    texts,
    user,
)

ASKED = [SYSTEM, user("Weather?")]
ACTION = says("Let me check.", asks("c1", "Paris"), asks("c2", "Rome"))
RESULTS = [result("c1", "sun"), result("c2", "rain")]
CUT = frozenset({QualityFlag.OUTPUT_TRUNCATED})


def run(reported, told=ACTION, results=RESULTS, *, later=None, **fields):
    """The two steps of a run whose first call reports one answer and whose second has another in its history."""
    first = call(2, 10, ASKED, reported, **{"finish_reason": "tool_calls", **fields})
    readings = [root(), first, call(3, 30, [*ASKED, told, *results], says("Done."), **(later or {}))]
    (episode,) = episodes(readings)
    assert [2, 3] == spans(episode)
    return episode.steps


def test_calls_of_which_only_some_are_reported_are_completed():
    """An instrumentation that writes each streamed call over the one before reports the last of them."""
    thought = says("Let me check.", asks("c2", "Rome"), thought="Two cities.")
    steps = run(thought)
    assert says("Let me check.", *ACTION.tool_calls, thought="Two cities.") == steps[0].action
    assert [{"history_repaired"}, set()] == [flags(step) for step in steps]
    assert ["c1", "c2"] == [message.tool_result.call_id for message in steps[0].observations]


def test_other_calls_than_the_reported_ones_are_no_completion():
    """A history whose calls lack the reported one tells of another answer."""
    readings = [
        root(),
        call(2, 10, ASKED, says("Let me check.", asks("c9", "Oslo"))),
        call(3, 30, [*ASKED, ACTION, *RESULTS], says("Done.")),
    ]
    assert [[2], [3]] == [spans(episode) for episode in episodes(readings)]


def test_arguments_that_were_lost_are_restored():
    """Calls without arguments are the history's calls of the same ids; the answer is no longer flagged as cut."""
    empty = says("Let me check.", *(replace(part, arguments="{}") for part in ACTION.tool_calls))
    steps = run(empty, flags=CUT)
    assert ACTION == steps[0].action
    assert [{"history_repaired"}, set()] == [flags(step) for step in steps]


def test_arguments_that_a_history_alters_are_the_answers_own():
    """What the model gave stands, and both are flagged."""
    altered = says("Let me check.", replace(ACTION.tool_calls[0], arguments='{"city": "paris"}'), ACTION.tool_calls[1])
    steps = run(ACTION, altered)
    assert ACTION == steps[0].action
    assert "arguments_altered" in flags(steps[1])


def test_the_beginning_of_an_answer_is_restored():
    """Of a sender that may tell the last chunk alone, a history that has more tells the whole text."""
    first = call(2, 10, ASKED, says("a is sunny."), tail_only=True)
    again = call(3, 30, [*ASKED, says("Roma is sunny."), user("Thanks")], says("Bye."), tail_only=True)
    before, after = episodes([root(), first, again])
    assert says("Roma is sunny.") == before.steps[0].action
    assert ({"history_repaired"}, set()) == (flags(before.steps[0]), flags(after.steps[0]))


def test_the_text_before_calls_is_restored():
    """The last chunk may hold the calls, and an earlier one the text."""
    steps = run(says("", *ACTION.tool_calls), tail_only=True)
    assert ACTION == steps[0].action


def test_an_end_that_agrees_by_chance_is_no_part():
    """Other senders tell whole answers: one that ends as another does is another."""
    first = call(2, 10, ASKED, says("a is sunny."))
    again = call(3, 30, [*ASKED, says("Roma is sunny."), user("Thanks")], says("Bye."))
    before, _ = episodes([root(), first, again])
    assert says("a is sunny.") == before.steps[0].action


def test_an_answer_that_a_history_repeats_empty_is_put_back():
    """A sender that drops text and calls of earlier answers leaves a role, and results without ids."""
    steps = run(ACTION, says(""), [result("", "sun"), result("", "rain")])
    assert ["assistant: Let me check. [c1] [c2]", "tool: sun [c1]", "tool: rain [c2]"] == texts(steps[1].messages[2:])
    assert {"history_repaired"} == flags(steps[1])


def test_an_empty_answer_in_a_history_is_no_answer():
    """What neither the span nor the history tells stays missing."""
    steps = run(None, says(""), [result("", "sun")])
    assert steps[0].action is None
    assert "output_missing" in flags(steps[0])


def test_results_without_ids_are_all_kept():
    """Of an answer whose calls nobody tells, each result is an observation."""
    steps = run(says("Let me check."), says("Let me check."), [result("", "sun"), result("", "rain")])
    assert ["sun", "rain"] == [message.text for message in steps[0].observations]


def test_a_call_without_arguments_may_stay_one():
    """A history that agrees changes nothing."""
    action = says("", ToolCall(id="c1", name="now", arguments="{}"))
    steps = run(action, action, [result("c1", "noon")])
    assert action == steps[0].action
    assert set() == flags(steps[0])
