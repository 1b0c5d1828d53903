"""Cut the linked calls into episodes: the longest chain first, every other branch an episode of its own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from otel_receiver.episodes.calls import Call
from otel_receiver.episodes.links import Boundary, Link


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Segment:
    """The calls of one episode, in order."""

    calls: tuple[Call, ...]
    links: tuple[Link | None, ...]
    """How each call continues another; the first one's leads out of the segment, where there is one."""


def segments(calls: Sequence[Call], links: Mapping[Call, Link]) -> tuple[Segment, ...]:
    """The segments, in the order of their first calls."""
    successors = _successors(links)
    chosen = _longest_successors(calls, links, successors)
    heads = [
        call for call in calls if _continued(call, links) is None or chosen[_continued_call(call, links)] is not call
    ]
    found = [_segment(head, chosen, links) for head in heads]
    return tuple(sorted(found, key=lambda segment: segment.calls[0].order))


def _continued(call: Call, links: Mapping[Call, Link]) -> Call | None:
    """The call whose episode this call belongs to as well."""
    link = links.get(call)
    return link.earlier if link is not None and link.boundary is Boundary.CONTINUES else None


def _continued_call(call: Call, links: Mapping[Call, Link]) -> Call:
    earlier = _continued(call, links)
    assert earlier is not None
    return earlier


def _successors(links: Mapping[Call, Link]) -> dict[Call, list[Call]]:
    successors: dict[Call, list[Call]] = defaultdict(list)
    for call in links:
        earlier = _continued(call, links)
        if earlier is not None:
            successors[earlier].append(call)
    return successors


def _longest_successors(
    calls: Sequence[Call], links: Mapping[Call, Link], successors: Mapping[Call, list[Call]]
) -> dict[Call, Call]:
    """For each continued call, the successor that starts the longest chain; of equals the first that did not fail."""
    lengths: dict[Call, int] = {}
    chosen: dict[Call, Call] = {}
    for call in reversed(_earlier_first(calls, links, successors)):
        following = successors.get(call)
        if following:
            best = max(following, key=lambda later: (lengths[later], not later.attempt_failed, _reversed_order(later)))
            chosen[call] = best
        lengths[call] = 1 + (lengths[chosen[call]] if following else 0)
    return chosen


def _earlier_first(
    calls: Sequence[Call], links: Mapping[Call, Link], successors: Mapping[Call, list[Call]]
) -> list[Call]:
    """The calls so that each comes after the one it continues."""
    ordered = [call for call in calls if _continued(call, links) is None]
    for call in ordered:  # grows while it is walked
        ordered.extend(successors.get(call, ()))
    return ordered


def _reversed_order(call: Call) -> tuple[int, int]:
    return (-call.order[0], -call.order[1])


def _segment(head: Call, chosen: Mapping[Call, Call], links: Mapping[Call, Link]) -> Segment:
    calls = [head]
    while (following := chosen.get(calls[-1])) is not None:
        calls.append(following)
    return Segment(calls=tuple(calls), links=tuple(links.get(call) for call in calls))
