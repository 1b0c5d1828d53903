"""The protobuf form: what it costs, and what it refuses."""

import pytest

from spanloop.records import Feedback, Message
from spanloop.v1 import episode_pb2 as pb
from spanloop.wire import (
    WireFormError,
    episode_from_bytes,
    episode_to_bytes,
    episode_to_proto,
    feedback_from_proto,
    feedback_to_proto,
    message_from_bytes,
    message_to_bytes,
    utf8_text,
)
from tests.unit.spanloop.factories import assistant, make_episode, make_step, user, weather_episode


def test_repeated_history_travels_once():
    """Five messages and one tool list are sent, though two steps repeat them."""
    proto = episode_to_proto(weather_episode())
    assert 6 == len(proto.message_table)
    assert 1 == len(proto.tools_table)
    assert [0, 1, 2, 3, 4] == list(proto.steps[1].messages)


def test_bytes_grow_with_turns_not_with_their_square():
    """Twice the turns take little more than twice the bytes, although each step repeats all turns before it."""

    def size(num_turns: int) -> int:
        said: list[Message] = []
        steps = []
        for turn in range(num_turns):
            said.append(user(f"question {turn} " + "x" * 500))
            action = assistant(f"answer {turn} " + "y" * 500)
            steps.append(make_step(turn, said, action))
            said.append(action)
        return len(episode_to_bytes(make_episode(*steps)))

    assert size(80) / size(40) < 2.2


def test_judgements_survive_the_wire():
    """A score of zero is not an absent score."""
    zero = Feedback(feedback_id="f", name="correct", score=0.0, trace_id="t", received_at=5)
    words = Feedback(feedback_id="f", name="correct", label="bad", comment="", source="human", conversation_id="c")
    for feedback in (zero, words):
        assert feedback == feedback_from_proto(pb.Feedback.FromString(feedback_to_proto(feedback).SerializeToString()))


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a\ud800b", "a\N{REPLACEMENT CHARACTER}b"), ("\ud83d\ude00", "😀"), ("\udfff", "\N{REPLACEMENT CHARACTER}")],
)
def test_lone_surrogates_are_replaced(text: str, expected: str):
    """Halves that belong together become their character; a lone half becomes the replacement character."""
    assert expected == utf8_text(text)
    assert user(expected) == message_from_bytes(message_to_bytes(user(text)))


@pytest.mark.parametrize("data", [b"\xff\xff", b"", pb.Episode(episode_id="e", dialect="d").SerializeToString()])
def test_bytes_that_are_no_episode_are_refused(data: bytes):
    """Garbage and episodes without steps raise an error of the contract."""
    with pytest.raises(WireFormError, match="episode bytes"):
        episode_from_bytes(data)


def test_values_of_a_newer_contract_are_refused():
    """A role this version does not know is no reason to guess."""
    with pytest.raises(WireFormError, match="99"):
        message_from_bytes(pb.Message(role=99).SerializeToString())  # type: ignore[arg-type]
