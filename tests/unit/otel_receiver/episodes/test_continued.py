"""Prompts that go on from a response by its id, and failed calls that say nothing of their prompt."""

from __future__ import annotations

from otel_receiver.dialects.base import Context
from otel_receiver.episodes.assemble import assemble, trace_links
from spanloop.records import EndReason, EpisodeStatus
from tests.unit.otel_receiver.episodes.factories import (
    SYSTEM,
    asks,
    call,
    episodes,
    flags,
    result,
    root,
    says,
    shape,
    system,
    texts,
    user,
)

ASKED = [SYSTEM, user("Weather in Paris?")]
ACTION = says("Let me check.", asks("c1", "Paris"))
ANSWER = says("It is sunny.")
TOLD = result("c1", "sunny")


def first(**fields):
    """The call that begins the conversation."""
    return call(2, 10, ASKED, ACTION, response_id="r1", **fields)


def second(messages=(SYSTEM, TOLD), number=3, at=30, **fields):
    """The call that only tells what is new since the first."""
    held = {"response_id": "r2", "continues_response_id": "r1"}
    return call(number, at, messages, ANSWER, **{**held, **fields})


def test_a_prompt_that_goes_on_by_id_is_made_whole():
    """The named call's prompt and answer stand before the new messages; instructions given anew stand once."""
    (episode,) = episodes([root(), first(), second()])
    assert [
        "system: You are helpful.",
        "user: Weather in Paris?",
        "assistant: Let me check. [c1]",
        "tool: sunny [c1]",
    ] == texts(episode.steps[1].messages)
    assert [set(), {"history_repaired"}] == [flags(step) for step in episode.steps]
    assert all(step.trainable for step in episode.steps)


def test_results_before_anything_else_go_on_from_the_response_that_called():
    """A report may leave out the response its request goes on from: only the one that called the tool can be meant."""
    (episode,) = episodes([root(), first(), second(continues_response_id=None)])
    assert 4 == len(episode.steps[1].messages)
    assert [set(), {"history_repaired"}] == [flags(step) for step in episode.steps]


def kept(number, at, messages, answer, **fields):
    """A call of a conversation that the provider keeps."""
    about = Context(dialect="otel_genai", service_name="svc", conversation_id="c")
    held = {"response_id": f"r{number}", "continues_conversation": True, "context": about}
    return call(number, at, messages, answer, **{**held, **fields})


def test_a_conversation_at_the_provider_goes_on_from_its_latest_call():
    """No call names the one before it: their order does, also in another trace."""
    begun = kept(2, 10, [user("Weather in Paris?")], ACTION)
    after = kept(3, 30, [TOLD], ANSWER)
    again = kept(4, 50, [user("And Rome?")], says("Rainy."), trace=2, parent=None)
    first_turn, second_turn = episodes([root(), begun, after, again])
    assert [["user: Weather in Paris?"], 3, 5] == [
        texts(first_turn.steps[0].messages),
        len(first_turn.steps[1].messages),
        len(second_turn.steps[0].messages),
    ]
    assert {"history_repaired"} == flags(second_turn.steps[0])


def test_traces_of_a_conversation_at_the_provider_are_joined():
    """The last call of a trace and the first of the next name the conversation."""
    begun = kept(2, 10, [user("Weather in Paris?")], ANSWER, parent=None)
    again = kept(4, 50, [user("And Rome?")], says("Rainy."), trace=2, parent=None)
    afters = {link.after_hash for link in trace_links([begun])} - {None}
    befores = {link.before_hash for link in trace_links([again])} - {None}
    assert afters & befores


def test_a_system_message_that_is_not_repeated_still_holds():
    """Messages of the system among the earlier input are part of what the model was shown."""
    (episode,) = episodes([root(), first(), second([TOLD])])
    assert "system: You are helpful." == texts(episode.steps[1].messages)[0]


def test_new_instructions_take_the_place_of_the_old():
    """Instructions hold for one call: the earlier ones are not carried over."""
    (episode,) = episodes([root(), first(), second([system("You are very helpful."), TOLD])])
    assert "system: You are very helpful." == texts(episode.steps[1].messages)[0]
    assert 4 == len(episode.steps[1].messages)


def test_the_next_request_goes_on_from_the_last_answer():
    """A chain of ids over two questions is two episodes of one conversation, the second with the whole history."""
    third = second([SYSTEM, user("And Rome?")], 4, 50, response_id="r3", continues_response_id="r2")
    found = episodes([root(), third, second(), first()])
    assert [[2, 3], [4]] == shape(found)
    assert 6 == len(found[1].steps[0].messages)


def test_an_unknown_response_cuts_the_prompt():
    """Where the named response's call is not among the spans, the beginning of the prompt is lost."""
    (episode,) = episodes([root(), second([SYSTEM, user("And Rome?")])])
    assert ({"prompt_truncated"}, False) == (flags(episode.steps[0]), episode.steps[0].trainable)


def test_a_response_id_that_two_calls_share_names_neither():
    """Some model servers send a constant id, which says nothing."""
    twice = call(5, 5, [SYSTEM, user("Hm")], says("Hm."), response_id="r1")
    found = episodes([root(), twice, first(), second()])
    assert "prompt_truncated" in flags(found[-1].steps[-1])


def test_calls_that_name_each_other_are_left_alone():
    """A circle of ids, which no sender means, ends where it began."""
    circle = first(continues_response_id="r2")
    assert {2, 3} == {number for numbers in shape(episodes([root(), circle, second()])) for number in numbers}


def test_the_traces_of_one_chain_meet():
    """A call whose predecessor is in another trace proposes that trace by the response's id."""
    earlier = [root(), call(2, 10, ASKED, ANSWER, response_id="r1")]
    later = [root(trace=2), second([SYSTEM, user("And Rome?")], trace=2)]
    after = {link.after_hash for link in trace_links(earlier)} - {None}
    before = {link.before_hash for link in trace_links(later)} - {None}
    assert after & before
    found = assemble([*earlier, *later], EndReason.IMPORTED).episodes
    assert [[2], [3]] == shape(found)
    assert 4 == len(found[1].steps[0].messages)


def test_a_failed_call_without_content_ends_its_run():
    """A sender that writes content only with an answer leaves a failed call bare: it is the run's last step."""
    failed = call(3, 30, [], None, tools=None, model=None, finish_reason=None, span={"failed": True, "error": "busy"})
    (episode,) = episodes([root(), first(), failed])
    assert ([2, 3], EpisodeStatus.ERROR, "busy") == (
        [int(step.span_id, 16) for step in episode.steps],
        episode.status,
        episode.steps[1].error,
    )
    assert "not_policy" not in flags(episode.steps[1])


def test_a_failed_call_without_content_after_an_answer_is_no_step_of_it():
    """After an answer the run's episode is over; what failed then is not known to belong to it."""
    failed = call(3, 30, [], None, tools=None, model=None, finish_reason=None, span={"failed": True})
    answered = call(2, 10, ASKED, ANSWER)
    found = episodes([root(), answered, failed])
    assert [[2], [3]] == shape(found)
    assert "not_policy" not in flags(found[1])
