"""Merge the spans that report one and the same model call.

Two instrumentations on one client, a framework over a client, a wrapper that called nothing: a call is known again, in
this order of certainty, by its response id, by an enclosing span with an equal answer, by an equal prompt and answer at
the same time (in another trace too, where a sender reports calls outside their context), and by an equal prompt on a
span without any answer. Fields come from the richest report; every span id
is kept; the call is flagged.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TypeVar

from otel_receiver.dialects.base import ModelCall
from otel_receiver.episodes.calls import Call, is_made_id
from otel_receiver.episodes.keys import PrefixTree, squeezed
from otel_receiver.episodes.tree import completed
from spanloop.records import BLOCKING_FLAGS, Message, QualityFlag, ToolDefinition, Usage

USAGE_FIELDS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
SCALAR_FIELDS = ("finish_reason", "model", "response_model", "response_id", "streamed")
T = TypeVar("T")
INTERVAL_SLACK_NS = 50_000_000
"""How far an inner span may stand out of the outer one: spans of one call are closed one after the other."""


def merge_twins(calls: Sequence[Call], prefixes: PrefixTree) -> tuple[Call, ...]:
    """The calls, one per inference, in their order."""
    groups = _Groups(calls)
    _join_by_response(calls, groups)
    wrappers = _join_nested(calls, groups, prefixes)
    _join_same_prompt(calls, groups, prefixes)
    _join_detached(calls, groups, prefixes)
    return tuple(sorted((_merged(group, wrappers) for group in groups.members()), key=lambda call: call.order))


class _Groups:
    """Disjoint sets of calls."""

    def __init__(self, calls: Sequence[Call]) -> None:
        self._calls = calls
        self._leader = {call: call for call in calls}

    def find(self, call: Call) -> Call:
        """The call that stands for the set."""
        while self._leader[call] is not call:
            self._leader[call] = self._leader[self._leader[call]]
            call = self._leader[call]
        return call

    def join(self, one: Call, other: Call) -> None:
        """Make two sets one; the earlier call leads."""
        first, second = sorted((self.find(one), self.find(other)), key=lambda call: call.order)
        self._leader[second] = first

    def members(self) -> tuple[tuple[Call, ...], ...]:
        """The sets, each in order."""
        sets: dict[Call, list[Call]] = defaultdict(list)
        for call in sorted(self._calls, key=lambda call: call.order):
            sets[self.find(call)].append(call)
        return tuple(tuple(group) for group in sets.values())


def _join_by_response(calls: Sequence[Call], groups: _Groups) -> None:
    """Join calls with one response id, each from another instrumentation.

    A response id that one instrumentation reports twice says nothing: some model servers send a constant.
    """
    by_response: dict[str, list[Call]] = defaultdict(list)
    for call in calls:
        if call.report.response_id:
            by_response[call.report.response_id].append(call)
    for twins in by_response.values():
        if len({_source(call) for call in twins}) == len(twins) > 1:
            first = max(twins, key=_richness)
            for twin in twins if all(_agree(first, twin) for twin in twins) else ():
                groups.join(first, twin)


def _join_nested(calls: Sequence[Call], groups: _Groups, prefixes: PrefixTree) -> frozenset[Call]:
    """Join an enclosing call with the call inside it that gave its answer; those that enclose a whole run."""
    wrappers: set[Call] = set()
    by_span = {
        (call.ref.trace_id, call.ref.span_id): call for call in calls if len(call.place.reading.model_calls) == 1
    }
    inside: dict[Call, list[Call]] = defaultdict(list)
    for call in sorted(calls, key=lambda call: call.order):
        caller = call.place.caller
        outer = by_span.get((caller.span.trace_id, caller.span.span_id)) if caller is not None else None
        if outer is not None:
            inside[outer].append(call)
    for outer, inner in inside.items():
        twin = _inner_twin(outer, inner, prefixes)
        if twin is None and len(inner) > 1 and _same_answer(outer, inner[-1]):
            twin = inner[-1]
            wrappers.add(outer)
        if twin is not None:
            groups.join(outer, twin)
    return frozenset(wrappers)


def _inner_twin(outer: Call, inner: Sequence[Call], prefixes: PrefixTree) -> Call | None:
    """The last of the enclosed calls that may be the enclosing one.

    An equal answer is enough for the only one; of several, and where an answer is not carried, it needs the prompt too.
    """
    for call in reversed(inner):
        same_prompt = _prompt(call, prefixes) == _prompt(outer, prefixes)
        only = len(inner) == 1 and (_same_answer(outer, call) or not (call.report.messages and outer.report.messages))
        if (same_prompt or only) and _contains(outer, call) and _agree(outer, call):
            return call
    return None


def _same_answer(one: Call, other: Call) -> bool:
    return one.output is not None and other.output is not None and _agree(one, other)


def _join_same_prompt(calls: Sequence[Call], groups: _Groups, prefixes: PrefixTree) -> None:
    """Join siblings that report one call, and a call that reports a prompt and nothing else with the next one of it."""
    runs: dict[tuple[object, ...], list[Call]] = defaultdict(list)
    for call in calls:
        if call.report.messages:
            runs[(*call.scope, _prompt(call, prefixes))].append(call)
    ordered = [sorted(run, key=lambda call: call.order) for run in runs.values()]
    _join_siblings(ordered, groups)
    for run in ordered:
        waiting: list[Call] = []
        for call in run:
            if _called_nothing(call):
                waiting.append(call)
                continue
            for wrapper in waiting:
                groups.join(wrapper, call)
            waiting = []


def _join_siblings(runs: Iterable[Sequence[Call]], groups: _Groups) -> None:
    """Join calls of two instrumentations with one prompt and one answer, where one's time lies within the other's."""
    for run in runs:
        for one, other in pairwise(run):
            at_once = _lies_within(other, one) or _lies_within(one, other)
            if at_once and _source(one) != _source(other) and _same_answer(one, other):
                groups.join(one, other)


def _join_detached(calls: Sequence[Call], groups: _Groups, prefixes: PrefixTree) -> None:
    """Join a call that was reported outside its running context with the client's span of it, a trace of its own."""
    waiting: dict[int, list[Call]] = defaultdict(list)
    for call in sorted((call for call in calls if call.report.detached), key=lambda call: call.order):
        waiting[_prompt(call, prefixes)].append(call)
    roots = (call for call in calls if call.ref.parent_span_id is None and not call.report.detached)
    for inner in sorted(roots, key=lambda call: call.order) if waiting else ():
        fitting = waiting.get(_prompt(inner, prefixes), [])
        outer = next((call for call in fitting if _is_detached_twin(call, inner)), None)
        if outer is not None:
            fitting.remove(outer)
            groups.join(outer, inner)


