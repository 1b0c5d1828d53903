"""Vercel AI SDK: its own attributes (up to 6, and 7 in legacy mode), and `@ai-sdk/otel` of version 7.

Source: vercel/ai, `packages/otel/src`. The legacy form tells its operation in `ai.operationId`; the span around a whole
generation repeats prompt and answer, only its `doGenerate` and `doStream` spans are model calls. Version 7 writes OTel
GenAI parts under the scope `gen_ai`; its agent span joins the parts of all steps into one message, so it is no history.
"""

from __future__ import annotations

from dataclasses import replace

from otel_receiver.dialects.base import AgentRun, Context, ModelCall, Reading
from otel_receiver.dialects.fields import context_of
from otel_receiver.dialects.genai import OPERATION, Kind, kind_of, read_as, read_call
from otel_receiver.dialects.genai_parts import read_attribute
from otel_receiver.dialects.json_text import unquoted
from otel_receiver.dialects.notes import Notes
from otel_receiver.dialects.raw_values import RawValues
from otel_receiver.dialects.span_ref import span_ref
from otel_receiver.dialects.tool_spans import read_tool_execution
from otel_receiver.dialects.values import as_text, as_word, first_present
from otel_receiver.spans import LogRecord, Span, SpanStatus
from spanloop.records import QualityFlag

OPERATION_ID = "ai.operationId"
STEP_PROMPT = "ai.prompt.messages"
WHOLE_PROMPT = "ai.prompt"
TOOL_NAME = "ai.toolCall.name"
SCOPE = "gen_ai"
OPENINFERENCE_KIND = "openinference.span.kind"
FIRST_CHUNK = "gen_ai.client.operation.time_to_first_chunk"
_MARKS = (OPERATION_ID, STEP_PROMPT, TOOL_NAME)

_TEXT = ("ai.response.text", "ai.result.text")
_OBJECT = ("ai.response.object", "ai.result.object")
_REASONING = ("ai.response.reasoning", "ai.result.reasoning")
_CALLS = ("ai.response.toolCalls", "ai.result.toolCalls")
_RESULTS = ("ai.toolCall.result", "gen_ai.tool.call.result")
_RUNS = frozenset({"ai.generateText", "ai.streamText", "ai.generateObject", "ai.streamObject"})


class VercelAI:
    """Spans of the Vercel AI SDK."""

    name = "vercel_ai"

    def claims(self, span: Span, logs: tuple[LogRecord, ...]) -> bool:
        """Whether the span carries a mark of the legacy form, or OTel's under the SDK's own scope."""
        del logs
        if any(key in span.attributes for key in _MARKS):
            return True
        return span.scope_name == SCOPE and OPERATION in span.attributes

    def read(self, span: Span, logs: tuple[LogRecord, ...]) -> Reading:
        """The call, tool execution or run, by the SDK's operation."""
        span = _with_own_status(span)
        context = context_of(span, self.name)
        if not any(key in span.attributes for key in _MARKS):
            return _read_parts_form(span, logs, context)
        reading = Reading(span=span_ref(span), context=context)
        operation = _operation(span)
        if operation.endswith((".doGenerate", ".doStream")):
            return _read_step(span, logs, reading, streamed=operation.endswith("Stream"))
        if TOOL_NAME in span.attributes:
            return replace(reading, tool_executions=(read_tool_execution(_plain_result(span)),))
        return replace(reading, agent=AgentRun(is_agent=True)) if operation in _RUNS else reading


def _with_own_status(span: Span) -> Span:
    """The span without an error that is another's.

    OpenInference's processor copies a trace's first error to all spans that end after it; the SDK itself records the
    exception on the span that failed.
    """
    is_rewritten = OPENINFERENCE_KIND in span.attributes and span.status is SpanStatus.ERROR
    if not is_rewritten or any(event.name == "exception" for event in span.events):
        return span
    return replace(span, status=SpanStatus.UNSET, status_message="")


def _operation(span: Span) -> str:
    """The operation; a span that lost its key has it in its name, before the function's id."""
    return as_word(span.attributes.get(OPERATION_ID)) or span.name.split(" ", 1)[0]


def _read_step(span: Span, logs: tuple[LogRecord, ...], reading: Reading, *, streamed: bool) -> Reading:
    """A model call of the legacy form."""
    notes = Notes()
    request = first_present(span.attributes, STEP_PROMPT, WHOLE_PROMPT)
    call, blobs = read_call(span, logs, notes=notes, extra=RawValues(request, _answer(span, notes)))
    return replace(reading, model_calls=(replace(call, streamed=streamed),), blobs=blobs)


def _answer(span: Span, notes: Notes) -> object:
    """The answer as a chat message, out of the attributes that hold its parts; a structured object is its text."""
    attributes = span.attributes
    text = as_text(first_present(attributes, *_OBJECT)) or as_text(first_present(attributes, *_TEXT))
    carried = first_present(attributes, *_CALLS)
    if text is None and carried is None and not first_present(attributes, *_REASONING):
        return None
    calls = read_attribute(carried, notes, QualityFlag.OUTPUT_TRUNCATED)
    reasoning = first_present(attributes, *_REASONING)
    return {"role": "assistant", "content": text, "reasoning_content": reasoning, "tool_calls": calls}


def _read_parts_form(span: Span, logs: tuple[LogRecord, ...], context: Context) -> Reading:
    """A span of version 7."""
    kind = kind_of(span)
    reading = read_as(_plain_result(span) if kind is Kind.TOOL else span, logs, kind, context)
    if reading.agent is not None:
        return replace(reading, agent=replace(reading.agent, history=()))
    return replace(reading, model_calls=tuple(_told_streaming(span, call) for call in reading.model_calls))


def _told_streaming(span: Span, call: ModelCall) -> ModelCall:
    return call if call.streamed is not None else replace(call, streamed=FIRST_CHUNK in span.attributes)


def _plain_result(span: Span) -> Span:
    """The span with its tool result as the model was shown it: a string result is carried as a JSON literal."""
    held = {key: unquoted(span.attributes[key]) for key in _RESULTS if key in span.attributes}
    return replace(span, attributes={**span.attributes, **held}) if held else span  # type: ignore[dict-item]
