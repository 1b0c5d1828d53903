"""The script in the forms of AWS Bedrock: Converse, and a provider's own body, whole or as events of AWS's stream."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Iterator

from tests.golden.capture.provider_apis import anthropic_events
from tests.golden.capture.responses_api import Reply

Event = tuple[str, dict[str, object]]


def converse_answer(reply: Reply, number: int) -> dict[str, object]:
    """The reply as Converse gives it."""
    text, calls = reply
    content: list[dict[str, object]] = [{"text": text}] if text else []
    content += [
        {"toolUse": {"toolUseId": name, "name": "get_weather", "input": {"city": city}}} for name, city in calls
    ]
    return {
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": "tool_use" if calls else "end_turn",
        "usage": {"inputTokens": 40 + 10 * number, "outputTokens": 9, "totalTokens": 49 + 10 * number},
        "metrics": {"latencyMs": 1},
    }


def converse_events(answer: dict[str, object]) -> Iterator[Event]:
    """The answer as the events of ConverseStream."""
    yield "messageStart", {"role": "assistant"}
    for index, block in enumerate(answer["output"]["message"]["content"]):
        place = {"contentBlockIndex": index}
        if "toolUse" in block:
            use = block["toolUse"]
            begun = {"toolUseId": use["toolUseId"], "name": use["name"]}
            yield "contentBlockStart", {**place, "start": {"toolUse": begun}}
            arguments = json.dumps(use["input"])
            deltas = [{"toolUse": {"input": piece}} for piece in (arguments[:5], arguments[5:])]
        else:
            first, *words = block["text"].split(" ")
            deltas = [{"text": word} for word in (first, *(f" {word}" for word in words))]
        for delta in deltas:
            yield "contentBlockDelta", {**place, "delta": delta}
        yield "contentBlockStop", place
    yield "messageStop", {"stopReason": answer["stopReason"]}
    yield "metadata", {"usage": answer["usage"], "metrics": answer["metrics"]}


def invoke_events(answer: dict[str, object]) -> Iterator[Event]:
    """Anthropic's events as Bedrock wraps them."""
    for event in anthropic_events(answer):
        yield "chunk", {"bytes": base64.b64encode(json.dumps(event).encode()).decode()}


def encoded(events: Iterator[Event]) -> bytes:
    """The events in the binary form of AWS's event stream."""
    return b"".join(_frame(name, json.dumps(body).encode()) for name, body in events)


def _frame(name: str, body: bytes) -> bytes:
    told = {":event-type": name, ":content-type": "application/json", ":message-type": "event"}
    headers = b"".join(_header(key, value) for key, value in told.items())
    prelude = struct.pack(">II", 16 + len(headers) + len(body), len(headers))
    frame = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + body
    return frame + struct.pack(">I", zlib.crc32(frame))


def _header(key: str, value: str) -> bytes:
    text = value.encode()
    return bytes([len(key)]) + key.encode() + b"\x07" + struct.pack(">H", len(text)) + text
