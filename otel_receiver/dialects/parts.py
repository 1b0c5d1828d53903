"""Read one content part of any provider's shape: OTel GenAI parts, OpenAI, Anthropic, Bedrock, Gemini, AI SDK.

The shape decides, never the attribute the part came from: senders put one provider's parts under another's name.
A part of no known shape is flagged and left out; its neighbours stay.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from otel_receiver.dialects.media import read_media
from otel_receiver.dialects.notes import Notes
from otel_receiver.dialects.values import (
    as_items,
    as_mapping,
    as_text,
    as_word,
    compact_json,
    first_present,
    first_word,
)
from spanloop.records import Part, QualityFlag, ReasoningPart, TextPart, ToolCall, ToolResult, ToolStatus

UNKNOWN_ID = "?"
"""Stands for the id of a call that carries none, until `tool_ids.complete_ids` replaces it."""

CALL_ID_KEYS = ("id", "call_id", "tool_call_id", "toolCallId", "toolUseId", "tool_use_id")
RESULT_ID_KEYS = ("tool_call_id", "call_id", "tool_use_id", "toolUseId", "toolCallId", "id")
ARGUMENT_KEYS = ("arguments", "args", "input", "parameters", "server_tool_call")
RESULT_KEYS = ("response", "result", "content", "output", "server_tool_call_response")
NO_IDS = frozenset({"", "<not specified>", "None", "null"})

Reader = Callable[[Mapping[str, object], Notes], tuple[Part, ...]]


def read_part(value: object, notes: Notes) -> tuple[Part, ...]:
    """The parts a value stands for: usually one, none when it is empty or unreadable (flagged)."""
    text = as_text(value)
    if text is not None:
        return text_parts(text, notes)
    part = as_mapping(value)
    if part is None:
        notes.flag(QualityFlag.MESSAGE_UNPARSED)
        return ()
    reader = _BY_TYPE.get(_type_of(part, "type")) or _BY_TYPE.get(_type_of(part, "kind"))
    if reader is None:
        reader = next((read for key, read in _BY_KEY if part.get(key) is not None), None)
    if reader is None:
        notes.flag(QualityFlag.MESSAGE_UNPARSED)
        return ()
    return reader(part, notes)


def _type_of(part: Mapping[str, object], key: str) -> str:
    """The part's type, which Pydantic-AI's first version calls its kind."""
    return (as_word(part.get(key)) or "").lower().replace("-", "_")


def read_parts(value: object, notes: Notes) -> tuple[Part, ...]:
    """The parts of a content value: text, one part, or a list of parts."""
    if value is None:
        return ()
    items = as_items(value)
    return tuple(part for item in ((value,) if items is None else items) for part in read_part(item, notes))


def text_parts(text: str, notes: Notes) -> tuple[Part, ...]:
    """A text part, or none for the empty text."""
    notes.check_text(text)
    return (TextPart(text=text),) if text else ()


def call_part(call_id: object, name: object, arguments: object, notes: Notes) -> tuple[Part, ...]:
    """A tool call; one without a name is unreadable."""
    word = as_word(name)
    if word is None:
        notes.flag(QualityFlag.MESSAGE_UNPARSED)
        return ()
    identity = as_word(call_id) or ""
    return (
        ToolCall(id=UNKNOWN_ID if identity in NO_IDS else identity, name=word, arguments=_arguments(arguments, notes)),
    )


def result_part(call_id: object, content: object, notes: Notes, *, name: object = None, failed: object = None) -> Part:
    """A tool result; an empty `call_id` stands for one that is not carried."""
    identity = as_word(call_id) or ""
    return ToolResult(
        call_id="" if identity in NO_IDS else identity,
        content=result_text(content, notes),
        name=as_word(name),
        status=result_status(failed),
    )


def result_text(content: object, notes: Notes) -> str:
    """A result as text: text as it is, a list of text parts joined by newlines, anything else as compact JSON."""
    text = as_text(content)
    if text is not None:
        notes.check_text(text)
        return text
    if content is None:
        return ""
    items = as_items(content)
    if items:
        texts = [_plain_text(item) for item in items]
        if all(text is not None for text in texts):
            return "\n".join(text for text in texts if text is not None)
    return compact_json(content)


def result_status(failed: object) -> ToolStatus:
    """Whether a result is an error, from a boolean or a word; unknown when nothing says so."""
    if isinstance(failed, bool):
        return ToolStatus.ERROR if failed else ToolStatus.OK
    word = (as_word(failed) or "").lower()
    if word in ("error", "failed", "failure", "incomplete"):
        return ToolStatus.ERROR
    return ToolStatus.OK if word in ("ok", "success", "completed") else ToolStatus.UNKNOWN


def _plain_text(item: object) -> str | None:
    """The text of a text part, in whichever shape; `None` for any other part."""
    part = as_mapping(item)
    if part is None:
        return as_text(item)
    if part.get("type") not in (None, "text", "input_text", "output_text"):
        return None
    return as_text(first_present(part, "text", "content")) if set(part) <= _TEXT_KEYS else None


_TEXT_KEYS = {"type", "text", "content", "annotations", "id", "cache_control", "citations", "index"}


def _arguments(value: object, notes: Notes) -> str:
    """Arguments as JSON text: text as carried, an object in compact form, no arguments as the empty object."""
    if value is None:
        return "{}"
    text = as_text(value)
    if text is None:
        return compact_json(value)
    notes.check_text(text)
    return text


def _text(part: Mapping[str, object], notes: Notes) -> tuple[Part, ...]:
    value = first_present(part, "content", "text", "refusal")
    nested = as_mapping(value)
    text = as_text(value if nested is None else first_present(nested, "value", "text"))
    if text is None:
        notes.flag(QualityFlag.MESSAGE_UNPARSED if value is not None else QualityFlag.CONTENT_MISSING)
        return ()
    if part.get("thought") is True:
        return (ReasoningPart(text=text),) if text else ()
    return text_parts(text, notes)


def _reasoning(part: Mapping[str, object], notes: Notes) -> tuple[Part, ...]:
    inner = as_mapping(first_present(part, "reasoningContent", "reasoningText")) or part
    inner = as_mapping(inner.get("reasoningText")) or inner
    value = first_present(inner, "content", "text", "thinking", "reasoning", "summary")
    items = as_items(value)
    if items is not None:
        value = "\n".join(text for item in items if (text := _plain_or_summary(item)) is not None)
    text = as_text(value) or ""
    signature = first_word(inner, "signature", "encrypted_content", "data")
    notes.check_text(text)
    return (ReasoningPart(text=text, signature=signature),) if text or signature else ()


def _plain_or_summary(item: object) -> str | None:
    part = as_mapping(item)
    return as_text(item) if part is None else as_text(part.get("text"))


def _call(part: Mapping[str, object], notes: Notes) -> tuple[Part, ...]:
    inner = as_mapping(first_present(part, "toolUse", "functionCall", "function_call", "tool_call")) or part
    function = as_mapping(inner.get("function")) or inner
    if not any(key in function for key in ARGUMENT_KEYS):
        notes.flag(QualityFlag.CONTENT_MISSING)
    return call_part(
        first_present(inner, *CALL_ID_KEYS) if "call_id" not in inner else inner["call_id"],
        first_present(function, "name", "toolName", "tool_name"),
        first_present(function, *ARGUMENT_KEYS),
        notes,
    )


def _result(part: Mapping[str, object], notes: Notes) -> tuple[Part, ...]:
    inner = as_mapping(first_present(part, "toolResult", "functionResponse", "function_response")) or part
    if not any(key in inner for key in RESULT_KEYS):
        notes.flag(QualityFlag.CONTENT_MISSING)
    content = first_present(inner, *RESULT_KEYS)
    typed = as_mapping(content)
    if typed is not None and typed.get("type") == "execution-denied":
        # Nobody let the tool run: the AI SDK's providers show the model the reason, or this sentence.
        failed: object = True
        content = as_text(typed.get("reason")) or "Tool call execution denied."
    elif typed is not None and "value" in typed and str(typed.get("type", "")).startswith(_TYPED_RESULTS):
        failed = str(typed["type"]).startswith("error")
        content = typed["value"]
    else:
        failed = first_present(inner, "is_error", "isError", "tool_call_error", "status")
    return (
        result_part(
            first_present(inner, *RESULT_ID_KEYS),
            content,
            notes,
            name=first_present(inner, "name", "toolName", "tool_name"),
            failed=failed,
        ),
    )


_TYPED_RESULTS = ("text", "json", "error", "content")
"""How the AI SDK's typed tool results begin: a type beside a `value`."""


