"""Amazon's binary event stream, as Bedrock answers streamed requests: frames with headers, lengths and checksums."""

from __future__ import annotations

import base64
import json
import struct
import zlib

_TEXT = 7
"""The type of a header whose value is text."""


def frame(name: str, event: dict[str, object], *, wrapped: bool = False) -> bytes:
    """One event; `wrapped`: as the bytes of a chunk, which is how another provider's events are passed on."""
    body = {"bytes": base64.b64encode(json.dumps(event).encode()).decode()} if wrapped else event
    payload = json.dumps(body).encode()
    told = {":event-type": name, ":content-type": "application/json", ":message-type": "event"}
    headers = b"".join(_header(key, value) for key, value in told.items())
    prelude = struct.pack("!II", len(headers) + len(payload) + 16, len(headers))
    framed = prelude + struct.pack("!I", zlib.crc32(prelude)) + headers + payload
    return framed + struct.pack("!I", zlib.crc32(framed))


def _header(key: str, value: str) -> bytes:
    return struct.pack("!B", len(key)) + key.encode() + struct.pack("!BH", _TEXT, len(value)) + value.encode()
