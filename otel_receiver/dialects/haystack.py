"""Haystack's own tracer: spans `haystack.…`, with content in JSON text when content tracing is on.

Source: haystack, `haystack/core/pipeline`, `haystack/components/agents` and `haystack/tracing`. Up to 2.31 an agent
runs its chat generator and tool invoker as components; later releases have spans for a step's model call and its tools.
"""

from __future__ import annotations

from dataclasses import replace

from otel_receiver.dialects.base import AgentRun, Reading, ToolExecution
from otel_receiver.dialects.candidates import Carried
from otel_receiver.dialects.fields import Source, context_of
from otel_receiver.dialects.haystack_messages import read_invocations, read_prompt, read_replies
from otel_receiver.dialects.json_text import JsonProblem, read_structured
from otel_receiver.dialects.model_call import CallEvidence, build_call
from otel_receiver.dialects.notes import Notes
from otel_receiver.dialects.parts import UNKNOWN_ID, result_text
from otel_receiver.dialects.pyrepr import read_repr
from otel_receiver.dialects.raw import request_model
from otel_receiver.dialects.span_ref import span_ref
from otel_receiver.dialects.tool_ids import complete_ids
from otel_receiver.dialects.tools import read_tools
from otel_receiver.dialects.values import as_items, as_mapping, as_text, as_word, first_present, first_word
from otel_receiver.spans import LogRecord, Span, SpanStatus
from spanloop.records import QualityFlag, ToolDefinition, ToolStatus

PREFIX = "haystack."
COMPONENT_TYPE = "haystack.component.type"
COMPONENT_NAME = "haystack.component.name"
INPUTS = ("haystack.component.input", "haystack.agent.step.llm.input")
OUTPUTS = ("haystack.component.output", "haystack.agent.step.llm.output")
STEP_CALL, STEP_TOOL = "haystack.agent.step.llm", "haystack.agent.step.tool"
EMBEDDED_CALL = "haystack.chat_generator.run"
"""The model call of a ranker, evaluator or extractor: what it says is never the application's answer."""
AGENT_RUN = "haystack.agent.run"
_RUNS = frozenset({"haystack.pipeline.run", "haystack.async_pipeline.run", "haystack.agent.step"})
_AGENT_COMPONENT = "Agent"


class Haystack:
    """Spans of Haystack's tracer."""

    name = "haystack"

    def claims(self, span: Span, logs: tuple[LogRecord, ...]) -> bool:
        """Whether the span has one of the tracer's names, or says a component's type."""
        del logs
        return span.name.startswith(PREFIX) or COMPONENT_TYPE in span.attributes

    def read(self, span: Span, logs: tuple[LogRecord, ...]) -> Reading:
        """The model call, the tools that ran, or the run, by the span's name and the component's type."""
        del logs
        kind = as_word(span.attributes.get(COMPONENT_TYPE)) or ""
        agent = first_word(span.attributes, COMPONENT_NAME) if kind == _AGENT_COMPONENT else None
        reading = Reading(span=span_ref(span), context=context_of(span, self.name, agent_name=agent))
        if span.name in (STEP_CALL, EMBEDDED_CALL) or _is_generator(span.attributes, kind):
            return _read_call(span, reading)
        if span.name == STEP_TOOL:
            return replace(reading, tool_executions=(_read_tool(span),))
        if span.name == AGENT_RUN:
            return replace(reading, agent=_read_agent(span.attributes))
        if span.name in _RUNS:
            return replace(reading, agent=AgentRun(is_agent=False))
        executions = _invocations(span.attributes) if "tool_messages" in _output_words(span.attributes) else ()
        return replace(reading, tool_executions=executions)


def _is_generator(source: Source, kind: str) -> bool:
    """Whether a component asks a model: a generator by name that gives replies, or does not say what it gives."""
    if "replies" not in (_output_words(source) or "replies"):
        return False
    asks = first_present(source, "haystack.component.input_spec", "haystack.component.input_types", *INPUTS)
    has_prompt = any(f'"{word}"' in (as_text(asks) or "") for word in ("messages", "prompt"))
    return kind.endswith("Generator") or (has_prompt and '"replies"' in _output_words(source))


def _output_words(source: Source) -> str:
    """What the component gives, by its specification or by what it gave; empty when the span says neither."""
    return as_text(first_present(source, "haystack.component.output_spec", *OUTPUTS)) or ""


