"""The script in the forms of Anthropic's stream, of Gemini and of Bedrock's Converse."""

from __future__ import annotations

import json
import struct
import zlib
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


def converse_answer(reply: Reply, number: int) -> dict[str, object]:
    """The reply as Bedrock's Converse gives it."""
    text, calls = reply
    content: list[dict[str, object]] = [{"text": text}] if text else []
    content += [
        {"toolUse": {"toolUseId": name, "name": "get_weather", "input": {"city": city}}} for name, city in calls
    ]
    usage = {"inputTokens": 40 + 10 * number, "outputTokens": 9, "totalTokens": 49 + 10 * number}
    return {
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": "tool_use" if calls else "end_turn",
        "usage": usage,
        "metrics": {"latencyMs": 1},
    }


def converse_stream(answer: dict[str, object]) -> bytes:
    """A Converse answer as the event stream of AWS: text by words, each call's input in two pieces."""
    return b"".join(_frame(name, body) for name, body in _converse_events(answer))


def _converse_events(answer: dict[str, object]) -> Iterator[tuple[str, dict[str, object]]]:
    yield "messageStart", {"role": "assistant"}
    for index, block in enumerate(answer["output"]["message"]["content"]):
        use = block.get("toolUse")
        if use is None:
            deltas = [{"text": f"{word} "} for word in block["text"].split(" ")]
        else:
            start = {"toolUse": {"toolUseId": use["toolUseId"], "name": use["name"]}}
            yield "contentBlockStart", {"contentBlockIndex": index, "start": start}
            written = json.dumps(use["input"])
            deltas = [{"toolUse": {"input": piece}} for piece in (written[:5], written[5:])]
        for delta in deltas:
            yield "contentBlockDelta", {"contentBlockIndex": index, "delta": delta}
        yield "contentBlockStop", {"contentBlockIndex": index}
    yield "messageStop", {"stopReason": answer["stopReason"]}
    yield "metadata", {"usage": answer["usage"], "metrics": answer["metrics"]}


def _frame(name: str, body: dict[str, object]) -> bytes:
    """One event as AWS frames it: lengths, headers, payload, each part with its checksum."""
    named = ((":event-type", name), (":content-type", "application/json"), (":message-type", "event"))
    headers = b"".join(_header(key, value) for key, value in named)
    payload = json.dumps(body).encode()
    lengths = struct.pack("!II", 16 + len(headers) + len(payload), len(headers))
    head = lengths + struct.pack("!I", zlib.crc32(lengths))
    framed = head + headers + payload
    return framed + struct.pack("!I", zlib.crc32(framed))


def _header(key: str, value: str) -> bytes:
    text = value.encode()
    return struct.pack("!B", len(key)) + key.encode() + struct.pack("!BH", 7, len(text)) + text
