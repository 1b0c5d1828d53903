"""Tell the policy's segments from those of judges, title makers and guardrails that ran beside it.

A span may say so itself. Otherwise only structure can: a single call, without tools, unrelated to any other history,
with another system prompt than the trace's main episode, and either on another model, inside a tool, or named or
instructed as such. A trace of one call has no main episode beside it, so nothing is concluded there.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from otel_receiver.episodes.boundaries import alike
from otel_receiver.episodes.calls import Call
from otel_receiver.episodes.segments import Segment

PURPOSE = re.compile(
    r"\b(titles?|judge|grad(e|er|ing)|evaluat\w+|classif\w+|moderat\w+|guard ?rails?|rate|score)\b", re.I
)
"""Words that name or instruct an auxiliary call."""
PURPOSE_CHARS = 400
"""How much of a system prompt is searched: its beginning says what the model is for."""


def auxiliary_segments(segments: Sequence[Segment]) -> frozenset[Segment]:
    """The segments that are not the policy's."""
    found = {segment for segment in segments if _says_so(segment.calls[0])}
    continued = {link.earlier for segment in segments if (link := segment.links[0]) is not None}
    by_trace: dict[str, list[Segment]] = defaultdict(list)
    for segment in segments:
        if segment not in found:
            by_trace[segment.calls[0].ref.trace_id].append(segment)
    for neighbours in by_trace.values():
        main = max(neighbours, key=_weight)
        if len(main.calls) > 1 or main.calls[0].report.tools:
            found.update(
                segment
                for segment in neighbours
                if segment is not main and not continued & set(segment.calls) and _is_aside(segment, main.calls[0])
            )
    return frozenset(found)


def _says_so(call: Call) -> bool:
    return call.report.auxiliary or call.place.auxiliary


def _weight(segment: Segment) -> tuple[int, bool, int]:
    """The main segment of a trace is the longest, then one with tools, then the first."""
    return (len(segment.calls), bool(segment.calls[0].report.tools), -segment.calls[0].order[0])


def _is_aside(segment: Segment, main: Call) -> bool:
    call = segment.calls[0]
    if len(segment.calls) > 1 or segment.links[0] is not None or _uses_tools(segment.calls):
        return False
    if call.ref.failed and not call.report.messages:
        return False  # what it was asked is not known
    if call.system and main.system and alike(call.system, main.system):
        return False
    if not call.system and not main.system:
        return False
    if call.place.tool is not None:
        return _same_agent_span(call, main) or call.place.agent is None
    if not _same_agent_span(call, main):
        return _has_purpose(call)
    return call.report.model != main.report.model or _has_purpose(call)


def _uses_tools(calls: Iterable[Call]) -> bool:
    return any(call.report.tools or (call.output is not None and call.output.tool_calls) for call in calls)


def _same_agent_span(call: Call, main: Call) -> bool:
    """Whether the call runs under no agent span of its own."""
    return call.place.agent is main.place.agent or call.place.agent is None


def _has_purpose(call: Call) -> bool:
    agent = call.place.agent.span.name if call.place.agent is not None else ""
    return any(PURPOSE.search(text.replace("_", " ")) for text in (call.ref.name, agent, call.system[:PURPOSE_CHARS]))
