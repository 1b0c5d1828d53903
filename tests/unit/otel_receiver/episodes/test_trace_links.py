"""The loose ends by which a store joins traces."""

from dataclasses import replace

import pytest

from otel_receiver.dialects.base import SYNTHETIC_ID_PREFIX, Context
from otel_receiver.episodes.assemble import assemble, trace_links
from spanloop.records import EndReason
from tests.unit.otel_receiver.episodes.factories import (
    SYSTEM,
    asks,
    call,
    hex_id,
    result,
    root,
    says,
    tool,
    user,
    weather_run,
)


def ends(readings):
    """All before hashes and all after hashes of the readings."""
    links = trace_links(readings)
    return {link.before_hash for link in links} - {None}, {link.after_hash for link in links} - {None}


def meet(earlier, later):
    """Whether the later readings continue the earlier ones, by hash."""
    return bool(ends(earlier)[1] & ends(later)[0])


def test_calls_in_traces_of_their_own_meet():
    """A call whose history has another trace's call finds it; the first call continues nothing."""
    first, second = weather_run(parent=None)
    assert meet([first], [second])
    assert not meet([second], [first])


def test_a_call_reported_outside_its_context_meets_the_clients_trace():
    """Every such call does, also one that its own trace continues: the client's spans may be all of other traces."""
    readings = weather_run()
    apart = [replace(r, model_calls=tuple(replace(c, detached=True) for c in r.model_calls)) for r in readings]
    clients = [
        call(9, 12, reading.model_calls[0].messages, says("A"), trace=4, parent=None) for reading in readings[:1]
    ]
    assert meet([root(), *apart], clients)
    assert not meet([root(), *readings], clients)


@pytest.mark.parametrize("told", [None, says("Let me check.")])
def test_an_answer_that_may_be_unwhole_meets_the_history_that_has_the_rest(told):
    """No answer, or a stream's without a finish reason: whatever the history has in its place may belong to it."""
    named = Context(service_name="svc", conversation_id="s")
    asked = [SYSTEM, user("Weather?")]
    first = call(2, 10, asked, told, parent=None, streamed=True, finish_reason=None, context=named)
    whole = says("Let me check.", asks("c1", "Paris"))
    history = [*asked, whole, result("c1", "sun")]
    second = call(3, 30, history, says("Sunny."), trace=2, parent=None, context=named)
    assert meet([first], [second])
    other = call(3, 30, [SYSTEM, user("Hi"), *history[2:]], says("Sunny."), trace=2, parent=None, context=named)
    assert not meet([first], [other])


def test_a_whole_trace_has_no_loose_end_before_it():
    """A run that begins with its own question continues nothing; its answer may be continued."""
    before, after = ends([root(), *weather_run()])
    assert set() == before
    assert 1 == len(after)


def test_the_next_turn_of_an_unnamed_conversation_meets_the_last():
    """Without a conversation id the next request's trace finds the one before; with one it stands by itself."""
    first = [root(), *weather_run()]
    told = [*first[2].model_calls[0].messages, says("It is sunny."), user("And in Rome?")]
    unnamed = call(4, 200, told, says("Rainy."), trace=2)
    named = replace(unnamed, context=Context(conversation_id="a"))
    assert meet(first, [unnamed])
    assert not meet(first, [named])
    assert set() == ends([named])[0]


def test_a_history_that_loses_words_meets_the_last_turn_by_whatever_name():
    """What a sender drops of earlier answers is restored from the calls that gave them, in another trace too."""
    first = [root(), *weather_run()]
    told = [*first[2].model_calls[0].messages, says("It is sunny."), user("And in Rome?")]
    named = call(4, 200, told, says("Rainy."), trace=2, context=Context(conversation_id="a"), lossy_history=True)
    assert meet(first, [named])


def test_answers_that_lose_their_calls_meet_by_the_prompt():
    """The answer as reported is not what the history repeats, so the prompt alone proposes; of such senders only."""
    for lossy in (True, False):
        first, second = weather_run(parent=None, lossy_answer=lossy)
        silent = replace(first, model_calls=(replace(first.model_calls[0], output=says("Let me check.")),))
        assert lossy is meet([silent], [second])


@pytest.mark.parametrize(("call_id", "needs"), [("c1", False), (f"{SYNTHETIC_ID_PREFIX}1_0", True)])
def test_a_history_whose_call_ids_were_made_needs_the_trace_before(call_id, needs):
    """A known conversation's new request stands by itself, unless ids in it are named after the calls' own spans."""
    context = Context(conversation_id="c", service_name="svc")
    asked = [SYSTEM, user("Weather?"), says("", asks(call_id, "Paris")), result(call_id, "sun")]
    first = [root(), call(2, 10, asked, says("Sunny."), context=context)]
    later = [call(5, 90, [*asked, says("Sunny."), user("And in Rome?")], says("Rain."), trace=2, context=context)]
    assert needs == meet(first, later)


