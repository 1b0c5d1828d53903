"""Carriers of the older OTel GenAI forms: one event per message (up to 1.36), or one each for prompt and completion.

An event is a log record whose body holds the message, or a span event whose attributes do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from otel_receiver.dialects.candidates import Carried
from otel_receiver.dialects.finish import finish_reason
from otel_receiver.dialects.genai_parts import event_name, read_attribute
from otel_receiver.dialects.json_text import looks_like_json, read_json
from otel_receiver.dialects.messages import join_adjacent, read_message, read_messages
from otel_receiver.dialects.notes import Notes
from otel_receiver.dialects.raw import one_answer, read_response
from otel_receiver.dialects.tool_ids import complete_ids
from otel_receiver.dialects.values import as_int, as_items, as_mapping, as_text, first_present
from otel_receiver.spans import LogRecord, Span
from spanloop.records import Message, QualityFlag, Role, ToolStatus

Source = Mapping[str, object]

TOOL_EVENT = "gen_ai.tool.message"
MESSAGE_EVENTS: Mapping[str, Role] = {
    "gen_ai.system.message": Role.SYSTEM,
    "gen_ai.user.message": Role.USER,
    "gen_ai.assistant.message": Role.ASSISTANT,
    TOOL_EVENT: Role.TOOL,
}
CHOICE_EVENT = "gen_ai.choice"
PROMPT_EVENT = "gen_ai.content.prompt"
COMPLETION_EVENT = "gen_ai.content.completion"
EVENT_CONTENT = "gen_ai.event.content"
INDEX_KEYS = ("gen_ai.message.index", "CHAT_MESSAGE_INDEX", "chat_message_index", "message.index")
_BLOCK_KEYS = frozenset(
    {"text", "toolUse", "toolResult", "reasoningContent", "image", "document", "video", "cachePoint", "type"}
)


class MessageEvent(NamedTuple):
    """One message event, whichever carrier brought it."""

    name: str
    body: object


def message_events(span: Span, logs: Iterable[LogRecord]) -> tuple[MessageEvent, ...]:
    """The message events of a call in order: the log records if there are any, else the span events."""
    records = [record for record in logs if _is_message_event(event_name(record))]
    if records:
        # A stable sort: of equal times the order of arrival is the order of emission.
        records.sort(key=_log_order)
        return tuple(MessageEvent(event_name(record), _log_body(record)) for record in records)
    events = sorted((event for event in span.events if _is_message_event(event.name)), key=lambda e: e.time_unix_nano)
    return tuple(MessageEvent(event.name, _event_body(event.attributes)) for event in events)


def read_event_prompt(events: Iterable[MessageEvent]) -> Carried | None:
    """The prompt the message events spell out."""
    events = [event for event in events if event.name in MESSAGE_EVENTS]
    if not events:
        return None
    notes = Notes()
    messages = [message for event in events for message in _read_event(event, MESSAGE_EVENTS[event.name], notes)]
    messages = _results_once(messages)
    return Carried(messages=complete_ids(join_adjacent(messages), notes), notes=notes)


def _results_once(messages: Iterable[Message]) -> list[Message]:
    """The messages, a result that two events tell once: Bedrock's stand in an event each, and in the user's again."""
    once: list[Message] = []
    open_results: dict[tuple[str, str], int] = {}
    for message in messages:
        result = message.tool_result
        if result is None:
            if message.role is Role.ASSISTANT:
                open_results.clear()
            once.append(message)
            continue
        key = (result.call_id, result.content)
        if result.call_id and key in open_results:
            once[open_results[key]] = message if result.status is not ToolStatus.UNKNOWN else once[open_results[key]]
            continue
        open_results[key] = len(once)
        once.append(message)
    return once


def read_event_answer(events: Iterable[MessageEvent]) -> Carried | None:
    """The first choice."""
    event = min((event for event in events if event.name == CHOICE_EVENT), key=_choice_index, default=None)
    if event is None:
        return None
    notes = Notes()
    body = as_mapping(event.body)
    if body is None:
        notes.flag(QualityFlag.CONTENT_MISSING)
        return Carried(messages=(), notes=notes)
    said = _structured(first_present(body, "message", "content"))
    if as_items(said) is not None:
        said = {"role": "assistant", "content": said}
    held = as_mapping(said)
    if held is not None and body.get("tool_calls") is not None and held.get("tool_calls") is None:
        said = {"role": "assistant", **held, "tool_calls": body["tool_calls"]}
    message = one_answer(said if said is not None else body, notes)
    if message is not None and as_text(said) is not None and body.get("tool_calls") is not None:
        message = one_answer({"role": "assistant", "content": message.text, "tool_calls": body["tool_calls"]}, notes)
    return Carried(
        messages=(message,) if message is not None else (),
        notes=notes,
        finish_reason=finish_reason(body.get("finish_reason")),
    )


def read_content_prompt(span: Span) -> Carried | None:
    """The prompt in the oldest form's event."""
    value = _content_event(span, PROMPT_EVENT, "gen_ai.prompt")
    if value is None:
        return None
    notes = Notes()
    body = read_attribute(value, notes, QualityFlag.PROMPT_TRUNCATED)
    return Carried(messages=complete_ids(read_messages(body, notes), notes), notes=notes)


