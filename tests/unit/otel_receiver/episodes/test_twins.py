"""Which spans report one call, and what is kept of each."""

from dataclasses import replace

from otel_receiver.dialects.base import Context
from spanloop.records import QualityFlag, Usage
from tests.unit.otel_receiver.episodes.factories import (
    SYSTEM,
    asks,
    call,
    episodes,
    flags,
    hex_id,
    root,
    says,
    shape,
    spans,
    user,
    weather_run,
)

INNER = Context(dialect="openinference", dialect_version="inner 1", service_name="svc", user_id="u-1")
OUTER = Context(dialect="otel_genai", dialect_version="outer 1", service_name="svc", conversation_id="conv")
ASKED = [SYSTEM, user("Weather?")]


def test_nested_spans_with_equal_answers_are_one_call():
    """A client's span inside a framework's, both with the same answer, is one step with the fields of both."""
    action = says("", asks("c1", "Paris"))
    outer = call(2, 10, ASKED, action, took=20, tools=None, context=OUTER, usage=Usage(input_tokens=5))
    inner = call(3, 12, ASKED, action, took=10, parent=2, context=INNER, response_id="r-1")
    (episode,) = episodes([root(), outer, inner])
    (step,) = episode.steps
    assert ("conv", "u-1") == (episode.conversation_id, episode.user_id)
    assert (hex_id(3, 16), (hex_id(2, 16),)) == (step.span_id, step.merged_span_ids)
    assert ("r-1", 5, "get_weather") == (step.response_id, step.usage.input_tokens, step.tools[0].name)
    assert "duplicate_merged" in flags(step)
    assert outer.span.started_at == step.started_at


def test_nested_spans_with_other_answers_are_two_calls():
    """An inner call that answers something else is no report of the outer one."""
    outer = call(2, 10, ASKED, says("A"), took=20, context=OUTER)
    inner = call(3, 12, [user("Else")], says("B"), parent=2, context=INNER)
    assert [[2], [3]] == shape(episodes([root(), outer, inner]))


def test_a_nested_span_must_lie_within_the_outer_ones_time():
    """A child that goes on after its parent's end by more than closing takes is a call of its own."""
    outer = call(2, 10, ASKED, says("A"), took=20, context=OUTER)
    inner = call(3, 25, ASKED, says("A"), took=100, parent=2, context=INNER)
    assert 2 == len(episodes([root(), outer, inner]))


def test_a_response_id_joins_spans_of_two_instrumentations():
    """A content-free span with the response id of a full one, even in another trace, adds nothing but its id."""
    full = call(2, 10, ASKED, says("A"), context=INNER, response_id="r-1")
    bare = call(9, 11, [], None, trace=4, parent=None, context=OUTER, response_id="r-1", tools=None)
    (episode,) = episodes([root(), full, bare])
    assert (hex_id(2, 16), (hex_id(9, 16),)) == (episode.steps[0].span_id, episode.steps[0].merged_span_ids)


def test_a_call_reported_outside_its_context_meets_the_clients_span():
    """The client's span is the root of another trace; both are one step, in the trace that holds the run."""
    action = says("Let me see.", asks("c1", "Paris"))
    mine = replace(OUTER, agent_name="boss")
    outside = call(2, 10, ASKED, says("", *action.tool_calls), took=20, context=mine, detached=True, finish_reason=None)
    client = call(9, 12, ASKED, action, took=10, trace=4, parent=None, context=INNER, response_id="r-1")
    (episode,) = episodes([root(), outside, client])
    (step,) = episode.steps
    assert (hex_id(2, 16), (hex_id(9, 16),)) == (step.span_id, step.merged_span_ids)
    assert outside.span.trace_id == step.trace_id
    assert ("boss", "conv", "Let me see.", "r-1") == (
        episode.agent_name,
        episode.conversation_id,
        step.action.text,
        step.response_id,
    )


