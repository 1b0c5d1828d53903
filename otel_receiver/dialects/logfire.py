"""Logfire's own instrumentations of model clients, and what its exporter makes of others' spans.

Source: logfire, `_internal/integrations/llm_providers` and `_internal/exporters/processor_wrapper.py`. Raw requests and
responses stand in `request_data` and `response_data`; a streamed answer in a second, zero-length span. Up to 4.x the
Responses API's messages, and Gemini's, are one list of events, whose answer has no mark but its place at the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import takewhile

from otel_receiver.dialects.base import Blob, ModelCall, Reading
from otel_receiver.dialects.fields import context_of, has_usage
from otel_receiver.dialects.genai import Kind, kind_of, read_call
from otel_receiver.dialects.genai_parts import INPUT, OUTPUT, read_attribute
from otel_receiver.dialects.json_text import read_structured
from otel_receiver.dialects.model_call import completed_usage
from otel_receiver.dialects.notes import Notes
from otel_receiver.dialects.raw_values import RawValues
from otel_receiver.dialects.span_ref import span_ref
from otel_receiver.dialects.values import as_items, as_mapping, compact_json, first_word
from otel_receiver.spans import LogRecord, Span, SpanStatus
from spanloop.records import Message, QualityFlag, TextPart

Source = Mapping[str, object]

EVENTS = "events"
REQUEST_DATA = "request_data"
RESPONSE_DATA = "response_data"
SPAN_TYPE = "logfire.span_type"
_ANTHROPIC = ".anthropic"
_NO_CALLS = ("Embedding Creation", "Image Generation")
_UNKNOWN_EVENT = "gen_ai.unknown"


class PendingSpans:
    """Spans that Logfire announces before they end, whatever wrote them."""

    name = "pydantic_ai"

    def claims(self, span: Span, logs: tuple[LogRecord, ...]) -> bool:
        """Whether the span is an announcement."""
        del logs
        return span.attributes.get(SPAN_TYPE) == "pending_span"

    def read(self, span: Span, logs: tuple[LogRecord, ...]) -> Reading:
        """Where it stands: the span itself says the rest."""
        del logs
        return Reading(span=span_ref(span), context=context_of(span, self.name))


class Logfire:
    """Spans of Logfire's model clients, and spans of others whose message events Logfire made one attribute."""

    name = "pydantic_ai"

    def claims(self, span: Span, logs: tuple[LogRecord, ...]) -> bool:
        """Whether there is a raw request, or a list of events, in a span that Logfire exports."""
        del logs
        if span.scope_name.startswith("logfire"):
            return REQUEST_DATA in span.attributes or EVENTS in span.attributes
        return EVENTS in span.attributes and SPAN_TYPE in span.attributes and kind_of(span) is Kind.CALL

    def read(self, span: Span, logs: tuple[LogRecord, ...]) -> Reading:
        """The call, if the span has its answer or failed."""
        reading = Reading(span=span_ref(span), context=context_of(span, self.name))
        if span.name.startswith(_NO_CALLS):
            return reading
        is_listed = EVENTS in span.attributes and INPUT not in span.attributes
        call, blobs = _read_events(span, logs) if is_listed else _read_raw(span, logs)
        # Without a raw request, as in 4.10, nothing else will tell of a streamed answer.
        if REQUEST_DATA in span.attributes and not _is_answered(span, call):
            return reading
        call = _completed(span, call)
        return replace(reading, model_calls=(call,), blobs=blobs)


def _is_answered(span: Span, call: ModelCall) -> bool:
    """Whether the span is more than a streamed request, whose answer comes in a span of its own."""
    said = call.output is not None or has_usage(call.usage) or RESPONSE_DATA in span.attributes
    return said or span.status is SpanStatus.ERROR


def _read_raw(span: Span, logs: tuple[LogRecord, ...]) -> tuple[ModelCall, tuple[Blob, ...]]:
    attributes = span.attributes
    is_anthropic = span.scope_name.endswith(_ANTHROPIC)
    raw = RawValues(attributes.get(REQUEST_DATA), _response(attributes.get(RESPONSE_DATA), is_anthropic=is_anthropic))
    call, blobs = read_call(_with_one_answer(span), logs, extra=raw)
    if is_anthropic:  # whose counts as attributes, in some versions, leave out what the cache gave
        call = replace(call, usage=completed_usage(raw.about.usage, call.usage))
    return call, blobs


