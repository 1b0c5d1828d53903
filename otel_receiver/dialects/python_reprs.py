"""Read messages that instrumentations wrote as Python reprs: Agno up to OpenInference 0.1.x, Haystack, smolagents.

Agno writes a message as `role='user' content='…' tool_calls=[…]` and an answer as `ModelResponse(…)`, streamed as one
repr per chunk; Haystack writes `ChatMessage(_role=…, _content=[TextContent(text='…')])`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from otel_receiver.dialects.haystack_messages import about_reply, in_chat_form, is_haystack_repr
from otel_receiver.dialects.messages import join_adjacent, read_message
from otel_receiver.dialects.notes import Notes
from otel_receiver.dialects.pyrepr import read_repr
from otel_receiver.dialects.raw import RawResponse
from otel_receiver.dialects.values import as_int, as_items, as_mapping, as_text, first_present, first_word
from spanloop.records import Message, QualityFlag, Usage

Source = Mapping[str, object]

_REPR = re.compile(r"\s*\[?\s*(?:[A-Za-z_][\w.]*\(|role=|_role=|parts=)")
_LISTS = ("messages", "replies", "contents")
_USAGE_KEYS = ("response_usage", "metrics")


def is_repr(value: object) -> bool:
    """Whether a text is the repr of an object or of its fields."""
    text = as_text(value)
    return text is not None and _REPR.match(text) is not None


def has_reprs(value: object) -> bool:
    """Whether a raw request or response is a repr, or holds its messages as reprs."""
    if is_repr(value):
        return True
    source = as_mapping(value)
    items = as_items(value if source is None else first_present(source, *_LISTS))
    return bool(items) and is_repr((items or (None,))[0])


def repr_prompt(value: object, notes: Notes) -> tuple[Message, ...]:
    """The messages of a request that holds them as reprs."""
    source = as_mapping(value)
    body = value if source is None else first_present(source, *_LISTS)
    items = as_items(body)
    items = (body,) if items is None else items
    read = [message for item in items for held in _objects(item, notes) for message in _message(held, notes)]
    return join_adjacent(read)


def repr_answer(value: object, notes: Notes) -> RawResponse:
    """The answer in a repr, or in the reprs of a stream's chunks put together."""
    source = as_mapping(value)
    body = value if source is None else first_present(source, "replies", "messages")
    items = as_items(body)
    items = (body,) if items is None else items
    chunks = [held for item in items for held in _objects(item, notes)]
    if not chunks:
        return RawResponse(message=None)
    whole = chunks[0] if len(chunks) == 1 else _put_together(chunks)
    said = _message({"role": "assistant", **_known(whole)}, notes)
    if is_haystack_repr(whole):
        return about_reply(whole, said[0] if said else None)
    return RawResponse(message=said[0] if said else None, usage=_usage(chunks))


def held_under(value: object, key: str, notes: Notes) -> Mapping[str, object]:
    """The objects whose reprs a structure lists under a key, under that key."""
    items = as_items((as_mapping(value) or {}).get(key)) or ()
    return {key: [held for item in items for held in _objects(item, notes)]}


def _objects(item: object, notes: Notes) -> tuple[Source, ...]:
    """The objects in one repr (a list of them, or one), or a structure as it is."""
    text = as_text(item)
    if text is not None:
        reading = read_repr(text)
        if not reading.is_whole:
            notes.flag(QualityFlag.MESSAGE_UNPARSED)
        item = reading.value
    items = as_items(item)
    return tuple(held for one in (items if items is not None else (item,)) if (held := as_mapping(one)) is not None)


def _message(held: Source, notes: Notes) -> tuple[Message, ...]:
    """The messages of one object."""
    if is_haystack_repr(held):
        return read_message(in_chat_form(held), notes)
    if "blocks" in held:
        return read_message(llama_index_message(held), notes)
    return read_message(_without_nothing(held), notes)


