"""Anthropic's message as the events of a stream."""

from __future__ import annotations

import json
from collections.abc import Iterator

Event = dict[str, object]


def anthropic_events(answer: dict[str, object]) -> Iterator[Event]:
    """The events: each block's text in two pieces, a call's arguments in two pieces."""
    usage = answer["usage"]
    begun = {**answer, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    yield {"type": "message_start", "message": begun}
    for index, block in enumerate(answer["content"]):
        yield from _block_events(index, block)
    delta = {"stop_reason": answer["stop_reason"], "stop_sequence": None}
    yield {"type": "message_delta", "delta": delta, "usage": {"output_tokens": usage["output_tokens"]}}
    yield {"type": "message_stop"}


def _block_events(index: int, block: Event) -> Iterator[Event]:
    is_text = block["type"] == "text"
    told = block["text"] if is_text else json.dumps(block["input"])
    empty = {**block, "text": ""} if is_text else {**block, "input": {}}
    yield {"type": "content_block_start", "index": index, "content_block": empty}
    for piece in (told[:5], told[5:]):
        delta = (
            {"type": "text_delta", "text": piece} if is_text else {"type": "input_json_delta", "partial_json": piece}
        )
        yield {"type": "content_block_delta", "index": index, "delta": delta}
    yield {"type": "content_block_stop", "index": index}
