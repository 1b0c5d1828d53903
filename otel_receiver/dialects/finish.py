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
    return next(iter(finish_reasons(value)), None)


def finish_reasons(value: object) -> tuple[str, ...]:
    """All finish reasons of a word, a list, a JSON list in text or a comma-joined text, normalised."""
    items = as_items(value)
    if items is not None:
        return tuple(reason for item in items for reason in finish_reasons(item))
    word = as_word(value)
    if word is None:
        return ()
    if word.startswith("["):
        return finish_reasons(as_items(read_json(word).value) or None)
    return tuple(reason for said in word.split(",") if (reason := _normalised(said.strip())) is not None)


def _normalised(word: str) -> str | None:
    if word.lower() in ("", "none", "null"):
        return None
    word = word.rpartition(".")[2]
    return _WORDS.get(word.lower().replace("-", "_"), word) or None