def _without_nothing(held: Source) -> dict[str, object]:
    """The fields that hold something; an assistant's `content=None` beside calls is no missing content."""
    kept = {key: value for key, value in held.items() if value is not None and key != "name"}
    return {**kept, "content": held["content"]} if "content" in held else kept


def _known(whole: Source) -> dict[str, object]:
    """An answer's fields that count: agno leaves the role of a streamed answer out."""
    return {key: value for key, value in whole.items() if value is not None}


def llama_index_message(held: Source) -> dict[str, object]:
    """LlamaIndex's message in the chat form; a tool message's call id stands in its extra arguments."""
    content: list[object] = []
    for item in as_items(held.get("blocks")) or ():
        block = as_mapping(item) or {}
        if block.get("block_type") == "text":
            content.append({"type": "text", "text": block.get("text")})
        elif block.get("block_type") == "tool_call":
            call = {"type": "tool_call", "id": block.get("tool_call_id"), "name": block.get("tool_name")}
            content.append({**call, "arguments": block.get("tool_kwargs")})
        else:
            held_block = {key: value for key, value in block.items() if key != "block_type"}
            content.append({**held_block, "type": block.get("block_type") or "text"})
    extra = as_mapping(held.get("additional_kwargs")) or {}
    told = {"role": held.get("role"), "content": content, "tool_call_id": extra.get("tool_call_id")}
    return {**told, "additional_kwargs": extra} if extra.get("tool_calls") else told


def _put_together(chunks: Iterable[Source]) -> dict[str, object]:
    """One answer out of a stream's chunks: text and arguments are joined, calls told apart by their index."""
    text: list[str] = []
    reasoning: list[str] = []
    calls: dict[int, dict[str, str]] = {}
    for chunk in chunks:
        text.append(as_text(chunk.get("content")) or "")
        reasoning.append(as_text(chunk.get("reasoning_content")) or "")
        for position, item in enumerate(as_items(chunk.get("tool_calls")) or ()):
            _add_call(calls, as_mapping(item) or {}, position)
    whole: dict[str, object] = {"role": "assistant", "content": "".join(text)}
    if any(reasoning):
        whole["reasoning_content"] = "".join(reasoning)
    if calls:
        whole["tool_calls"] = [calls[index] for index in sorted(calls)]
    return whole


def _add_call(calls: dict[int, dict[str, str]], piece: Source, position: int) -> None:
    """Add one piece of a streamed call: the id and name come once, the arguments in pieces."""
    call = calls.setdefault(_place_of(calls, piece, position), {"arguments": ""})
    function = as_mapping(piece.get("function")) or piece
    call["arguments"] += as_text(function.get("arguments")) or ""
    for key, word in (("id", first_word(piece, "id")), ("name", first_word(function, "name"))):
        if word is not None:
            call[key] = word


def _place_of(calls: Mapping[int, Mapping[str, str]], piece: Source, position: int) -> int:
    """The call a piece belongs to: by its index, as OpenAI numbers them, else by its id, else by its position.

    Anthropic's calls come whole, one in a chunk, without an index.
    """
    index, identity = as_int(piece.get("index")), first_word(piece, "id")
    if index is not None:
        return index
    if identity is None:
        return position
    return next((place for place, call in calls.items() if call.get("id") == identity), max(calls, default=-1) + 1)


def _usage(chunks: Iterable[Source]) -> Usage:
    """The counts of the last chunk that has any."""
    told = [held for chunk in chunks for key in _USAGE_KEYS if (held := as_mapping(chunk.get(key))) is not None]
    usage = next((held for held in reversed(told) if as_int(held.get("input_tokens"))), {})
    return Usage(
        input_tokens=as_int(usage.get("input_tokens")),
        output_tokens=as_int(usage.get("output_tokens")),
        cache_read_tokens=as_int(usage.get("cache_read_tokens")),
        cache_write_tokens=as_int(usage.get("cache_write_tokens")),
        reasoning_tokens=as_int(usage.get("reasoning_tokens")),
    )
