"""Read the single-valued fields of a model call and of a span's context, whatever dialect wrote them.

Every key of every dialect stands here once, in order of preference. So a span that a Collector has rewritten half-way,
or that an instrumentation wrote in two dialects at once, reads like any other.
"""

from __future__ import annotations

from collections.abc import Mapping

from otel_receiver.dialects.base import Context
from otel_receiver.dialects.finish import finish_reasons
from otel_receiver.dialects.json_text import read_json
from otel_receiver.dialects.notes import is_redacted
from otel_receiver.dialects.values import as_bool, as_int, as_mapping, as_word, first_present, first_word
from otel_receiver.spans import Span
from spanloop.records import Usage

Source = Mapping[str, object]

REQUEST_MODEL_KEYS = ("gen_ai.request.model", "llm.request.model_name", "llm.request.model", "ai.model.id")
RESPONSE_MODEL_KEYS = ("gen_ai.response.model", "llm.response.model_name", "llm.response.model", "ai.response.model")
RESPONSE_ID_KEYS = ("gen_ai.response.id", "ai.response.id", "llm.response.id")
FINISH_KEYS = (
    "gen_ai.response.finish_reasons",
    "gen_ai.response.finish_reason",
    "llm.finish_reason",
    "ai.response.finishReason",
    "ai.finishReason",
    "llm.response.finish_reason",
    "llm.response.stop_reason",
    "anthropic.message.stop_reason",
)
STREAM_KEYS = ("gen_ai.request.stream", "gen_ai.is_streaming", "llm.is_streaming")

INPUT_TOKEN_KEYS = (
    "gen_ai.usage.input_tokens",
    "llm.token_count.prompt",
    "ai.usage.inputTokens",
    "ai.usage.promptTokens",
    "gen_ai.usage.prompt_tokens",
    "llm.usage.prompt_tokens",
)
OUTPUT_TOKEN_KEYS = (
    "gen_ai.usage.output_tokens",
    "llm.token_count.completion",
    "ai.usage.outputTokens",
    "ai.usage.completionTokens",
    "gen_ai.usage.completion_tokens",
    "llm.usage.completion_tokens",
)
CACHE_READ_KEYS = (
    "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.usage.cache_read_input_tokens",
    "llm.token_count.prompt_details.cache_read",
    "ai.usage.cachedInputTokens",
    "ai.usage.inputTokenDetails.cacheReadTokens",
    "gen_ai.usage.details.cache_read_tokens",
    "gen_ai.usage.details.cached_tokens",
    "gen_ai.usage.details.cache_read_input_tokens",
    "gen_ai.usage.details.cached_content_tokens",
)
CACHE_WRITE_KEYS = (
    "gen_ai.usage.cache_creation.input_tokens",
    "gen_ai.usage.cache_write.input_tokens",
    "gen_ai.usage.cache_creation_input_tokens",
    "llm.token_count.prompt_details.cache_write",
    "ai.usage.inputTokenDetails.cacheWriteTokens",
    "gen_ai.usage.details.cache_write_tokens",
    "gen_ai.usage.details.cache_creation_input_tokens",
)
REASONING_KEYS = (
    "gen_ai.usage.reasoning.output_tokens",
    "gen_ai.usage.reasoning_tokens",
    "gen_ai.usage.thinking_tokens",
    "gen_ai.usage.experimental.reasoning_tokens",
    "llm.token_count.completion_details.reasoning",
    "ai.usage.reasoningTokens",
    "ai.usage.outputTokenDetails.reasoningTokens",
    "gen_ai.usage.details.reasoning_tokens",
    "gen_ai.usage.details.thoughts_tokens",
    "llm.usage.reasoning_tokens",
)

CONVERSATION_KEYS = (
    "gen_ai.conversation.id",
    "session.id",
    "langfuse.session.id",
    "ai.telemetry.metadata.sessionId",
    "ai.telemetry.metadata.threadId",
    "ai.telemetry.metadata.conversationId",
    "ai.telemetry.metadata.chatId",
    "ai.telemetry.metadata.session_id",
    "ai.telemetry.metadata.thread_id",
    "ai.telemetry.metadata.conversation_id",
    "ai.settings.context.sessionId",
    "ai.settings.context.threadId",
    "ai.settings.context.conversationId",
    "ai.settings.context.chatId",
    "langsmith.metadata.session_id",
    "langsmith.metadata.thread_id",
    "langsmith.metadata.conversation_id",
    "traceloop.association.properties.session_id",
    "traceloop.association.properties.thread_id",
    "traceloop.association.properties.conversation_id",
    "traceloop.association.properties.chat_id",
    "traceloop.association.properties.sessionId",
    "traceloop.association.properties.threadId",
    "traceloop.association.properties.conversationId",
    "gcp.vertex.agent.session_id",
    "mlflow.trace.session",
    "session_id",
    "conversation_id",
    "thread_id",
)
"""Bare words last: Logfire writes an application's baggage under the application's own names."""