def _is_detached_twin(outer: Call, inner: Call) -> bool:
    """Whether the circumstances let two calls with one prompt be one: sender, conversation, time and answer."""
    conversations = {outer.context.conversation_id, inner.context.conversation_id} - {None}
    same_sender = outer.context.service_name == inner.context.service_name and len(conversations) < 2
    return same_sender and _contains(outer, inner) and _agree(outer, inner)


def _lies_within(inner: Call, outer: Call) -> bool:
    """Whether one call's known times lie within another's, without slack: siblings may follow each other closely."""
    outer_start, inner_start = outer.ref.started_at, inner.ref.started_at
    inner_end, outer_end = inner.ref.ended_at, outer.ref.ended_at
    if outer_start is None or inner_start is None or inner_end is None or outer_end is None:
        return False
    return outer_start <= inner_start and inner_end <= outer_end


def _source(call: Call) -> tuple[str | None, str | None]:
    return (call.context.dialect, call.context.dialect_version)


def _called_nothing(call: Call) -> bool:
    report = call.report
    return (
        report.output is None
        and report.finish_reason is None
        and report.response_id is None
        and report.usage == Usage()
        and not call.ref.failed
    )


def _prompt(call: Call, prefixes: PrefixTree) -> int:
    return prefixes.end(call.body)


def _contains(outer: Call, inner: Call) -> bool:
    """Whether the inner call lies within the outer one's time, as far as times are known."""
    times = (outer.ref.started_at, inner.ref.started_at, outer.ref.ended_at, inner.ref.ended_at)
    if times[0] is not None and times[1] is not None and times[1] < times[0] - INTERVAL_SLACK_NS:
        return False
    return times[2] is None or times[3] is None or times[3] <= times[2] + INTERVAL_SLACK_NS


def _agree(one: Call, other: Call) -> bool:
    """Whether two reports can be of one answer: equal, or one lacks the answer or only its tool calls."""
    if one.output is None or other.output is None:
        return True
    if one.output.tool_calls and other.output.tool_calls:
        return _call_names(one.output) == _call_names(other.output)
    return squeezed(one.output.text) == squeezed(other.output.text) or not (_says(one.output) and _says(other.output))


