"""Responses that a sender wrote as the list of a stream's chunks: OpenAI's chat, Anthropic's messages, Gemini's.

OpenInference's agno flavour writes them so up to 0.1.5, each chunk as JSON text; the Anthropic SDK's own events, which
repeat what its stream has told so far, stand among the provider's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from otel_receiver.dialects.chunks import join_chunks
from otel_receiver.dialects.json_text import looks_like_json, read_json
from otel_receiver.dialects.limits import STREAMED_CALLS_MAX
from otel_receiver.dialects.values import as_int, as_items, as_mapping, as_text

Source = Mapping[str, object]

_ANTHROPIC_EVENTS = frozenset(
    {"message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta"}
)
_PIECES = ("text", "partial_json", "thinking", "signature")


def joined_stream(value: object) -> object:
    """The response that a list of chunks tells; any other value as it is."""
    items = as_items(value)
    if not items or not _may_be_chunk(items[0]):
        return value
    chunks = tuple(_structures(items))
    if any("delta" in choice for chunk in chunks[:1] for choice in _mappings(chunk.get("choices"))):
        stream = join_chunks(chunks)
        return value if stream is None else stream.response
    if any(chunk.get("type") in _ANTHROPIC_EVENTS for chunk in chunks[:1]):
        return _anthropic(chunks)
    if any("candidates" in chunk for chunk in chunks):
        return _gemini(chunks)
    return value


def _may_be_chunk(item: object) -> bool:
    text = as_text(item)
    return as_mapping(item) is not None if text is None else looks_like_json(text)


def _structures(items: Sequence[object]) -> Iterator[Source]:
    """The mappings among the items, each given as one or as JSON text."""
    for item in items:
        text = as_text(item)
        held = as_mapping(item if text is None else read_json(text).value)
        if held is not None:
            yield held


def _mappings(value: object) -> Iterator[Source]:
    yield from (held for item in as_items(value) or () if (held := as_mapping(item)) is not None)


def _anthropic(events: Sequence[Source]) -> Source:
    """A message out of its events."""
    message: dict[str, object] = {"role": "assistant"}
    blocks: dict[int, dict[str, object]] = {}
    usage: dict[str, object] = {}
    for event in events:
        told = as_mapping(event.get("message")) if event.get("type") == "message_start" else None
        message |= {key: told[key] for key in ("id", "model", "role") if key in told} if told else {}
        if event.get("type") == "message_delta":
            message |= as_mapping(event.get("delta")) or {}
        counts = as_mapping((told or event).get("usage")) or {}
        usage |= {key: count for key, count in counts.items() if count is not None}
        _add_to_block(blocks, event)
    content = tuple(_whole(blocks[index]) for index in sorted(blocks))
    return {**message, "content": content, "usage": usage}


def _add_to_block(blocks: dict[int, dict[str, object]], event: Source) -> None:
    """Add an event to the block that it begins or goes on with."""
    index = as_int(event.get("index"))
    if index is None or (index not in blocks and len(blocks) >= STREAMED_CALLS_MAX):
        return
    if event.get("type") == "content_block_start":
        blocks[index] = {**(as_mapping(event.get("content_block")) or {})}
    if event.get("type") == "content_block_delta":
        block, delta = blocks.setdefault(index, {}), as_mapping(event.get("delta")) or {}
        for key in _PIECES:
            block[key] = (as_text(block.get(key)) or "") + (as_text(delta.get(key)) or "")


def _whole(block: Source) -> Source:
    """A block without the marks of its joining; a tool's input as the JSON text that was streamed."""
    kept = {key: value for key, value in block.items() if key != "partial_json" and value != ""}
    pieces = as_text(block.get("partial_json"))
    kept |= {"type": block.get("type") or ("tool_use" if pieces else "text")}
    return {**kept, "input": pieces} if pieces else kept


def _gemini(chunks: Sequence[Source]) -> Source:
    """A response out of its chunks: neighbouring texts are one text."""
    parts: list[Source] = []
    candidate: dict[str, object] = {}
    whole: dict[str, object] = {}
    for chunk in chunks:
        whole |= {key: value for key, value in chunk.items() if value is not None}
        told = next(_mappings(chunk.get("candidates")), {})
        candidate |= {key: value for key, value in told.items() if value is not None}
        for part in _mappings((as_mapping(told.get("content")) or {}).get("parts")):
            _add_part(parts, part)
    return {**whole, "candidates": ({**candidate, "content": {"role": "model", "parts": tuple(parts)}},)}


def _add_part(parts: list[Source], part: Source) -> None:
    last = parts[-1] if parts else {}
    text = as_text(part.get("text"))
    said = as_text(last.get("text"))
    if text is None or said is None or last.get("thought") != part.get("thought"):
        parts.append(part)
    else:
        parts[-1] = {**last, "text": said + text}
