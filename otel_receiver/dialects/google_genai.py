"""OTel's instrumentation of Google's SDK, which tells Gemini's contents as OTel GenAI parts.

Source: opentelemetry-python-genai, `opentelemetry-instrumentation-google-genai`. A chat keeps each chunk of a streamed
answer as a message of its own; Gemini's schemas stay in Gemini's words; a call or result without an id gets a stand-in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from otel_receiver.dialects.base import ModelCall, Reading
from otel_receiver.dialects.fields import context_of
from otel_receiver.dialects.gemini_schema import in_json_schema
from otel_receiver.dialects.genai import kind_of, read_as
from otel_receiver.dialects.json_text import read_json
from otel_receiver.dialects.messages import join
from otel_receiver.dialects.stand_ins import without_stand_ins
from otel_receiver.dialects.values import compact_json
from otel_receiver.spans import LogRecord, Span
from spanloop.records import Message, Part, Role, TextPart, ToolDefinition

SCOPE = "opentelemetry.instrumentation.google_genai"


class GoogleGenAI:
    """Spans of the instrumentation of `google-genai`."""

    name = "otel_genai"

    def claims(self, span: Span, logs: tuple[LogRecord, ...]) -> bool:
        """Whether the instrumentation wrote the span."""
        del logs
        return span.scope_name == SCOPE

    def read(self, span: Span, logs: tuple[LogRecord, ...]) -> Reading:
        """What OTel GenAI says, with the calls as the model was shown them."""
        reading = read_as(span, logs, kind_of(span), context_of(span, self.name))
        return replace(reading, model_calls=tuple(_as_shown(call) for call in reading.model_calls))


def _as_shown(call: ModelCall) -> ModelCall:
    tools = call.tools
    if tools is not None:
        tools = tuple(_in_json_schema(tool) for tool in tools)
    output = _joined((call.output,)) if call.output is not None else None
    return without_stand_ins(replace(call, messages=whole_answers(call.messages), output=output, tools=tools))


def _in_json_schema(tool: ToolDefinition) -> ToolDefinition:
    if tool.parameters is None:
        return tool
    return replace(tool, parameters=compact_json(in_json_schema(read_json(tool.parameters).value)))


def whole_answers(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The messages, those of the assistant that stand side by side as one: they are the chunks of one answer."""
    whole: list[Message] = []
    for is_answer, run in groupby(messages, key=lambda message: message.role is Role.ASSISTANT):
        pieces = tuple(run)
        whole += [_joined(pieces)] if is_answer else pieces
    return tuple(whole)


def _joined(pieces: tuple[Message, ...]) -> Message:
    message = join(*pieces)
    return replace(message, parts=tuple(_with_whole_texts(message.parts)))


def _with_whole_texts(parts: Iterable[Part]) -> Iterator[Part]:
    """The parts, with texts that stand side by side as one, as Google's SDK joins them: chunks are cut anywhere."""
    for is_text, run in groupby(parts, key=lambda part: isinstance(part, TextPart)):
        if is_text:
            yield TextPart(text="".join(part.text for part in run if isinstance(part, TextPart)))
        else:
            yield from run
