"""Read raw requests and responses of model providers and frameworks, as several dialects carry them whole.

Requests: OpenAI chat and Responses, Anthropic, Gemini, LangChain, a bare list of messages. Responses: the same, also a
bare message, a list of messages and plain text. The shape decides which.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from otel_receiver.dialects.finish import finish_reason
from otel_receiver.dialects.messages import build, join, read_message, read_messages, with_system
from otel_receiver.dialects.notes import Notes
from otel_receiver.dialects.parts import read_parts
from otel_receiver.dialects.pyrepr import read_repr
from otel_receiver.dialects.values import as_int, as_items, as_mapping, as_text, first_present, first_word
from spanloop.records import Message, Role, Usage

Source = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class RawResponse:
    """What a raw response says."""

    message: Message | None
    finish_reason: str | None = None
    response_id: str | None = None
    model: str | None = None
    usage: Usage = Usage()


def read_request(value: object, notes: Notes) -> tuple[Message, ...]:
    """The prompt's messages, system prompt first."""
    source = as_mapping(value)
    if source is None:
        return read_messages(value, notes)
    body = first_present(source, "messages", "input", "contents", "prompt", "prompts")
    if body is None and "role" in source:
        return read_messages(value, notes)
    config = as_mapping(source.get("config")) or {}
    spoken = first_present(source, "system", "instructions", "system_instruction", "systemInstruction")
    if spoken is None:
        spoken = first_present(config, "system_instruction", "systemInstruction")
    return with_system(read_instructions(spoken, notes), read_messages(body, notes))


def read_instructions(value: object, notes: Notes) -> tuple[Message, ...]:
    """System instructions that stand apart from the messages, as one system message."""
    source = as_mapping(value)
    if source is not None and ("role" in source or "parts" in source):
        value = first_present(source, "parts", "content")
    parts = read_parts(value, notes)
    return build(Role.SYSTEM, parts) if parts else ()


def request_tools(value: object) -> object:
    """The tool definitions in a raw request, unread; Gemini has them in its `config`, Portkey in its `kwargs`."""
    source = as_mapping(value) or {}
    inner = as_mapping(first_present(source, "config", "kwargs")) or {}
    return first_present(source, "tools", "functions") or first_present(inner, "tools")


def request_model(value: object) -> str | None:
    """The model a raw request asks for."""
    return first_word(as_mapping(value) or {}, "model", "model_name", "model_id", "modelId")


def read_response(value: object, notes: Notes) -> RawResponse:
    """The answer and what the response says about itself."""
    source = as_mapping(value)
    if source is None:
        return RawResponse(message=one_answer(value, notes))
    generation = _generation(source)
    if generation is not None:
        return _langchain(source, generation, notes)
    provider = _wrapped(source.get("raw"))
    if provider is not None:
        return read_response(provider, notes)
    choice = _first(source.get("choices")) or _first(source.get("candidates"))
    about = _about(source)
    if choice is not None:
        said = first_present(choice, "message", "content", "delta")
        said = choice.get("text") if said is None else said
        reason = first_present(choice, "finish_reason", "finishReason")
        return _response(one_answer(said, notes), reason, source, about)
    if as_items(source.get("output")) is not None:
        return _response(one_answer(source["output"], notes), _responses_status(source), source, about)
    reason = first_present(source, "stop_reason", "stopReason", "finish_reason", "finishReason")
    said = source.get("content") if "parts" in (as_mapping(source.get("content")) or ()) else source
    return _response(one_answer(said, notes), reason, source, about)


def _wrapped(value: object) -> Source | None:
    """The provider's response inside a framework's: a structure (llama-index) or its repr (smolagents)."""
    text = as_text(value)
    held = as_mapping(read_repr(text).value if text is not None and "choices=" in text else value)
    return held if held is not None and "choices" in held else None


def one_answer(value: object, notes: Notes) -> Message | None:
    """The assistant message of a message, a list of the items of one turn, or text; `None` when nothing is there."""
    return next(iter(one_turn(value, notes)), None)


def one_turn(value: object, notes: Notes) -> tuple[Message, ...]:
    """The assistant message, and the results of those of its calls that the provider ran itself."""
    source = as_mapping(value)
    if source is not None and "messages" in source:
        value = source["messages"]
    items = as_items(value)
    if items is None:
        items = () if value is None else (value,)
    read = [message for item in items for message in read_message(item, notes, default=Role.ASSISTANT)]
    said = [message for message in read if message.role is Role.ASSISTANT]
    if not said:
        return ()
    answer = join(*said)
    calls = {call.id for call in answer.tool_calls}
    return (answer, *(message for message in read if message.tool_result and message.tool_result.call_id in calls))


