"""Langfuse SDK: an observation's input and output as JSON text, read by the observation's type.

Source: langfuse-python, `langfuse/_client/attributes.py`. Inputs of the OpenAI wrapper hold tools beside messages; the
finish reason of a plain answer is not carried. Python SDKs up to 3.3.0 wrote `span` for generations: a model tells.
The handler of LangChain's callbacks puts the tools behind the messages, as messages of the role tool, and tells no
finish reason; it writes an answer when the call has ended.
"""

from __future__ import annotations

import re
from dataclasses import replace

from otel_receiver.dialects.base import AgentRun, Context, ModelCall, Reading
from otel_receiver.dialects.fields import Source, context_of, has_usage
from otel_receiver.dialects.finish import finish_reason
from otel_receiver.dialects.genai import read_call
from otel_receiver.dialects.json_text import read_structured, unquoted
from otel_receiver.dialects.langgraph import langgraph_agent
from otel_receiver.dialects.raw import read_usage
from otel_receiver.dialects.raw_values import RawValues
from otel_receiver.dialects.span_ref import span_ref
from otel_receiver.dialects.tool_spans import read_tool_execution
from otel_receiver.dialects.tool_wrappers import CALL_ID
from otel_receiver.dialects.values import as_int, as_items, as_mapping, as_text, as_word, first_present, first_word
from otel_receiver.spans import LogRecord, Span, SpanStatus
from spanloop.records import Usage

TYPE = "langfuse.observation.type"
INPUT = "langfuse.observation.input"
OUTPUT = "langfuse.observation.output"
MODEL = "langfuse.observation.model.name"
USAGE = "langfuse.observation.usage_details"
STARTED = "langfuse.observation.completion_start_time"
METADATA = "langfuse.observation.metadata."
FINISH = f"{METADATA}finish_reason"
LEVEL = "langfuse.observation.level"
STATUS_MESSAGE = "langfuse.observation.status_message"
LANGCHAIN_MARK = f"{METADATA}ls_provider"
LANGCHAIN_MODEL = f"{METADATA}ls_model_name"

_RUNS = frozenset({"agent", "chain", "span", "evaluator", "guardrail"})
_TOOL_MESSAGE = re.compile(r'"role": ?"tool", ?"content": ?\{')
_AUXILIARY = frozenset({"evaluator", "guardrail"})


class Langfuse:
    """Observations of the Langfuse SDK."""

    name = "langfuse"

    def claims(self, span: Span, logs: tuple[LogRecord, ...]) -> bool:
        """Whether the span says its observation type."""
        del logs
        return TYPE in span.attributes

    def read(self, span: Span, logs: tuple[LogRecord, ...]) -> Reading:
        """The call, tool execution or run, by the observation's type."""
        span = _judged(span)
        kind = (as_word(span.attributes.get(TYPE)) or "").lower()
        reading = Reading(span=span_ref(span), context=_context(span, kind))
        if kind == "generation" or (kind == "span" and MODEL in span.attributes):
            return _read_generation(span, logs, reading)
        if kind == "tool":
            return replace(reading, tool_executions=(read_tool_execution(span, _tool_source(span.attributes)),))
        run = AgentRun(is_agent=kind == "agent", auxiliary=kind in _AUXILIARY)
        return replace(reading, agent=run) if kind in _RUNS else reading


def _judged(span: Span) -> Span:
    """The span, failed if its level says so: SDKs up to 3.3 leave the span's own status unset."""
    if span.status is SpanStatus.ERROR or as_word(span.attributes.get(LEVEL)) != "ERROR":
        return span
    message = as_text(unquoted(span.attributes.get(STATUS_MESSAGE))) or ""
    return replace(span, status=SpanStatus.ERROR, status_message=span.status_message or message)


def _tool_source(attributes: Source) -> Source:
    """A tool's attributes; LangChain's handler gives its call's id in the metadata."""
    return {
        CALL_ID: unquoted(attributes.get(f"{METADATA}tool_call_id")),
        **attributes,
        OUTPUT: unquoted(attributes.get(OUTPUT)),
    }


def _context(span: Span, kind: str) -> Context:
    """The context; an agent observation's name is the agent's."""
    held = {key: value for key, value in span.attributes.items() if key.startswith(METADATA)}
    metadata = {key.removeprefix(METADATA): unquoted(value) for key, value in held.items()}
    named = span.name if kind == "agent" else langgraph_agent(metadata)
    return context_of(span, Langfuse.name, agent_name=named)


def _read_generation(span: Span, logs: tuple[LogRecord, ...], reading: Reading) -> Reading:
    attributes = span.attributes
    raw = RawValues(_with_tools_apart(attributes.get(INPUT)), unquoted(attributes.get(OUTPUT)))
    call, blobs = read_call(span, logs, extra=raw)
    streamed = STARTED in attributes if call.streamed is None else call.streamed
    told = replace(
        call,
        finish_reason=call.finish_reason or finish_reason(unquoted(attributes.get(FINISH))),
        usage=call.usage if has_usage(call.usage) else _usage(span),
        streamed=streamed,
        is_whole=LANGCHAIN_MARK in attributes,
    )
    return replace(reading, model_calls=(_with_models(span, told),), blobs=blobs)


def _with_tools_apart(value: object) -> object:
    """The input; the tools that LangChain's handler puts behind the messages stand apart from them."""
    text = as_text(value)
    if text is None or _TOOL_MESSAGE.search(text) is None:
        return value
    items = as_items(read_structured(text).value) or ()
    offered = [content for item in items if (content := _offered_tool(item)) is not None]
    if not offered:
        return value
    return {"messages": [item for item in items if _offered_tool(item) is None], "tools": offered}


def _offered_tool(item: object) -> object:
    """The definition in a message of the role tool that answers no call; `None` for any other message."""
    message = as_mapping(item) or {}
    is_offer = message.get("role") == "tool" and "tool_call_id" not in message
    return as_mapping(message.get("content")) if is_offer else None


def _with_models(span: Span, call: ModelCall) -> ModelCall:
    """The call with its model: the name carried is the answering model's once there is an answer.

    LangChain's handler has the model asked for in the metadata, and of a streamed answer no other.
    """
    name = first_word(span.attributes, MODEL)
    asked = as_word(unquoted(span.attributes.get(LANGCHAIN_MODEL)))
    answered = call.output is not None and not (call.streamed and name == asked)
    return replace(
        call,
        model=call.model or asked or name,
        response_model=call.response_model or (name if answered else None),
    )


def _usage(span: Span) -> Usage:
    """Token counts; Langfuse's own words count cached tokens apart, a provider's words are its own."""
    held = as_mapping(read_structured(span.attributes.get(USAGE)).value) or {}
    if "input" not in held and "output" not in held:
        return read_usage(held)
    cached = as_int(first_present(held, "input_cached_tokens", "cache_read_input_tokens", "input_cache_read"))
    tokens = as_int(held.get("input"))
    return Usage(
        input_tokens=tokens + (cached or 0) if tokens is not None else None,
        output_tokens=as_int(held.get("output")),
        cache_read_tokens=cached,
        reasoning_tokens=as_int(first_present(held, "output_reasoning_tokens", "output_reasoning")),
    )
