"""OpenLLMetry and the Traceloop SDK: model calls indexed (up to 0.54) or as parts, and entities around them.

Source: openllmetry, `packages/opentelemetry-instrumentation-openai`, `-langchain` and `packages/traceloop-sdk`.
"""

from __future__ import annotations

from dataclasses import replace

from otel_receiver.dialects.base import AgentRun, Blob, Context, ModelCall, Reading, ToolExecution
from otel_receiver.dialects.fields import METADATA_CONVERSATION_KEYS, context_of
from otel_receiver.dialects.genai import OPERATION, Kind, kind_of, read_as, read_call
from otel_receiver.dialects.genai_parts import merged, sources
from otel_receiver.dialects.langchain_blocks import unfold_blocks
from otel_receiver.dialects.langgraph import named_agent
from otel_receiver.dialects.notes import Notes
from otel_receiver.dialects.openllmetry_habits import (
    COPIED_MODELS,
    LANGCHAIN,
    LLAMA_INDEX,
    drops_text,
    in_common_form,
    is_of_family,
    with_doubts,
    with_item_ids,
)
from otel_receiver.dialects.openllmetry_reprs import is_llama_index_tool, langchain_metadata, llama_index_values
from otel_receiver.dialects.span_ref import span_ref
from otel_receiver.dialects.tool_spans import read_tool_execution
from otel_receiver.dialects.tool_wrappers import traceloop_tool
from otel_receiver.dialects.values import as_word, first_word
from otel_receiver.spans import LogRecord, Span

ENTITY_KIND = "traceloop.span.kind"
REQUEST_TYPE = "llm.request.type"
PROPERTIES = "traceloop.association.properties."
_MARKS = (ENTITY_KIND, REQUEST_TYPE, "gen_ai.is_streaming", "llm.is_streaming", "gen_ai.prompt.0.role", "llm.headers")
_OPERATION_MARKS = ("traceloop.workflow.name", "traceloop.entity.path", "gen_ai.workflow.nodes", "gen_ai.task.name")
"""Marks on spans that say their operation; the Traceloop SDK puts the first on spans of any instrumentation."""
_CALL_TYPES = frozenset({"chat", "completion"})
_OTHER_TYPES = frozenset({"embedding", "rerank", "moderation"})
"""Requests whose texts some instrumentations write as prompts too."""
_UNKNOWN_MODEL = "unknown"
"""What the LangChain instrumentation writes for a model whose parameters do not name it."""


class OpenLLMetry:
    """Spans of an OpenLLMetry instrumentation, and entities of the Traceloop SDK."""

    name = "openllmetry"

    def claims(self, span: Span, logs: tuple[LogRecord, ...]) -> bool:
        """Whether one of OpenLLMetry's instrumentations wrote the span, or it carries a mark that only these write."""
        del logs
        if any(key in span.attributes for key in _MARKS) or is_of_family(span):
            return True
        return OPERATION in span.attributes and any(key in span.attributes for key in _OPERATION_MARKS)

    def read(self, span: Span, logs: tuple[LogRecord, ...]) -> Reading:
        """The call, by operation or request type; else the entity."""
        reference, context = span_ref(span), _context(span)
        kind = _kind(span)
        if kind is Kind.CALL:
            call, blobs = _read_call(span, logs)
            return Reading(span=reference, context=context, model_calls=(call,), blobs=blobs)
        entity = (as_word(span.attributes.get(ENTITY_KIND)) or "").lower()
        is_tool = entity == "tool" or is_llama_index_tool(span.attributes)
        if kind is Kind.TOOL or (kind is Kind.OTHER and is_tool):
            return Reading(span=reference, context=context, tool_executions=(_read_tool(span, logs),))
        if kind is not Kind.OTHER:
            return read_as(span, logs, kind, context)
        run = AgentRun(is_agent=entity == "agent") if entity else None
        return Reading(span=reference, context=context, agent=run)


def _kind(span: Span) -> Kind:
    """The kind of a span that makes a call or runs an agent; the entity's kind decides the rest.

    Operations of their own (`llm_request`, `execute_task`) say nothing that the request type does not.
    """
    kind = kind_of(span) if OPERATION in span.attributes else Kind.OTHER
    if kind is not Kind.OTHER:
        return kind
    asked = (as_word(span.attributes.get(REQUEST_TYPE)) or "").lower()
    is_call = asked in _CALL_TYPES or (asked not in _OTHER_TYPES and "gen_ai.prompt.0.role" in span.attributes)
    return Kind.CALL if is_call else Kind.OTHER


def _read_call(span: Span, logs: tuple[LogRecord, ...]) -> tuple[ModelCall, tuple[Blob, ...]]:
    """The call, without what the LangChain instrumentation writes for want of better."""
    notes = Notes()
    extra = llama_index_values(span.attributes) if span.scope_name.startswith(LLAMA_INDEX) else None
    call, blobs = read_call(in_common_form(span), logs, extra=extra, is_lossy=drops_text(span))
    call = with_doubts(span, with_item_ids(span, unfold_blocks(call, notes)))
    told = first_word(span.attributes, f"{PROPERTIES}ls_model_name")
    model = call.model if call.model != _UNKNOWN_MODEL else told
    # Before there is any answer, the request's model is written as the response's; an answer that names its model
    # names itself too.
    is_copied = call.response_id is None or span.scope_name.startswith(COPIED_MODELS)
    is_told = not is_copied or call.response_model not in (call.model, _UNKNOWN_MODEL)
    call = replace(
        call,
        model=model,
        response_model=call.response_model if is_told else None,
        flags=call.flags | notes.flags,
    )
    return call, (*blobs, *notes.blobs)


def _read_tool(span: Span, logs: tuple[LogRecord, ...]) -> ToolExecution:
    return read_tool_execution(span, traceloop_tool(merged(sources(span, logs))))


def _context(span: Span) -> Context:
    """The context; an agent entity's name is the agent's, and LangGraph tells it in the metadata it passes on."""
    is_agent = (as_word(span.attributes.get(ENTITY_KIND)) or "").lower() == "agent"
    named = first_word(span.attributes, "traceloop.entity.name") if is_agent else None
    properties = {
        key.removeprefix(PROPERTIES): value for key, value in span.attributes.items() if key.startswith(PROPERTIES)
    }
    agent = first_word(span.attributes, "gen_ai.agent.name") or named or named_agent(properties)
    context = context_of(span, OpenLLMetry.name, agent_name=agent)
    is_run = span.scope_name.startswith(LANGCHAIN) and span.attributes.get(ENTITY_KIND) == "workflow"
    if not is_run or None not in (context.conversation_id, context.user_id):
        return context
    metadata = langchain_metadata(span.attributes)  # up to 0.54 they stand nowhere else
    return replace(
        context,
        conversation_id=context.conversation_id or first_word(metadata, *METADATA_CONVERSATION_KEYS),
        user_id=context.user_id or first_word(metadata, "user_id"),
    )
