"""OTel GenAI semantic conventions in all their forms, and spans rewritten into them half-way.

Messages stand as `parts` (1.37 and later) on the span, in operation-details events or in log records; as one event per
message (up to 1.36) in log records or span events; or as one prompt and one completion event (the oldest form). A
Collector's normaliser renames keys and leaves the rest: so every other carrier is asked as well, and the richest wins.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from enum import StrEnum

from otel_receiver.dialects.base import AgentRun, Blob, Context, ModelCall, Reading
from otel_receiver.dialects.candidates import Carried, Carrier, best
from otel_receiver.dialects.fields import REQUEST_MODEL_KEYS, RESPONSE_MODEL_KEYS, Source, context_of
from otel_receiver.dialects.genai_events import (
    message_events,
    read_content_answer,
    read_content_prompt,
    read_event_answer,
    read_event_prompt,
)
from otel_receiver.dialects.genai_parts import (
    INPUT,
    TOOLS,
    answer_carriers,
    merged,
    prompt_carriers,
    read_answer,
    read_prompt,
    sources,
)
from otel_receiver.dialects.indexed import IndexedList, read_all_indexed
from otel_receiver.dialects.indexed_messages import indexed_answer, indexed_prompt
from otel_receiver.dialects.json_text import read_structured
from otel_receiver.dialects.model_call import CallEvidence, build_call
from otel_receiver.dialects.notes import Notes
from otel_receiver.dialects.raw_values import RawValues
from otel_receiver.dialects.span_ref import span_ref
from otel_receiver.dialects.tool_spans import read_tool_execution
from otel_receiver.dialects.tools import read_tools
from otel_receiver.dialects.values import as_items, as_mapping, as_text, as_word, first_present
from otel_receiver.spans import LogRecord, Span
from spanloop.records import QualityFlag, ToolDefinition

OPERATION = "gen_ai.operation.name"

OI_INPUT = "llm.input_messages"
OI_OUTPUT = "llm.output_messages"
OI_TOOLS = "llm.tools"
TL_INPUT = "gen_ai.prompt"
TL_OUTPUT = "gen_ai.completion"
TL_TOOLS = "llm.request.functions"
AO_TOOLS = "gen_ai.request.functions"
"""AgentOps' name for what OpenLLMetry, which it grew out of, calls `llm.request.functions`."""
LISTS = (OI_INPUT, OI_OUTPUT, OI_TOOLS, TL_INPUT, TL_OUTPUT, TL_TOOLS, AO_TOOLS)

TOOL_LIST_KEYS = (TOOLS, "llm.request.functions", "gen_ai.request.tools", "gen_ai.tools", "ai.prompt.tools")
REFERENCE_KEYS = (
    "gen_ai.input.messages_ref",
    "gen_ai.output.messages_ref",
    "gen_ai.system_instructions_ref",
    "gen_ai.tool.definitions_ref",
)
ALTERING_SCOPES = ("opentelemetry.instrumentation.openai_v2",)
"""Instrumentations whose message events lose newlines in tool-call arguments and the text beside calls."""
WORDLESS_SCOPES = ("opentelemetry.instrumentation.botocore.bedrock-runtime",)
"""Instrumentations whose choice events lack the text beside tool calls; the next call's events have it."""


class Kind(StrEnum):
    """What a span reports."""

    CALL = "call"
    TOOL = "tool"
    AGENT = "agent"
    RUN = "run"
    OTHER = "other"


KINDS: dict[str, Kind] = {
    **dict.fromkeys(("chat", "text_completion", "generate_content", "completion", "llm", "responses"), Kind.CALL),
    **dict.fromkeys(("chat.completions", "chat.streaming_completions"), Kind.CALL),
    **dict.fromkeys(("text.completions", "text.streaming_completions"), Kind.CALL),
    **dict.fromkeys(("execute_tool", "tool"), Kind.TOOL),
    **dict.fromkeys(("invoke_agent", "agent"), Kind.AGENT),
    **dict.fromkeys(("invoke_workflow", "plan", "chain", "workflow", "task", "agent_step", "create_agent"), Kind.RUN),
    **dict.fromkeys(("embeddings", "embedding", "retrieval", "retriever", "rerank", "rerankers"), Kind.OTHER),
}
"""Values of the operation name, in lower case; also the words other dialects' kinds are rewritten from."""

