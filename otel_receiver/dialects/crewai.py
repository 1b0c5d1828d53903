"""CrewAI's event listener in OpenInference (`use_event_listener=True`): what it wrote as Python reprs, restored.

CrewAI serialises its events five levels deep; what lies deeper is a repr. So a history's tool calls are named
`'get_weather'`, quotes included, and a property's schema is the text `{'title': 'City', 'type': 'string'}`. The offered
tools are one JSON text under `llm.tools`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from otel_receiver.dialects.json_text import read_structured
from otel_receiver.dialects.pyrepr import read_repr
from otel_receiver.dialects.values import as_items, as_mapping, as_text
from otel_receiver.spans import Span

SCOPE = "openinference.instrumentation.crewai"
_QUOTED_KEYS = ("function.name", "function.arguments")
_OPENERS = ("'", '"', "{", "[")
_TOOLS = "llm.tools"


def is_event_listener(span: Span) -> bool:
    """Whether CrewAI's event listener wrote the span's model call."""
    return span.scope_name.startswith(SCOPE)


def restored(span: Span) -> Span:
    """The span with quoted names and arguments unquoted, and its tools restored under keys with indexes."""
    attributes: dict[str, object] = {}
    for key, value in span.attributes.items():
        attributes[key] = _unquoted(value) if key.endswith(_QUOTED_KEYS) else value
    for index, message in enumerate(as_items(read_structured(attributes.get("input.value")).value) or ()):
        name = (as_mapping(message) or {}).get("name")
        if name is not None:  # the listener's messages leave out whose result a tool message holds
            attributes.setdefault(f"llm.input_messages.{index}.message.name", name)
    tools = as_items(read_structured(attributes.get(_TOOLS)).value)
    for index, tool in enumerate(tools or ()):
        attributes[f"{_TOOLS}.{index}.tool.json_schema"] = _tool(tool)
    return replace(span, attributes=attributes)  # type: ignore[arg-type]  # JSON that was parsed is no attribute's type


def _tool(tool: object) -> object:
    """A tool with its parameters restored."""
    held = as_mapping(tool)
    if held is None:
        return tool
    function = as_mapping(held.get("function"))
    if function is not None:
        return {**held, "function": _tool(function)}
    return {**held, "parameters": _whole(held["parameters"])} if "parameters" in held else held


def _whole(value: object) -> object:
    """A schema whose deeper parts are reprs, as a structure."""
    held, items, text = as_mapping(value), as_items(value), as_text(value)
    if held is not None:
        return {key: _whole(inner) for key, inner in held.items()}
    if items is not None:
        return [_whole(inner) for inner in items]
    return value if text is None else _read(text)


def _read(text: str) -> object:
    """The value of a text that is a whole repr of a string, dictionary or list; any other text as it is."""
    if not text.startswith(_OPENERS):
        return text
    reading = read_repr(text)
    return reading.value if reading.is_whole and isinstance(reading.value, str | Mapping | list) else text


def _unquoted(value: object) -> object:
    """A string that was written with its quotes, without them."""
    text = as_text(value)
    if text is None or len(text) < 2 or text[0] not in "'\"" or text[-1] != text[0]:
        return value
    read = _read(text)
    return read if isinstance(read, str) else value
