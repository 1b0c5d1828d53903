"""Give the episodes of one session one conversation id, and put them in order.

The id the spans carry wins. Without one, an episode that continues another's history belongs to its conversation; the
id is then made from the first episode's and flagged.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from otel_receiver.episodes.calls import Call
from otel_receiver.episodes.links import Boundary
from otel_receiver.episodes.segments import Segment
from otel_receiver.episodes.subagents import Parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """The conversation of a segment."""

    conversation_id: str | None
    inferred: bool = False


def conversations(
    segments: Sequence[Segment], parents: Mapping[Segment, Parent], ids: Mapping[Segment, str]
) -> dict[Segment, Conversation]:
    """The conversation of each segment; `ids` are the segments' episode ids."""
    before = _predecessors(segments, parents)
    children: dict[Segment, list[Segment]] = defaultdict(list)
    for segment, earlier in before.items():
        children[earlier].append(segment)
    found: dict[Segment, Conversation] = {}
    for segment in ordered(segments, before):
        found[segment] = _conversation(segment, before, found, children, parents, ids)
    return found


def ordered(segments: Sequence[Segment], before: Mapping[Segment, Segment]) -> list[Segment]:
    """The segments, each after the one it follows; where nothing orders them, by time."""
    children: dict[Segment, list[Segment]] = defaultdict(list)
    for segment in segments:
        if segment in before:
            children[before[segment]].append(segment)
    placed = [segment for segment in segments if segment not in before]
    for segment in placed:  # grows while it is walked
        placed.extend(children.get(segment, ()))
    return placed


def _predecessors(segments: Sequence[Segment], parents: Mapping[Segment, Parent]) -> dict[Segment, Segment]:
    """The segment whose history each one continues, or that started it; without circles."""
    owners: dict[Call, Segment] = {call: segment for segment in segments for call in segment.calls}
    before: dict[Segment, Segment] = {}
    for segment in segments:
        link = segment.links[0]
        earlier = owners[link.earlier] if link is not None else None
        if earlier is None and segment in parents:
            earlier = parents[segment].segment
        if earlier is not None and earlier is not segment:
            before[segment] = earlier
    return without_circles(before)


def without_circles(before: dict[Segment, Segment]) -> dict[Segment, Segment]:
    """The relation, one pair fewer for each circle."""
    settled: set[Segment] = set()
    for start in list(before):
        path: dict[Segment, None] = {}
        segment = start
        while segment not in settled and segment not in path and segment in before:
            path[segment] = None
            segment = before[segment]
        if segment in path:
            circle = list(path)[list(path).index(segment) :]
            del before[min(circle, key=lambda member: member.calls[0].order)]
        settled.update(path)
    return before


def _is_turn(segment: Segment) -> bool:
    """Whether the segment continues a history as the same agent: a turn, or another course of one."""
    link = segment.links[0]
    return link is not None and link.boundary is not Boundary.OTHER_AGENT


def _conversation(
    segment: Segment,
    before: Mapping[Segment, Segment],
    found: Mapping[Segment, Conversation],
    children: Mapping[Segment, Sequence[Segment]],
    parents: Mapping[Segment, Parent],
    ids: Mapping[Segment, str],
) -> Conversation:
    carried = next((call.context.conversation_id for call in segment.calls if call.context.conversation_id), None)
    if carried is not None:
        return Conversation(conversation_id=carried)
    earlier = before.get(segment)
    if earlier is not None and found[earlier].conversation_id is not None:
        return Conversation(conversation_id=found[earlier].conversation_id, inferred=True)
    if any(child not in parents and _is_turn(child) for child in children.get(segment, ())):
        return Conversation(conversation_id=f"inferred-{ids[segment]}", inferred=True)
    return Conversation(conversation_id=None)