def _call_names(message: Message) -> list[str]:
    return [call.name for call in message.tool_calls]


def _says(message: Message) -> bool:
    return bool(message.tool_calls or message.text.strip())


def _richness(call: Call) -> tuple[object, ...]:
    """More is richer; the order of calls settles what is left, so that the choice is the same every time."""
    report = call.report
    return (
        -len(report.flags & BLOCKING_FLAGS),
        len(report.messages),
        report.output is not None,
        _output_richness(report.output),
        report.tools is not None,
        sum(getattr(report, name) is not None for name in SCALAR_FIELDS),
        sum(getattr(report.usage, name) is not None for name in USAGE_FIELDS),
        sum(len(message.text) for message in report.messages),
        not call.ref.failed,
        tuple(-value if isinstance(value, int) else value for value in call.order),
    )


def _output_richness(output: Message | None) -> tuple[int, int, int]:
    if output is None:
        return (0, 0, 0)
    calls = output.tool_calls
    return (len(calls), sum(not is_made_id(call.id) for call in calls), len(output.text))


def _merged(group: tuple[Call, ...], wrappers: frozenset[Call]) -> Call:
    """One call out of the reports of a group; a wrapper of a run adds nothing but its id."""
    if len(group) == 1:
        return group[0]
    ranked = sorted((call for call in group if call not in wrappers), key=_richness, reverse=True)
    best = ranked[0]
    anchor = next((call for call in ranked if call.report.detached), best)  # the run is in its trace
    context = best.context
    for other in ranked[1:]:
        context = completed(context, other.context)
    outermost = _outermost([call for call in group if call in ranked and call.ref.trace_id == anchor.ref.trace_id])
    spans = dict.fromkeys(call.ref.span_id for call in group if call.ref.span_id != anchor.ref.span_id)
    return replace(
        best,
        ref=replace(
            anchor.ref,
            started_at=min((call.ref.started_at for call in ranked if call.ref.started_at is not None), default=None),
            ended_at=max((call.ref.ended_at for call in ranked if call.ref.ended_at is not None), default=None),
            succeeded=any(call.ref.succeeded for call in ranked),
        ),
        index=anchor.index,
        place=outermost.place,
        context=context,
        report=_merged_report([call.report for call in ranked]),
        merged_span_ids=tuple(spans),
        flags=best.flags | {QualityFlag.DUPLICATE_MERGED},
    )


def _outermost(calls: Sequence[Call]) -> Call:
    """The call that lies below none of the others: of spans that begin at the same time the order says nothing."""
    spans = {call.ref.span_id for call in calls}
    return next((call for call in calls if call.ref.parent_span_id not in spans), calls[0])


def _merged_report(ranked: Sequence[ModelCall]) -> ModelCall:
    """The richest report, completed field by field from the others."""
    best = ranked[0]
    output = max((report.output for report in ranked), key=_output_richness)
    usage = Usage(**{name: _first(getattr(report.usage, name) for report in ranked) for name in USAGE_FIELDS})
    flags = best.flags - {QualityFlag.OUTPUT_MISSING} if output is not None else best.flags
    if output is not best.output:
        flags -= {QualityFlag.OUTPUT_TRUNCATED}
    return replace(
        best,
        output=output,
        tools=_merged_tools([report.tools for report in ranked]),
        usage=usage,
        auxiliary=any(report.auxiliary for report in ranked),
        lossy_answer=any(report.lossy_answer for report in ranked),
        records_apart=any(report.records_apart for report in ranked),
        flags=flags,
        finish_reason=_first(report.finish_reason for report in ranked),
        model=_first(report.model for report in ranked),
        response_model=_first(report.response_model for report in ranked),
        response_id=_first(report.response_id for report in ranked),
        streamed=_first(report.streamed for report in ranked),
        is_whole=any(report.is_whole for report in ranked),
        continues_response_id=_first(report.continues_response_id for report in ranked),
    )


def _merged_tools(offers: Sequence[tuple[ToolDefinition, ...] | None]) -> tuple[ToolDefinition, ...] | None:
    """The definitions of the report that says most about them."""
    known = [offer for offer in offers if offer is not None]
    return max(known, key=lambda offer: sum(tool.parameters is not None for tool in offer), default=None)


def _first(values: Iterable[T | None]) -> T | None:
    return next((value for value in values if value is not None), None)
