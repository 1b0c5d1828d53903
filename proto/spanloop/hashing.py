"""Content hashes: equal content, equal hash, on every machine and in every process.

Exact hashes tell records apart by every field and address the store's rows. Canonical hashes are equal for messages
that say the same in other bytes: tool-call arguments and schemas count as JSON values, text by its joined parts.
All are 32 hex digits (128 bits of SHA-256): accidental collisions are out of reach and a million steps stay small.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence

from spanloop.convert import message_to_chat, parse_json, tool_to_chat
from spanloop.records import MediaPart, Message, Part, ReasoningPart, TextPart, ToolCall, ToolDefinition

DIGEST_HEX = 32


def content_hash(value: object) -> str:
    """The hash of a JSON-like value; lone surrogates count as themselves, key order does not count."""
    # Escaping to ASCII makes any str hashable, also one that UTF-8 cannot hold.
    text = json.dumps(value, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:DIGEST_HEX]


def canonical_json(text: str) -> str:
    """The JSON text with sorted keys and no spaces; the text itself where it is no JSON, as models may write."""
    try:
        return json.dumps(parse_json(text), sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (ValueError, RecursionError):
        return text


def exact_hash(message: Message) -> str:
    """Equal only for messages that are equal field by field."""
    return content_hash([str(message.role), message.name, [_exact_part(part) for part in message.parts]])


def message_hash(message: Message) -> str:
    """Equal for messages that say the same: the canonical hash of the chat form."""
    if message.tool_calls:
        message = Message(role=message.role, name=message.name, parts=tuple(map(_canonical_part, message.parts)))
    return content_hash(message_to_chat(message))


def tools_hash(tools: Sequence[ToolDefinition] | None) -> str:
    """Canonical hash of a tool list, in its order; "not carried" and "no tools" differ."""
    return content_hash(None if tools is None else [tool_to_chat(tool) for tool in tools])


def state_hash(messages: Iterable[Message], tools: Sequence[ToolDefinition] | None) -> str:
    """Canonical hash of a state: equal for prompts that ask a policy the same thing."""
    return content_hash([[message_hash(message) for message in messages], tools_hash(tools)])


def _canonical_part(part: Part) -> Part:
    if isinstance(part, ToolCall):
        return ToolCall(id=part.id, name=part.name, arguments=canonical_json(part.arguments))
    return part


def _exact_part(part: Part) -> list[str | None]:
    if isinstance(part, TextPart):
        return ["text", part.text]
    if isinstance(part, ReasoningPart):
        return ["reasoning", part.text, part.signature]
    if isinstance(part, MediaPart):
        return ["media", str(part.kind), part.mime_type, part.sha256, part.uri]
    if isinstance(part, ToolCall):
        return ["call", part.id, part.name, part.arguments]
    return ["result", part.call_id, part.content, part.name, str(part.status)]
