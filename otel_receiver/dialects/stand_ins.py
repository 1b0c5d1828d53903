"""Ids that stand in for none: where Gemini gives a call no id, senders write the tool's name and the part's position.

The position is the part's within its own message, so a call and its result have different ones, and later turns repeat
them.
"""

from __future__ import annotations

from dataclasses import replace

from otel_receiver.dialects.base import ModelCall
from otel_receiver.dialects.notes import Notes
from otel_receiver.dialects.parts import UNKNOWN_ID
from otel_receiver.dialects.tool_ids import complete_ids
from spanloop.records import Message, Part, ToolCall, ToolResult


def without_stand_ins(call: ModelCall) -> ModelCall:
    """The call with made ids, flagged, in place of ids that name only the tool and a position."""
    said = (*call.messages, *((call.output,) if call.output is not None else ()))
    names = {part.name for message in said for part in message.tool_calls}
    plain = tuple(_plain(message, names) for message in said)
    if plain == said:
        return call
    notes = Notes()
    completed = complete_ids(plain, notes)
    count = len(call.messages)
    output = completed[count] if call.output is not None else None
    return replace(call, messages=completed[:count], output=output, flags=call.flags | notes.flags)


def _plain(message: Message, names: set[str]) -> Message:
    parts = tuple(_plain_part(part, names) for part in message.parts)
    return replace(message, parts=parts) if parts != message.parts else message


def _plain_part(part: Part, names: set[str]) -> Part:
    if isinstance(part, ToolCall) and _stands_in(part.id, names):
        return replace(part, id=UNKNOWN_ID)
    if isinstance(part, ToolResult) and _stands_in(part.call_id, names):
        return replace(part, call_id="", name=part.name or part.call_id.rpartition("_")[0])
    return part


def _stands_in(identity: str, names: set[str]) -> bool:
    """Whether an id is a tool's name with a position."""
    name, _, position = identity.rpartition("_")
    return position.isdecimal() and name in names