def _completed(span: Span, call: ModelCall) -> ModelCall:
    """The call with the model and the streaming that the raw request tells."""
    request = as_mapping(read_structured(span.attributes.get(REQUEST_DATA)).value) or {}
    is_streamed = span.attributes.get(SPAN_TYPE) == "log" or request.get("stream") is True
    streamed = call.streamed if call.streamed is not None or not request else is_streamed
    return replace(call, model=call.model or first_word(request, "model"), streamed=streamed)


def _with_one_answer(span: Span) -> Span:
    """The span with the items of a Responses answer, a message each and none with a finish reason, as one message."""
    items = [as_mapping(item) or {} for item in as_items(read_structured(span.attributes.get(OUTPUT)).value) or ()]
    if len(items) < 2 or any(item.get("finish_reason") is not None for item in items):
        return span
    parts = [part for item in items for part in as_items(item.get("parts")) or ()]
    whole = compact_json([{"role": "assistant", "parts": parts}])
    return replace(span, attributes={**span.attributes, OUTPUT: whole})


def _response(value: object, *, is_anthropic: bool) -> object:
    """The response as a message: a streamed one holds its joined text, if there was any."""
    held = as_mapping(read_structured(value).value)
    if held is None or "message" not in held:
        text = held.get("combined_chunk_content") if held is not None else None
        return value if text is None else {"role": "assistant", "content": text} if text else None
    message = as_mapping(held["message"])
    if message is not None and is_anthropic:
        calls = [_unwrapped(call) for call in as_items(message.get("tool_calls")) or ()]
        message = {**message, "tool_calls": calls}
    return {"choices": ({"message": message},), "usage": held.get("usage")}


def _unwrapped(call: object) -> object:
    """A tool call of Anthropic's client, whose arguments are written as the block's field `input`."""
    held = as_mapping(call) or {}
    function = as_mapping(held.get("function")) or {}
    arguments = as_mapping(read_structured(function.get("arguments")).value) or {}
    if set(arguments) != {"input"}:
        return call
    return {**held, "function": {**function, "arguments": compact_json(arguments["input"])}}


def _read_events(span: Span, logs: tuple[LogRecord, ...]) -> tuple[ModelCall, tuple[Blob, ...]]:
    """A call whose messages are one list of events: the answer is what has no mark but its place at the end."""
    notes = Notes()
    held = as_items(read_attribute(span.attributes[EVENTS], notes, QualityFlag.PROMPT_TRUNCATED)) or ()
    events = [as_mapping(event) or {} for event in held]
    choices = [event for event in events if "message" in event]
    told = [event for event in events if "message" not in event]
    said = [] if choices else list(takewhile(_is_the_models, reversed(told)))[::-1]
    request = {"messages": [_message(event) for event in told[: len(told) - len(said)]]}
    answer = {"messages": [_message(event) for event in said]} if said else _first_choice(choices)
    call, blobs = read_call(span, logs, notes=notes, extra=RawValues(request, answer))
    return (call if call.output is None else replace(call, output=_in_one_text(call.output))), blobs


def _is_the_models(event: Source) -> bool:
    """Whether the model said it; of an item of no known kind its own type tells."""
    item = as_mapping(event.get("data")) or {}
    is_item = first_word(event, "event.name") == _UNKNOWN_EVENT and not str(item.get("type")).endswith("output")
    return event.get("role") == "assistant" or is_item


def _message(event: Source) -> object:
    """An event as the message it spells; of no known kind, the item of the Responses API that it holds."""
    if first_word(event, "event.name") == _UNKNOWN_EVENT and event.get("data") is not None:
        return event["data"]
    content = as_mapping(event.get("content"))
    if content is not None and "parts" in content:  # Gemini's whole content
        return {"role": event.get("role"), **content}
    return {**event, "tool_call_id": event["id"]} if event.get("role") == "tool" and "id" in event else event


def _first_choice(choices: Sequence[Source]) -> Source | None:
    """The first choice: of a stream, a choice for each chunk up to the one that ended it."""
    pieces = list(takewhile(lambda choice: choice.get("finish_reason") is None, choices))
    held = choices[: len(pieces) + 1]
    if not held:
        return None
    return {"messages": [choice["message"] for choice in held], "finish_reason": held[-1].get("finish_reason")}


def _in_one_text(message: Message) -> Message:
    """The message with its texts, which are pieces of one, as one part."""
    texts = [part for part in message.parts if isinstance(part, TextPart)]
    if len(texts) < 2:
        return message
    whole = replace(texts[0], text="".join(part.text for part in texts))
    parts = [whole if part is texts[0] else part for part in message.parts if part not in texts[1:]]
    return replace(message, parts=tuple(parts))
