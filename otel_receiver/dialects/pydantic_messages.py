"""Pydantic-AI's own messages, as MLflow writes them whole: brought into the chat form.

Source: pydantic-ai, `messages.py`. A request's parts are system prompts, the user's prompts and tool returns, an
answer's are text, thinking and tool calls; each names its kind in `part_kind`. Instructions stand beside a request's
parts, and the model is shown the last request's after the system prompts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from otel_receiver.dialects.json_text import read_structured
from otel_receiver.dialects.values import as_items, as_mapping, as_text, first_present, first_word

MARK = '"part_kind"'
"""Stands in the JSON of every message."""
_PARAMETERS = "model_request_parameters"
_RESULTS = frozenset({"tool-return", "retry-prompt", "builtin-tool-return"})

Source = Mapping[str, object]


def request_in_chat_form(value: object) -> object:
    """The request with chat messages and tools; a value of any other form as it is."""
    held = _marked(value)
    items = as_items(held.get("messages")) if held is not None else None
    if held is None or items is None:
        return value
    parameters = as_mapping(held.get(_PARAMETERS)) or {}
    told = [message for item in items if (message := as_mapping(item)) is not None]
    tools = (*(as_items(parameters.get("function_tools")) or ()), *(as_items(parameters.get("output_tools")) or ()))
    return {"messages": _with_instructions(told), "tools": tools if parameters else None}


def response_in_chat_form(value: object) -> object:
    """The answer as a chat message with what the response says about itself; any other value as it is."""
    held = _marked(value)
    if held is None or "parts" not in held:
        return value
    usage = as_mapping(held.get("usage")) or {}
    details = {
        "input_tokens_details": {
            "cached_tokens": usage.get("cache_read_tokens"),
            "cache_creation": usage.get("cache_write_tokens"),
        },
        "output_tokens_details": {"reasoning_tokens": usage.get("output_reasoning_tokens")},
    }
    return {
        **next(_messages(held), {"role": "assistant", "content": None}),
        "id": first_word(held, "provider_response_id", "vendor_id"),
        "model": held.get("model_name"),
        "finish_reason": held.get("finish_reason"),
        "usage": {**usage, **details},
    }


def conversation_of(value: object) -> str | None:
    """The conversation that the last message of a request names."""
    held = _marked(value) or {}
    told = [message for item in as_items(held.get("messages")) or () if (message := as_mapping(item)) is not None]
    return next((found for message in reversed(told) if (found := first_word(message, "conversation_id"))), None)


def _marked(value: object) -> Source | None:
    text = as_text(value)
    return as_mapping(read_structured(text).value) if text is not None and MARK in text else None


def _with_instructions(told: list[Source]) -> list[dict[str, object]]:
    """All chat messages, the last request's instructions after the system prompts."""
    messages = [message for source in told for message in _messages(source)]
    spoken = next((text for source in reversed(told) if (text := as_text(source.get("instructions")))), None)
    if spoken is None:
        return messages
    first = next((at for at, message in enumerate(messages) if message["role"] != "system"), len(messages))
    return [*messages[:first], {"role": "system", "content": spoken}, *messages[first:]]


def _messages(source: Source) -> Iterator[dict[str, object]]:
    """The chat messages of one of Pydantic-AI's: one for an answer, one per part of a request."""
    parts = [part for item in as_items(source.get("parts")) or () if (part := as_mapping(item)) is not None]
    if source.get("kind") != "response":
        yield from (_asked(part) for part in parts)
    elif parts:
        yield {"role": "assistant", "content": [_typed(part) for part in parts]}


def _asked(part: Source) -> dict[str, object]:
    """A part of a request as a message."""
    kind = part.get("part_kind")
    if kind in _RESULTS and first_word(part, "tool_name") is not None:
        failed = True if kind == "retry-prompt" else part.get("outcome")
        about = {"tool_call_id": part.get("tool_call_id"), "name": part.get("tool_name"), "status": failed}
        return {"role": "tool", "content": part.get("content"), **about}
    content = as_items(part.get("content"))
    spoken = part.get("content") if content is None else list(_media_typed(content))
    return {"role": "system" if kind == "system-prompt" else "user", "content": spoken}


def _typed(part: Source) -> dict[str, object]:
    """A part of an answer, its kind under the key that the reader of parts asks for."""
    kind = str(part.get("part_kind")).removeprefix("builtin-")
    if kind == "tool-call":
        call = {"id": part.get("tool_call_id"), "name": part.get("tool_name"), "arguments": part.get("args")}
        return {"type": "tool_call", **call}
    return {"type": "tool_result" if kind == "tool-return" else kind, **part}


def _media_typed(items: Iterable[object]) -> Iterator[object]:
    """A prompt's pieces: text as it is, media with their kind as the type."""
    for item in items:
        held = as_mapping(item)
        yield item if held is None else {"type": first_present(held, "kind", "type"), **held}
