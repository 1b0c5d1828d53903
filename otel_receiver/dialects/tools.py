"""Read tool definitions: OpenAI-nested, flat, Anthropic, Bedrock, Gemini, names only; JSON text or structured."""

from __future__ import annotations

from collections.abc import Mapping

from otel_receiver.dialects.json_text import JsonProblem, looks_like_json, read_structured
from otel_receiver.dialects.notes import Notes, is_redacted
from otel_receiver.dialects.pyrepr import read_repr
from otel_receiver.dialects.values import (
    as_items,
    as_mapping,
    as_text,
    as_word,
    compact_json,
    first_present,
    first_word,
)
from spanloop.records import QualityFlag, ToolDefinition

_SCHEMA_KEYS = (
    "parameters",
    "input_schema",
    "inputSchema",
    "parameters_json_schema",
    "json_schema",
    "args_schema",
    "parametersJsonSchema",
)


def read_tools(value: object, notes: Notes) -> tuple[ToolDefinition, ...] | None:
    """The definitions; `None` when the value is absent or no list. Flags definitions without schema or name."""
    value = _structure(value, notes)
    items = as_items(value)
    if items is None:
        holder = as_mapping(value)
        if holder is None:
            return None
        items = as_items(first_present(holder, "tools", "functions")) or (holder,)
    tools = [tool for item in items for tool in _read_tool(item, notes)]
    if any(tool.parameters is None for tool in tools):
        notes.flag(QualityFlag.TOOLS_INCOMPLETE)
    return tuple({tool.name: tool for tool in reversed(tools)}.values())[::-1]


def read_schema(value: object) -> str | None:
    """A JSON Schema as compact JSON text; `None` when it is absent or no object."""
    schema = as_mapping(read_structured(value).value)
    if schema is None:
        return None
    return compact_json(as_mapping(schema.get("json")) or schema)


def is_schema(value: object) -> bool:
    """Whether a mapping is a JSON Schema of arguments rather than arguments."""
    schema = as_mapping(value)
    return schema is not None and schema.get("type") == "object" and as_mapping(schema.get("properties")) is not None


def _structure(value: object, notes: Notes) -> object:
    """The structure in JSON text, with a flag for text that was cut, hidden or is no JSON."""
    text = as_text(value)
    if text is None:
        return value
    if is_redacted(text):
        notes.flag(QualityFlag.CONTENT_REDACTED)
        return None
    reading = read_structured(text)
    if reading.problem is JsonProblem.CUT:
        notes.flag(QualityFlag.PROMPT_TRUNCATED)
    elif reading.problem is not None:
        notes.flag(QualityFlag.TOOLS_INCOMPLETE)
    return reading.value


def _read_tool(item: object, notes: Notes) -> tuple[ToolDefinition, ...]:
    """The definitions one element stands for."""
    name = as_word(item)
    if name is not None and looks_like_json(name):
        item = read_structured(name).value
    elif name is not None and "(" in name:  # Haystack writes the repr of its tool
        item = read_repr(name).value
    elif name is not None:
        return (ToolDefinition(name=name),)
    tool = as_mapping(item)
    if tool is None:
        notes.flag(QualityFlag.TOOLS_INCOMPLETE)
        return ()
    declared = as_items(first_present(tool, "function_declarations", "functionDeclarations"))
    if declared is not None:
        return tuple(definition for inner in declared for definition in _read_tool(inner, notes))
    return _definition(as_mapping(first_present(tool, "function", "toolSpec", "tool")) or tool, notes)


def _definition(tool: Mapping[str, object], notes: Notes) -> tuple[ToolDefinition, ...]:
    """The definition in a mapping; a provider's own tool, which has no name, goes by its type."""
    name = first_word(tool, "name", "type")
    if name is None:
        notes.flag(QualityFlag.TOOLS_INCOMPLETE)
        return ()
    description = as_text(tool.get("description")) or None
    return (
        ToolDefinition(name=name, description=description, parameters=read_schema(first_present(tool, *_SCHEMA_KEYS))),
    )
