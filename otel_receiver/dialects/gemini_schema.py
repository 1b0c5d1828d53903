"""Gemini's schemas in JSON Schema's words: its type names are in upper case, and unset fields are `null`."""

from __future__ import annotations

from otel_receiver.dialects.values import as_items, as_mapping

SCHEMA_DEPTH_MAX = 64
"""Levels of a schema that are rewritten; what lies deeper stays as it is."""

_TYPES = frozenset({"OBJECT", "ARRAY", "STRING", "NUMBER", "INTEGER", "BOOLEAN", "NULL"})


def in_json_schema(value: object, depth: int = 0) -> object:
    """The value with every Gemini type word in it as JSON Schema writes it."""
    if depth == SCHEMA_DEPTH_MAX:
        return value
    items = as_items(value)
    if items is not None:
        return tuple(in_json_schema(item, depth + 1) for item in items)
    held = as_mapping(value)
    if held is None:
        return value
    return {
        key: inner.lower() if key == "type" and isinstance(inner, str) and inner in _TYPES else _inner(inner, depth)
        for key, inner in held.items()
        if inner is not None
    }


def _inner(value: object, depth: int) -> object:
    return in_json_schema(value, depth + 1)
