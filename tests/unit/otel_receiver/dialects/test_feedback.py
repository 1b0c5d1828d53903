"""Judgements that come over OTLP find their targets."""

from __future__ import annotations

import pytest

from otel_receiver.dialects.registry import read_logs_alone, read_span
from tests.unit.otel_receiver.dialects.factories import SPAN, TRACE, make_event, make_link, make_log, make_span

OTHER_TRACE = "1" * 32
OTHER_SPAN = "2" * 16


def annotation(prefix="annotations"):
    """The attributes of one annotation with everything."""
    head = f"{prefix}.0.annotation"
    return {
        f"{head}.name": "helpful",
        f"{head}.score": 0.5,
        f"{head}.label": "ok",
        f"{head}.explanation": "short",
        f"{head}.annotator_kind": "HUMAN",
    }


def read(span):
    """The only judgement of a span."""
    (feedback,) = read_span(span).feedback
    return feedback


def target(feedback):
    """Where a judgement points."""
    return feedback.trace_id, feedback.span_id, feedback.response_id, feedback.conversation_id


def test_an_annotation_says_who_judged_what_and_how():
    """Name, score, label, explanation and the kind of annotator are read."""
    feedback = read(make_span(annotation()))
    assert ("helpful", 0.5, "ok", "short", "human", 3 * 10**9) == (
        feedback.name,
        feedback.score,
        feedback.label,
        feedback.comment,
        feedback.source,
        feedback.received_at,
    )


def test_a_carrier_span_points_with_its_link_never_with_its_parent():
    """Span scope: the linked span; trace scope: the linked span's trace; parentage is ignored."""
    fields = {"links": (make_link(OTHER_TRACE, OTHER_SPAN),), "parent_span_id": "3" * 16}
    assert (OTHER_TRACE, OTHER_SPAN, None, None) == target(read(make_span(annotation(), **fields)))
    assert (OTHER_TRACE, None, None, None) == target(read(make_span(annotation("trace.annotations"), **fields)))


def test_a_session_is_judged_by_its_id():
    """Session scope: the carrier's session, and no trace."""
    span = make_span({**annotation("session.annotations"), "session.id": "s"})
    assert (None, None, None, "s") == target(read(span))


def test_an_annotation_on_the_span_itself_is_about_it():
    """Without a link the annotated span is its own target."""
    assert (TRACE, SPAN, None, None) == target(read(make_span({"openinference.span.kind": "LLM", **annotation()})))


def test_several_annotations_are_told_apart_and_a_resend_is_the_same():
    """Two annotations have two ids; reading the carrier again gives the same ids."""
    span = make_span({**annotation(), "evaluations.0.evaluation.name": "x", "evaluations.0.evaluation.score": 1})
    first, again = read_span(span).feedback, read_span(span).feedback
    assert (2, first) == (len({item.feedback_id for item in first}), again)


EVALUATION = {
    "gen_ai.evaluation.name": "relevance",
    "gen_ai.evaluation.score.value": 0.9,
    "gen_ai.evaluation.score.label": "relevant",
    "gen_ai.evaluation.explanation": "on topic",
    "gen_ai.response.id": "r1",
}


def test_an_evaluation_event_is_about_the_response_it_names():
    """A GenAI evaluation on a span keeps the response id beside its span."""
    span = make_span({"gen_ai.operation.name": "chat"}, events=(make_event("gen_ai.evaluation.result", EVALUATION),))
    feedback = read(span)
    assert (("relevance", 0.9, "relevant", "on topic"), (TRACE, SPAN, "r1", None)) == (
        (feedback.name, feedback.score, feedback.label, feedback.comment),
        target(feedback),
    )


def test_an_evaluation_record_reads_alike_with_and_without_its_span():
    """A log record is the same judgement whether its span is there or not."""
    record = make_log("gen_ai.evaluation.result", attributes=EVALUATION, time=7)
    (alone,) = read_logs_alone([record])
    assert (alone,) == read_span(make_span({"gen_ai.operation.name": "chat"}), [record]).feedback
    assert ((TRACE, SPAN, "r1", None), 7) == (target(alone), alone.received_at)


def test_a_record_without_ids_points_with_its_response_id():
    """A record from another process has no span: the response id is its target; without one it is no feedback."""
    fields = {"trace_id": "", "span_id": ""}
    (feedback,) = read_logs_alone([make_log("gen_ai.evaluation.result", attributes=EVALUATION, **fields)])
    assert (None, None, "r1", None) == target(feedback)
    aimless = {key: value for key, value in EVALUATION.items() if key != "gen_ai.response.id"}
    assert () == read_logs_alone([make_log("gen_ai.evaluation.result", attributes=aimless, **fields)])


@pytest.mark.parametrize(
    ("key", "expected"), [("gen_ai.response.id", (TRACE, None, "x", None)), ("span_id", (TRACE, "x", None, None))]
)
def test_a_reward_span_points_with_its_attribute_link(key, expected):
    """agent-lightning links a reward by any attribute of the rewarded call; the first reward is the first feedback."""
    span = make_span(
        {
            "agentlightning.reward.0.name": "final",
            "agentlightning.reward.0.value": 1.0,
            "agentlightning.reward.1.name": "style",
            "agentlightning.reward.1.value": 0.25,
            "agentlightning.link.0.key_match": key,
            "agentlightning.link.0.value_match": "x",
        },
        name="agentlightning.annotation",
    )
    rewards = read_span(span).feedback
    assert [("final", 1.0), ("style", 0.25)] == [(reward.name, reward.score) for reward in rewards]
    assert {expected} == {target(reward) for reward in rewards}


@pytest.mark.parametrize("score", [float("nan"), float("inf"), "much", None])
def test_a_judgement_without_a_finite_score_or_words_is_none(score):
    """What is no number is no score, and a judgement that says nothing is dropped."""
    assert (
        ()
        == read_span(
            make_span({"annotations.0.annotation.name": "x", "annotations.0.annotation.score": score})
        ).feedback
    )
