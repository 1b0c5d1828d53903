"""Find, for every model call, the call whose history it continues.

B continues A if and only if A's prompt and answer are a prefix of B's prompt, by message keys. The prefix tree makes
that one walk along B's prompt, from its end; times only choose between calls that say the same. Where a sender drops
parts of its history, the message after A's prompt is compared with A's answer, and the link says what was missing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from otel_receiver.episodes.boundaries import answered, boundary_between
from otel_receiver.episodes.calls import Call, Order, is_made_id
from otel_receiver.episodes.keys import ROOT, PrefixTree
from otel_receiver.episodes.links import Boundary, Gap, Link, gap_after, in_fields, regrown
from spanloop.records import Message, QualityFlag, Role

CANDIDATES_MAX = 16
"""Calls with one and the same prompt and answer looked at on each side of a call's start: more are a load test."""
INCOMPLETE_PROMPT = frozenset(
    {
        QualityFlag.PROMPT_TRUNCATED,
        QualityFlag.MESSAGE_UNPARSED,
        QualityFlag.CONTENT_MISSING,
        QualityFlag.CONTENT_REDACTED,
    }
)
"""With one of these a prompt need not begin as its predecessor's does."""

Area = tuple[object, ...]
"""Where to look for a predecessor: the run, else the trace, else the sender."""


class _Shelf:
    """Calls by place in the prefix tree and area, in order."""

    def __init__(self) -> None:
        self._calls: dict[tuple[object, ...], list[Call]] = defaultdict(list)
        self._places: set[object] = set()

    def add(self, place: object, call: Call) -> None:
        """Put a call; calls come in order."""
        self._places.add(place)
        for area in _areas(call):
            self._calls[(place, *area)].append(call)

    def holds(self, place: object) -> bool:
        """Whether any call stands at this place."""
        return place in self._places

    def near(self, place: object, call: Call) -> Iterator[tuple[Area, list[Call]]]:
        """Per area, nearest first: the calls at this place whose order is nearest to the given one's."""
        if place not in self._places:
            return
        for area in _areas(call):
            shelf = self._calls.get((place, *area), [])
            middle = bisect_left(shelf, call.order, key=lambda other: other.order)
            found = shelf[max(0, middle - CANDIDATES_MAX) : middle + CANDIDATES_MAX]
            yield area, [other for other in found if other is not call]


def _areas(call: Call) -> tuple[Area, ...]:
    return (call.scope, (call.ref.trace_id,), (None, call.context.service_name))


