"""LiteLLM's OpenTelemetry callback: OTel GenAI parts, the answer's tool calls apart and without ids.

Source: litellm, `litellm/integrations/opentelemetry.py`. Below each call that was not streamed a second span,
`raw_gen_ai_request`, repeats it in the provider's words as Python reprs, ids included. Of a failed call the response id
is LiteLLM's own. The second version (`LITELLM_OTEL_V2`, `integrations/otel`) writes OpenAI's chat messages under
OTel's keys and of the tools as many as a quarter of the span's attributes hold, beside the number of all.
"""

from __future__ import annotations

from dataclasses import replace

from otel_receiver.dialects.base import ModelCall, Reading
from otel_receiver.dialects.fields import context_of
from otel_receiver.dialects.genai import OPERATION, Kind, kind_of, read_as, read_call
from otel_receiver.dialects.indexed import read_indexed
from otel_receiver.dialects.messages import build, join
from otel_receiver.dialects.notes import Notes
from otel_receiver.dialects.parts import call_part
from otel_receiver.dialects.pyrepr import read_repr
from otel_receiver.dialects.raw_values import RawValues
from otel_receiver.dialects.span_ref import span_ref
from otel_receiver.dialects.tool_ids import complete_ids
from otel_receiver.dialects.tools import read_tools
from otel_receiver.dialects.values import as_int, as_text, as_word
from otel_receiver.spans import LogRecord, Span
from spanloop.records import Part, QualityFlag, Role

CALL_ID = "litellm.call_id"
REQUEST_NAME = "litellm_request"
RAW_NAME = "raw_gen_ai_request"
REQUEST_TYPE = "llm.request.type"
ANSWER = "gen_ai.completion"
TOOL = "gen_ai.tool"
DECLARED = "litellm.request.tools.declared"

_CALL_TYPES = frozenset({"completion", "acompletion", "chat", "text_completion", "atext_completion"})
_REQUEST_FIELDS = frozenset({"messages", "system", "tools", "contents", "input", "instructions"})
_RESPONSE_FIELDS = frozenset({"id", "choices", "usage", "content", "role", "stop_reason", "candidates", "output"})


class LiteLLM:
    """Spans of LiteLLM's library and proxy."""

    name = "litellm"

    def claims(self, span: Span, logs: tuple[LogRecord, ...]) -> bool:
        """Whether the span has LiteLLM's call id or one of its names."""
        del logs
        return span.name in (RAW_NAME, REQUEST_NAME) or CALL_ID in span.attributes

    def read(self, span: Span, logs: tuple[LogRecord, ...]) -> Reading:
        """The call, or the same call in the provider's words."""
        context = context_of(span, self.name)
        if span.name == RAW_NAME:
            return _read_raw(span, logs, Reading(span=span_ref(span), context=context))
        kind = _kind(span)
        if kind is not Kind.CALL:
            return read_as(span, logs, kind, context)
        held = {key: value for key, value in span.attributes.items() if not _is_answers_call(key)}
        call, blobs = read_call(replace(span, attributes=held), logs)
        call = _with_tools(span, _with_calls(span, _with_id(span, call)))
        return Reading(span=span_ref(span), context=context, model_calls=(call,), blobs=blobs)


def _kind(span: Span) -> Kind:
    """The kind by operation, in older versions by the request's type."""
    if OPERATION in span.attributes:
        return kind_of(span)
    return Kind.CALL if as_word(span.attributes.get(REQUEST_TYPE)) in _CALL_TYPES else Kind.OTHER


def _is_answers_call(key: str) -> bool:
    """Whether the key holds part of one of the answer's calls, whose index counts calls and not answers."""
    return key.startswith(ANSWER) and ".function_call." in key


def _with_id(span: Span, call: ModelCall) -> ModelCall:
    """The call without an id that no provider gave."""
    return replace(call, response_id=None) if call.response_id == span.attributes.get(CALL_ID) else call


def _with_tools(span: Span, call: ModelCall) -> ModelCall:
    """The call with its tools, flagged if the request declared more of them."""
    notes, tools = Notes(), call.tools
    if tools is None and f"{TOOL}.0.name" in span.attributes:
        tools = read_tools(list(read_indexed(span.attributes, TOOL).entries), notes)
    if (as_int(span.attributes.get(DECLARED)) or 0) > len(tools or ()):
        notes.flag(QualityFlag.PROMPT_TRUNCATED)
    return replace(call, tools=tools, flags=call.flags | notes.flags)


def _with_calls(span: Span, call: ModelCall) -> ModelCall:
    """The call with the tool calls of its answer."""
    notes = Notes()
    parts: list[Part] = []
    for entry in read_indexed(span.attributes, ANSWER).entries:
        if "function_call.name" in entry:
            parts += call_part(None, entry["function_call.name"], entry.get("function_call.arguments"), notes)
    if not parts:
        return call
    answer = build(Role.ASSISTANT, parts)[0]
    whole = join(call.output, answer) if call.output is not None else answer
    output = complete_ids((whole,), notes, start=len(call.messages))[0]
    return replace(call, output=output, flags=call.flags | notes.flags)


def _read_raw(span: Span, logs: tuple[LogRecord, ...], reading: Reading) -> Reading:
    """The provider's request and response; nothing of a streamed call, whose span is empty."""
    notes = Notes()
    request = _fields(span, _REQUEST_FIELDS, QualityFlag.PROMPT_TRUNCATED, notes)
    if not request:
        return reading
    response = _fields(span, _RESPONSE_FIELDS, QualityFlag.OUTPUT_TRUNCATED, notes)
    raw = RawValues(request, response or None)
    call, blobs = read_call(span, logs, notes=notes, extra=raw)
    return replace(reading, model_calls=(call,), blobs=blobs)


def _fields(span: Span, names: frozenset[str], cut: QualityFlag, notes: Notes) -> dict[str, object]:
    """The named fields of `llm.<provider>.<field>`; a list or an object is a Python repr."""
    fields: dict[str, object] = {}
    for key, value in span.attributes.items():
        head, _, field = key.partition(".")[2].partition(".")
        if not key.startswith("llm.") or not head or field not in names:
            continue
        text = as_text(value)
        if text is None or text[:1] not in ("[", "{"):
            fields[field] = value
            continue
        read = read_repr(text)
        fields[field] = read.value
        if not read.is_whole:
            notes.flag(cut)
    return fields
