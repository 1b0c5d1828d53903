"""Google's Agent Development Kit: whole requests and responses as JSON, or OTel GenAI parts in log records.

Source: adk-python, `telemetry`. `call_llm` spans carry Gemini's request and response; newer releases put a
`generate_content` span inside, whose content (and user) stands in its log record only. A tool's span repeats the empty
request; the span of merged tools is bookkeeping. Of a streamed answer every chunk is told, and the last is whole. Where
the model gave no call ids, `<not specified>` or the tool's name with the part's index stands in: the latter differs
between a call and its result, so it is no id.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from otel_receiver.dialects.base import Blob, Context, ModelCall, Reading
from otel_receiver.dialects.fields import context_of
from otel_receiver.dialects.gemini_schema import in_json_schema
from otel_receiver.dialects.genai import OPERATION, Kind, kind_of, read_as, read_call
from otel_receiver.dialects.genai_parts import DETAILS_EVENT, OUTPUT, event_name
from otel_receiver.dialects.json_text import read_structured
from otel_receiver.dialects.notes import Notes
from otel_receiver.dialects.raw import request_tools
from otel_receiver.dialects.raw_values import RawValues
from otel_receiver.dialects.stand_ins import without_stand_ins
from otel_receiver.dialects.tool_spans import read_tool_execution
from otel_receiver.dialects.tools import read_tools
from otel_receiver.dialects.values import as_items, as_mapping, compact_json, first_present, first_word
from otel_receiver.spans import Attributes, LogRecord, Span, SpanStatus
from spanloop.records import QualityFlag, ToolDefinition

SCOPE = "gcp.vertex.agent"
REQUEST = "gcp.vertex.agent.llm_request"
RESPONSE = "gcp.vertex.agent.llm_response"
TOOL_ARGUMENTS = "gcp.vertex.agent.tool_call_args"
TOOL_RESPONSE = "gcp.vertex.agent.tool_response"
CALL_SPAN = "call_llm"
MERGED_TOOLS = ("(merged tools)", "(merged)")
ELIDED = "<elided>"
NOT_SPECIFIED = "<not specified>"
_OLDEST_TOOL_SPANS = ("tool_response [", "tool_call [")
_AGENT_SPAN = "agent_run ["
_LOG_CONTEXT_KEYS = ("user.id", "gen_ai.conversation.id", "gen_ai.agent.name")

Source = Mapping[str, object]


class GoogleADK:
    """Spans of the Agent Development Kit."""

    name = "google_adk"

    def claims(self, span: Span, logs: tuple[LogRecord, ...]) -> bool:
        """Whether the kit's tracer wrote the span, or the span carries the kit's request."""
        del logs
        return span.scope_name == SCOPE or REQUEST in span.attributes

    def read(self, span: Span, logs: tuple[LogRecord, ...]) -> Reading:
        """The call, tool execution or run, by the span's name and operation."""
        kind, context = _kind(span), _context(span, logs)
        if kind is Kind.CALL:
            call, blobs = _read_call(span, logs)
            return replace(read_as(span, logs, Kind.OTHER, context), model_calls=(call,), blobs=blobs)
        if kind is Kind.TOOL:
            execution = read_tool_execution(span, {**_execution(span), **span.attributes})
            return replace(read_as(span, logs, Kind.OTHER, context), tool_executions=(execution,))
        return read_as(span, logs, kind, context)


def is_merged_tools(span: Span) -> bool:
    """Whether it is the span that repeats the tools of a turn as one: bookkeeping, and no execution."""
    return span.name.endswith(MERGED_TOOLS) or span.attributes.get("gen_ai.tool.name") in MERGED_TOOLS


def _kind(span: Span) -> Kind:
    """The kind; calls and runs name no operation in older releases."""
    if is_merged_tools(span):
        return Kind.OTHER
    if span.name == CALL_SPAN:
        return Kind.CALL
    if OPERATION in span.attributes:
        return kind_of(span)
    if span.name.startswith(_OLDEST_TOOL_SPANS):
        # One execution is two spans, and the result's has the id: the other tells more only when there is no result.
        return Kind.TOOL if span.name.startswith(_OLDEST_TOOL_SPANS[0]) or _is_failed(span) else Kind.OTHER
    if TOOL_ARGUMENTS in span.attributes or span.name.startswith("execute_tool "):
        return Kind.TOOL
    if span.name.startswith(_AGENT_SPAN):
        return Kind.AGENT
    return Kind.RUN if span.name == "invocation" else Kind.OTHER


def _is_failed(span: Span) -> bool:
    return span.status is SpanStatus.ERROR


def _context(span: Span, logs: tuple[LogRecord, ...]) -> Context:
    """The context, with what only the log record says."""
    context = context_of(span, GoogleADK.name, agent_name=_agent_in(span.name))
    told = next((record.attributes for record in logs if event_name(record) == DETAILS_EVENT), {})
    user, conversation, agent = (first_word(told, key) for key in _LOG_CONTEXT_KEYS)
    return replace(
        context,
        user_id=context.user_id or user,
        conversation_id=context.conversation_id or conversation,
        agent_name=context.agent_name or agent,
    )