USER_KEYS = (
    "user.id",
    "enduser.id",
    "langfuse.user.id",
    "ai.telemetry.metadata.userId",
    "ai.telemetry.metadata.user_id",
    "ai.settings.context.userId",
    "gen_ai.request.user",
    "llm.user",
    "langsmith.metadata.user_id",
    "traceloop.association.properties.user_id",
    "traceloop.association.properties.userId",
    "mlflow.trace.user",
    "user_id",
)
AGENT_KEYS = (
    "gen_ai.agent.name",
    "agent.name",
    "agent_name",
    "graph.node.name",
    "executor.id",
    "ai.telemetry.functionId",
)
METADATA_CONVERSATION_KEYS = ("session_id", "conversation_id", "thread_id")


def usage_of(source: Source) -> Usage:
    """The token counts the attributes tell."""
    return Usage(
        input_tokens=_count(source, INPUT_TOKEN_KEYS),
        output_tokens=_count(source, OUTPUT_TOKEN_KEYS),
        cache_read_tokens=_count(source, CACHE_READ_KEYS),
        cache_write_tokens=_count(source, CACHE_WRITE_KEYS),
        reasoning_tokens=_count(source, REASONING_KEYS),
    )


def has_usage(usage: Usage) -> bool:
    """Whether any token was counted."""
    return bool(usage.input_tokens or usage.output_tokens)


def request_model_of(source: Source) -> str | None:
    """The model asked for."""
    return first_word(source, *REQUEST_MODEL_KEYS)


def response_model_of(source: Source) -> str | None:
    """The model that answered."""
    return first_word(source, *RESPONSE_MODEL_KEYS)


def response_id_of(source: Source) -> str | None:
    """The provider's id of the response."""
    return first_word(source, *RESPONSE_ID_KEYS)


def finish_reasons_of(source: Source) -> tuple[str, ...]:
    """The finish reasons the span lists, normalised: one for each choice, or for each item of an answer."""
    return next((reasons for key in FINISH_KEYS if (reasons := finish_reasons(source.get(key)))), ())


def streamed_of(source: Source) -> bool | None:
    """Whether the answer was streamed, when the span says so."""
    return as_bool(first_present(source, *STREAM_KEYS))


def context_of(span: Span, dialect: str, *, agent_name: str | None = None) -> Context:
    """Who the span belongs to; `agent_name` is what the dialect knows better than the common keys."""
    source = span.attributes
    return Context(
        dialect=dialect,
        dialect_version=f"{span.scope_name} {span.scope_version}".strip() or None,
        service_name=service_name_of(span.resource),
        agent_name=agent_name or _identity(source, *AGENT_KEYS),
        conversation_id=_conversation(source) or _identity(span.resource, *CONVERSATION_KEYS),
        user_id=_identity(source, *USER_KEYS) or _resource_user(span.resource),
    )


def context_around(span: Span) -> Context:
    """What a span of no dialect says about the calls below it: an application's own span may carry the ids."""
    source = span.attributes
    if not source:
        return Context()
    return Context(conversation_id=first_word(source, *CONVERSATION_KEYS), user_id=first_word(source, *USER_KEYS))


def service_name_of(resource: Source) -> str | None:
    """The sender's name; the SDK's stand-in for an unset name yields to the application's own."""
    service = as_word(resource.get("service.name"))
    if service is None or service.startswith("unknown_service"):
        return as_word(resource.get("app.name")) or service
    return service


def _identity(source: Source, *keys: str) -> str | None:
    """The first name or id among the keys; a mark of redaction is none, or all that are hidden would be one."""
    for key in keys:
        value = source.get(key)
        if value is not None and (word := as_word(value)) is not None and not is_redacted(word):
            return word
    return None


def _conversation(source: Source) -> str | None:
    """The conversation id among the keys, else in the span's metadata."""
    found = _identity(source, *CONVERSATION_KEYS)
    metadata = source.get("metadata")
    if found is None and isinstance(metadata, str) and "_id" in metadata:
        held = as_mapping(read_json(metadata).value)
        return _identity(held, *METADATA_CONVERSATION_KEYS) if held is not None else None
    return found


def _resource_user(resource: Source) -> str | None:
    """The user an application set for its whole process; one SDK writes the word None for no user."""
    user = _identity(resource, "user.id", "enduser.id", "quotient.user")
    return None if user == "None" else user


def _count(source: Source, keys: tuple[str, ...]) -> int | None:
    count = next((count for key in keys if (count := as_int(source.get(key))) is not None), None)
    return count if count is None or count >= 0 else None
