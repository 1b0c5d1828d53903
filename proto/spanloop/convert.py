"""Records to the OpenAI chat form and back: what views, chat templates and model servers speak.

The chat form keeps every word of a message, but not how it was cut into parts: text parts are joined by newlines, and a
tool result's status and a reasoning signature have no place in it. The protobuf form (`wire.py`) keeps everything.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from spanloop.records import (
    MediaKind,
    MediaPart,
    Message,
    Part,
    ReasoningPart,
    Role,
    TextPart,
    ToolCall,
    ToolDefinition,
    ToolResult,
    ToolStatus,
)

Chat = dict[str, object]
"""One message or tool in chat form; the values are what `json.loads` yields."""

DIGEST_SCHEME = "sha256:"
"""Stands before the hex digest where a media block's address would be: the bytes are in the blob table."""

MEDIA_BLOCKS = {
    MediaKind.IMAGE: "image_url",
    MediaKind.AUDIO: "audio_url",
    MediaKind.VIDEO: "video_url",
    MediaKind.DOCUMENT: "document_url",
    MediaKind.FILE: "file_url",
}
"""Content block types of media. Chat servers know the first three; the others follow their pattern."""

MESSAGE_KEYS = frozenset({"role", "content", "name", "reasoning_content", "reasoning", "tool_calls", "tool_call_id"})


class ChatFormError(ValueError):
    """A dict is no message or tool in chat form; the text names the key and the remedy."""


def compact_json(value: object) -> str:
    """JSON text without spaces, as records hold it. Raises ValueError on NaN, infinities and too deep a nesting."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except RecursionError as error:
        raise ValueError("the value nests deeper than JSON is written") from error


def parse_json(text: str) -> object:
    """The value of a JSON text. Raises ValueError where the text is none, or nests too deep to be read."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError as error:
        raise ValueError("JSON nests deeper than the parser reads") from error


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")


def message_to_chat(message: Message) -> Chat:
    """The message in chat form. Absent fields have no key; `content` is always there and `None` where nothing is."""
    chat: Chat = {"role": str(message.role), "content": _content_to_chat(message)}
    if message.name is not None:
        chat["name"] = message.name
    if any(isinstance(part, ReasoningPart) for part in message.parts):
        chat["reasoning_content"] = message.reasoning
    if message.tool_calls:
        chat["tool_calls"] = [_call_to_chat(call) for call in message.tool_calls]
    result = message.tool_result
    if result is not None:
        chat["tool_call_id"] = result.call_id
        if result.name is not None:
            chat["name"] = result.name
    return chat


def _content_to_chat(message: Message) -> str | list[Chat] | None:
    shown = [part for part in message.parts if isinstance(part, TextPart | MediaPart | ToolResult)]
    if not shown:
        return None
    if any(isinstance(part, MediaPart) for part in shown):
        return [_block_to_chat(part) for part in shown if isinstance(part, TextPart | MediaPart)]
    return message.text


def _block_to_chat(part: TextPart | MediaPart) -> Chat:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    kind = MEDIA_BLOCKS[part.kind]
    url = part.uri or (f"{DIGEST_SCHEME}{part.sha256}" if part.sha256 else "")
    block: Chat = {"type": kind, kind: {"url": url}}
    if part.mime_type is not None:
        block["mime_type"] = part.mime_type
    if part.sha256 is not None:
        block["sha256"] = part.sha256
    return block


def _call_to_chat(call: ToolCall) -> Chat:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def message_from_chat(chat: Mapping[str, object], *, tool_status: ToolStatus = ToolStatus.UNKNOWN) -> Message:
    """The record of a chat message; a tool message takes `tool_status`, which the chat form does not carry.

    Arguments given as an object become compact JSON. Raises ChatFormError on unknown roles, blocks or filled keys, so
    that nothing is dropped unseen.
    """
    _refuse_unknown(chat, MESSAGE_KEYS, "message")
    role = _role(chat.get("role"))
    name = _optional_text(chat, "name")
    if role is Role.TOOL:
        return Message(role=role, parts=(_result_from_chat(chat, name, tool_status),))
    parts = (*_reasoning_from_chat(chat), *_content_from_chat(chat.get("content")), *_calls_from_chat(chat))
    return Message(role=role, parts=parts, name=name)


def _role(value: object) -> Role:
    try:
        return Role(str(value))
    except ValueError as error:
        raise ChatFormError(f"chat message: role {value!r} is none of {', '.join(Role)}") from error


def _result_from_chat(chat: Mapping[str, object], name: str | None, status: ToolStatus) -> ToolResult:
    parts = _content_from_chat(chat.get("content"))
    texts = [part.text for part in parts if isinstance(part, TextPart)]
    if len(texts) != len(parts):
        raise ChatFormError("tool message: media in the content; a result is text, put the media in a user message")
    return ToolResult(
        call_id=_optional_text(chat, "tool_call_id") or "", content="\n".join(texts), name=name, status=status
    )