def test_orphan_results_find_the_call_they_answer():
    """A history that dropped the answer is joined by the ids of its calls."""
    first, second = weather_run(parent=None)
    poor = replace(second.model_calls[0], messages=(SYSTEM, user("Weather in Paris?"), result("c2", "sunny")))
    assert meet([first], [replace(second, model_calls=(poor,))])


def test_content_free_twins_meet_by_response_id():
    """A bare span elsewhere finds the call with its response id."""
    full = call(2, 10, [SYSTEM, user("A")], says("B"), response_id="r")
    bare = call(9, 11, [], None, trace=4, parent=None, response_id="r")
    assert meet([root(), full], [bare])


def test_a_continued_call_meets_its_content_free_twin():
    """The client's own spans may lie in other traces for every call of a run, not only for its last."""
    first, second = weather_run()
    named = replace(first, model_calls=(replace(first.model_calls[0], response_id="r1"),))
    twin = call(9, 12, [], None, trace=4, parent=None, response_id="r1")
    assert meet([root(), named, second], [twin])


def test_a_call_without_its_answer_meets_the_history_that_has_it():
    """A sender may not tell a streamed answer; a failed call had none, and a call that answered is known by it."""
    asked = [SYSTEM, user("Weather?")]
    later = [call(5, 90, [*asked, says("It is sunny."), user("And in Rome?")], says("Rain."), trace=2)]
    assert meet([root(), call(2, 10, asked, None)], later)
    assert not meet([root(), call(2, 10, asked, None, span={"failed": True})], later)
    assert not meet([root(), call(2, 10, asked, says("It rains."))], later)


def test_a_lossy_history_needs_the_trace_before_also_in_a_known_conversation():
    """What earlier answers said is restored from it."""
    context = Context(conversation_id="c", service_name="svc")
    asked = [SYSTEM, user("Weather?")]
    first = [root(), call(2, 10, asked, says("It is sunny."), context=context)]
    told = [*asked, says("It is sunny."), user("And in Rome?")]
    for is_lossy in (True, False):
        later = [call(5, 90, told, says("Rain."), trace=2, context=context, lossy_history=is_lossy)]
        assert is_lossy == meet(first, later)


def test_a_tool_in_a_trace_of_its_own_meets_its_call():
    """An executed tool without a model call beside it finds the call by its id."""
    first = weather_run(parent=None)[0]
    alone = tool(9, 30, trace=5, parent=None, call_id="c2", result="sunny")
    assert meet([first], [alone])
    (episode,) = assemble([first, alone], EndReason.IMPORTED).episodes
    assert "sunny" == episode.steps[0].observations[0].text
    elsewhere = replace(alone, context=Context(service_name="other"))
    assert () == assemble([first, elsewhere], EndReason.IMPORTED).episodes[0].steps[0].observations


def test_a_rootless_failure_meets_the_next_attempt():
    """An attempt that failed in a trace of its own finds the one with the same prompt."""
    failed = call(2, 10, [SYSTEM, user("A")], None, parent=None, span={"failed": True}, finish_reason=None)
    again = call(3, 30, [SYSTEM, user("A")], says("B"), parent=None, trace=2)
    assert meet([failed], [again])


def test_system_prompts_and_spaces_do_not_keep_ends_apart():
    """The hash is of what the message keys say, the same for habits of senders."""
    first, second = weather_run(parent=None)
    spaced = tuple(replace(message, parts=message.parts) for message in second.model_calls[0].messages[1:])
    assert meet([first], [replace(second, model_calls=(replace(second.model_calls[0], messages=spaced),))])


def test_a_link_names_its_call():
    """Trace, span, service, conversation and start of the call stand with each hash."""
    context = Context(service_name="svc", conversation_id="a", dialect="d")
    reading = call(2, 10, [SYSTEM, user("A")], says("B"), parent=None, context=context)
    (link,) = (link for link in trace_links([reading]) if link.after_hash is not None)
    assert (hex_id(1, 32), hex_id(2, 16), "svc", "a") == (
        link.trace_id,
        link.span_id,
        link.service_name,
        link.conversation_id,
    )
    assert reading.span.started_at == link.started_at


def test_a_derivation_has_the_same_links():
    """Assembly hands out the links of the same readings."""
    readings = [root(), *weather_run()]
    assert trace_links(readings) == assemble(readings, EndReason.IMPORTED).links
