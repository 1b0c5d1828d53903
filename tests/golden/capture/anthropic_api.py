"""Anthropic's streamed form: a message as the events that tell it in pieces."""

from __future__ import annotations

import json
from collections.abc import Iterator


def anthropic_events(answer: dict[str, object]) -> Iterator[dict[str, object]]:
    """A message as the events of a stream: each block is started, told in pieces and stopped."""
    begun = {**answer, "content": [], "stop_reason": None, "usage": {**answer["usage"], "output_tokens": 1}}
    yield {"type": "message_start", "message": begun}
    for index, block in enumerate(answer["content"]):
        empty = {"text": ""} if block["type"] == "text" else {"input": {}}
        yield {"type": "content_block_start", "index": index, "content_block": {**block, **empty}}
        for delta in _deltas(block):
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    ended = {"stop_reason": answer["stop_reason"], "stop_sequence": None}
    yield {"type": "message_delta", "delta": ended, "usage": answer["usage"]}
    yield {"type": "message_stop"}


def _deltas(block: dict[str, object]) -> Iterator[dict[str, object]]:
    if block["type"] == "text":
        first, *words = block["text"].split(" ")
        for word in (first, *(f" {word}" for word in words)):
            yield {"type": "text_delta", "text": word}
        return
    arguments = json.dumps(block["input"])
    for piece in (arguments[:5], arguments[5:]):
        yield {"type": "input_json_delta", "partial_json": piece}