AUXILIARY_OPERATIONS = frozenset({"evaluate", "evaluation", "evaluator", "guardrail", "apply_guardrail", "moderation"})
"""Operations whose inner calls are not the policy's."""


class GenAI:
    """Spans with an OTel GenAI operation name, or with OTel GenAI messages or a model."""

    name = "otel_genai"

    def claims(self, span: Span, logs: tuple[LogRecord, ...]) -> bool:
        """Whether the span says its operation."""
        del logs
        return OPERATION in span.attributes

    def read(self, span: Span, logs: tuple[LogRecord, ...]) -> Reading:
        """The call, tool execution or run, by the span's operation."""
        reading = read_as(span, logs, kind_of(span), context_of(span, self.name))
        if not is_kept_at_openai(span):
            return reading
        calls = tuple(replace(call, continues_conversation=True) for call in reading.model_calls)
        return replace(reading, model_calls=calls)


def is_kept_at_openai(span: Span) -> bool:
    """Whether a Responses request names a conversation of OpenAI's, by the form of its ids: it holds the history."""
    conversation = as_word(span.attributes.get("gen_ai.conversation.id")) or ""
    return span.attributes.get("openai.api.type") == "responses" and conversation.startswith("conv_")


class BareGenAI:
    """Spans that name no operation: a tool when they name a tool, a call when they name a model and carry messages."""

    name = "otel_genai"

    def claims(self, span: Span, logs: tuple[LogRecord, ...]) -> bool:
        """Whether the span names a tool, or a model."""
        del logs
        return any(key in span.attributes for key in (*_TOOL_MARKS, *_MODEL_MARKS))

    def read(self, span: Span, logs: tuple[LogRecord, ...]) -> Reading:
        """The tool execution or the call."""
        is_tool = any(key in span.attributes for key in _TOOL_MARKS)
        return read_as(span, logs, Kind.TOOL if is_tool else Kind.CALL, context_of(span, self.name))


_TOOL_MARKS = ("gen_ai.tool.name", "gen_ai.tool.call.id")
_MODEL_MARKS = (*REQUEST_MODEL_KEYS, *RESPONSE_MODEL_KEYS, "llm.model_name")


def kind_of(span: Span) -> Kind:
    """What the span reports, by its operation; an unknown operation with messages and a model is a call."""
    word = (as_word(span.attributes.get(OPERATION)) or "").lower()
    kind = Kind.RUN if word in AUXILIARY_OPERATIONS else KINDS.get(word)
    if kind is not None:
        return kind
    has_model = any(key in span.attributes for key in (*REQUEST_MODEL_KEYS, *RESPONSE_MODEL_KEYS))
    return Kind.CALL if has_model and INPUT in span.attributes else Kind.OTHER


def read_as(span: Span, logs: tuple[LogRecord, ...], kind: Kind, context: Context) -> Reading:
    """The reading of a span of this kind."""
    reference = span_ref(span)
    if kind is Kind.CALL:
        call, blobs = read_call(span, logs)
        return Reading(span=reference, context=context, model_calls=(call,), blobs=blobs)
    if kind is Kind.TOOL:
        whole = merged(sources(span, logs))
        return Reading(span=reference, context=context, tool_executions=(read_tool_execution(span, whole),))
    if kind in (Kind.AGENT, Kind.RUN):
        return Reading(span=reference, context=context, agent=read_run(span, logs, is_agent=kind is Kind.AGENT))
    return Reading(span=reference, context=context)


def read_call(
    span: Span,
    logs: tuple[LogRecord, ...],
    *,
    notes: Notes | None = None,
    extra: RawValues | None = None,
    is_lossy: bool = False,
) -> tuple[ModelCall, tuple[Blob, ...]]:
    """The call, from every carrier its span and log records have; `extra` is one that only the dialect knows.

    `is_lossy`: the sender reports earlier messages with less than the model was shown.
    """
    notes = Notes() if notes is None else notes
    places = sources(span, logs)
    whole = merged(places)
    lists = read_all_indexed(span.attributes, LISTS)
    raw = RawValues(span.attributes.get("input.value"), span.attributes.get("output.value")) if extra is None else extra
    events = message_events(span, logs)
    prompt = best(
        (
            *prompt_carriers(places),
            lambda: read_event_prompt(events),
            *_indexed_prompts(lists),
            lambda: read_content_prompt(span),
            raw.prompt,
        ),
        exhaustive=True,
    )
    answer = best(
        (
            *answer_carriers(places),
            lambda: read_event_answer(events),
            *_indexed_answers(lists),
            lambda: read_content_answer(span),
            raw.answer,
        ),
        exhaustive=True,
    )
    tools = _tools(places, lists, raw, notes)
    _flag_references(whole, prompt, notes)
    is_altered = bool(events) and span.scope_name in ALTERING_SCOPES
    call, blobs = build_call(
        CallEvidence(
            span=span,
            source=whole,
            prompt=prompt,
            answer=answer,
            tools=tools,
            notes=notes,
            raw=raw.about,
            model=raw.model,
            lossy_history=is_altered or is_lossy,
            lossy_output=bool(events) and span.scope_name in WORDLESS_SCOPES,
            continues_response_id=raw.continues_response_id,
        )
    )
    return (_altered(call) if is_altered else call), blobs


