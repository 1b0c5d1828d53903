"""Structures that instrumentations of OpenLLMetry write as Python reprs or as a framework's own JSON, restored.

Gemini's parts of up to 0.54, a CrewAI answer that calls tools, Agno's results, and LlamaIndex's requests and responses.
"""

from __future__ import annotations

from collections.abc import Mapping

from otel_receiver.dialects.json_text import looks_like_json, read_json, read_structured
from otel_receiver.dialects.pyrepr import read_repr
from otel_receiver.dialects.python_reprs import llama_index_message
from otel_receiver.dialects.raw_values import RawValues
from otel_receiver.dialects.values import as_items, as_mapping, as_text, first_present

Source = Mapping[str, object]

_PART_MARKS = ("function_call=FunctionCall(", "function_response=FunctionResponse(")
_CALL_MARK = "ToolCall("
_RESULT_MARK = "status="


def gemini_blocks(value: object) -> list[object] | None:
    """A message's content with its function calls and responses as parts; `None` when it holds no such repr."""
    text = as_text(value)
    if text is None or not looks_like_json(text) or not any(mark in text for mark in _PART_MARKS):
        return None
    return [_gemini_part(block) for block in as_items(read_json(text).value) or ()]


def _gemini_part(block: object) -> object:
    text = as_text((as_mapping(block) or {}).get("text")) or ""
    if not any(mark in text for mark in _PART_MARKS):
        return block
    held = as_mapping(read_repr(text).value) or {}
    call, response = as_mapping(held.get("function_call")), as_mapping(held.get("function_response"))
    if call is not None:
        return {"type": "tool_call", **call, "arguments": call.get("args") or {}}
    return {"type": "tool_call_response", **response} if response is not None else block


def crewai_parts(value: object) -> list[object] | None:
    """The tool calls of an answer that is the repr of a list of them; `None` for an answer in words."""
    text = as_text(value)
    if text is None or not text.startswith("[") or _CALL_MARK not in text:
        return None
    calls = [held for item in as_items(read_repr(text).value) or () if (held := as_mapping(item)) is not None]
    return [{**call, "type": "tool_call"} for call in calls if as_mapping(call.get("function"))] or None


def agno_result(value: object) -> Source | None:
    """The fields of Agno's result object; `None` for any other text."""
    text = as_text(value)
    held = as_mapping(read_repr(text).value) if text is not None and text.startswith(_RESULT_MARK) else None
    return held if held is not None and {"status", "result", "error"} <= set(held) else None


def llama_index_values(source: Source) -> RawValues:
    """LlamaIndex's request and response of a model call, messages in the chat form."""
    request = as_mapping(read_structured(source.get("traceloop.entity.input")).value) or {}
    response = as_mapping(read_structured(source.get("traceloop.entity.output")).value) or {}
    messages = [
        llama_index_message(held) for item in as_items(request.get("messages")) or () if (held := as_mapping(item))
    ]
    offered = first_present(request, "tools") or (as_mapping(request.get("kwargs")) or {}).get("tools")
    told = as_mapping(response.get("message"))
    asked = {"messages": messages, **({"tools": offered} if offered is not None else {})}
    return RawValues(asked if messages else None, llama_index_message(told) if told is not None else None)


def is_llama_index_tool(source: Source) -> bool:
    """Whether a step of LlamaIndex's workflow ran a tool; a step of its older agents names one that it only chose."""
    return "tool.name" in source and '"tool_output"' in (as_text(source.get("traceloop.entity.output")) or "")


def langchain_metadata(source: Source) -> Source:
    """The metadata with which an application runs a chain or a graph: what its workflow's input holds beside inputs."""
    text = as_text(source.get("traceloop.entity.input"))
    if text is None or '"metadata"' not in text:
        return {}
    return as_mapping((as_mapping(read_structured(text).value) or {}).get("metadata")) or {}
