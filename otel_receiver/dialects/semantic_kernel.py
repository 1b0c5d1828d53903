"""Microsoft's Semantic Kernel: every message in a log record whose body is JSON text.

Source: semantic-kernel, `utils/telemetry/model_diagnostics`. The record's kind stands in the attribute `event.name`,
its place in `CHAT_MESSAGE_INDEX`; plain log lines of the kernel share the span's id and say nothing. The Python kernel
writes a message with tool calls without its text (`ChatMessageContent.to_dict`). Its connector to OpenAI builds the
request with the same function, so there the history is what was sent and only the answer lacks words; the other
connectors send the text. Functions go by their plugin's name and their own. The .NET kernel writes span events
instead. Which functions were offered stands, by name only, on the span around the calls of one turn.
"""

from __future__ import annotations

from dataclasses import replace

from otel_receiver.dialects.base import AgentRun, Context, Reading
from otel_receiver.dialects.fields import context_of
from otel_receiver.dialects.genai import KINDS, OPERATION, Kind, read_as, read_call
from otel_receiver.dialects.notes import Notes
from otel_receiver.dialects.span_ref import span_ref
from otel_receiver.dialects.tools import read_tools
from otel_receiver.dialects.values import as_word
from otel_receiver.spans import LogRecord, Span
from spanloop.records import Message, QualityFlag, ToolDefinition

PYTHON_SCOPE = "semantic_kernel"
SCOPES = (PYTHON_SCOPE, "Microsoft.SemanticKernel")
FAITHFUL_PROVIDERS = frozenset({"openai"})
"""Whose requests lack the same text as the reports of them; Azure OpenAI goes by the same name."""
FUNCTIONS = "sk.available_functions"


class SemanticKernel:
    """Spans of the Semantic Kernel."""

    name = "semantic_kernel"

    def claims(self, span: Span, logs: tuple[LogRecord, ...]) -> bool:
        """Whether one of the kernel's tracers wrote the span."""
        del logs
        return span.scope_name.startswith(SCOPES)

    def read(self, span: Span, logs: tuple[LogRecord, ...]) -> Reading:
        """The call, tool execution or run, by the span's operation."""
        context = context_of(span, self.name)
        operation = (as_word(span.attributes.get(OPERATION)) or "").lower()
        kind = KINDS.get(operation, Kind.OTHER)
        if kind is Kind.CALL:
            return _read_call(span, logs, context, streamed="streaming" in operation)
        offered = _offered(span)
        if offered is not None:
            run = AgentRun(is_agent=kind is Kind.AGENT, tools=offered)
            return Reading(span=span_ref(span), context=context, agent=run)
        return read_as(span, logs, kind, context)


def _read_call(span: Span, logs: tuple[LogRecord, ...], context: Context, *, streamed: bool) -> Reading:
    """A model call; its own name tells whether it was streamed."""
    sends_what_it_tells = as_word(span.attributes.get("gen_ai.system")) in FAITHFUL_PROVIDERS
    call, blobs = read_call(span, logs, is_lossy=not sends_what_it_tells)
    told = (call.output,) if sends_what_it_tells else (call.output, *call.messages)
    if span.scope_name.startswith(PYTHON_SCOPE) and any(map(_may_lack_text, told)):
        call = replace(call, flags=call.flags | {QualityFlag.TEXT_DROPPED})
    tools = call.tools if call.tools is not None else _offered(span)
    call = replace(call, tools=tools, streamed=streamed if call.streamed is None else call.streamed)
    return Reading(span=span_ref(span), context=context, model_calls=(call,), blobs=blobs)


def _may_lack_text(message: Message | None) -> bool:
    return message is not None and bool(message.tool_calls) and not message.text


def _offered(span: Span) -> tuple[ToolDefinition, ...] | None:
    """The functions offered, by name."""
    names = as_word(span.attributes.get(FUNCTIONS))
    return read_tools([name.strip() for name in names.split(",") if name.strip()], Notes()) if names else None
