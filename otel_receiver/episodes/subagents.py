"""Find the episode, and the tool call of it, that started another episode.

In this order: the tool span a segment runs inside, the tool call that handed a shared history over, the agent span
around the segment's own.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from otel_receiver.dialects.base import Reading
from otel_receiver.episodes.calls import NO_TIME, Call, span_id_of
from otel_receiver.episodes.executions import Execution
from otel_receiver.episodes.history import Turn
from otel_receiver.episodes.links import Boundary
from otel_receiver.episodes.segments import Segment
from otel_receiver.episodes.tree import SpanTree

Span = tuple[str, str]
"""Trace id and span id; the span id is empty for calls outside any agent span."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Parent:
    """What started a segment."""

    segment: Segment
    call_id: str | None
    """`None` when no tool call is known to have started it."""


class ParentFinder:
    """Looks up what started a segment, among the segments of one derivation."""

    def __init__(
        self, segments: Sequence[Segment], turns: Mapping[Call, Turn], executions: Iterable[Execution], tree: SpanTree
    ) -> None:
        self._tree = tree
        self._turns = turns
        self._owners = {call: segment for segment in segments for call in segment.calls}
        self._starters: dict[Span, list[Execution]] = defaultdict(list)
        for execution in executions:
            self._starters[_span(execution.reading)].append(execution)
        self._runs: dict[Span, list[Call]] = defaultdict(list)
        for call in sorted(self._owners, key=lambda call: call.order):
            self._runs[(call.ref.trace_id, span_id_of(call.place.agent))].append(call)

    def parent(self, segment: Segment) -> Parent | None:
        """What started the segment; `None` for one the user started, as far as the spans tell."""
        found = self._by_tool_span(segment) or self._by_handoff(segment) or self._by_agent_span(segment)
        return found if found is not None and found.segment is not segment else None

    def _by_tool_span(self, segment: Segment) -> Parent | None:
        tool = segment.calls[0].place.tool
        executions = self._starters.get(_span(tool), []) if tool is not None else []
        if not executions:
            return None
        execution, is_known = _starter(executions, segment.calls[0].context.agent_name)
        if execution.call is not None:
            return Parent(segment=self._owners[execution.call], call_id=execution.call_id if is_known else None)
        started_by = self._latest_before(execution.reading, span_id_of(execution.place.agent))
        return Parent(segment=started_by, call_id=execution.report.call_id) if started_by is not None else None

    def _by_handoff(self, segment: Segment) -> Parent | None:
        link = segment.links[0]
        if link is None or link.boundary is not Boundary.OTHER_AGENT:
            return None
        action = self._turns[link.earlier].action
        if action is None or not action.tool_calls:
            return None
        name = (segment.calls[0].context.agent_name or "").lower()
        named = [call for call in action.tool_calls if name and name in call.name.lower()]
        return Parent(segment=self._owners[link.earlier], call_id=(named or action.tool_calls)[-1].id)

    def _by_agent_span(self, segment: Segment) -> Parent | None:
        """The episode of the agent whose span encloses the segment's own agent span."""
        agent = segment.calls[0].place.agent
        if agent is None or not agent.span.parent_span_id:
            return None
        above = self._tree.place(agent.span.trace_id, agent.span.parent_span_id)
        if above is None or above.agent is None:
            return None
        started_by = self._latest_before(agent, above.agent.span.span_id)
        return Parent(segment=started_by, call_id=None) if started_by is not None else None

    def _latest_before(self, reading: Reading, agent_id: str) -> Segment | None:
        """The segment of an agent's latest call that began before a span."""
        calls = self._runs.get((reading.span.trace_id, agent_id), [])
        start = NO_TIME if reading.span.started_at is None else reading.span.started_at
        position = bisect_right(calls, start, key=lambda call: call.order[0])
        return self._owners[calls[position - 1]] if position else None


def _starter(executions: Sequence[Execution], agent: str | None) -> tuple[Execution, bool]:
    """The execution that a segment ran in, and whether it is known: a span may hold all tools of a turn."""
    if len(executions) == 1:
        return executions[0], True
    name = (agent or "").lower()
    named = [execution for execution in executions if name and name in execution.report.name.lower()]
    return (named[0], True) if len(named) == 1 else (executions[0], False)


def _span(reading: Reading) -> Span:
    return (reading.span.trace_id, reading.span.span_id)
