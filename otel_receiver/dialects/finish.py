"""Bring finish reasons to OpenAI's words: stop, length, tool_calls, content_filter; any other as carried."""

from __future__ import annotations

from otel_receiver.dialects.json_text import read_json
from otel_receiver.dialects.values import as_items, as_word

_WORDS = {
    "stop": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "complete": "stop",
    "completed": "stop",
    "eos": "stop",
    "tool_calls": "tool_calls",
    "tool_call": "tool_calls",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
    "function_calls": "tool_calls",
    "length": "length",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "model_length": "length",
    "content_filter": "content_filter",
    "content_filtered": "content_filter",
    "safety": "content_filter",
    "refusal": "content_filter",
    "guardrail_intervened": "content_filter",
    "prohibited_content": "content_filter",
    "blocklist": "content_filter",
    "recitation": "content_filter",
    "spii": "content_filter",
}


def finish_reason(value: object) -> str | None:
    """The first finish reason of a word, a list, a JSON list in text or a comma-joined text, normalised."""
    items = as_items(value)
    if items is not None:
        return next((reason for item in items if (reason := finish_reason(item)) is not None), None)
    word = as_word(value)
    if word is None or word.lower() in ("none", "null"):
        return None
    if word.startswith("["):
        return finish_reason(as_items(read_json(word).value) or None)
    word = word.split(",", 1)[0].strip().rpartition(".")[2]
    return _WORDS.get(word.lower().replace("-", "_"), word) or None
