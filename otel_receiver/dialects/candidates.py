"""Choose among several carriers of the same content: the first sound one, else the richest.

One span may carry its messages as indexed attributes, as JSON, as events and in its raw request, each whole or cut in
its own way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from otel_receiver.dialects.notes import Notes
from otel_receiver.dialects.parts import UNKNOWN_ID
from spanloop.records import Message, TextPart, ToolCall, ToolResult, ToolStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """A prompt (its messages) or an answer (one message) as one carrier has it."""

    messages: tuple[Message, ...]
    notes: Notes
    """What the carrier's reader noted; not changed once it is here."""
    finish_reason: str | None = None

    @property
    def is_sound(self) -> bool:
        """Whether there are messages, nothing speaks against them, and every call has its id."""
        has_ids = all(call.id != UNKNOWN_ID for message in self.messages for call in message.tool_calls)
        return bool(self.messages) and not self.notes.flags and has_ids


Carrier = Callable[[], Carried | None]
"""Reads one carrier when it is asked to; `None` when the span has no such carrier."""


def best(carriers: Iterable[Carrier], *, exhaustive: bool = False) -> Carried | None:
    """The richest of the carriers up to the first sound one, or of all when `exhaustive`; the earlier among equals."""
    found: list[Carried] = []
    for read in carriers:
        carried = read()
        if carried is None:
            continue
        found.append(carried)
        if carried.is_sound and not exhaustive:
            break
    return max(found, key=_richness, default=None)


def judged_by(judge: Carried | None, carried: Carried) -> Carried:
    """The messages with the result states that another carrier knows and theirs does not, matched by call id."""
    if judge is None:
        return carried
    results = [message.tool_result for message in judge.messages]
    states = {result.call_id: result.status for result in results if result is not None and result.call_id}
    return replace(carried, messages=tuple(_judged(message, states) for message in carried.messages))


def _judged(message: Message, states: Mapping[str, ToolStatus]) -> Message:
    result = message.tool_result
    if result is None or result.status is not ToolStatus.UNKNOWN or result.call_id not in states:
        return message
    return replace(message, parts=(replace(result, status=states[result.call_id]),))


def _richness(carried: Carried) -> tuple[int, int, bool, int, int]:
    """Parts first: a carrier that lost its tool calls is poorer, however clean it looks."""
    parts = [part for message in carried.messages for part in message.parts]
    of_tools = sum(isinstance(part, ToolCall | ToolResult) for part in parts)
    characters = sum(len(part.text) for part in parts if isinstance(part, TextPart))
    characters += sum(len(part.content) for part in parts if isinstance(part, ToolResult))
    judged = sum(isinstance(part, ToolResult) and part.status is not ToolStatus.UNKNOWN for part in parts)
    return len(parts), of_tools, carried.is_sound, judged, characters