def _agent_in(name: str) -> str | None:
    """The agent's name in the span name of older releases."""
    return name.removeprefix(_AGENT_SPAN).removesuffix("]") or None if name.startswith(_AGENT_SPAN) else None


def _read_call(span: Span, logs: tuple[LogRecord, ...]) -> tuple[ModelCall, tuple[Blob, ...]]:
    """A model call, with no id that is a stand-in."""
    raw = RawValues(span.attributes.get(REQUEST), _gemini_form(span.attributes.get(RESPONSE)))
    told = tuple(record for record in logs if not _is_elided(record))
    notes = Notes()
    if len(told) < len(logs):
        notes.flag(QualityFlag.CONTENT_REDACTED)
    logs = told
    places = (span.attributes, *(record.attributes for record in logs))
    chunks = max((_chunks(attributes) for attributes in places), key=len)
    span = replace(span, attributes=_with_last_chunk(span.attributes))
    logs = tuple(replace(record, attributes=_with_last_chunk(record.attributes)) for record in logs)
    call, blobs = read_call(span, logs, notes=notes, extra=raw)
    if call.tools is not None and raw.request_mentions("function_declarations"):
        call = replace(call, tools=_declared(raw) or call.tools)
    call = _responded(call, raw)
    return without_stand_ins(_streamed(call, chunks) if len(chunks) > 1 else call), blobs


def _responded(call: ModelCall, raw: RawValues) -> ModelCall:
    """The call with the response's own word on its counts, and on whether it is a piece of a stream that broke off.

    Releases before 1.9 wrote the total count where the output's belongs.
    """
    counted = raw.about.usage.output_tokens
    if counted is not None:
        call = replace(call, usage=replace(call.usage, output_tokens=counted))
    if (as_mapping(raw.response.value) or {}).get("partial") is not True:
        return call
    return replace(call, streamed=True, flags=call.flags | {QualityFlag.OUTPUT_TRUNCATED})


def _is_elided(record: LogRecord) -> bool:
    """Whether a message event hides its message; not even the role is told then, for all but system's are user's."""
    body = as_mapping(record.body)
    return body is not None and body.get("content") == ELIDED


def _chunks(attributes: Attributes) -> tuple[object, ...]:
    """The chunks of the answer that say anything."""
    items = as_items(read_structured(attributes.get(OUTPUT)).value) or ()
    return tuple(item for item in items if (as_mapping(item) or {}).get("parts"))


def _streamed(call: ModelCall, chunks: tuple[object, ...]) -> ModelCall:
    """The call, told to be streamed; flagged where its last chunk does not finish, for then it is a piece only."""
    is_whole = first_word(as_mapping(chunks[-1]) or {}, "finish_reason") is not None
    flags = frozenset() if is_whole else frozenset({QualityFlag.OUTPUT_TRUNCATED})
    return replace(call, streamed=True, flags=call.flags | flags)


def _gemini_form(value: object) -> object:
    """The kit's response as Gemini writes one; `None` when it is empty or absent."""
    held = as_mapping(read_structured(value).value)
    if held is None:
        return value
    return {**held, "candidates": (held,)} if held else None


def _with_last_chunk(attributes: Attributes) -> Attributes:
    """The attributes with the last chunk that says anything as the answer."""
    chunks = _chunks(attributes)
    if len(chunks) < 2:
        return attributes
    last = {OUTPUT: chunks[-1:]}
    return {**attributes, **last}  # type: ignore[dict-item]  # JSON's values are attribute values


def _declared(raw: RawValues) -> tuple[ToolDefinition, ...] | None:
    """The tools of the request, with Gemini's schemas in JSON Schema's words."""
    return read_tools(in_json_schema(request_tools(raw.request.value)), Notes())


def _execution(span: Span) -> Source:
    """Name, arguments and result of a tool's span under the common keys; without content both objects are empty."""
    arguments, response = span.attributes.get(TOOL_ARGUMENTS), _response(span.attributes.get(TOOL_RESPONSE))
    told: dict[str, object] = {}
    if span.name.startswith(_OLDEST_TOOL_SPANS):
        event = as_mapping(read_structured(span.attributes.get(TOOL_RESPONSE)).value) or {}
        told["gen_ai.tool.name"] = span.name.partition(" [")[2].removesuffix("]")
        told["gen_ai.tool.call.id"] = (_told_response(event) or {}).get("id")
    if response is not None or arguments != "{}":
        told |= {"gen_ai.tool.call.arguments": arguments, "gen_ai.tool.call.result": response}
    return told


def _response(value: object) -> object:
    """The tool's response; older releases give the whole event that holds it. A tool that failed has none."""
    held = as_mapping(read_structured(value).value)
    if held is None:
        return value
    if held in ({}, {"result": NOT_SPECIFIED}):
        return None
    told = _told_response(held)
    return value if told is None else compact_json(told.get("response"))


def _told_response(event: Source) -> Source | None:
    """The first response in an event's content."""
    parts = as_items((as_mapping(event.get("content")) or {}).get("parts")) or ()
    told = (first_present(as_mapping(part) or {}, "function_response", "functionResponse") for part in parts)
    return next((held for part in told if (held := as_mapping(part)) is not None), None)
