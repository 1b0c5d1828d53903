"""Drop the attempts that a later attempt at the same call replaced.

A client library's own retries are invisible; a framework's are sibling calls with one prompt of which all but the last
failed or broke off. The last is kept and flagged.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from otel_receiver.episodes.calls import Call
from otel_receiver.episodes.keys import PrefixTree
from spanloop.records import QualityFlag

ROOTLESS_RETRY_NS = 60_000_000_000
"""Longest wait between two attempts that nothing but their equal prompts connects: each a trace of its own."""


def drop_retried(calls: Sequence[Call], prefixes: PrefixTree) -> tuple[Call, ...]:
    """The calls without the attempts that were repeated."""
    runs: dict[tuple[object, ...], list[Call]] = defaultdict(list)
    for call in calls:
        if call.report.messages:
            runs[(*_run(call), prefixes.end(call.body))].append(call)
    kept = {call: call for call in calls}
    for run in runs.values():
        _drop_in_run(run, kept)
    return tuple(kept.values())


def _run(call: Call) -> tuple[object, ...]:
    """What two attempts at one call have in common besides the prompt."""
    if call.place.reading.span.parent_span_id is None:
        return (None, call.context.service_name, call.context.conversation_id)
    return (call.ref.trace_id, call.scope[1], call.context.agent_name)


def _drop_in_run(run: Iterable[Call], kept: dict[Call, Call]) -> None:
    earlier: Call | None = None
    for call in sorted(run, key=lambda call: call.order):
        if earlier is not None and earlier.attempt_failed and _follows(earlier, call):
            del kept[earlier]
            kept[call] = call.flagged(QualityFlag.RETRIED)
        earlier = call


def _follows(earlier: Call, later: Call) -> bool:
    """Whether the later attempt began after the earlier ended; unknown times do not contradict it."""
    ended, started = earlier.ref.ended_at, later.ref.started_at
    if ended is None or started is None:
        return earlier.ref.trace_id == later.ref.trace_id
    near = earlier.ref.trace_id == later.ref.trace_id or started - ended <= ROOTLESS_RETRY_NS
    return near and started >= ended
