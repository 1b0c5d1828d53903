"""Put before a prompt what the provider put before it: OpenAI's Responses may go on from one that is named by its id.

Such a call reports only what is new to the conversation. A conversation that the provider keeps names none: there the
call before it in the conversation is meant. Where the call that gave the named response is among the
calls, its prompt and answer are put before the new messages; else the prompt is flagged as cut.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from otel_receiver.episodes.calls import SYSTEM_ROLES, Call, with_report
from spanloop.records import Message, QualityFlag


def restore_continued(calls: Sequence[Call]) -> tuple[Call, ...]:
    """The calls, those that go on from another's response with that call's messages before their own."""
    calls = _with_named_predecessors(_with_answered_predecessors(calls))
    if all(call.report.continues_response_id is None for call in calls):
        return tuple(calls)
    given = Counter(call.report.response_id for call in calls)
    by_response = {call.report.response_id: call for call in calls if given[call.report.response_id] == 1}
    by_response.pop(None, None)
    whole: dict[Call, Call] = {}
    for call in calls:
        path = _unrestored(call, by_response, whole)
        for waiting in reversed(path):
            earlier = by_response.get(waiting.report.continues_response_id)
            whole[waiting] = _restored(waiting, whole.get(earlier) if earlier is not None else None)
    return tuple(whole[call] for call in calls)


def _with_answered_predecessors(calls: Sequence[Call]) -> Sequence[Call]:
    """The calls; those that tell results of tools before anything else name the response that called the tools.

    No provider takes results without their calls: it had them from the response that the request went on from, which
    its report does not name.
    """
    bare = {call: call_id for call in calls if (call_id := _first_orphan(call)) is not None}
    if not bare:
        return calls
    makers: dict[tuple[str | None, str], list[Call]] = defaultdict(list)
    for call in calls:
        for part in call.output.tool_calls if call.output is not None else ():
            makers[call.context.service_name, part.id].append(call)
    named: dict[Call, Call] = {}
    for call, call_id in bare.items():
        made = [maker for maker in makers.get((call.context.service_name, call_id), ()) if maker.order < call.order]
        if len(made) == 1 and made[0].report.response_id is not None:
            report = replace(call.report, continues_response_id=made[0].report.response_id)
            named[call] = replace(call, report=report)
    return [named.get(call, call) for call in calls]


def _first_orphan(call: Call) -> str | None:
    """The id of the tool call whose result begins the prompt, where the call names no response or conversation."""
    result = call.body[0].tool_result if call.body else None
    if result is None or call.report.continues_response_id is not None or call.report.continues_conversation:
        return None
    return result.call_id or None


def _with_named_predecessors(calls: Sequence[Call]) -> Sequence[Call]:
    """The calls; those that go on with a conversation at the provider name the response before them in it."""
    if not any(call.report.continues_conversation for call in calls):
        return calls
    latest: dict[tuple[str | None, str | None], str | None] = {}
    named: dict[Call, Call] = {}
    for call in sorted(calls, key=lambda call: call.order):
        key = (call.context.service_name, call.context.conversation_id)
        if not call.report.continues_conversation:
            continue
        if call.report.continues_response_id is None and latest.get(key) is not None:
            named[call] = replace(call, report=replace(call.report, continues_response_id=latest[key]))
        if call.output is not None:
            latest[key] = call.report.response_id
    return [named.get(call, call) for call in calls]


def _unrestored(call: Call, by_response: Mapping[str | None, Call], whole: Mapping[Call, Call]) -> list[Call]:
    """The call and those before it that are not restored yet, the latest first; a circle ends where it began."""
    path: dict[Call, None] = {}
    waiting: Call | None = call
    while waiting is not None and waiting not in whole and waiting not in path:
        path[waiting] = None
        name = waiting.report.continues_response_id
        waiting = by_response.get(name) if name is not None else None
    return list(path)


def _restored(call: Call, earlier: Call | None) -> Call:
    """The call after the earlier one; the same call when it goes on from nothing."""
    if call.report.continues_response_id is None:
        return call
    if earlier is None or earlier.output is None:
        return replace(call, report=replace(call.report, flags=call.report.flags | {QualityFlag.PROMPT_TRUNCATED}))
    messages = (*_before(call, earlier), *call.body)
    report = replace(
        call.report,
        messages=messages,
        flags=call.report.flags | (earlier.report.flags & {QualityFlag.PROMPT_TRUNCATED}),
        continues_response_id=None,
    )
    return with_report(call, report).flagged(QualityFlag.HISTORY_REPAIRED)


def _before(call: Call, earlier: Call) -> tuple[Message, ...]:
    """What the model was shown before the new messages; instructions hold for one call and are given anew."""
    own = tuple(message for message in call.report.messages if message.role in SYSTEM_ROLES)
    assert earlier.output is not None
    return (*own, *earlier.body, earlier.output) if own else (*earlier.report.messages, earlier.output)
