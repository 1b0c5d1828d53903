"""Read judgements that come over OTLP: OpenInference annotations, GenAI evaluation results, agent-lightning rewards.

Feedback may come hours later and from another process: its target is told by a span link, by a response id, by a
session, else by the span or log record that carries it. Targets are resolved when feedback is read, not here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from enum import StrEnum

from otel_receiver.dialects.genai_parts import event_name
from otel_receiver.dialects.indexed import Entry, read_all_indexed
from otel_receiver.dialects.values import as_float, as_text, as_word, compact_json, first_present, first_word
from otel_receiver.spans import LogRecord, Span
from spanloop.records import Feedback

Source = Mapping[str, object]

EVALUATION_EVENT = "gen_ai.evaluation.result"
REWARD = "agentlightning.reward"
REWARD_LINK = "agentlightning.link"
RESPONSE_ID = "gen_ai.response.id"


class Scope(StrEnum):
    """What an annotation is about."""

    SPAN = "span"
    TRACE = "trace"
    SESSION = "session"


_LISTS: Mapping[str, tuple[Scope, str]] = {
    "annotations": (Scope.SPAN, "annotation."),
    "evaluations": (Scope.SPAN, "evaluation."),
    "trace.annotations": (Scope.TRACE, "annotation."),
    "trace.evaluations": (Scope.TRACE, "evaluation."),
    "session.annotations": (Scope.SESSION, "annotation."),
    "session.evaluations": (Scope.SESSION, "evaluation."),
}
_PREFIXES = ("annotations.", "evaluations.", "trace.", "session.", REWARD)


def read_span_feedback(span: Span) -> tuple[Feedback, ...]:
    """All judgements a span carries: in its attributes and in its events."""
    found: list[Feedback] = []
    if any(key.startswith(_PREFIXES) for key in span.attributes):
        found += _annotations(span)
        found += _rewards(span)
    found += _evaluations(span)
    return tuple(found)


def read_log_feedback(records: Iterable[LogRecord]) -> tuple[Feedback, ...]:
    """All judgements among log records; a record without target or content is none."""
    found = (_log_evaluation(record) for record in records if event_name(record) == EVALUATION_EVENT)
    return tuple(feedback for feedback in found if feedback is not None)


def _annotations(span: Span) -> list[Feedback]:
    """OpenInference annotations; parentage is never the target (spec, `annotations.md`)."""
    found: list[Feedback | None] = []
    for prefix, listed in read_all_indexed(span.attributes, _LISTS).items():
        scope, head = _LISTS[prefix]
        for index, entry in enumerate(listed.entries):
            held = {key.removeprefix(head): value for key, value in entry.items()}
            found.append(
                judgement(f"{span.trace_id}{span.span_id}{prefix}{index}", held, _target(span, scope), _end(span))
            )
    return [feedback for feedback in found if feedback is not None]


def _target(span: Span, scope: Scope) -> dict[str, str | None]:
    """The span or trace that the carrier's link names, else the carrier's own; or the carrier's session."""
    if scope is Scope.SESSION:
        return {"conversation_id": first_word(span.attributes, "session.id", "gen_ai.conversation.id")}
    link = span.links[0] if span.links else None
    trace_id = link.trace_id if link is not None else span.trace_id
    if scope is Scope.TRACE:
        return {"trace_id": trace_id}
    return {"trace_id": trace_id, "span_id": link.span_id if link is not None else span.span_id}


def _rewards(span: Span) -> list[Feedback]:
    """agent-lightning's rewards; a link by response id names the call, else the reward is the trace's."""
    lists = read_all_indexed(span.attributes, (REWARD, REWARD_LINK))
    target: dict[str, str | None] = {"trace_id": span.trace_id}
    for link in lists[REWARD_LINK].entries:
        key, value = first_word(link, "key_match"), first_word(link, "value_match")
        if key == RESPONSE_ID:
            target["response_id"] = value
        elif key in ("span_id", "trace_id"):
            target[key] = value
    found = (
        judgement(f"{span.trace_id}{span.span_id}{REWARD}{index}", _reward(entry), target, _end(span))
        for index, entry in enumerate(lists[REWARD].entries)
    )
    return [feedback for feedback in found if feedback is not None]


def _reward(entry: Entry) -> Source:
    return {"name": entry.get("name") or "reward", "score": entry.get("value"), "annotator_kind": "agentlightning"}


def _evaluations(span: Span) -> list[Feedback]:
    """Evaluation events on a span: about the response they name, the linked span, else the span itself."""
    found: list[Feedback | None] = []
    for index, event in enumerate(event for event in span.events if event.name == EVALUATION_EVENT):
        target = {**_target(span, Scope.SPAN), "response_id": first_word(event.attributes, RESPONSE_ID)}
        key = f"{span.trace_id}{span.span_id}{EVALUATION_EVENT}{index}"
        found.append(judgement(key, _evaluation(event.attributes), target, event.time_unix_nano or _end(span)))
    return [feedback for feedback in found if feedback is not None]


def _log_evaluation(record: LogRecord) -> Feedback | None:
    """The evaluation in a log record, about the span whose ids it carries or the response it names."""
    time = record.time_unix_nano or record.observed_time_unix_nano
    target = {
        "trace_id": record.trace_id or None,
        "span_id": record.span_id or None,
        "response_id": first_word(record.attributes, RESPONSE_ID),
        "conversation_id": first_word(record.attributes, "gen_ai.conversation.id", "session.id"),
    }
    held = _evaluation(record.attributes)
    key = f"{record.trace_id}{record.span_id}{time}{compact_json(dict(sorted(record.attributes.items())))}"
    return judgement(key, held, target, time)


def _evaluation(source: Source) -> Source:
    """A GenAI evaluation in the words of an annotation."""
    return {
        "name": source.get("gen_ai.evaluation.name"),
        "score": source.get("gen_ai.evaluation.score.value"),
        "label": source.get("gen_ai.evaluation.score.label"),
        "explanation": first_present(source, "gen_ai.evaluation.explanation", "error.type"),
        "annotator_kind": source.get("gen_ai.evaluation.evaluator.source"),
    }


def judgement(key: str, held: Source, target: Mapping[str, str | None], time: int | None) -> Feedback | None:
    """The judgement; `None` when it says nothing or has no target."""
    score, label = as_float(held.get("score")), as_word(held.get("label"))
    comment = as_text(held.get("explanation")) or None
    is_aimed = any(target.get(name) for name in ("trace_id", "response_id", "conversation_id"))
    if (score is None and label is None and comment is None) or not is_aimed:
        return None
    return Feedback(
        feedback_id=hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()[:32],
        name=as_word(held.get("name")) or "feedback",
        score=score,
        label=label,
        comment=comment,
        source=(as_word(held.get("annotator_kind")) or "").lower() or None,
        trace_id=target.get("trace_id"),
        span_id=target.get("span_id"),
        response_id=target.get("response_id"),
        conversation_id=target.get("conversation_id"),
        received_at=time or None,
    )


def _end(span: Span) -> int | None:
    return span.end_time_unix_nano or None