def read_run(span: Span, logs: tuple[LogRecord, ...], *, is_agent: bool) -> AgentRun:
    """A run: its history is its input with its output, its tools what it was defined with."""
    if (as_word(span.attributes.get(OPERATION)) or "").lower() in AUXILIARY_OPERATIONS:
        return AgentRun(is_agent=False, auxiliary=True)
    whole = merged(sources(span, logs))
    notes = Notes()
    tools = next((tools for key in TOOL_LIST_KEYS if (tools := read_tools(whole.get(key), notes)) is not None), None)
    if tools is None:
        names = as_items(read_structured(whole.get("gen_ai.agent.tools")).value)
        tools = read_tools(names, notes) if names else None
    if not is_agent or (whole.get(INPUT) is None):
        return AgentRun(is_agent=is_agent, tools=tools)
    history = (*read_prompt(whole).messages, *read_answer(whole).messages)
    return AgentRun(is_agent=is_agent, history=history, tools=tools)


def _indexed_prompts(lists: dict[str, IndexedList]) -> Iterator[Carrier]:
    yield lambda: indexed_prompt(lists[OI_INPUT], flattened=True)
    yield lambda: indexed_prompt(lists[TL_INPUT], flattened=False)


def _indexed_answers(lists: dict[str, IndexedList]) -> Iterator[Carrier]:
    yield lambda: indexed_answer(lists[OI_OUTPUT], flattened=True)
    yield lambda: indexed_answer(lists[TL_OUTPUT], flattened=False)


def _tools(
    places: tuple[Source, ...], lists: dict[str, IndexedList], raw: RawValues, notes: Notes
) -> tuple[ToolDefinition, ...] | None:
    """The tools offered, from the first carrier that has any."""
    told = [found for place in places if (found := _told_tools(place)) is not None]
    if told:
        # A span may name its tools and leave their parameters to the log record.
        tools, doubts = next((found for found in told if not found[1].flags), told[0])
        notes.add(doubts)
        return tools
    for listed in (lists[OI_TOOLS], lists[TL_TOOLS], lists[AO_TOOLS]):
        if listed.entries:
            return read_tools([_indexed_tool(entry) for entry in listed.entries], notes)
    return raw.tools(notes) if raw.request_mentions('"tools"') else None


def _told_tools(place: Source) -> tuple[tuple[ToolDefinition, ...], Notes] | None:
    """The tools one place tells, with the doubts about them."""
    value, notes = first_present(place, *TOOL_LIST_KEYS), Notes()
    tools = read_tools(value, notes) if value is not None else None
    return (tools, notes) if tools is not None else None


def _indexed_tool(entry: Source) -> object:
    held = {key.removeprefix("tool."): value for key, value in entry.items()}
    return as_mapping(read_structured(held.get("json_schema")).value) or held


def _flag_references(whole: Source, prompt: Carried | None, notes: Notes) -> None:
    """Flag content that is only referred to: a reference that was resolved has its content beside it."""
    for key in REFERENCE_KEYS:
        if as_text(whole.get(key)) and whole.get(key.removesuffix("_ref")) is None:
            is_there = key == REFERENCE_KEYS[0] and prompt is not None and bool(prompt.messages)
            if not is_there:
                notes.flag(QualityFlag.CONTENT_REFERENCED)


def _altered(call: ModelCall) -> ModelCall:
    """The call, flagged if it holds tool calls: their arguments are not the model's own bytes."""
    said = (*call.messages, *((call.output,) if call.output is not None else ()))
    if not any(message.tool_calls for message in said):
        return call
    return replace(call, flags=call.flags | {QualityFlag.ARGUMENTS_ALTERED})
