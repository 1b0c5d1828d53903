"""The script in the forms of Anthropic's stream and of Gemini."""

from __future__ import annotations

import json
from collections.abc import Iterator

from tests.golden.capture.responses_api import Reply


def anthropic_events(answer: dict[str, object]) -> Iterator[dict[str, object]]:
    """A message as the events of a stream: text by words, each call's input in two pieces."""
    usage = answer["usage"]
    begun = {**answer, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    yield {"type": "message_start", "message": begun}
    for index, block in enumerate(answer["content"]):
        is_text = block["type"] == "text"
        empty = {**block, "text": ""} if is_text else {**block, "input": {}}
        yield {"type": "content_block_start", "index": index, "content_block": empty}
        for delta in _text_deltas(block["text"]) if is_text else _input_deltas(block["input"]):
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    delta = {"stop_reason": answer["stop_reason"], "stop_sequence": None}
    yield {"type": "message_delta", "delta": delta, "usage": {"output_tokens": usage["output_tokens"]}}
    yield {"type": "message_stop"}


def _text_deltas(text: str) -> Iterator[dict[str, object]]:
    for word in text.split(" "):
        yield {"type": "text_delta", "text": f"{word} "}


def _input_deltas(arguments: dict[str, object]) -> Iterator[dict[str, object]]:
    written = json.dumps(arguments)
    for piece in (written[:5], written[5:]):
        yield {"type": "input_json_delta", "partial_json": piece}


def gemini_messages(contents: list[dict[str, object]], names: list[str]) -> list[object]:
    """Gemini's contents with the script's names of the calls in them, which carry no ids on Vertex."""
    parts = [part for content in contents for part in content.get("parts", ())]
    return [*contents, names[: sum("functionCall" in part for part in parts)]]


def gemini_answer(reply: Reply, number: int, *, with_ids: bool) -> dict[str, object]:
    """The reply as Gemini's response."""
    text, calls = reply
    parts: list[dict[str, object]] = [{"text": text}] if text else []
    for name, city in calls:
        call = {"name": "get_weather", "args": {"city": city}}
        parts.append({"functionCall": {"id": name, **call} if with_ids else call})
    candidate = {"content": {"role": "model", "parts": parts}, "finishReason": "STOP", "index": 0}
    usage = {
        "promptTokenCount": 40 + 10 * number,
        "candidatesTokenCount": 9,
        "totalTokenCount": 51 + 10 * number,
        "cachedContentTokenCount": 3,
        "thoughtsTokenCount": 2,
    }
    about = {"modelVersion": "gemini-2.5-flash-001", "responseId": f"gem-{number}"}
    return {"candidates": [candidate], "usageMetadata": usage, **about}


def gemini_chunks(answer: dict[str, object]) -> Iterator[dict[str, object]]:
    """A response as the chunks of a stream, a part in each and text in two; the last has the reason and the counts."""
    about = {"modelVersion": answer["modelVersion"], "responseId": answer["responseId"]}
    for part in answer["candidates"][0]["content"]["parts"]:
        texts = part.get("text", "").partition(" ")
        pieces = [{"text": texts[0] + texts[1]}, {"text": texts[2]}] if "text" in part else [part]
        for piece in pieces:
            yield {"candidates": [{"content": {"role": "model", "parts": [piece]}, "index": 0}], **about}
    last = {"content": {"role": "model", "parts": [{"text": ""}]}, "finishReason": "STOP", "index": 0}
    yield {"candidates": [last], "usageMetadata": answer["usageMetadata"], **about}
