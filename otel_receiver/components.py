"""Which traces are derived together: those whose calls continue each other, directly or over others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from otel_receiver.episodes.trace_links import CallLink


def components(links: Mapping[str, Sequence[CallLink]]) -> tuple[tuple[str, ...], ...]:
    """The traces, grouped; all in the order of their ids, so that the order of arrival does not matter."""
    parents = {trace_id: trace_id for trace_id in links}

    def root(trace_id: str) -> str:
        while parents[trace_id] != trace_id:
            parents[trace_id] = parents[parents[trace_id]]
            trace_id = parents[trace_id]
        return trace_id

    for earlier, later in _pairs(links):
        first, second = sorted((root(earlier), root(later)))
        parents[second] = first
    groups: dict[str, list[str]] = defaultdict(list)
    for trace_id in sorted(links):
        groups[root(trace_id)].append(trace_id)
    return tuple(tuple(groups[key]) for key in sorted(groups))


def _pairs(links: Mapping[str, Sequence[CallLink]]) -> Iterator[tuple[str, str]]:
    """The traces of every two ends that fit: same hash, same service, and no two different conversations."""
    ends: dict[tuple[str | None, str], list[CallLink]] = defaultdict(list)
    for link in (link for found in links.values() for link in found):
        if link.after_hash is not None:
            ends[link.service_name, link.after_hash].append(link)
    for later in (link for found in links.values() for link in found):
        if later.before_hash is not None:
            for earlier in ends.get((later.service_name, later.before_hash), ()):
                if _may_be_one(earlier.conversation_id, later.conversation_id):
                    yield earlier.trace_id, later.trace_id


def _may_be_one(first: str | None, second: str | None) -> bool:
    return first is None or second is None or first == second
