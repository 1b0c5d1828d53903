"""Azure's tracer for LangChain before 1.0, langchain-azure-ai 0.1.8: OTel GenAI parts with much lost.

Source: langchain-azure, `langchain_azure_ai/callbacks/tracers/inference_tracing.py`. The system's message has the role
of the user, calls have null for arguments, and spans below the root have LangChain's run id for a conversation. A tool
is told twice: by the graph's node, named `tool`, and by itself, with the text of LangChain's message for a result.
"""

from __future__ import annotations

from dataclasses import replace

from otel_receiver.dialects.base import Context, ModelCall, Reading
from otel_receiver.dialects.fields import context_of
from otel_receiver.dialects.genai import OPERATION, Kind, kind_of, read_as
from otel_receiver.dialects.json_text import unquoted
from otel_receiver.dialects.pyrepr import read_repr
from otel_receiver.dialects.tool_wrappers import CALL_ID, RESULT
from otel_receiver.dialects.values import as_mapping, as_text, as_word
from otel_receiver.spans import LogRecord, Span
from spanloop.records import QualityFlag, Role

SCOPE = "langchain_azure_ai.callbacks.tracers.inference_tracing"
_RUN_KEYS = ("metadata.run_id", "metadata.parent_run_id")
_NO_ARGUMENTS = "{}"
_NODE = "tool"


class AzureLangChain:
    """Spans of the tracer, whose scope is named after its module; later ones are named by the application."""

    name = "otel_genai"

    def claims(self, span: Span, logs: tuple[LogRecord, ...]) -> bool:
        """Whether the tracer wrote the span."""
        del logs
        return span.scope_name == SCOPE and OPERATION in span.attributes

    def read(self, span: Span, logs: tuple[LogRecord, ...]) -> Reading:
        """What OTel GenAI says, with what is known to be lost."""
        kind = Kind.OTHER if span.attributes.get("gen_ai.tool.name") == _NODE else kind_of(span)
        reading = read_as(_with_result(span), logs, kind, _context(span, self.name))
        return replace(reading, model_calls=tuple(_flagged(call) for call in reading.model_calls))


def _with_result(span: Span) -> Span:
    """The span with its tool's result and call id out of the text of LangChain's message."""
    text = unquoted(span.attributes.get(RESULT))
    if not isinstance(text, str) or "tool_call_id=" not in text:
        return span
    told = as_mapping(read_repr(text).value) or {}
    result, call_id = as_text(told.get("content")), as_word(told.get("tool_call_id"))
    if result is None or call_id is None:
        return span
    return replace(span, attributes={**span.attributes, RESULT: result, CALL_ID: call_id})


def _context(span: Span, dialect: str) -> Context:
    """The context, without a run's id in place of the conversation's."""
    context = context_of(span, dialect)
    runs = {as_word(span.attributes.get(key)) for key in _RUN_KEYS}
    return replace(context, conversation_id=None) if context.conversation_id in runs else context


def _flagged(call: ModelCall) -> ModelCall:
    said = (*call.messages, *((call.output,) if call.output is not None else ()))
    has_system = any(message.role in (Role.SYSTEM, Role.DEVELOPER) for message in call.messages)
    lacks_arguments = any(part.arguments == _NO_ARGUMENTS for message in said for part in message.tool_calls)
    lost = {QualityFlag.SYSTEM_MISSING: not has_system, QualityFlag.CONTENT_MISSING: lacks_arguments}
    return replace(call, flags=call.flags.union(flag for flag, holds in lost.items() if holds))
