"""What tool spans of OpenLLMetry, the Traceloop SDK and LangSmith wrap around a tool's arguments and its result.

The Traceloop SDK's decorators write `{"args", "kwargs"}` and the result's JSON; OpenLLMetry's LangChain instrumentation
writes `{"input_str", "inputs", "kwargs"}`, whose `kwargs` hold the call's id, and `{"output", "kwargs"}`; its MCP
instrumentation `{"tool_name", "arguments"}` and `{"result", "is_error"}`. LangSmith writes the arguments by name, or
LangChain's text of them as `{"input"}`, and `{"output"}`.
"""

from __future__ import annotations

from collections.abc import Mapping

from otel_receiver.dialects.json_text import read_structured, unquoted
from otel_receiver.dialects.openllmetry_reprs import agno_result
from otel_receiver.dialects.pyrepr import read_repr
from otel_receiver.dialects.python_reprs import llama_index_message
from otel_receiver.dialects.values import as_items, as_mapping, as_text, compact_json, first_present, first_word

ARGUMENTS = "gen_ai.tool.call.arguments"
RESULT = "gen_ai.tool.call.result"
CALL_ID = "gen_ai.tool.call.id"
_TASK_STATUS = "gen_ai.task.status"
_TOOL_STATUS = "gen_ai.tool.status"

Source = Mapping[str, object]


def traceloop_tool(source: Source) -> Source:
    """The span's attributes with its arguments, result and call id in OTel's places, out of their wrappers."""
    told: dict[str, object] = dict(source)
    asked = _held(first_present(source, ARGUMENTS, "traceloop.entity.input"))
    if asked is not None and set(asked) == {"tool_name", "arguments"}:
        return {**told, **_mcp(asked, source)}
    if asked is not None and ("input_str" in asked or {"args", "kwargs"} <= set(asked)):
        told[ARGUMENTS] = _langchain_arguments(asked) if "input_str" in asked else _decorator_arguments(asked)
        told.setdefault(CALL_ID, first_word(as_mapping(asked.get("kwargs")) or {}, "tool_call_id"))
    answer = first_present(source, RESULT, "traceloop.entity.output")
    told |= _told_by_agno(answer) or _told_by_llama_index(answer) or {RESULT: _result(answer)}
    if told[RESULT] is None:  # what is left would be read in its place
        told.pop("traceloop.entity.output", None)
    told.setdefault(_TOOL_STATUS, source.get(_TASK_STATUS))
    return told


def langsmith_tool(source: Source, asked: object, told: object) -> dict[str, object]:
    """The span's attributes with its arguments and result in OTel's places; `asked` and `told` are LangSmith's."""
    held = as_mapping(read_structured(told).value) or {}
    result = held["output"] if set(held) == {"output"} else told
    given = as_mapping(read_structured(asked).value) or {}
    written = _written(given["input"]) if set(given) == {"input"} else None
    return {
        **source,
        ARGUMENTS: asked if written is None else compact_json(written),
        # A message that LangChain returned stays whole, for it says more than its text.
        RESULT: told if as_mapping(result) is not None else result,
    }


def spelled_arguments(value: object) -> object:
    """The arguments' JSON where a text spells them as Python does; anything else as it is."""
    text = as_text(value)
    reading = read_repr(text) if text is not None and text.startswith("{'") else None
    written = as_mapping(reading.value) if reading is not None and reading.is_whole else None
    return value if written is None else compact_json(written)


def _held(value: object) -> Source | None:
    """The mapping in the value's JSON; cheap for values that hold no wrapper."""
    text = as_text(value)
    is_wrapper = text is None or '"kwargs"' in text or '"tool_name"' in text
    return as_mapping(read_structured(value).value) if is_wrapper else None


def _mcp(asked: Source, source: Source) -> Source:
    """What the MCP client sent and was answered; the text of the first block is all that is written of a result."""
    value = source.get("traceloop.entity.output")
    answer = as_mapping(read_structured(value).value) or {"result": value}
    state = {_TOOL_STATUS: "error"} if answer.get("is_error") is True else {}
    return {ARGUMENTS: compact_json(asked["arguments"] or {}), RESULT: answer.get("result"), **state}


def _told_by_agno(answer: object) -> Source | None:
    """The result, or the error, and the state in the repr of Agno's result."""
    held = agno_result(answer)
    if held is None:
        return None
    content = held["result"] if held["result"] is not None else held["error"]
    return {RESULT: content, _TOOL_STATUS: held["status"]}


def _told_by_llama_index(answer: object) -> Source | None:
    """The result, its state and its call's id in the event with which LlamaIndex's agents tell of a tool."""
    text = as_text(answer)
    held = as_mapping(read_structured(answer).value) if text is not None and '"tool_output"' in text else None
    output = as_mapping((held or {}).get("tool_output"))
    if held is None or output is None:
        return None
    state = {_TOOL_STATUS: "error" if output["is_error"] else "ok"} if isinstance(output.get("is_error"), bool) else {}
    told = {RESULT: llama_index_message(output)["content"], **state}
    return {**told, CALL_ID: held["tool_id"]} if held.get("tool_id") else told


def _langchain_arguments(asked: Source) -> object:
    """The arguments by name; older versions have them only as the text of a Python dictionary."""
    inputs = as_mapping(asked.get("inputs"))
    if inputs is not None:
        return compact_json(inputs)
    written = _written(asked.get("input_str"))
    return as_text(asked.get("input_str")) if written is None else compact_json(written)


def _written(value: object) -> Source | None:
    """The mapping that a text spells, as JSON or as Python writes it."""
    text = as_text(value)
    if text is None:
        return None
    return as_mapping(read_structured(text).value) or as_mapping(read_repr(text).value)


def _decorator_arguments(asked: Source) -> object:
    """The arguments by name; those without names as a list, a single one by itself."""
    named = as_mapping(asked.get("kwargs"))
    if named:
        return compact_json(named)
    given = as_items(asked.get("args")) or ()
    if not given:
        return "{}"
    value = given[0] if len(given) == 1 else given
    return as_text(value) or compact_json(value)


def _result(value: object) -> object:
    """The result itself; a message that LangChain returned stays whole, for it says more than its text."""
    held = _held(value)
    if held is None or not {"output", "kwargs"} >= set(held) or "output" not in held:
        return unquoted(value)
    output = held["output"]
    return value if as_mapping(output) is not None else output