def _reasoning_from_chat(chat: Mapping[str, object]) -> tuple[Part, ...]:
    text = _optional_text(chat, "reasoning_content")
    if text is None:
        text = _optional_text(chat, "reasoning")
    return () if text is None else (ReasoningPart(text=text),)


def _content_from_chat(content: object) -> tuple[TextPart | MediaPart, ...]:
    if content is None:
        return ()
    if isinstance(content, str):
        return (TextPart(text=content),)
    return tuple(_block_from_chat(block) for block in _mappings(content, "content"))


def _block_from_chat(block: Mapping[str, object]) -> TextPart | MediaPart:
    kind = block.get("type")
    if kind == "text":
        return TextPart(text=_optional_text(block, "text") or "")
    for media, name in MEDIA_BLOCKS.items():
        if name == kind:
            return _media_from_chat(block, media, name)
    raise ChatFormError(f"content block: type {kind!r} is neither text nor one of {', '.join(MEDIA_BLOCKS.values())}")


def _media_from_chat(block: Mapping[str, object], kind: MediaKind, name: str) -> MediaPart:
    _refuse_unknown(block, frozenset({"type", name, "mime_type", "sha256"}), "content block")
    address = block.get(name)
    url = _optional_text(address, "url") if isinstance(address, Mapping) else None
    digest = _optional_text(block, "sha256")
    carried = None if not url or url == f"{DIGEST_SCHEME}{digest}" else url
    return MediaPart(kind=kind, mime_type=_optional_text(block, "mime_type"), sha256=digest, uri=carried)


def _calls_from_chat(chat: Mapping[str, object]) -> tuple[ToolCall, ...]:
    return tuple(_call_from_chat(call) for call in _mappings(chat.get("tool_calls") or (), "tool_calls"))


def _call_from_chat(call: Mapping[str, object]) -> ToolCall:
    function = call.get("function")
    if not isinstance(function, Mapping):
        raise ChatFormError(f"tool call {call.get('id')!r}: no `function` object; only function calls are known")
    arguments = function.get("arguments")
    text = arguments if isinstance(arguments, str) else compact_json({} if arguments is None else arguments)
    return ToolCall(id=_optional_text(call, "id") or "", name=_optional_text(function, "name") or "", arguments=text)


def tool_to_chat(tool: ToolDefinition) -> Chat:
    """The tool in chat form; `parameters` is the schema as an object, or the raw text where it is no JSON."""
    function: Chat = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.parameters is not None:
        function["parameters"] = _value_or_text(tool.parameters)
    return {"type": "function", "function": function}


def _value_or_text(text: str) -> object:
    try:
        value = parse_json(text)
        compact_json(value)  # an overflowing number reads as infinity, which could not be written again
    except ValueError:
        return text
    # A JSON string would read back as raw text, and a null as no parameters at all: keep their spelling.
    return text if value is None or isinstance(value, str) else value


def tool_from_chat(chat: Mapping[str, object]) -> ToolDefinition:
    """The record of a tool in chat form, nested under `function` or flat as the Responses API has it.

    A `strict` switch is let go: it governs the server's decoding, the model is not shown it.
    """
    nested = chat.get("function")
    function: Mapping[str, object] = nested if isinstance(nested, Mapping) else chat
    _refuse_unknown(function, frozenset({"type", "name", "description", "parameters", "strict"}), "tool")
    parameters = function.get("parameters")
    return ToolDefinition(
        name=_optional_text(function, "name") or "",
        description=_optional_text(function, "description"),
        parameters=parameters if parameters is None or isinstance(parameters, str) else compact_json(parameters),
    )


def messages_to_chat(messages: Iterable[Message]) -> list[Chat]:
    """Every message in chat form."""
    return [message_to_chat(message) for message in messages]


def tools_to_chat(tools: Iterable[ToolDefinition]) -> list[Chat]:
    """Every tool in chat form."""
    return [tool_to_chat(tool) for tool in tools]


def messages_from_chat(chats: Iterable[Mapping[str, object]]) -> tuple[Message, ...]:
    """The records of a chat history."""
    return tuple(message_from_chat(chat) for chat in chats)


def tools_from_chat(chats: Iterable[Mapping[str, object]]) -> tuple[ToolDefinition, ...]:
    """The records of a tool list."""
    return tuple(tool_from_chat(chat) for chat in chats)


def _refuse_unknown(chat: Mapping[str, object], known: frozenset[str], what: str) -> None:
    unknown = sorted(key for key, value in chat.items() if key not in known and value not in (None, "", [], {}))
    if unknown:
        raise ChatFormError(f"{what}: keys {', '.join(unknown)} have no place in a record; drop or convert them first")


def _optional_text(chat: Mapping[str, object], key: str) -> str | None:
    value = chat.get(key)
    if value is not None and not isinstance(value, str):
        raise ChatFormError(f"chat form: {key} is {type(value).__name__}, not text")
    return value


def _mappings(value: object, what: str) -> list[Mapping[str, object]]:
    if not isinstance(value, list | tuple) or not all(isinstance(entry, Mapping) for entry in value):
        raise ChatFormError(f"chat form: {what} is {type(value).__name__}; it must be a list of objects")
    return list(value)
