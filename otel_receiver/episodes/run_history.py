"""Restore poor model calls from the message list that the agent span around them carries.

Some senders report a call without its tool calls, without ids or without its answer, and the whole run's messages once,
on the agent's span. A call's prompt is walked along that list; where every message finds its place, the list's richer
messages stand in for the call's, and what was dropped between them is put back. Otherwise nothing is changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from otel_receiver.dialects.base import Reading
from otel_receiver.episodes.calls import SYSTEM_ROLES, Call, is_made_id, with_report, without_system
from otel_receiver.episodes.history import Turn
from otel_receiver.episodes.keys import canonical_arguments, message_key, squeezed
from spanloop.records import Message, QualityFlag, Role


class _Place(NamedTuple):
    """One message of a prompt, after it was found in the run's list."""

    messages: tuple[Message, ...]
    """What stands for it: itself or its richer form, after what was dropped before it."""
    next_index: int
    """Where the list goes on."""


def restore_from_runs(calls: Sequence[Call]) -> tuple[Call, ...]:
    """The calls, the poor ones among them restored where their run's messages allow it."""
    return tuple(_restored(call) if is_poor(call) else call for call in calls)


def is_poor(call: Call) -> bool:
    """Whether the call lacks something that a run's message list could give."""
    run = call.place.history_from
    if run is None or run.agent is None:
        return False
    if call.output is None and not call.ref.failed:
        return True
    if call.report.flags & {QualityFlag.IDS_SYNTHESISED, QualityFlag.AMBIGUOUS_MATCH}:
        return True
    return _has_orphan(call.body)


def _has_orphan(body: Sequence[Message]) -> bool:
    """Whether a tool result answers no call of the prompt."""
    known: set[str] = set()
    for message in body:
        known.update(part.id for part in message.tool_calls)
        result = message.tool_result
        if result is not None and result.call_id not in known:
            return True
    return False


def _restored(call: Call) -> Call:
    run = call.place.history_from
    assert run is not None
    assert run.agent is not None
    history = without_system(run.agent.history)
    index = 0
    messages: list[Message] = []
    for message in call.report.messages:
        if message.role in SYSTEM_ROLES:
            messages.append(message)
            continue
        place = _find(message, history, index)
        if place is None:
            return call
        messages.extend(place.messages)
        index = place.next_index
    output = _richer_output(call.output, history[index] if index < len(history) else None)
    if tuple(messages) == call.report.messages and output is call.output:
        return call
    report = replace(call.report, messages=tuple(messages), output=output)
    return with_report(call, report).flagged(QualityFlag.HISTORY_REPAIRED)


def _find(message: Message, history: Sequence[Message], index: int) -> _Place | None:
    """The message's place in the list from `index` on; only tool calls before results may have been dropped."""
    dropped: list[Message] = []
    while index < len(history) and not _same(message, history[index]):
        if message.role is not Role.TOOL or not history[index].tool_calls:
            return None
        dropped.append(history[index])
        index += 1
    if index == len(history):
        return None
    return _Place(messages=(*dropped, _richer(message, history[index])), next_index=index + 1)


def _same(message: Message, told: Message) -> bool:
    if message.role is not told.role:
        return False
    if message.tool_calls and told.tool_calls:
        return message_key(message, canonical_arguments) == message_key(told, canonical_arguments)
    return squeezed(message.text) == squeezed(told.text)


def _richer(message: Message, told: Message) -> Message:
    """The list's form of a message where it has tool calls or ids that the prompt's form lacks."""
    if told.tool_calls and (not message.tool_calls or any(is_made_id(part.id) for part in message.tool_calls)):
        return told
    mine, theirs = message.tool_result, told.tool_result
    if mine is not None and theirs is not None and theirs.call_id and (not mine.call_id or is_made_id(mine.call_id)):
        return told
    return message


def _richer_output(output: Message | None, told: Message | None) -> Message | None:
    if told is None or told.role is not Role.ASSISTANT:
        return output
    if output is None:
        return told
    return _richer(output, told) if _same(output, told) else output


def with_run_results(turns: Mapping[Call, Turn]) -> dict[Call, Turn]:
    """The turns with the results that no later history has but their run's message list: a run's last turns' above all.

    What the list says is what the model would be shown, which the tool's own span need not be.
    """
    lists: dict[tuple[str, str], Mapping[str, Message]] = {}
    completed = dict(turns)
    for call, turn in turns.items():
        run, missing = call.place.history_from, _unanswered(turn)
        if run is None or not missing:
            continue
        key = (run.span.trace_id, run.span.span_id)
        if key not in lists:
            lists[key] = _results(run)
        found = tuple(message for name in missing if (message := lists[key].get(name)) is not None)
        completed[call] = replace(turn, results=(*turn.results, *found))
    return completed


def _unanswered(turn: Turn) -> tuple[str, ...]:
    """The carried ids of the action's calls that no later history answers."""
    answered = {result.call_id for message in turn.results if (result := message.tool_result) is not None}
    calls = turn.action.tool_calls if turn.action is not None else ()
    return tuple(call.id for call in calls if call.id not in answered and not is_made_id(call.id))


def _results(run: Reading) -> Mapping[str, Message]:
    """The last result of each call id in a run's message list, which may begin with earlier runs."""
    history = run.agent.history if run.agent is not None else ()
    return {result.call_id: message for message in history if (result := message.tool_result) is not None}
