"""Drop the attempts that a later attempt at the same call replaced.

A client library's own retries are invisible; a framework's are sibling calls with one prompt of which all but the last
failed or broke off. The last is kept and flagged.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise

from otel_receiver.episodes.calls import Call
from otel_receiver.episodes.keys import PrefixTree
from spanloop.records import QualityFlag

ROOTLESS_RETRY_NS = 60_000_000_000
"""Longest wait between two attempts that nothing but their equal prompts connects: each a trace of its own."""


def drop_retried(calls: Sequence[Call], prefixes: PrefixTree) -> tuple[Call, ...]:
    """The calls without the attempts that were repeated."""
    attempts: dict[tuple[object, ...], list[Call]] = defaultdict(list)
    runs: dict[tuple[object, ...], list[Call]] = defaultdict(list)
    for call in sorted(calls, key=lambda call: call.order):
        runs[_run(call)].append(call)
        if call.report.messages:
            attempts[(*_run(call), prefixes.end(call.body))].append(call)
    next_in_run = {earlier: later for run in runs.values() for earlier, later in pairwise(run)}
    kept = {call: call for call in calls}
    for group in attempts.values():
        for earlier, later in pairwise(group):
            if _replaced(earlier, later, next_in_run, prefixes):
                del kept[earlier]
                kept[later] = later.flagged(QualityFlag.RETRIED)
    return tuple(kept.values())


def _run(call: Call) -> tuple[object, ...]:
    """What two attempts at one call have in common besides the prompt."""
    if call.place.reading.span.parent_span_id is None:
        return (None, call.context.service_name, call.context.conversation_id)
    return (call.ref.trace_id, call.scope[1], call.context.agent_name)


def _replaced(earlier: Call, later: Call, next_in_run: Mapping[Call, Call], prefixes: PrefixTree) -> bool:
    """Whether an attempt came to nothing and the next one with its prompt was made in its place."""
    if not earlier.attempt_failed or not _follows(earlier, later):
        return False
    if earlier.output is not None and prefixes.has_child(prefixes.end(earlier.body), prefixes.key(earlier.output)):
        return False  # a later prompt has its answer
    # A stream without a finish reason may be whole: only the very next call of the run can be its repetition.
    return earlier.ref.failed or next_in_run.get(earlier) is later


def _follows(earlier: Call, later: Call) -> bool:
    """Whether the later attempt began after the earlier ended; unknown times do not contradict it."""
    ended, started = earlier.ref.ended_at, later.ref.started_at
    if ended is None or started is None:
        return earlier.ref.trace_id == later.ref.trace_id
    near = earlier.ref.trace_id == later.ref.trace_id or started - ended <= ROOTLESS_RETRY_NS
    return near and started >= ended