class Predecessors:
    """The links of a set of calls."""

    def __init__(self, calls: Sequence[Call], prefixes: PrefixTree) -> None:
        self._prefixes = prefixes
        self._answered = _Shelf()
        self._asked = _Shelf()
        self._outputs = _Shelf()
        self._told = _Shelf()
        self._last_questions = _Shelf()
        self._continued: set[Call] = set()
        self._ends = {call: prefixes.end(call.body) for call in calls}
        self.inconsistent: set[Call] = set()
        """Calls whose history contradicts the answer an earlier call of the same run reported."""
        self.gapped: set[Call] = set()
        """Calls whose history has an answer, since the call they continue, that no span reports."""
        for call in sorted(calls, key=lambda call: call.order):
            self._index(call)

    def links(self) -> dict[Call, Link]:
        """The link of each call that continues another."""
        links: dict[Call, Link] = {}
        for call in sorted(self._ends, key=lambda call: call.order):
            link = self._link(call)
            if link is not None:
                links[call] = link
                if self._skips_answer(link):
                    self.gapped.add(call)
                if link.boundary is Boundary.CONTINUES:
                    self._continued.add(link.earlier)
        return _without_circles(links)

    def _skips_answer(self, link: Link) -> bool:
        answers = (message for message in link.later.body[link.tail :] if message.role is Role.ASSISTANT)
        return any(not self._outputs.holds(self._prefixes.key(answer)) for answer in answers)

    def _index(self, call: Call) -> None:
        end = self._ends[call]
        self._asked.add(end if call.report.messages else None, call)
        if call.report.messages:
            self._told.add(None, call)
        if call.body and call.body[-1].role is Role.USER:
            self._last_questions.add(self._prefixes.parents[end], call)
        if call.output is not None:
            key = self._prefixes.key(call.output)
            self._answered.add(self._prefixes.child(end, key), call)
            self._outputs.add(key, call)

    def _link(self, call: Call) -> Link | None:
        body = call.body
        if not body:
            return None if call.report.messages else self._without_content(call) or self._failed_untold(call)
        node = self._ends[call]
        while node != ROOT:
            depth = self._prefixes.depths[node]
            found = self._exact(call, node, depth) or self._with_gap(call, node, depth, body)
            if found is not None:
                return found
            node = self._prefixes.parents[node]
        if call.report.flags & INCOMPLETE_PROMPT:
            return self._by_last_answer(call, body)
        return self._regrown(call, body)

    def _exact(self, call: Call, node: int, depth: int) -> Link | None:
        for area, near in self._answered.near(node, call):
            fitting = [other for other in near if _may_precede(other, call, area)]
            if fitting:
                return self._best(call, fitting, Gap.NONE, depth)
        return None

    def _with_gap(self, call: Call, node: int, depth: int, body: tuple[Message, ...]) -> Link | None:
        """A predecessor whose prompt ends at this node and whose answer the history repeats incompletely."""
        rest = body[depth : depth + 2]
        for area, near in self._asked.near(node, call):
            earlier = [other for other in near if _may_precede(other, call, area)]
            gaps = {other: gap for other in earlier if (gap := gap_after(other, rest)) is not None}
            if gaps:
                gap = min(gaps.values(), key=list(Gap).index)
                fitting = [other for other in gaps if gaps[other] is gap]
                return self._best(call, fitting, gap, depth + (gap is not Gap.MESSAGE_DROPPED))
            if area == call.scope and rest and rest[0].role is Role.ASSISTANT:
                self._note_contradiction(call, earlier)
        return None

    def _note_contradiction(self, call: Call, earlier: Sequence[Call]) -> None:
        if any(other.order < call.order and other.output is not None and not other.attempt_failed for other in earlier):
            self.inconsistent.add(call)

    def _by_last_answer(self, call: Call, body: tuple[Message, ...]) -> Link | None:
        """The nearest earlier call of the run whose answer is the last in an incomplete prompt."""
        position = next((i for i in reversed(range(len(body))) if body[i].role is Role.ASSISTANT), None)
        if position is None:
            return None
        for area, near in self._outputs.near(self._prefixes.key(body[position]), call):
            fitting = [other for other in near if other.order < call.order and _may_precede(other, call, area)]
            if fitting and area == call.scope:
                return self._best(call, fitting, Gap.PROMPT_CUT, position + 1)
        return None

    def _regrown(self, call: Call, body: tuple[Message, ...]) -> Link | None:
        """The nearest earlier call of the run that had all but the end of this prompt's last message."""
        before_last = self._prefixes.parents[self._ends[call]]
        for area, near in self._last_questions.near(before_last, call):
            fitting = [
                other
                for other in near
                if other.order < call.order
                and other.output is not None
                and regrown(other.body[-1], other.output, body[-1])
            ]
            if fitting and area == call.scope:
                link = self._best(call, fitting, Gap.PROMPT_REGROWN, len(body))
                # One DSPy module asks with a system prompt for each of its steps; the last one gives its answer.
                return replace(link, boundary=Boundary.CONTINUES) if in_fields(body[-1]) else link
        return None

    def _without_content(self, call: Call) -> Link | None:
        """The latest earlier call of the run, when neither carries messages and the earlier one did not answer."""
        if call.report.auxiliary:
            return None
        for area, near in self._asked.near(None, call):
            fitting = [other for other in near if other.order < call.order and not other.report.auxiliary]
            if area != call.scope or not fitting:
                return None
            latest = max(fitting, key=lambda other: other.order)
            if latest.report.finish_reason is not None and answered(latest):
                return None
            return Link(earlier=latest, later=call, gap=Gap.NO_CONTENT, tail=0, boundary=Boundary.CONTINUES)
        return None

    def _failed_untold(self, call: Call) -> Link | None:
        """For a failed call without messages, the last call of its run, if it called tools: the run broke off there.

        Some senders write a call's content only once it has an answer.
        """
        if not call.ref.failed or call.report.auxiliary:
            return None
        near = next((near for area, near in self._told.near(None, call) if area == call.scope), [])
        latest = max((other for other in near if other.order < call.order), key=lambda other: other.order, default=None)
        if latest is None or latest.report.auxiliary or answered(latest):
            return None
        return Link(earlier=latest, later=call, gap=Gap.NO_CONTENT, tail=0, boundary=Boundary.CONTINUES)

    def _best(self, call: Call, fitting: Sequence[Call], gap: Gap, tail: int) -> Link:
        ranked = sorted(fitting, key=lambda other: self._rank(other, call), reverse=True)
        best = ranked[0]
        boundary = boundary_between(best, call, tail)
        tied = len(ranked) > 1 and self._rank(ranked[1], call)[:3] == self._rank(best, call)[:3]
        ambiguous = tied and boundary is Boundary.CONTINUES and _overlap(best, ranked[1])
        return Link(earlier=best, later=call, gap=gap, tail=tail, boundary=boundary, ambiguous=ambiguous)

    def _rank(self, other: Call, call: Call) -> tuple[int, bool, bool, Order]:
        """Higher is likelier: equal tool-call ids, not continued yet, earlier, and then nearest in order."""
        precedes = other.order < call.order
        ids = _id_evidence(other, call.body, self._prefixes.depths[self._ends[other]])
        start, end, trace_id, span_id, index = other.order
        nearness = other.order if precedes else (-start, -end, trace_id, span_id, -index)
        return (ids, other not in self._continued, precedes, nearness)


