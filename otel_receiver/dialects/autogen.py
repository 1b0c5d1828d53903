"""Microsoft's AutoGen: no span of its own for a model call, only log records of the logger `autogen_core.events`.

Source: autogen-core, `logging.py`. A record's body is JSON text. `LLMCall` holds messages, tools and the provider's
response; a streamed call is a pair of `LLMStreamStart` and `LLMStreamEnd`; `ToolCall` is an executed tool. They carry
the ids of the span that was open, mostly the agent's, which so reports several calls.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from otel_receiver.dialects.base import Blob, ModelCall, Reading, ToolExecution
from otel_receiver.dialects.fields import context_of
from otel_receiver.dialects.genai import OPERATION, Kind, kind_of, read_as
from otel_receiver.dialects.json_text import read_structured
from otel_receiver.dialects.model_call import CallEvidence, build_call
from otel_receiver.dialects.notes import Notes
from otel_receiver.dialects.parts import result_text
from otel_receiver.dialects.raw import request_model
from otel_receiver.dialects.raw_values import RawValues
from otel_receiver.dialects.tools import read_tools
from otel_receiver.dialects.values import as_items, as_mapping, as_text, compact_json, first_word
from otel_receiver.spans import LogRecord, Span
from spanloop.records import ToolStatus

LOGGER = "autogen_core.events"
SYSTEM = "autogen"
SCOPES = ("autogen-core", "autogen_core")
CALL, STREAM_START, STREAM_END, TOOL_CALL = "LLMCall", "LLMStreamStart", "LLMStreamEnd", "ToolCall"

Source = Mapping[str, object]


class AutoGen:
    """Spans of AutoGen, and whichever span its events are attached to."""

    name = "autogen"

    def claims(self, span: Span, logs: tuple[LogRecord, ...]) -> bool:
        """Whether AutoGen's runtime wrote the span, or its event logger wrote to it."""
        if span.scope_name in SCOPES or span.attributes.get("gen_ai.system") == SYSTEM:
            return True
        return any(record.scope_name == LOGGER for record in logs)

    def read(self, span: Span, logs: tuple[LogRecord, ...]) -> Reading:
        """The agent's run or tool execution, with the calls that its events tell."""
        kind = kind_of(span) if OPERATION in span.attributes else Kind.OTHER
        reading = read_as(span, (), kind, context_of(span, self.name))
        events = tuple(_events(logs))
        read = tuple(_read_call(span, event) for event in _whole_calls(events))
        return replace(
            reading,
            model_calls=(*reading.model_calls, *(call for call, _ in read)),
            tool_executions=(*reading.tool_executions, *_executions(events)),
            blobs=(*reading.blobs, *(blob for _, blobs in read for blob in blobs)),
        )


def _events(logs: tuple[LogRecord, ...]) -> Iterator[Source]:
    """The bodies of the event logger's records in order of time."""
    records = [record for record in logs if record.scope_name == LOGGER]
    for record in sorted(records, key=lambda record: record.time_unix_nano or record.observed_time_unix_nano):
        event = as_mapping(read_structured(record.body).value)
        if event is not None:
            yield event


def _whole_calls(events: tuple[Source, ...]) -> Iterator[Source]:
    """One event per call: a stream's end with the messages of the start before it."""
    started: Source = {}
    for event in events:
        kind = event.get("type")
        if kind == CALL:
            yield event
        elif kind == STREAM_START:
            started = event
        elif kind == STREAM_END:
            yield {**started, **event}
            started = {}


def _read_call(span: Span, event: Source) -> tuple[ModelCall, tuple[Blob, ...]]:
    """The call of one event."""
    notes = Notes()
    raw = RawValues({"messages": event.get("messages")}, _chat_form(event.get("response")))
    source = {
        "gen_ai.usage.input_tokens": event.get("prompt_tokens"),
        "gen_ai.usage.output_tokens": event.get("completion_tokens"),
    }
    evidence = CallEvidence(
        span=span,
        source=source,
        prompt=raw.prompt(),
        answer=raw.answer(),
        tools=read_tools(event["tools"] or (), notes) if "tools" in event else None,
        notes=notes,
        raw=raw.about,
        model=request_model(event),
        streamed=event.get("type") == STREAM_END,
    )
    return build_call(evidence)


def _chat_form(response: object) -> object:
    """The response; AutoGen's own result, told by a stream's end, as a chat message."""
    held = as_mapping(read_structured(response).value)
    if held is None or "choices" in held or "role" in held or "content" not in held:
        return response if held is None else held
    items = as_items(held["content"])
    calls = [item for item in items or () if "arguments" in (as_mapping(item) or {})]
    text = as_text(held["content"]) or as_text(held.get("thought"))
    message = {"role": "assistant", "content": text, "tool_calls": calls}
    return {**message, "finish_reason": held.get("finish_reason"), "usage": held.get("usage")}


def _executions(events: tuple[Source, ...]) -> Iterator[ToolExecution]:
    """The executed tools among the events; they carry no call ids."""
    for event in events:
        name = first_word(event, "tool_name")
        if event.get("type") != TOOL_CALL or name is None:
            continue
        arguments = event.get("arguments")
        result = event.get("result")
        yield ToolExecution(
            name=name,
            arguments=as_text(arguments) or (compact_json(arguments) if arguments is not None else None),
            result=None if result is None else result_text(result, Notes()),
            status=ToolStatus.UNKNOWN,
        )
