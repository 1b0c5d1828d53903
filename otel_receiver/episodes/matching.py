"""Match tool results to the calls they answer, and give messages the ids of an episode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from otel_receiver.episodes.calls import is_made_id
from spanloop.records import Message, QualityFlag, Role, ToolCall


def match_results(
    calls: Sequence[ToolCall], found: Sequence[Message]
) -> tuple[tuple[Message, ...], frozenset[QualityFlag]]:
    """The tool messages with the ids of their calls: by id, else by name and order; flagged where order must guess."""
    open_calls = {call.id: call for call in calls}
    by_id = {index for index, message in enumerate(found) if open_calls.pop(_call_id(message), None) is not None}
    guessed = len(by_id) < len(found) < len(calls)
    matched = list(found)
    for index in sorted(set(range(len(found))) - by_id):
        call = _first_open(found[index], open_calls)
        if call is None:
            guessed = True
        else:
            del open_calls[call.id]
            matched[index] = with_call_id(found[index], call.id)
    return tuple(matched), frozenset({QualityFlag.AMBIGUOUS_MATCH} if guessed else ())


def results_after(body: Sequence[Message], tail: int) -> list[Message]:
    """The tool messages between an answer, which ends at `tail`, and the next answer."""
    found: list[Message] = []
    for position in range(tail, len(body)):
        message = body[position]
        if message.role is Role.ASSISTANT:
            break
        if message.role is Role.TOOL:
            found.append(message)
    return found


def translated(found: Sequence[Message], told: Message | None, action: Message) -> list[Message]:
    """The results with the action's ids instead of those that a history shows for the same calls."""
    if told is None or len(told.tool_calls) != len(action.tool_calls):
        return list(found)
    ids = {shown.id: call.id for shown, call in zip(told.tool_calls, action.tool_calls, strict=True)}
    return [with_call_id(message, ids.get(_call_id(message), _call_id(message))) for message in found]


def with_call_id(message: Message, call_id: str) -> Message:
    """The tool message as the result of this call."""
    result = message.tool_result
    if result is None or result.call_id == call_id:
        return message
    return replace(message, parts=(replace(result, call_id=call_id),))


def with_ids(message: Message, ids: Sequence[str]) -> Message:
    """The message with these ids on its tool calls, in order."""
    if [part.id for part in message.tool_calls] == list(ids):
        return message
    remaining = iter(ids)
    parts = tuple(replace(part, id=next(remaining)) if isinstance(part, ToolCall) else part for part in message.parts)
    return replace(message, parts=parts)


def _call_id(message: Message) -> str:
    result = message.tool_result
    return result.call_id if result is not None else ""


def _first_open(message: Message, open_calls: Mapping[str, ToolCall]) -> ToolCall | None:
    """The first unanswered call the result may answer: of its name, unless the sender names a call by id."""
    result = message.tool_result
    if result is None or (result.call_id and not is_made_id(result.call_id)):
        return None
    name = result.name
    return next((call for call in open_calls.values() if name in (None, call.name)), None)