def read_content_answer(span: Span) -> Carried | None:
    """The answer in the oldest form's event."""
    value = _content_event(span, COMPLETION_EVENT, "gen_ai.completion")
    if value is None:
        return None
    notes = Notes()
    response = read_response(read_attribute(value, notes, QualityFlag.OUTPUT_TRUNCATED), notes)
    messages = (response.message,) if response.message is not None else ()
    return Carried(messages=messages, notes=notes, finish_reason=response.finish_reason)


def _content_event(span: Span, name: str, key: str) -> object:
    return next(
        (event.attributes[key] for event in span.events if event.name == name and key in event.attributes), None
    )


def _is_message_event(name: str) -> bool:
    return name in MESSAGE_EVENTS or name == CHOICE_EVENT


def _log_order(record: LogRecord) -> tuple[int, int]:
    """By the index the sender gives, then by time; choices, which carry an index of their own, last."""
    if event_name(record) == CHOICE_EVENT:
        return (1 << 62, record.time_unix_nano or record.observed_time_unix_nano)
    index = as_int(first_present(record.attributes, *INDEX_KEYS))
    return (-1 if index is None else index, record.time_unix_nano or record.observed_time_unix_nano)


def _log_body(record: LogRecord) -> object:
    """The body: a structure, JSON text, or (where the body is empty) the record's own attributes."""
    text = as_text(record.body)
    if text is not None:
        return read_json(text).value if looks_like_json(text) else {"content": text}
    return record.body if record.body is not None else record.attributes


def _event_body(attributes: Source) -> object:
    """The attributes, or the message that some senders put into one of them as JSON text."""
    text = as_text(attributes.get(EVENT_CONTENT))
    return attributes if text is None else (as_mapping(read_json(text).value) or {"content": text})


def _choice_index(event: MessageEvent) -> int:
    body = as_mapping(event.body) or {}
    return as_int(body.get("index")) or 0


def _read_event(event: MessageEvent, role: Role, notes: Notes) -> tuple[Message, ...]:
    """The messages of one event; a tool event's `id` is the id of its call."""
    body = as_mapping(event.body)
    if body is None:
        notes.flag(QualityFlag.CONTENT_MISSING)
        return ()
    held: dict[str, object] = {"role": role.value, **body}
    held["content"] = _structured(first_present(body, "content", "message"))
    if held["content"] is None:
        del held["content"]
    elif "parts" in (whole := as_mapping(held["content"]) or {}):
        # Google's kit puts Gemini's whole content there, whose role is the true one.
        return read_message({"role": role.value, **whole}, notes, default=role)
    if role is Role.TOOL:
        held.setdefault("tool_call_id", body.get("id"))
    return read_message(held, notes, default=role)


def _structured(content: object) -> object:
    """Content that spans carry as JSON text of blocks or of a message; any other text is what was said."""
    text = as_text(content)
    if text is None or not looks_like_json(text):
        return content
    value = read_json(text).value
    items = as_items(value)
    if items and all(_BLOCK_KEYS & set(as_mapping(item) or ()) for item in items):
        return value
    message = as_mapping(value)
    return value if message is not None and "role" in message else content
