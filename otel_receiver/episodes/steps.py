"""Make the steps of an episode: a turn with its tools, its results and its quality flags."""

from __future__ import annotations

from collections.abc import Sequence

from otel_receiver.episodes.executions import Execution
from otel_receiver.episodes.history import Turn
from otel_receiver.episodes.links import Link
from otel_receiver.episodes.observations import observe
from otel_receiver.episodes.offers import Offer
from spanloop.records import QualityFlag, Step

UNKNOWN_DIALECT = "unknown"
CLOCK_SLACK_NS = 1_000_000_000
"""How long before its predecessor's end a call may begin: streamed spans are closed late."""
RECOMPUTED_FLAGS = frozenset(
    {
        QualityFlag.IDS_SYNTHESISED,
        QualityFlag.AMBIGUOUS_MATCH,
        QualityFlag.TOOLS_MISSING,
        QualityFlag.TOOLS_INCOMPLETE,
        QualityFlag.OUTPUT_MISSING,
        QualityFlag.OUTPUT_TRUNCATED,
    }
)
"""What one span cannot know for good: its neighbours may carry what it lacks."""


def step(
    index: int,
    turn: Turn,
    offer: Offer,
    link: Link | None,
    executions: Sequence[Execution],
    shared: frozenset[QualityFlag],
) -> Step:
    """The step of a turn; `link` says how its call continues the step before."""
    call = turn.call
    report = call.report
    observations, observed = observe(turn, executions)
    flags = (report.flags - RECOMPUTED_FLAGS) | call.flags | turn.flags | offer.flags | observed | shared
    return Step(
        step_index=index,
        messages=turn.messages,
        tools=offer.tools,
        action=turn.action,
        observations=observations,
        finish_reason=report.finish_reason,
        model=report.model,
        response_model=report.response_model,
        response_id=report.response_id,
        usage=report.usage,
        dialect=call.context.dialect or UNKNOWN_DIALECT,
        trace_id=call.ref.trace_id,
        span_id=call.ref.span_id,
        merged_span_ids=call.merged_span_ids,
        started_at=call.ref.started_at,
        ended_at=call.ref.ended_at,
        error=(call.ref.error or "failed") if call.ref.failed else None,
        quality_flags=flags | _call_flags(turn) | _link_flags(link),
    )


def _call_flags(turn: Turn) -> set[QualityFlag]:
    """Flags that follow from the call and what became of its answer."""
    call = turn.call
    flags: set[QualityFlag] = set()
    if call.ref.failed:
        flags.add(QualityFlag.MODEL_CALL_FAILED)
    elif turn.action is None:
        flags.add(QualityFlag.OUTPUT_MISSING)
    if turn.action is not None and _is_cut(turn):
        flags.add(QualityFlag.OUTPUT_TRUNCATED)
    if call.ref.started_at is None or call.ref.ended_at is None:
        flags.add(QualityFlag.TIME_MISSING)
    elif call.ref.ended_at < call.ref.started_at:
        flags.add(QualityFlag.CLOCK_SKEW)
    if not call.report.messages:
        flags.add(QualityFlag.CONTENT_MISSING)
    return flags


def _is_cut(turn: Turn) -> bool:
    """Whether the answer ended before its end; a stream whose answer a later history repeats did not."""
    report = turn.call.report
    if report.finish_reason == "length" or _lacks_calls(turn):
        return True
    if turn.call.ref.failed:
        return report.finish_reason is None
    carried = QualityFlag.OUTPUT_TRUNCATED in report.flags and not turn.completed
    return carried or (turn.call.broken_off and not turn.repeated)


def _lacks_calls(turn: Turn) -> bool:
    """Whether the model stopped to call tools and no call of it is known."""
    return turn.call.report.finish_reason == "tool_calls" and turn.action is not None and not turn.action.tool_calls


def _link_flags(link: Link | None) -> set[QualityFlag]:
    """Flags that follow from how the call continues another."""
    if link is None:
        return set()
    flags = {QualityFlag.AMBIGUOUS_MATCH} if link.ambiguous else set()
    started, before, ended = link.later.ref.started_at, link.earlier.ref.started_at, link.earlier.ref.ended_at
    if started is not None and before is not None and started < before:
        flags.add(QualityFlag.CLOCK_SKEW)
    if started is not None and ended is not None and started < ended - CLOCK_SLACK_NS:
        flags.add(QualityFlag.CLOCK_SKEW)
    return flags
