"""Which failed attempts are dropped for a later one."""

from otel_receiver.dialects.base import Context
from spanloop.records import EpisodeStatus
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
    user,
)

ASKED = [SYSTEM, user("Weather?")]
FAILED = {"failed": True, "error": "RateLimitError: slow down"}


def failing(number, at, **fields):
    """A call that failed."""
    return call(number, at, ASKED, None, span=FAILED, finish_reason=None, **fields)


def test_the_last_of_several_attempts_is_kept():
    """Two failures and a success with one prompt are one step, flagged, of an episode that ended well."""
    (episode,) = episodes([root(), failing(2, 10), failing(3, 30), call(4, 50, ASKED, says("Sun."))])
    assert [{"retried"}] == [flags(step) for step in episode.steps]
    assert EpisodeStatus.OK is episode.status


def test_the_last_failure_stays_and_fails_the_episode():
    """When every attempt fails, the last is the step, and says what failed."""
    (episode,) = episodes([root(), failing(2, 10), failing(3, 30)])
    assert [{"retried", "model_call_failed"}] == [flags(step) for step in episode.steps]
    assert "RateLimitError: slow down" == episode.steps[0].error
    assert EpisodeStatus.ERROR is episode.status


def test_a_success_is_never_dropped():
    """The same prompt asked again after an answer is an episode of its own."""
    found = episodes([root(), call(2, 10, ASKED, says("Sun.")), call(3, 30, ASKED, says("Rain."))])
    assert [[2], [3]] == shape(found)
    assert [set(), set()] == [flags(episode.steps[0]) for episode in found]


def test_a_failure_at_the_same_time_is_no_earlier_attempt():
    """A call that began before the other failed did not repeat it."""
    found = episodes([root(), failing(2, 10), call(3, 15, ASKED, says("Sun."))])
    assert [[2], [3]] == shape(found)


def test_a_stream_that_broke_off_and_was_asked_again_is_dropped():
    """Half an answer followed by the same prompt is a retry."""
    half = call(2, 10, ASKED, says("Su"), streamed=True, finish_reason=None)
    (episode,) = episodes([root(), half, call(3, 30, ASKED, says("Sun."))])
    assert [{"retried"}] == [flags(step) for step in episode.steps]


def test_a_stream_that_broke_off_at_the_end_leaves_the_episode_incomplete():
    """Without a finish reason and without status OK a streamed answer counts as cut; with OK it is whole."""
    for succeeded, expected in ((False, EpisodeStatus.INCOMPLETE), (True, EpisodeStatus.OK)):
        half = call(2, 10, ASKED, says("Su"), streamed=True, finish_reason=None, span={"succeeded": succeeded})
        (episode,) = episodes([root(), half])
        assert expected is episode.status
        assert ({"output_truncated"} if not succeeded else set()) == flags(episode.steps[0])


def test_a_streamed_answer_that_is_only_written_whole_is_not_cut():
    """Some senders tell no finish reason and write an answer when the call has ended."""
    told = call(2, 10, ASKED, says("Sun."), streamed=True, finish_reason=None, is_whole=True)
    (episode,) = episodes([root(), told])
    assert (EpisodeStatus.OK, set()) == (episode.status, flags(episode.steps[0]))


def test_an_answer_that_stopped_for_tools_and_has_none_is_cut():
    """The finish reason says that the sender lost the tool calls."""
    for output, expected in ((says("Let me check."), True), (says("", asks("c1", "Paris")), False)):
        (episode,) = episodes([root(), call(2, 10, ASKED, output, finish_reason="tool_calls")])
        assert expected == ("output_truncated" in flags(episode.steps[0]))


def test_attempts_in_traces_of_their_own_are_joined_within_a_minute():
    """Rootless calls of one service with one prompt: a failure is replaced by a success that comes soon."""
    context = Context(service_name="svc")
    for at, expected in ((60_000, [[3]]), (60_011, [[2], [3]])):
        later = call(3, at, ASKED, says("Sun."), trace=2, parent=None, context=context)
        assert expected == shape(episodes([failing(2, 0, parent=None, context=context), later]))


def test_an_answer_cut_by_its_length_is_truncated():
    """The finish reason length marks the answer as cut, and the episode as incomplete."""
    (episode,) = episodes([root(), call(2, 10, ASKED, says("Su"), finish_reason="length")])
    assert {"output_truncated"} == flags(episode.steps[0])
    assert EpisodeStatus.INCOMPLETE is episode.status


def test_an_attempt_whose_answer_was_used_is_no_failure():
    """Two equal runs whose streams carry no finish reason stay two episodes: each answer was continued."""
    streamed = {"streamed": True, "finish_reason": None}
    action = says("", asks("c1", "Paris"))
    told = [*ASKED, action, result("c1", "sunny")]
    readings = [
        call(number, at, messages, output, **streamed)
        for number, at, messages, output in (
            (2, 10, ASKED, action),
            (3, 30, told, says("Sun.")),
            (4, 50, ASKED, action),
            (5, 70, told, says("Sun.")),
        )
    ]
    assert [[2, 3], [4, 5]] == shape(episodes([root(), *readings]))