def _response(message: Message | None, reason: object, source: Source, about: Source) -> RawResponse:
    return RawResponse(
        message=message,
        finish_reason=finish_reason(reason),
        response_id=first_word(source, "id", "response_id", "responseId"),
        model=first_word(source, "model", "model_name", "modelVersion", "model_version"),
        usage=read_usage(about),
    )


def _about(source: Source) -> Source:
    """The mapping that holds the token counts."""
    return as_mapping(first_present(source, "usage", "usage_metadata", "usageMetadata")) or {}


_INPUT_COUNTS = ("prompt_tokens", "input_tokens", "inputTokens", "promptTokenCount", "prompt_token_count")
_OUTPUT_COUNTS = (
    "completion_tokens",
    "output_tokens",
    "outputTokens",
    "candidatesTokenCount",
    "candidates_token_count",
)
_CACHED_COUNTS = ("cachedContentTokenCount", "cached_content_token_count")
_THOUGHT_COUNTS = ("thoughtsTokenCount", "thoughts_token_count")


def read_usage(usage: Source) -> Usage:
    """Token counts in a provider's own words; Anthropic counts cached tokens apart, so they are added to the input."""
    prompt = (
        as_mapping(first_present(usage, "prompt_tokens_details", "input_tokens_details", "input_token_details")) or {}
    )
    answer = as_mapping(
        first_present(usage, "completion_tokens_details", "output_tokens_details", "output_token_details")
    )
    read = as_int(first_present(usage, "cache_read_input_tokens"))
    written = as_int(first_present(usage, "cache_creation_input_tokens"))
    tokens = as_int(first_present(usage, *_INPUT_COUNTS))
    apart = (read or 0) + (written or 0)
    inside = as_int(first_present(prompt, "cached_tokens", "cache_read"))
    inside = as_int(first_present(usage, *_CACHED_COUNTS)) if inside is None else inside
    stored = as_int(first_present(prompt, "cache_creation"))
    thought = first_present(answer or {}, "reasoning_tokens", "reasoning")
    return Usage(
        input_tokens=tokens + apart if tokens is not None else None,
        output_tokens=as_int(first_present(usage, *_OUTPUT_COUNTS)),
        cache_read_tokens=read if read is not None else inside,
        cache_write_tokens=written if written is not None else stored,
        reasoning_tokens=as_int(first_present(usage, *_THOUGHT_COUNTS) if thought is None else thought),
    )


def _first(value: object) -> Source | None:
    """The first element of a list, if it is a mapping: of several choices only the first is the step's action."""
    items = as_items(value)
    return as_mapping(items[0]) if items else None


def _generation(source: Source) -> Source | None:
    """LangChain's first generation, which lies two lists deep."""
    outer = as_items(source.get("generations"))
    if not outer:
        return None
    return _first(outer[0]) or as_mapping(outer[0])


def _langchain(source: Source, generation: Source, notes: Notes) -> RawResponse:
    """LangChain's result: the response's own words lie in the message's metadata."""
    message = as_mapping(generation.get("message"))
    held = as_mapping(first_present(message or {}, "kwargs", "data")) or message or {}
    about = as_mapping(held.get("response_metadata")) or as_mapping(source.get("llm_output")) or {}
    info = as_mapping(generation.get("generation_info")) or {}
    usage = as_mapping(held.get("usage_metadata")) or as_mapping(about.get("token_usage")) or {}
    return RawResponse(
        message=one_answer(message if message is not None else as_text(generation.get("text")), notes),
        finish_reason=finish_reason(
            first_present(info, "finish_reason") or first_present(about, "finish_reason", "stop_reason")
        ),
        response_id=first_word(about, "id"),
        model=first_word(about, "model_name", "model"),
        usage=read_usage(usage),
    )


def _responses_status(source: Source) -> object:
    """The finish reason of OpenAI's Responses form, which names only why an answer is incomplete."""
    details = as_mapping(source.get("incomplete_details")) or {}
    calls = any((as_mapping(item) or {}).get("type") == "function_call" for item in as_items(source["output"]) or ())
    return details.get("reason") or ("tool_calls" if calls else source.get("status"))
