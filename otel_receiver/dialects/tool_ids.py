"""Give every tool call an id, and every result the id of its call, as far as one history tells.

The made ids follow from the position in the history, so the same call has the same id in the span that reports it as
output and in every later span that repeats it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from otel_receiver.dialects.base import SYNTHETIC_ID_PREFIX
from otel_receiver.dialects.notes import Notes
from otel_receiver.dialects.parts import UNKNOWN_ID
from spanloop.records import Message, Part, QualityFlag, ToolCall


def complete_ids(messages: Sequence[Message], notes: Notes, *, start: int = 0) -> tuple[Message, ...]:
    """The messages with made ids where none are carried (flagged); `start` is the first message's position."""
    completed: list[Message] = []
    open_calls = _OpenCalls(())
    for position, message in enumerate(messages, start):
        if message.tool_calls:
            completed.append(_name_calls(message, position, notes))
            open_calls = _OpenCalls(completed[-1].tool_calls)
        elif message.tool_result is not None:
            completed.append(_name_result(message, open_calls, notes))
        else:
            completed.append(message)
    return tuple(completed)


def _name_calls(message: Message, position: int, notes: Notes) -> Message:
    """The message with an id on each of its calls, no id twice."""
    parts: list[Part] = []
    seen: set[str] = set()
    for part in message.parts:
        if not isinstance(part, ToolCall):
            parts.append(part)
            continue
        call = part
        if part.id == UNKNOWN_ID or part.id in seen:
            notes.flag(QualityFlag.IDS_SYNTHESISED)
            # Counted over calls, not parts: a history may drop the text that stood beside the call.
            call = replace(part, id=f"{SYNTHETIC_ID_PREFIX}{position}_{len(seen)}")
        seen.add(call.id)
        parts.append(call)
    return message if parts == list(message.parts) else replace(message, parts=tuple(parts))


class _OpenCalls:
    """The calls of one message that no result has answered, found by id and by name without looking at the others."""

    def __init__(self, calls: Iterable[ToolCall]) -> None:
        self._by_id = {call.id: call for call in calls}
        self._by_name: dict[str, dict[str, None]] = defaultdict(dict)
        for call in self._by_id.values():
            self._by_name[call.name][call.id] = None

    def close(self, call_id: str) -> None:
        """Note that the call with this id, if there is one, has its result."""
        call = self._by_id.pop(call_id, None)
        if call is not None:
            del self._by_name[call.name][call_id]

    def first(self, name: str | None) -> str | None:
        """The id of the first open call of this name, or of any."""
        ids = self._by_id if name is None else self._by_name.get(name, {})
        return next(iter(ids), None)


def _name_result(message: Message, open_calls: _OpenCalls, notes: Notes) -> Message:
    """The result with the id of its call: the first open one of its name; an orphan keeps the empty id."""
    result = message.tool_result
    assert result is not None
    if result.call_id:
        open_calls.close(result.call_id)
        return message
    notes.flag(QualityFlag.IDS_SYNTHESISED)
    call_id = open_calls.first(result.name)
    if call_id is None:
        notes.flag(QualityFlag.AMBIGUOUS_MATCH)
        return message
    open_calls.close(call_id)
    return replace(message, parts=(replace(result, call_id=call_id),))
