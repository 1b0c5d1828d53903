"""Haystack's chat messages in the chat form, whether they come as JSON or were read out of Python reprs.

JSON has `role`, `content`, `meta` (`_role`, `_content`, `_meta` in older releases) and parts keyed by their kind, as in
`{"tool_call": {"tool_name": …, "arguments": …, "id": …}}`; a repr names the part's class and spells its fields out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from otel_receiver.dialects.base import ToolExecution
from otel_receiver.dialects.finish import finish_reason
from otel_receiver.dialects.messages import join_adjacent, read_message
from otel_receiver.dialects.notes import Notes
from otel_receiver.dialects.raw import RawResponse, read_usage
from otel_receiver.dialects.values import as_items, as_mapping, as_text, compact_json, first_present, first_word
from spanloop.records import Message, Role, ToolCall, ToolResult

Source = Mapping[str, object]

_PARTS_BY_CLASS = {
    "ToolCall": "tool_call",
    "ToolCallResult": "tool_call_result",
    "ReasoningContent": "reasoning",
    "ImageContent": "image",
    "FileContent": "file",
}
_MESSAGE_KEYS = ("_content", "_role")


def is_haystack_repr(held: Source) -> bool:
    """Whether a mapping read out of a repr is one of Haystack's messages."""
    return any(key in held for key in _MESSAGE_KEYS)


def read_prompt(value: object, notes: Notes) -> tuple[Message, ...]:
    """The messages of a generator's inputs: `messages`, or the `prompt` of a generator without chat."""
    inputs = as_mapping(value) or {}
    said = first_present(inputs, "messages", "prompt")
    system = as_text(inputs.get("system_prompt"))
    first = read_message({"role": "system", "content": system}, notes) if system else ()
    items = as_items(said)
    items = (said,) if items is None and said is not None else items or ()
    read = [message for item in items for message in read_message(in_chat_form(item), notes)]
    return join_adjacent((*first, *read))


def read_replies(value: object, notes: Notes) -> RawResponse:
    """The first reply of a generator's outputs, and what its metadata says about it."""
    outputs = as_mapping(value) or {}
    reply = next(iter(as_items(outputs.get("replies")) or ()), None)
    if reply is None:
        return RawResponse(message=None)
    said = read_message(in_chat_form(reply), notes, default=Role.ASSISTANT)
    held = as_mapping(reply) or {"meta": next(iter(as_items(outputs.get("meta")) or ()), None)}
    return about_reply(held, said[0] if said else None)


def about_reply(held: Source, message: Message | None) -> RawResponse:
    """What a reply's metadata says: the model that answered, why it stopped, and the tokens."""
    meta = as_mapping(first_present(held, "meta", "_meta")) or {}
    return RawResponse(
        message=message,
        finish_reason=finish_reason(first_present(meta, "finish_reason", "stop_reason")),
        response_id=first_word(meta, "id", "response_id"),
        model=first_word(meta, "model"),
        usage=read_usage(as_mapping(meta.get("usage")) or {}),
    )


def read_invocations(inputs: object, outputs: object, notes: Notes) -> tuple[ToolExecution, ...]:
    """The executions of a tool invoker: the results it gave, and the calls it was handed that got none."""
    asked = [call for message in _messages(inputs, "messages", notes) for call in message.tool_calls]
    told = [held for item in _items(outputs, "tool_messages") for held in _results(item)]
    given = tuple(execution for held in told if (execution := _execution(held, notes)) is not None)
    done = {execution.call_id for execution in given}
    return (*given, *(_unanswered(call) for call in asked if call.id not in done))


def in_chat_form(value: object) -> object:
    """One message in the chat form; text and what is no message as it is."""
    held = as_mapping(value)
    if held is None:
        return value
    body = first_present(held, "content", "_content")
    items = as_items(body)
    content = body if items is None else [_part(as_mapping(item) or {}) for item in items]
    message = {"role": first_present(held, "role", "_role"), "content": content}
    name = first_word(held, "name", "_name")
    return message if name is None else {**message, "name": name}


def _part(part: Source) -> Source:
    """One content part with its type."""
    kind = _PARTS_BY_CLASS.get(str(part.get("__class__")))
    kind = kind or next((key for key in _PARTS_BY_CLASS.values() if key in part), None)
    if kind is None:
        return {"type": "text", "text": part.get("text")}
    body = as_mapping(part.get(kind)) or part
    if kind == "tool_call":
        call = {"type": "tool_call", "id": body.get("id"), "name": body.get("tool_name")}
        return {**call, "arguments": body.get("arguments")}
    if kind == "tool_call_result":
        origin = as_mapping(body.get("origin")) or {}
        result = {"type": "tool_result", "tool_call_id": origin.get("id"), "name": origin.get("tool_name")}
        return {**result, "content": _result_content(body.get("result")), "is_error": body.get("error")}
    if kind == "reasoning":
        return {"type": "reasoning", "text": body.get("reasoning_text")}
    data = first_present(body, "base64_image", "base64_data", "data")
    return {"type": kind, "mime_type": body.get("mime_type"), "data": data}


def _result_content(result: object) -> object:
    """A result: text, or parts, whose texts are a list of texts."""
    items = as_items(result)
    if not items:
        return result
    texts = [as_text((as_mapping(item) or {}).get("text")) for item in items]
    return texts if None not in texts else result


def _items(value: object, key: str) -> tuple[object, ...]:
    return as_items((as_mapping(value) or {}).get(key)) or ()


def _messages(value: object, key: str, notes: Notes) -> Iterator[Message]:
    for item in _items(value, key):
        yield from read_message(in_chat_form(item), notes)


def _results(item: object) -> Iterator[Source]:
    """The results inside a tool message."""
    held = as_mapping(item) or {}
    for inner in as_items(first_present(held, "content", "_content")) or ():
        part = as_mapping(inner) or {}
        body = as_mapping(part.get("tool_call_result")) or part
        if "origin" in body:
            yield body


def _execution(body: Source, notes: Notes) -> ToolExecution | None:
    """The execution that gave a result."""
    origin = as_mapping(body.get("origin")) or {}
    name = first_word(origin, "tool_name")
    if name is None:
        return None
    message = read_message({"role": "tool", "content": [_part({"tool_call_result": body})]}, notes)[0]
    result = message.tool_result
    assert isinstance(result, ToolResult)
    arguments = as_mapping(origin.get("arguments"))
    return ToolExecution(
        name=name,
        call_id=result.call_id or None,
        arguments=compact_json(arguments) if arguments is not None else None,
        result=result.content,
        status=result.status,
    )


def _unanswered(call: ToolCall) -> ToolExecution:
    return ToolExecution(name=call.name, call_id=call.id, arguments=call.arguments)
