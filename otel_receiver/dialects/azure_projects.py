"""Azure's tracing of OpenAI's Responses API, azure-ai-projects: OTel GenAI parts for what one request sends.

Source: azure-sdk-for-python, `azure-ai-projects/azure/ai/projects/telemetry`. A conversation is kept at the provider,
and each request holds only what is new to it. Instructions and tool definitions are never told; each item of an answer
is a message of its own, and the text's tells the item's status as a finish reason.
"""

from __future__ import annotations

from dataclasses import replace

from otel_receiver.dialects.base import ModelCall, Reading
from otel_receiver.dialects.fields import context_of
from otel_receiver.dialects.genai import OPERATION, kind_of, read_as
from otel_receiver.spans import LogRecord, Span
from spanloop.records import QualityFlag, Role

NAMESPACE = "az.namespace"
_SERVICE = "Microsoft.CognitiveServices"
_CONVERSATION = "gen_ai.conversation.id"


class AzureProjects:
    """Spans of the tracing of azure-ai-projects."""

    name = "otel_genai"

    def claims(self, span: Span, logs: tuple[LogRecord, ...]) -> bool:
        """Whether Azure's tracing wrote the span, of an operation of its AI services."""
        del logs
        return span.attributes.get(NAMESPACE) == _SERVICE and OPERATION in span.attributes

    def read(self, span: Span, logs: tuple[LogRecord, ...]) -> Reading:
        """What OTel GenAI says, and that the provider holds the conversation."""
        reading = read_as(span, logs, kind_of(span), context_of(span, self.name))
        is_kept = _CONVERSATION in span.attributes
        return replace(reading, model_calls=tuple(_told(call, is_kept=is_kept) for call in reading.model_calls))


def _told(call: ModelCall, *, is_kept: bool) -> ModelCall:
    has_system = any(message.role in (Role.SYSTEM, Role.DEVELOPER) for message in call.messages)
    flags = call.flags if has_system else call.flags | {QualityFlag.SYSTEM_MISSING}
    calls = call.output is not None and call.output.tool_calls
    reason = "tool_calls" if calls and call.finish_reason == "stop" else call.finish_reason
    return replace(call, finish_reason=reason, flags=flags, continues_conversation=is_kept)