def _read_call(span: Span, reading: Reading) -> Reading:
    notes = Notes()
    inputs = _content(span.attributes, INPUTS, notes, QualityFlag.PROMPT_TRUNCATED)
    outputs = _content(span.attributes, OUTPUTS, notes, QualityFlag.OUTPUT_TRUNCATED)
    said = Notes()
    messages = complete_ids(read_prompt(inputs, said), said)
    heard = Notes()
    reply = read_replies(outputs, heard)
    about = as_mapping((as_mapping(inputs) or {}).get("generation_kwargs")) or {}
    answer = () if reply.message is None else (reply.message,)
    call, blobs = build_call(
        CallEvidence(
            span=span,
            source=span.attributes,
            prompt=Carried(messages=messages, notes=said) if messages else None,
            answer=Carried(messages=answer, notes=heard) if answer else None,
            tools=_tools((as_mapping(inputs) or {}).get("tools"), notes),
            notes=notes,
            raw=reply,
            model=request_model(about) or reply.model,
            auxiliary=span.name == EMBEDDED_CALL,
        )
    )
    return replace(reading, model_calls=(call,), blobs=blobs)


def _content(source: Source, keys: tuple[str, ...], notes: Notes, cut: QualityFlag) -> object:
    """The structure in a content attribute: JSON, or a repr where JSON could not hold it (a streaming callback)."""
    value = first_present(source, *keys)
    reading = read_structured(value)
    if value is None or reading.problem is None:
        return reading.value
    if reading.problem is JsonProblem.CUT and '"' in str(value)[:3]:
        notes.flag(cut)
        return reading.value
    spelled = read_repr(as_text(value) or "")
    if not spelled.is_whole:
        notes.flag(cut)
    return spelled.value


def _tools(value: object, notes: Notes) -> tuple[ToolDefinition, ...] | None:
    """The tools handed over; a generator that has its own from its construction is handed none and says nothing."""
    items = as_items(read_structured(value).value if isinstance(value, str) else value)
    return read_tools([inner for item in items for inner in _definitions(item)], notes) if items is not None else None


def _definitions(item: object) -> tuple[object, ...]:
    """What a serialised tool or set of tools defines."""
    data = as_mapping((as_mapping(item) or {}).get("data"))
    if data is None:
        return (item,)
    inner = as_items(data.get("tools"))
    return (data,) if inner is None else tuple(found for tool in inner for found in _definitions(tool))


def _invocations(source: Source) -> tuple[ToolExecution, ...]:
    notes = Notes()
    inputs = _content(source, INPUTS, notes, QualityFlag.PROMPT_TRUNCATED)
    outputs = _content(source, OUTPUTS, notes, QualityFlag.OUTPUT_TRUNCATED)
    found = read_invocations(inputs, outputs, notes)
    return tuple(
        replace(execution, call_id=None) if execution.call_id == UNKNOWN_ID else execution for execution in found
    )


def _read_tool(span: Span) -> ToolExecution:
    """The execution in a step's tool span, which has no call id; a failure's text is an error in the output."""
    source, notes = span.attributes, Notes()
    failed = source.get("haystack.tool.error") is True or span.status is SpanStatus.ERROR
    told = source.get("haystack.agent.step.tool.output")
    error = as_text((as_mapping(read_structured(told).value) or {}).get("error")) if failed else None
    name = first_word(source, "haystack.tool.name") or "unknown"
    description = as_text(source.get("haystack.tool.description"))
    return ToolExecution(
        name=name,
        arguments=as_text(source.get("haystack.agent.step.tool.input")),
        result=error if error is not None else None if told is None else result_text(told, notes),
        status=ToolStatus.ERROR if failed else ToolStatus.UNKNOWN,
        definition=ToolDefinition(name=name, description=description) if description else None,
        flags=notes.flags,
    )


def _read_agent(source: Source) -> AgentRun:
    """The agent's run: its tools, and all its messages when content tracing is on."""
    notes = Notes()
    outputs = read_structured(source.get("haystack.agent.output")).value
    return AgentRun(
        is_agent=True,
        history=complete_ids(read_prompt(outputs, notes), notes),
        tools=_tools(source.get("haystack.agent.tools"), Notes()),
    )