def test_a_call_outside_its_context_is_no_other_call():
    """Another time, another conversation or another sender is another call, however equal prompt and answer are."""
    outside = call(2, 10, ASKED, says("A"), took=20, context=OUTER, detached=True)
    others = [
        call(9, 60, ASKED, says("A"), trace=4, parent=None, context=INNER, took=100),
        call(9, 12, ASKED, says("A"), trace=4, parent=None, context=replace(INNER, conversation_id="else")),
        call(9, 12, ASKED, says("A"), trace=4, parent=None, context=replace(INNER, service_name="else")),
        call(9, 12, ASKED, says("B"), trace=4, parent=None, context=INNER),
    ]
    assert [2, 2, 2, 2] == [len(episodes([root(), outside, other])) for other in others]


def test_a_response_id_that_one_instrumentation_repeats_joins_nothing():
    """A model server that answers every call with one id does not make its calls one."""
    run = [
        replace(reading, model_calls=(replace(reading.model_calls[0], response_id="constant"),))
        for reading in weather_run()
    ]
    (episode,) = episodes([root(), *run])
    assert [set(), set()] == [flags(step) for step in episode.steps]


def test_a_wrapper_that_called_nothing_is_no_step():
    """Of three spans of one call, the one without an answer and the enclosing one are merged into the inner."""
    nothing = call(2, 10, ASKED, None, finish_reason=None, tools=None)
    outer = call(3, 20, ASKED, says("A"), took=20, finish_reason=None)
    inner = call(4, 22, ASKED, says("A"), took=10, parent=3)
    (episode,) = episodes([root(), nothing, outer, inner])
    assert 1 == len(episode.steps)
    assert {hex_id(2, 16), hex_id(3, 16)} == set(episode.steps[0].merged_span_ids)


def test_a_request_span_is_completed_by_the_log_span_beside_it():
    """A request-only span and the sibling that repeats it with the answer are one call over both their times."""
    request = call(2, 10, ASKED, None, finish_reason=None)
    answer = call(3, 50, ASKED, says("A"), took=0)
    (episode,) = episodes([root(), request, answer])
    assert (request.span.started_at, answer.span.ended_at) == (episode.started_at, episode.ended_at)
    assert "A" == episode.steps[0].action.text


def test_an_answer_without_tool_calls_takes_them_from_its_twin():
    """A raw child that has the tool calls completes the outer span's text."""
    outer = call(2, 10, ASKED, says("Hm."), took=20, context=OUTER, finish_reason="tool_calls")
    inner = call(3, 12, ASKED, says("Hm.", asks("c1", "Paris")), took=5, parent=2, context=INNER)
    (episode,) = episodes([root(), outer, inner])
    assert ["c1"] == [part.id for part in episode.steps[0].action.tool_calls]


def test_the_twin_with_the_whole_prompt_gives_the_state():
    """A truncated prompt on one span does not spoil the step if the other span has it whole."""
    cut = frozenset({QualityFlag.PROMPT_TRUNCATED})
    outer = call(2, 10, [user("Weather?")], says("A"), took=20, context=OUTER, flags=cut)
    inner = call(3, 12, ASKED, says("A"), took=5, parent=2, context=INNER)
    (episode,) = episodes([root(), outer, inner])
    assert {"duplicate_merged"} == flags(episode.steps[0])
    assert 2 == len(episode.steps[0].messages)


def test_a_loop_inside_a_model_call_span_keeps_its_steps():
    """A wrapper of model-call kind around a whole run is merged into the call that gave its answer, not into all."""
    run = weather_run(3, 12, parent=2)
    wrapper = call(2, 10, ASKED, says("It is sunny."), took=100, context=OUTER)
    (episode,) = episodes([root(), wrapper, *run])
    assert [3, 4] == spans(episode)
    assert (hex_id(2, 16),) == episode.steps[1].merged_span_ids
    assert run[1].span.started_at == episode.steps[1].started_at


def test_siblings_of_two_instrumentations_are_one_call():
    """Where the context was not handed on, equal prompts and answers at the same time tell the twin."""
    one = call(2, 10, ASKED, says("A"), took=20, context=OUTER)
    other = call(3, 12, ASKED, says("A"), took=10, context=INNER)
    (episode,) = episodes([root(), one, other])
    assert {"duplicate_merged"} == flags(episode.steps[0])
    same_source = call(3, 12, ASKED, says("A"), took=10, context=OUTER)
    assert 2 == len(episodes([root(), one, same_source]))
    later = call(3, 12, ASKED, says("A"), took=30, context=INNER)
    assert 2 == len(episodes([root(), one, later]))
