"""Read the execution of a tool from the span around it, whatever dialect wrote the span."""

from __future__ import annotations

from collections.abc import Mapping

from otel_receiver.dialects.base import ToolExecution
from otel_receiver.dialects.json_text import looks_like_json, read_structured
from otel_receiver.dialects.notes import Notes
from otel_receiver.dialects.parts import NO_IDS, result_status, result_text
from otel_receiver.dialects.pyrepr import read_repr
from otel_receiver.dialects.tool_wrappers import spelled_arguments
from otel_receiver.dialects.tools import is_schema, read_schema
from otel_receiver.dialects.values import as_mapping, as_text, compact_json, first_present, first_word
from otel_receiver.spans import Span, SpanStatus
from spanloop.records import QualityFlag, ToolDefinition, ToolStatus

Source = Mapping[str, object]

NAME_KEYS = ("gen_ai.tool.name", "tool.name", "ai.toolCall.name", "traceloop.entity.name")
ID_KEYS = ("gen_ai.tool.call.id", "tool.id", "tool_call.id", "ai.toolCall.id", "gen_ai.tool.call_id")
ARGUMENT_KEYS = (
    "gen_ai.tool.call.arguments",
    "tool_arguments",
    "gen_ai.tool.arguments",
    "ai.toolCall.args",
    "tool_call.function.arguments",
    "tool.arguments",
    "input.value",
    "mlflow.spanInputs",
    "langfuse.observation.input",
    "gen_ai.prompt",
    "traceloop.entity.input",
)
RESULT_KEYS = (
    "gen_ai.tool.call.result",
    "tool_response",
    "gen_ai.tool.result",
    "ai.toolCall.result",
    "output.value",
    "mlflow.spanOutputs",
    "langfuse.observation.output",
    "gen_ai.completion",
    "traceloop.entity.output",
)
STATUS_KEYS = ("gen_ai.tool.status", "tool.status")
_NAME_PREFIXES = ("execute_tool ", "running tool: ", "running tool ")


def read_tool_execution(span: Span, source: Source | None = None) -> ToolExecution:
    """The execution; `source` stands in for the span's attributes where these lie elsewhere as well."""
    source = span.attributes if source is None else source
    notes = Notes()
    asked = first_present(source, *ARGUMENT_KEYS)
    message = _result_message(first_present(source, *RESULT_KEYS))
    identity = first_word(source, *ID_KEYS) or first_word(message, "tool_call_id", "toolCallId", "id")
    return ToolExecution(
        name=first_word(source, *NAME_KEYS) or _name_in(span.name),
        call_id=identity if identity not in NO_IDS else None,
        arguments=_arguments(asked),
        result=_result(source, message, notes),
        status=_status(span, source, message),
        definition=_definition(source),
        flags=notes.flags,
    )


def _name_in(name: str) -> str:
    """The tool's name in a span's name."""
    for prefix in _NAME_PREFIXES:
        name = name.removeprefix(prefix)
    return name.removesuffix(".tool").removesuffix(".__call__") or "unknown"


def _arguments(value: object) -> str | None:
    """JSON text of the arguments; Traceloop wraps them in `args` and `kwargs`, LangChain writes them as Python does."""
    text = as_text(spelled_arguments(value))
    if text is None:
        return None if value is None else compact_json(value)
    held = as_mapping(read_structured(text).value) if '"kwargs"' in text or '"inputs"' in text else None
    if held is None:
        return text
    inputs = as_mapping(first_present(held, "inputs", "kwargs"))
    return compact_json(inputs) if inputs else text


def _result_message(value: object) -> Source:
    """The tool message that LangChain or llama-index writes as a tool's output; empty for any other output."""
    text = as_text(value)
    if text is not None and text.startswith("content=") and " tool_call_id='" in text:
        return as_mapping(read_repr(text).value) or {}
    if text is not None and '"tool_call_id"' not in text and '"raw_output"' not in text:
        return {}
    held = as_mapping(read_structured(value).value) or {}
    if "raw_output" in held and "blocks" in held:
        return {"content": held["blocks"], "status": held.get("is_error")}
    held = as_mapping(held.get("output")) or held
    held = as_mapping(first_present(held, "data", "kwargs")) or held
    return held if "tool_call_id" in held and "content" in held else {}


def _result(source: Source, message: Source, notes: Notes) -> str | None:
    value = message["content"] if message else first_present(source, *RESULT_KEYS)
    if value is None:
        return None
    text = result_text(value, notes)
    if as_text(value) is not None and looks_like_json(text) and text.rstrip()[-1:] not in ("}", "]"):
        notes.flag(QualityFlag.OUTPUT_TRUNCATED)
    return text


def _status(span: Span, source: Source, message: Source) -> ToolStatus:
    """Error when the span, an attribute or the result says so; OK when the span says OK outright."""
    said = result_status(first_present(source, *STATUS_KEYS))
    told = result_status(message.get("status"))
    if span.status is SpanStatus.ERROR or ToolStatus.ERROR in (said, told):
        return ToolStatus.ERROR
    return ToolStatus.OK if span.status is SpanStatus.OK or ToolStatus.OK in (said, told) else ToolStatus.UNKNOWN


def _definition(source: Source) -> ToolDefinition | None:
    """The tool's definition, as far as the span carries it: `tool.parameters` holds arguments in one flavour."""
    name = first_word(source, *NAME_KEYS)
    description = as_text(first_present(source, "gen_ai.tool.description", "tool.description")) or None
    carried = first_present(source, "tool.parameters", "tool.json_schema", "gen_ai.tool.json_schema")
    schema = read_structured(carried).value
    parameters = read_schema(schema) if is_schema(schema) else None
    if name is None or (description is None and parameters is None):
        return None
    return ToolDefinition(name=name, description=description, parameters=parameters)
