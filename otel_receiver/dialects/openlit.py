"""OpenLIT: OTel GenAI parts on the span and again in a log record, which alone holds the tool definitions.

Source: openlit, `openlit/instrumentation/openai/utils.py`. The record of a streamed answer has no span ids, and is
joined by the response id. Histories lose every earlier tool call, and with it the whole message when the model said
nothing beside; results keep their call ids, so assembly can put the calls back.
"""

from __future__ import annotations

from dataclasses import replace

from otel_receiver.dialects.base import Context, ModelCall, Reading
from otel_receiver.dialects.fields import context_of
from otel_receiver.dialects.genai import OPERATION, Kind, kind_of, read_as, read_call
from otel_receiver.dialects.langgraph import PLAIN_NODES
from otel_receiver.dialects.messages import build, join
from otel_receiver.dialects.span_ref import span_ref
from otel_receiver.dialects.values import as_text, first_word
from otel_receiver.spans import LogRecord, Span
from spanloop.records import ReasoningPart, Role

SCOPE = "openlit"
REASONING = "gen_ai.content.reasoning"
LANGGRAPH = "openlit.instrumentation.langgraph"
GRAPH = "gen_ai.workflow.name"


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
        if span.scope_name == LANGGRAPH:
            return _read_graph(span, logs, kind, context)
        if kind is not Kind.CALL:
            return read_as(span, logs, kind, context)
        call, blobs = read_call(span, logs, is_lossy=True)
        # The record of a streamed answer is written when the stream ends, outside of the span's context.
        call = replace(_with_reasoning(span, call), records_apart=call.streamed is True)
        return Reading(span=span_ref(span), context=context, model_calls=(call,), blobs=blobs)


def _read_graph(span: Span, logs: tuple[LogRecord, ...], kind: Kind, context: Context) -> Reading:
    """A graph's span, which is named after the agent, or a node's, which says it is an agent whatever it does."""
    if kind is Kind.AGENT and context.agent_name in PLAIN_NODES:
        return read_as(span, logs, Kind.RUN, replace(context, agent_name=None))
    return read_as(
        span, logs, kind, replace(context, agent_name=context.agent_name or first_word(span.attributes, GRAPH))
    )


def _with_reasoning(span: Span, call: ModelCall) -> ModelCall:
    """The call with the reasoning that stands apart from the answer's parts."""
    text = as_text(span.attributes.get(REASONING))
    if not text or (call.output is not None and call.output.reasoning):
        return call
    thought = build(Role.ASSISTANT, (ReasoningPart(text=text),))[0]
    return replace(call, output=thought if call.output is None else join(thought, call.output))