def _media(part: Mapping[str, object], notes: Notes) -> tuple[Part, ...]:
    return (read_media(part, notes),)


def _nothing(part: Mapping[str, object], notes: Notes) -> tuple[Part, ...]:
    """Markers that hold no content, such as cache points."""
    del part, notes
    return ()


_BY_TYPE: Mapping[str, Reader] = {
    **dict.fromkeys(("text", "input_text", "output_text", "refusal", "compaction", "summary_text"), _text),
    **dict.fromkeys(("reasoning", "thinking", "redacted_thinking", "reasoning_content"), _reasoning),
    **dict.fromkeys(
        ("tool_call", "tool_use", "function", "function_call", "server_tool_call", "server_tool_use"), _call
    ),
    **dict.fromkeys(
        (
            "tool_call_response",
            "tool_result",
            "tool_response",
            "function_call_output",
            "function_response",
            "server_tool_call_response",
            "web_search_tool_result",
        ),
        _result,
    ),
    **dict.fromkeys(
        (
            "image",
            "image_url",
            "input_image",
            "audio",
            "input_audio",
            "audio_url",
            "video",
            "video_url",
            "document",
            "document_url",
            "file",
            "input_file",
            "file_data",
            "blob",
            "uri",
            "binary",
            "media",
        ),
        _media,
    ),
    **dict.fromkeys(
        ("step_start", "cache_point", "cachepoint", "tool_approval_request", "tool_approval_response"), _nothing
    ),
}

_BY_KEY: tuple[tuple[str, Reader], ...] = (
    ("toolUse", _call),
    ("functionCall", _call),
    ("function_call", _call),
    ("toolResult", _result),
    ("functionResponse", _result),
    ("function_response", _result),
    ("reasoningContent", _reasoning),
    ("inline_data", _media),
    ("inlineData", _media),
    ("file_data", _media),
    ("fileData", _media),
    ("image", _media),
    ("document", _media),
    ("video", _media),
    ("cachePoint", _nothing),
    ("text", _text),
    ("content", _text),
)
"""Shapes of parts that name no type, tried in this order."""
