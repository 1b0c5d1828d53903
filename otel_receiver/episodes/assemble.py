"""Turn the readings of one or more traces into episodes.

In: readings, in any order, repeated or not. Out: a `Derivation`. It depends on nothing but the set of readings: message
histories order calls, times and ids settle what histories leave open. The stages, each a module of its own: twins and
retries are removed, calls are linked by message prefix, links are cut into segments, histories are made consistent,
tool results and definitions are gathered, and each segment becomes one episode.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from otel_receiver.dialects.base import Reading
from otel_receiver.episodes.auxiliary import auxiliary_segments
from otel_receiver.episodes.boundaries import awaited
from otel_receiver.episodes.calls import Call, calls_of
from otel_receiver.episodes.chains import Predecessors
from otel_receiver.episodes.continued import restore_continued
from otel_receiver.episodes.conversations import Conversation, conversations
from otel_receiver.episodes.executions import Execution, folded_calls, match_executions
from otel_receiver.episodes.history import Histories, Turn
from otel_receiver.episodes.keys import PrefixTree
from otel_receiver.episodes.offers import offers
from otel_receiver.episodes.retries import drop_retried
from otel_receiver.episodes.run_history import restore_from_runs, with_run_results
from otel_receiver.episodes.segments import Segment, segments
from otel_receiver.episodes.steps import UNKNOWN_DIALECT, step
from otel_receiver.episodes.subagents import ParentFinder
from otel_receiver.episodes.trace_links import CallLink, call_links, execution_links
from otel_receiver.episodes.tree import SpanTree
from otel_receiver.episodes.twins import merge_twins
from spanloop.records import EndReason, Episode, EpisodeStatus, Feedback, QualityFlag, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Derivation:
    """What readings amount to."""

    episodes: tuple[Episode, ...] = ()
    """Each conversation's in their order."""
    feedback: tuple[Feedback, ...] = ()
    links: tuple[CallLink, ...] = ()


def assemble(readings: Iterable[Reading], end_reason: EndReason) -> Derivation:
    """The episodes, feedback and links of the readings of one or more traces."""
    tree = SpanTree(readings)
    prefixes = PrefixTree()
    calls = _inferences(tree, prefixes)
    predecessors = Predecessors(calls, prefixes)
    links = predecessors.links()
    found = segments(calls, links)
    histories = Histories(found, frozenset(predecessors.inconsistent))
    turns = with_run_results(histories.turns)
    executions = match_executions(tree, turns.values())
    gapped = frozenset(predecessors.gapped)
    builder = _EpisodeBuilder(tree, found, turns, executions, gapped, end_reason)
    return Derivation(
        episodes=builder.episodes(),
        feedback=_feedback(tree),
        links=(*call_links(calls, links, prefixes), *execution_links(tree)),
    )


def trace_links(readings: Iterable[Reading]) -> tuple[CallLink, ...]:
    """The ends at which other traces may continue these, or these continue others."""
    tree = SpanTree(readings)
    prefixes = PrefixTree()
    calls = _inferences(tree, prefixes)
    return (*call_links(calls, Predecessors(calls, prefixes).links(), prefixes), *execution_links(tree))


def _inferences(tree: SpanTree, prefixes: PrefixTree) -> tuple[Call, ...]:
    """The inferences that count: each once, as complete as its spans make it, without replaced attempts."""
    merged = merge_twins(tuple(calls_of(tree)), prefixes)
    return drop_retried(restore_from_runs(restore_continued(merged)), prefixes)


def _feedback(tree: SpanTree) -> tuple[Feedback, ...]:
    by_id = {item.feedback_id: item for place in tree.places for item in place.reading.feedback}
    return tuple(by_id[key] for key in sorted(by_id))


