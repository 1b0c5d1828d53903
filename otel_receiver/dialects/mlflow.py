"""MLflow: every value is JSON text; inputs and outputs are the provider's own requests and responses.

Source: mlflow, `mlflow/tracing/constant.py`, `mlflow/openai` and `mlflow/tracing/export/genai_semconv`. A streamed
answer's outputs leave out its tool calls and say that it stopped: the truth is in the span's events, one per chunk, as
far as the SDK's event limit kept them. MLflow can translate its spans to OTel's GenAI conventions as it exports them
(`MLFLOW_ENABLE_OTEL_GENAI_SEMCONV`): the same holds then, and the model asked for is the answering one; the true one is
left over in a bare `model`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from otel_receiver.dialects.base import AgentRun, Context, ModelCall, Reading
from otel_receiver.dialects.chunks import Stream, join_chunks
from otel_receiver.dialects.fields import FINISH_KEYS, context_of, has_usage
from otel_receiver.dialects.genai import OPERATION, Kind, kind_of, read_as, read_call
from otel_receiver.dialects.genai_parts import OUTPUT
from otel_receiver.dialects.json_text import read_structured, unquoted
from otel_receiver.dialects.langgraph import langgraph_agent
from otel_receiver.dialects.notes import Notes
from otel_receiver.dialects.pydantic_messages import conversation_of, request_in_chat_form, response_in_chat_form
from otel_receiver.dialects.raw import one_answer, request_model
from otel_receiver.dialects.raw_values import RawValues
from otel_receiver.dialects.span_ref import span_ref
from otel_receiver.dialects.tool_spans import read_tool_execution
from otel_receiver.dialects.tools import read_tools
from otel_receiver.dialects.values import as_bool, as_int, as_items, as_mapping, as_text, as_word, first_word
from otel_receiver.spans import LogRecord, Span
from spanloop.records import QualityFlag, ToolDefinition, Usage

SPAN_TYPE = "mlflow.spanType"
INPUTS = "mlflow.spanInputs"
OUTPUTS = "mlflow.spanOutputs"
TOOLS = "mlflow.chat.tools"
USAGE = "mlflow.chat.tokenUsage"
MODEL = "mlflow.llm.model"
FORMAT = "mlflow.message.format"
MESSAGES = "mlflow.chat.messages"
PARAMETERS = "invocation_params"
CHUNK_EVENT = "mlflow.chunk.item."
CHUNK = "mlflow.chunk.value"

SCOPE = "mlflow."
BARE_MODEL = "model"
BARE_STREAM = "stream"

_CALLS = frozenset({"CHAT_MODEL", "LLM"})
_RUNS = frozenset({"AGENT", "CHAIN", "WORKFLOW", "TASK", "EVALUATOR", "GUARDRAIL"})
_OBJECT = re.compile(r"<[\w.]*Stream\w* object at 0x[0-9a-f]+>")
_AUXILIARY = frozenset({"EVALUATOR", "GUARDRAIL"})


class MLflow:
    """Spans of MLflow's tracing."""

    name = "mlflow"

    def claims(self, span: Span, logs: tuple[LogRecord, ...]) -> bool:
        """Whether the span says its MLflow type, or an operation under the scope of MLflow's own tracer."""
        del logs
        return SPAN_TYPE in span.attributes or (span.scope_name.startswith(SCOPE) and OPERATION in span.attributes)

    def read(self, span: Span, logs: tuple[LogRecord, ...]) -> Reading:
        """The call, tool execution or run, by the span's type."""
        plain = replace(span, attributes={key: unquoted(value) for key, value in span.attributes.items()})  # type: ignore[misc]
        if SPAN_TYPE not in span.attributes:
            return _read_translated(span, plain, logs)
        kind = (as_word(plain.attributes.get(SPAN_TYPE)) or "").upper()
        context = _context(span, plain, kind)
        reading = Reading(span=span_ref(span), context=context)
        if kind in _CALLS:
            return _read_call(span, plain, logs, reading)
        if kind == "TOOL":
            return replace(reading, tool_executions=(read_tool_execution(plain),))
        run = AgentRun(is_agent=kind == "AGENT", auxiliary=kind in _AUXILIARY)
        return replace(reading, agent=run) if kind in _RUNS else reading


def _context(span: Span, plain: Span, kind: str) -> Context:
    """The context; LangChain tells the agent in the metadata, Pydantic-AI in an attribute of the agent's span."""
    metadata = as_mapping(read_structured(plain.attributes.get("metadata")).value)
    named = span.name if kind == "AGENT" else None
    if plain.attributes.get(FORMAT) == "pydantic_ai":
        named = first_word(plain.attributes, "name") if kind == "AGENT" else None
    context = context_of(plain, MLflow.name, agent_name=langgraph_agent(metadata) if metadata else named)
    if kind not in _CALLS or context.conversation_id is not None:
        return context
    return replace(context, conversation_id=conversation_of(plain.attributes.get(INPUTS)))


def _read_call(span: Span, plain: Span, logs: tuple[LogRecord, ...], reading: Reading) -> Reading:
    notes = Notes()
    raw = RawValues(request_in_chat_form(plain.attributes.get(INPUTS)), _response(span, notes))
    call, blobs = read_call(plain, logs, notes=notes, extra=raw)
    request = as_mapping(raw.request.value) or {}
    model = first_word(plain.attributes, MODEL, BARE_MODEL) or request_model(_parameters(plain))
    told = replace(
        call,
        model=call.model or first_word(request, "model", "model_name") or model,
        streamed=request.get("stream") is True or _has_chunks(span),
        usage=call.usage if has_usage(call.usage) else _usage(plain),
        tools=call.tools if call.tools is not None else _offered(plain),
    )
    return replace(reading, model_calls=(_answered(_with_chat_answer(plain, told)),), blobs=blobs)