def _without_circles(links: dict[Call, Link]) -> dict[Call, Link]:
    """The links, one fewer for each circle: links by prefix and links by time can form one when clocks disagree."""
    settled: set[Call] = set()
    for start in list(links):
        path: dict[Call, None] = {}
        call = start
        while call not in settled and call not in path and call in links:
            path[call] = None
            call = links[call].earlier
        if call in path:
            del links[min(list(path)[list(path).index(call) :], key=lambda member: member.order)]
        settled.update(path)
    return links


def _may_precede(other: Call, call: Call, area: Area) -> bool:
    """Whether the circumstances let one call continue another."""
    conversations = (other.context.conversation_id, call.context.conversation_id)
    if None not in conversations and conversations[0] != conversations[1]:
        return False
    return area[0] is not None or other.ref.trace_id != call.ref.trace_id


def _id_evidence(other: Call, body: tuple[Message, ...], position: int) -> int:
    """2: the history has the other call's own tool-call ids; 0: it has different ones; 1: it does not say."""
    if other.output is None or position >= len(body):
        return 1
    mine = {part.id for part in other.output.tool_calls if not is_made_id(part.id)}
    theirs = {part.id for part in body[position].tool_calls if not is_made_id(part.id)}
    if not mine or not theirs:
        return 1
    return 2 if mine == theirs else 0


def _overlap(one: Call, other: Call) -> bool:
    """Whether time cannot tell two calls apart: they ran at once, apart from each other, or have no times."""
    times = (one.ref.started_at, one.ref.ended_at, other.ref.started_at, other.ref.ended_at)
    if None in times or one.ref.trace_id != other.ref.trace_id:
        return True
    first, second = sorted((one, other), key=lambda call: call.order)
    return (second.ref.started_at or 0) < (first.ref.ended_at or 0)