class _EpisodeBuilder:
    """Makes the episodes of one derivation out of its segments."""

    def __init__(
        self,
        tree: SpanTree,
        found: Sequence[Segment],
        turns: Mapping[Call, Turn],
        executions: Sequence[Execution],
        gapped: frozenset[Call],
        end_reason: EndReason,
    ) -> None:
        self._tree = tree
        self._segments = found
        self._turns = turns
        self._gapped = gapped
        self._end_reason = end_reason
        self._executions: dict[Call, list[Execution]] = defaultdict(list)
        for execution in executions:
            if execution.call is not None:
                self._executions[execution.call].append(execution)
        self._folded = folded_calls(turns, executions)
        self._ids = {segment: episode_id(segment.calls[0]) for segment in found}
        finder = ParentFinder(found, turns, executions, tree)
        self._parents = {segment: parent for segment in found if (parent := finder.parent(segment)) is not None}
        self._conversations = conversations(found, self._parents, self._ids)
        self._auxiliary = auxiliary_segments(found)
        self._last_of_run = {_run_key(call): segment for segment in found for call in segment.calls}

    def episodes(self) -> tuple[Episode, ...]:
        """The episodes, each conversation's in their order."""
        return tuple(self._episode(segment) for segment in self._conversations)

    def _episode(self, segment: Segment) -> Episode:
        steps = self._steps(segment)
        conversation = self._conversations[segment]
        parent = self._parents.get(segment)
        calls = segment.calls
        return Episode(
            episode_id=self._ids[segment],
            conversation_id=conversation.conversation_id,
            user_id=_first(call.context.user_id for call in calls),
            agent_name=_first(call.context.agent_name for call in calls),
            service_name=_first(call.context.service_name for call in calls),
            model=_most_common(step.model for step in steps),
            dialect=_most_common(step.dialect for step in steps) or UNKNOWN_DIALECT,
            started_at=min((step.started_at for step in steps if step.started_at is not None), default=None),
            ended_at=max((step.ended_at for step in steps if step.ended_at is not None), default=None),
            status=self._status(segment, steps[-1]),
            end_reason=self._end_reason,
            parent_episode_id=self._ids[parent.segment] if parent is not None else None,
            parent_call_id=parent.call_id if parent is not None else None,
            steps=steps,
            quality_flags=self._episode_flags(segment, conversation),
        )

    def _steps(self, segment: Segment) -> tuple[Step, ...]:
        turns = [self._turns[call] for call in segment.calls]
        executions = [execution for call in segment.calls for execution in self._executions.get(call, ())]
        shared = self._shared_flags(segment)
        return tuple(
            step(index, turn, offer, link, self._executions.get(turn.call, ()), shared | self._folded_flags(turn.call))
            for index, (turn, offer, link) in enumerate(
                zip(turns, offers(turns, executions), segment.links, strict=True)
            )
        )

    def _folded_flags(self, call: Call) -> frozenset[QualityFlag]:
        return frozenset({QualityFlag.HISTORY_INCONSISTENT} if call in self._folded else ())

    def _shared_flags(self, segment: Segment) -> frozenset[QualityFlag]:
        """Flags that every step of the segment has."""
        flags: set[QualityFlag] = set()
        if segment in self._auxiliary:
            flags.add(QualityFlag.NOT_POLICY)
        if self._end_reason is EndReason.LIMIT:
            flags.add(QualityFlag.TRACE_TRUNCATED)
        return frozenset(flags)

    def _episode_flags(self, segment: Segment, conversation: Conversation) -> frozenset[QualityFlag]:
        flags = set(self._shared_flags(segment))
        if not self._gapped.isdisjoint(segment.calls[1:]):
            flags.add(QualityFlag.HISTORY_INCONSISTENT)
        if conversation.inferred:
            flags.add(QualityFlag.CONVERSATION_INFERRED)
        if any(self._tree.root(call.ref.trace_id) is None for call in segment.calls):
            flags.add(QualityFlag.ROOT_MISSING)
        return frozenset(flags)

    def _status(self, segment: Segment, last: Step) -> EpisodeStatus:
        call = segment.calls[-1]
        if call.ref.failed or self._run_failed(segment):
            return EpisodeStatus.ERROR
        if QualityFlag.OUTPUT_TRUNCATED in last.quality_flags:
            return EpisodeStatus.INCOMPLETE
        if last.action is None:
            return EpisodeStatus.OK if last.finish_reason == "stop" else EpisodeStatus.INCOMPLETE
        return EpisodeStatus.INCOMPLETE if awaited(call, last.action) else EpisodeStatus.OK

    def _run_failed(self, segment: Segment) -> bool:
        """Whether the agent span, or without one the root, failed and this was its last episode."""
        call = segment.calls[-1]
        run = call.place.agent or self._tree.root(call.ref.trace_id)
        return run is not None and run.span.failed and self._last_of_run[_run_key(call)] is segment


def _run_key(call: Call) -> tuple[str, str]:
    return (call.scope[0], call.scope[2])


def episode_id(first: Call) -> str:
    """The id of the episode that begins with this call: the same however often it is derived."""
    span = first.place.reading.span
    text = f"{span.trace_id}/{span.span_id}/{first.index}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _first(values: Iterable[str | None]) -> str | None:
    return next((value for value in values if value is not None), None)


def _most_common(values: Iterable[str | None]) -> str | None:
    """The value of most steps; of equals the first."""
    counted = Counter(value for value in values if value is not None)
    return counted.most_common(1)[0][0] if counted else None