def _with_chat_answer(plain: Span, call: ModelCall) -> ModelCall:
    """The call with its answer as MLflow 3.1 repeats it behind the prompt: LangChain's outputs lack the calls."""
    items = as_items(read_structured(plain.attributes.get(MESSAGES)).value)
    if not items or (call.output is not None and call.output.tool_calls):
        return call
    notes = Notes()
    answer = one_answer(items[-1], notes)
    if answer is None or not answer.tool_calls or len(items) <= len(call.messages):
        return call
    return replace(call, output=answer, flags=call.flags | notes.flags)


def _parameters(plain: Span) -> Mapping[str, object]:
    """What LangChain was asked to invoke the model with."""
    return as_mapping(read_structured(plain.attributes.get(PARAMETERS)).value) or {}


def _offered(plain: Span) -> tuple[ToolDefinition, ...] | None:
    """The tools beside the request; MLflow's own list of LangChain's lacks the schemas that Anthropic's form has."""
    carried = [read_tools(value, Notes()) for value in (plain.attributes.get(TOOLS), _parameters(plain).get("tools"))]
    told = [tools for tools in carried if tools is not None]
    whole = (tools for tools in told if all(tool.parameters is not None for tool in tools))
    return next(whole, told[0] if told else None)


def _read_translated(span: Span, plain: Span, logs: tuple[LogRecord, ...]) -> Reading:
    """A span that MLflow translated to OTel's GenAI conventions."""
    kind, context = kind_of(plain), context_of(plain, MLflow.name)
    if kind is not Kind.CALL:
        return read_as(plain, logs, kind, context)
    notes = Notes()
    stream = _stream(span)
    if stream is not None:
        said = as_mapping((as_items(read_structured(span.attributes.get(OUTPUT)).value) or (None,))[0]) or {}
        response = _streamed_response(stream, _text_of(said), None, notes)
        kept = {key: value for key, value in plain.attributes.items() if key not in (OUTPUT, *FINISH_KEYS)}
        plain = replace(plain, attributes=kept)
    call, blobs = read_call(plain, logs, notes=notes, extra=None if stream is None else RawValues(None, response))
    call = replace(
        call,
        model=first_word(plain.attributes, BARE_MODEL) or call.model,
        streamed=stream is not None or as_bool(plain.attributes.get(BARE_STREAM)) is True,
    )
    return Reading(span=span_ref(span), context=context, model_calls=(call,), blobs=blobs)


def _text_of(said: Mapping[str, object]) -> str | None:
    """The text of a message's first part."""
    parts = as_items(said.get("parts"))
    return as_text((as_mapping(parts[0]) or {}).get("content")) if parts else None


def _answered(call: ModelCall) -> ModelCall:
    """The call; without an answer there was no response whose model could be told."""
    return call if call.output is not None else replace(call, response_model=None)


def _response(span: Span, notes: Notes) -> object:
    """The response; a streamed one with the tool calls and the finish reason that its chunks tell."""
    carried = span.attributes.get(OUTPUTS)
    stream = _stream(span)
    if stream is None:
        text = unquoted(carried)
        if text is carried or _is_unread_stream(text):
            return None if text is not carried else response_in_chat_form(carried)
        return {"role": "assistant", "content": text}
    outputs = as_mapping(read_structured(carried).value) or {}
    text = (as_mapping(_first_choice(outputs).get("message")) or {}).get("content")
    return _streamed_response(stream, as_text(text), outputs.get("usage"), notes)


def _streamed_response(stream: Stream, text: str | None, usage: object, notes: Notes) -> object:
    """The streamed response with the text and counts that the outputs tell: the first chunks may be lost."""
    choice = _first_choice(stream.response)
    if not stream.is_whole or (choice.get("finish_reason") == "tool_calls" and not stream.has_calls):
        notes.flag(QualityFlag.OUTPUT_TRUNCATED)
    message = {**(as_mapping(choice.get("message")) or {}), **({"content": text} if text else {})}
    usage = usage or stream.response.get("usage")
    return {**stream.response, "choices": ({**choice, "message": message},), "usage": usage}


def _is_unread_stream(text: object) -> bool:
    """Whether the outputs are the name of a stream that the application read itself."""
    return _OBJECT.fullmatch(as_text(text) or "") is not None


def _stream(span: Span) -> Stream | None:
    """The answer that the span's chunk events spell, in their own order."""
    events = [event for event in span.events if event.name.startswith(CHUNK_EVENT)]
    events.sort(key=lambda event: as_int(event.name.removeprefix(CHUNK_EVENT)) or 0)
    return join_chunks(read_structured(event.attributes.get(CHUNK)).value for event in events)


def _has_chunks(span: Span) -> bool:
    return any(event.name.startswith(CHUNK_EVENT) for event in span.events)


def _first_choice(response: object) -> dict[str, object]:
    items = as_items((as_mapping(response) or {}).get("choices"))
    return dict(as_mapping(items[0]) or {}) if items else {}


def _usage(span: Span) -> Usage:
    """MLflow's own counts, for responses that carry none."""
    held = as_mapping(read_structured(span.attributes.get(USAGE)).value) or {}
    return Usage(
        input_tokens=as_int(held.get("input_tokens")),
        output_tokens=as_int(held.get("output_tokens")),
        cache_read_tokens=as_int(held.get("cache_read_input_tokens")),
        cache_write_tokens=as_int(held.get("cache_creation_input_tokens")),
    )
