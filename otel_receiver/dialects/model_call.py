"""Put a model call together from the prompt, answer, tools and fields that its carriers gave."""

from __future__ import annotations

from dataclasses import dataclass

from otel_receiver.dialects.base import Blob, ModelCall
from otel_receiver.dialects.candidates import Carried
from otel_receiver.dialects.fields import (
    Source,
    finish_reasons_of,
    request_model_of,
    response_id_of,
    response_model_of,
    streamed_of,
    usage_of,
)
from otel_receiver.dialects.notes import Notes
from otel_receiver.dialects.raw import RawResponse
from otel_receiver.dialects.scrubbed import holds_scrubbed
from otel_receiver.dialects.tool_ids import complete_ids
from otel_receiver.spans import Span
from spanloop.records import Message, QualityFlag, ToolDefinition, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class CallEvidence:
    """All that was found out about one call, before it is put together."""

    span: Span
    source: Source
    """The attributes that hold the call's single-valued fields."""
    prompt: Carried | None
    answer: Carried | None
    tools: tuple[ToolDefinition, ...] | None
    notes: Notes
    """Notes of the tools' reader and of the dialect itself."""
    raw: RawResponse | None = None
    """The raw response, where the span carries one: it fills the fields that the attributes leave open."""
    model: str | None = None
    """The model asked for, when no attribute says it."""
    response_model: str | None = None
    streamed: bool | None = None
    auxiliary: bool = False
    lossy_history: bool = False
    lossy_output: bool = False
    continues_response_id: str | None = None


def build_call(evidence: CallEvidence) -> tuple[ModelCall, tuple[Blob, ...]]:
    """The call, with the flags of the carriers it was read from, and its blobs."""
    notes = Notes()
    notes.add(evidence.notes)
    messages: tuple[Message, ...] = ()
    if evidence.prompt is not None:
        notes.add(evidence.prompt.notes)
        messages = evidence.prompt.messages
    if not messages:
        notes.flag(QualityFlag.CONTENT_MISSING)
    if evidence.span.dropped_attributes_count:
        notes.flag(QualityFlag.PROMPT_TRUNCATED)
    output = _output(evidence.answer, len(messages), notes)
    if holds_scrubbed(evidence.span, (*messages, *((output,) if output is not None else ()))):
        notes.flag(QualityFlag.CONTENT_REDACTED)
    call = ModelCall(
        messages=messages,
        tools=evidence.tools,
        output=output,
        own_results=evidence.answer.messages[1:] if evidence.answer is not None else (),
        finish_reason=_finish_reason(evidence),
        model=request_model_of(evidence.source) or evidence.model,
        response_model=response_model_of(evidence.source) or _raw(evidence).model or evidence.response_model,
        response_id=response_id_of(evidence.source) or _raw(evidence).response_id,
        usage=completed_usage(usage_of(evidence.source), _raw(evidence).usage),
        streamed=evidence.streamed if evidence.streamed is not None else streamed_of(evidence.source),
        auxiliary=evidence.auxiliary,
        lossy_history=evidence.lossy_history,
        lossy_output=evidence.lossy_output,
        continues_response_id=evidence.continues_response_id,
        flags=notes.flags,
    )
    return call, notes.blobs


def _output(answer: Carried | None, position: int, notes: Notes) -> Message | None:
    """The answer with an id on each of its calls."""
    if answer is None:
        return None
    notes.add(answer.notes)
    return next(iter(complete_ids(answer.messages[:1], notes, start=position)), None)


def _raw(evidence: CallEvidence) -> RawResponse:
    return evidence.raw or RawResponse(message=None)


def _finish_reason(evidence: CallEvidence) -> str | None:
    """The answer's reason. Where a span lists several, for choices or for an answer's items, the answer says which."""
    answer = evidence.answer
    listed = finish_reasons_of(evidence.source)
    carried = answer.finish_reason if answer is not None else None
    if not listed or carried in listed:
        return carried or _raw(evidence).finish_reason
    calls = answer is not None and any(message.tool_calls for message in answer.messages)
    return _CALLS if calls and _CALLS in listed else listed[0]


_CALLS = "tool_calls"


def completed_usage(told: Usage, raw: Usage) -> Usage:
    """The attributes' counts, completed from another carrier's."""
    return Usage(
        input_tokens=raw.input_tokens if told.input_tokens is None else told.input_tokens,
        output_tokens=raw.output_tokens if told.output_tokens is None else told.output_tokens,
        cache_read_tokens=raw.cache_read_tokens if told.cache_read_tokens is None else told.cache_read_tokens,
        cache_write_tokens=raw.cache_write_tokens if told.cache_write_tokens is None else told.cache_write_tokens,
        reasoning_tokens=raw.reasoning_tokens if told.reasoning_tokens is None else told.reasoning_tokens,
    )
