"""Parallel tool calls that a sender ran together into one: OpenInference's JavaScript flavour of OpenAI's streams.

It adds up the pieces of all calls as if they were one call's: the arguments are JSON values one after another, the
name is the names, the id is the ids. Arguments and names come apart exactly. OpenAI's ids have one length and one
beginning; ids that do not come apart so are not known.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace

from otel_receiver.dialects.limits import STREAMED_CALLS_MAX
from otel_receiver.dialects.parts import UNKNOWN_ID
from spanloop.records import Message, Part, ToolCall, ToolDefinition

_DECODER = json.JSONDecoder()
_ID_MARK = "_"


def parted_calls(message: Message, tools: Sequence[ToolDefinition]) -> Message:
    """The message with each of its calls apart; the same object when none are run together."""
    parts = tuple(part for held in message.parts for part in _parted(held, tools))
    return message if len(parts) == len(message.parts) else replace(message, parts=parts)


def _parted(part: Part, tools: Sequence[ToolDefinition]) -> Iterator[Part]:
    arguments = _values(part.arguments) if isinstance(part, ToolCall) and "}{" in part.arguments else ()
    names = _names(part.name, len(arguments), [tool.name for tool in tools]) if isinstance(part, ToolCall) else ()
    if not isinstance(part, ToolCall) or len(arguments) < 2 or len(names) != len(arguments):
        yield part
        return
    for call_id, name, text in zip(_ids(part.id, len(names)), names, arguments, strict=True):
        yield ToolCall(id=call_id, name=name, arguments=text)


def _values(text: str) -> tuple[str, ...]:
    """The JSON objects that a text holds one after another; nothing when it holds anything else."""
    found: list[str] = []
    position = 0
    while position < len(text) and len(found) < STREAMED_CALLS_MAX:
        try:
            value, end = _DECODER.raw_decode(text, position)
        except (ValueError, RecursionError):
            return ()
        if not isinstance(value, dict):
            return ()
        found.append(text[position:end])
        position = end
    return tuple(found) if position == len(text) else ()


def _names(text: str, count: int, offered: Sequence[str]) -> tuple[str, ...]:
    """The names that a text holds one after another: one name so many times, else as many of the tools' names."""
    if count < 2:
        return ()
    word, rest = text[: len(text) // count], len(text) % count
    if not rest and word * count == text:
        return (word,) * count
    return _spelled(text, count, sorted(set(offered), key=len, reverse=True))


def _spelled(text: str, count: int, words: Sequence[str]) -> tuple[str, ...]:
    """The text as so many of the words, the longer ones first; nothing when it is not."""
    found: list[str] = []
    while text:
        word = next((word for word in words if word and text.startswith(word)), None)
        if word is None:
            return ()
        found.append(word)
        text = text[len(word) :]
    return tuple(found) if len(found) == count else ()


def _ids(text: str, count: int) -> tuple[str, ...]:
    """The ids, where the text comes apart into different ones of one length and one beginning."""
    length, rest = divmod(len(text), count)
    pieces = tuple(text[start : start + length] for start in range(0, length * count, length or 1))
    beginnings = {piece.partition(_ID_MARK)[0] for piece in pieces if _ID_MARK in piece}
    is_sound = not rest and len(set(pieces)) == count and len(beginnings) == 1 and all(_ID_MARK in p for p in pieces)
    return pieces if is_sound else (UNKNOWN_ID,) * count
