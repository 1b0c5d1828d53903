"""Put a streamed answer together from the chunks of OpenAI's chat form, of which the sender may have lost the first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from otel_receiver.dialects.limits import STREAMED_CALLS_MAX
from otel_receiver.dialects.values import as_int, as_items, as_mapping, as_text, first_present, first_word

Source = Mapping[str, object]


@dataclass(slots=True)
class _Call:
    """One tool call as far as it has been told. Local to one joining."""

    id: str | None = None
    name: str | None = None
    arguments: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Told:
    """What the chunks of one stream have told so far. Local to one joining."""

    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: dict[int, _Call] = field(default_factory=dict)
    finish_reason: str | None = None
    head: Source = field(default_factory=dict)
    usage: Source | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """An answer out of chunks."""

    response: Source
    """In the form of a chat completion."""
    has_calls: bool
    is_whole: bool
    """Every tool call has its beginning and no call before it is missing."""


def join_chunks(values: Iterable[object]) -> Stream | None:
    """The answer of the first choice; `None` when no value is a chunk of a chat completion."""
    told = _Told()
    chunks = [chunk for value in values if (chunk := as_mapping(value)) is not None and "choices" in chunk]
    if not chunks:
        return None
    for chunk in chunks:
        told.head = chunk
        told.usage = as_mapping(chunk.get("usage")) or told.usage
        for item in as_items(chunk["choices"]) or ():
            choice = as_mapping(item)
            if choice is not None and (as_int(choice.get("index")) or 0) == 0:
                _add(told, choice)
    return Stream(response=_response(told), has_calls=bool(told.calls), is_whole=_is_whole(told))


def _add(told: _Told, choice: Source) -> None:
    delta = as_mapping(choice.get("delta")) or {}
    told.text.append(as_text(delta.get("content")) or "")
    told.reasoning.append(as_text(first_present(delta, "reasoning_content", "reasoning")) or "")
    told.finish_reason = first_word(choice, "finish_reason") or told.finish_reason
    for item in as_items(delta.get("tool_calls")) or ():
        piece = as_mapping(item)
        if piece is None or (len(told.calls) >= STREAMED_CALLS_MAX and as_int(piece.get("index")) not in told.calls):
            continue
        call = told.calls.setdefault(as_int(piece.get("index")) or 0, _Call())
        function = as_mapping(piece.get("function")) or {}
        call.id = call.id or first_word(piece, "id")
        call.name = call.name or first_word(function, "name")
        call.arguments.append(as_text(function.get("arguments")) or "")


def _response(told: _Told) -> Source:
    calls = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": "".join(call.arguments)}}
        for _, call in sorted(told.calls.items())
        if call.name is not None
    ]
    message = {
        "role": "assistant",
        "content": "".join(told.text) or None,
        "reasoning_content": "".join(told.reasoning) or None,
        "tool_calls": calls or None,
    }
    choice = {"index": 0, "message": message, "finish_reason": told.finish_reason}
    return {"id": told.head.get("id"), "model": told.head.get("model"), "choices": (choice,), "usage": told.usage}


def _is_whole(told: _Told) -> bool:
    begun = all(call.id is not None and call.name is not None for call in told.calls.values())
    return begun and sorted(told.calls) == list(range(len(told.calls)))
