"""OpenLIT: OTel GenAI parts on the span and again in a log record, which alone holds the tool definitions.

Source: openlit, `openlit/instrumentation/openai/utils.py`. The record of a streamed answer has no span ids, and is
joined by the response id. Histories lose every earlier tool call, and with it the whole message when the model said
nothing beside; results keep their call ids, so assembly can put the calls back.
"""

from __future__ import annotations

from dataclasses import replace

from otel_receiver.dialects.base import ModelCall, Reading
from otel_receiver.dialects.fields import context_of
from otel_receiver.dialects.genai import OPERATION, Kind, kind_of, read_as, read_call
from otel_receiver.dialects.messages import build, join
from otel_receiver.dialects.span_ref import span_ref
from otel_receiver.dialects.values import as_text
from otel_receiver.spans import LogRecord, Span
from spanloop.records import ReasoningPart, Role

SCOPE = "openlit"
REASONING = "gen_ai.content.reasoning"


class OpenLIT:
    """Spans of OpenLIT's instrumentations."""

    name = "openlit"

    def claims(self, span: Span, logs: tuple[LogRecord, ...]) -> bool:
        """Whether one of OpenLIT's instrumentations wrote the span and names its operation."""
        del logs
        return span.scope_name.partition(".")[0] == SCOPE and OPERATION in span.attributes

    def read(self, span: Span, logs: tuple[LogRecord, ...]) -> Reading:
        """The call, tool execution or run, by the span's operation."""
        kind, context = kind_of(span), context_of(span, self.name)
        if kind is not Kind.CALL:
            return read_as(span, logs, kind, context)
        call, blobs = read_call(span, logs, is_lossy=True)
        # The record of a streamed answer is written when the stream ends, outside of the span's context.
        call = replace(_with_reasoning(span, call), records_apart=call.streamed is True)
        return Reading(span=span_ref(span), context=context, model_calls=(call,), blobs=blobs)


def _with_reasoning(span: Span, call: ModelCall) -> ModelCall:
    """The call with the reasoning that stands apart from the answer's parts."""
    text = as_text(span.attributes.get(REASONING))
    if not text or (call.output is not None and call.output.reasoning):
        return call
    thought = build(Role.ASSISTANT, (ReasoningPart(text=text),))[0]
    return replace(call, output=thought if call.output is None else join(thought, call.output))
