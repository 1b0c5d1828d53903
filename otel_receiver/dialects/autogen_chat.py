"""What OpenInference's AutoGen flavour has of its own: results as JSON texts, and thoughts, the text beside calls.

A message's results stand under `function.<index>`, all results of a turn in one message; what the model said beside
its calls is the `thought` of the message, and of an answer only in the raw response.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from otel_receiver.dialects.indexed import Entry, read_indexed
from otel_receiver.dialects.json_text import read_structured
from otel_receiver.dialects.values import as_mapping, as_text
from spanloop.records import Message, TextPart

SCOPE = ".autogen_agentchat"


def results_in(entry: Entry) -> list[Mapping[str, object]]:
    """The results of a flattened message as typed parts."""
    texts = (held.get("") for held in read_indexed(entry, "function").entries)
    told = (as_mapping(read_structured(text).value) for text in texts)
    return [{"type": "tool_result", **result} for result in told if result is not None]


def thought_in(entry: Entry) -> str | None:
    """What was said beside the calls of a flattened message."""
    return as_text(entry.get("thought")) or None


def with_thought(message: Message, response: object) -> Message:
    """The answer with the text beside its calls, which only the raw response tells."""
    if message.text or not message.tool_calls:
        return message
    thought = as_text((as_mapping(read_structured(response).value) or {}).get("thought"))
    return replace(message, parts=(TextPart(text=thought), *message.parts)) if thought else message
