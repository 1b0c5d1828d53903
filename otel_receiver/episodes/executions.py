"""Match executed tools, as their own spans report them, to the tool calls of the turns.

By call id; else by name and arguments, equal calls in order; else by name alone, which is flagged where it is a guess.
A span belongs to the nearest call before it, of its own agent first.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from otel_receiver.dialects.base import Context, Reading, ToolExecution
from otel_receiver.episodes.calls import NO_TIME, Call, is_made_id
from otel_receiver.episodes.history import Turn
from otel_receiver.episodes.keys import canonical_arguments
from otel_receiver.episodes.tree import Place, SpanTree
from spanloop.convert import parse_json
from spanloop.records import ToolCall

NEAREST_MAX = 32
"""Turns with a call of the same id, or name and arguments, looked at for one execution."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Execution:
    """One executed tool and the call it carried out."""

    reading: Reading
    place: Place
    report: ToolExecution
    call: Call | None = None
    call_id: str | None = None
    """The id of the action's tool call."""
    guessed: bool = False
    """Another call of the turn would fit as well."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Slot:
    """One tool call of one turn, waiting for its execution."""

    turn: Turn
    tool_call: ToolCall
    arguments: str
    """Canonical."""


@dataclass(slots=True, kw_only=True, eq=False)
class _Rack:
    """The slots of one turn that one key fits, in the order of the calls."""

    call: Call
    slots: list[_Slot] = field(default_factory=list)
    first_open: int = 0
    """Before this position every slot is taken."""


class ExecutionMatcher:
    """The slots of all turns, by what an execution may know of them."""

    def __init__(self, turns: Iterable[Turn]) -> None:
        self._racks: dict[tuple[str, ...], list[_Rack]] = defaultdict(list)
        self._taken: set[_Slot] = set()
        self._open_arguments: dict[tuple[Turn, str], Counter[str]] = defaultdict(Counter)
        self._traces: set[str] = set()
        for turn in sorted(turns, key=lambda turn: turn.call.order):
            for slot in _slots(turn):
                self._put(slot)

    def match(self, reading: Reading, place: Place, context: Context, report: ToolExecution) -> Execution:
        """The execution with its call, where one fits; of another trace only if its own trace calls no tools."""
        trace_id = reading.span.trace_id
        slot = self._by_id(place, context, report.call_id) if report.call_id else None
        if slot is None and report.arguments is not None:
            slot = self._next_open((trace_id, report.name, canonical_arguments(report.arguments)), place)
        guessed = False
        if slot is None:
            # With other arguments than every call's, only a call before it can be meant at all.
            slot = self._next_open((trace_id, report.name), place, only_before=report.arguments is not None)
            guessed = slot is not None and len(self._open_arguments[slot.turn, report.name]) > 1
        if slot is None:
            return Execution(reading=reading, place=place, report=report)
        self._take(slot)
        call = slot.turn.call
        return Execution(
            reading=reading, place=place, report=report, call=call, call_id=slot.tool_call.id, guessed=guessed
        )

    def _put(self, slot: _Slot) -> None:
        call = slot.turn.call
        self._traces.add(call.ref.trace_id)
        self._open_arguments[slot.turn, slot.tool_call.name][slot.arguments] += 1
        for key in _slot_keys(slot):
            racks = self._racks[key]
            if not racks or racks[-1].call is not call:
                racks.append(_Rack(call=call))
            racks[-1].slots.append(slot)

    def _take(self, slot: _Slot) -> None:
        if slot in self._taken:
            return
        self._taken.add(slot)
        waiting = self._open_arguments[slot.turn, slot.tool_call.name]
        waiting[slot.arguments] -= 1
        if not waiting[slot.arguments]:
            del waiting[slot.arguments]

    def _by_id(self, place: Place, context: Context, call_id: str) -> _Slot | None:
        """The call with this id; an id may be executed more than once."""
        trace_id = place.reading.span.trace_id
        if trace_id in self._traces:
            return next((rack.slots[0] for rack in self._nearest((trace_id, "id", call_id), place)), None)
        near = self._nearest(("id", context.service_name or "", call_id), place)
        return next((rack.slots[0] for rack in near if _same_conversation(rack.call.context, context)), None)

    def _next_open(self, key: tuple[str, ...], place: Place, *, only_before: bool = False) -> _Slot | None:
        """The first call without an execution, of the nearest model call that has one."""
        started = place.reading.span.started_at
        for rack in self._nearest(key, place):
            if only_before and started is not None and rack.call.order[0] > started:
                continue
            while rack.first_open < len(rack.slots) and rack.slots[rack.first_open] in self._taken:
                rack.first_open += 1
            if rack.first_open < len(rack.slots):
                return rack.slots[rack.first_open]
        return None

    def _nearest(self, key: tuple[str, ...], place: Place) -> list[_Rack]:
        """The turns before a span, nearest first, of its own agent first; where none is before, the first after it."""
        racks = self._racks.get(key, [])
        start = place.reading.span.started_at
        end = len(racks) if start is None else bisect_right(racks, start, key=lambda rack: rack.call.order[0])
        found = racks[max(0, end - NEAREST_MAX) : end][::-1] or racks[end : end + 1]
        return sorted(found, key=lambda rack: rack.call.place.agent is not place.agent)


def match_executions(tree: SpanTree, turns: Iterable[Turn]) -> tuple[Execution, ...]:
    """Every execution of the readings, with its call where one fits."""
    matcher = ExecutionMatcher(turns)
    places = [place for place in tree.places if place.reading.tool_executions]
    return tuple(
        matcher.match(place.reading, place, tree.context(place), report)
        for place in sorted(places, key=_start)
        for report in place.reading.tool_executions
    )


def folded_calls(turns: Mapping[Call, Turn], executions: Iterable[Execution]) -> frozenset[Call]:
    """Calls in whose spans tools ran that neither answer nor history call: an SDK's loop of rounds told as one."""
    inside: dict[int, list[Execution]] = defaultdict(list)
    for execution in executions:
        if execution.call is None:
            inside[id(execution.place.caller)].append(execution)
    return frozenset(
        call
        for call, turn in turns.items()
        if turn.action is not None
        and not turn.action.tool_calls
        and any(not _is_told(execution, call) for execution in inside.get(id(call.place.reading), ()))
    )


def _is_told(execution: Execution, call: Call) -> bool:
    """Whether the call's history has the tool call that was carried out, by its id or by its name and arguments."""
    report = execution.report
    asked = (report.name, canonical_arguments(report.arguments or ""))
    return any(
        part.id == report.call_id or (part.name, canonical_arguments(part.arguments)) == asked
        for message in call.body
        for part in message.tool_calls
    )


def _same_conversation(one: Context, other: Context) -> bool:
    ids = (one.conversation_id, other.conversation_id)
    return None in ids or ids[0] == ids[1]


def _start(place: Place) -> tuple[int, int, str, str]:
    span = place.reading.span
    started = NO_TIME if span.started_at is None else span.started_at
    ended = NO_TIME if span.ended_at is None else span.ended_at
    return (started, ended, span.trace_id, span.span_id)


def _slots(turn: Turn) -> Iterator[_Slot]:
    for tool_call in turn.action.tool_calls if turn.action is not None else ():
        yield _Slot(turn=turn, tool_call=tool_call, arguments=canonical_arguments(tool_call.arguments))


def _slot_keys(slot: _Slot) -> Iterator[tuple[str, ...]]:
    call, tool_call = slot.turn.call, slot.tool_call
    trace_id = call.ref.trace_id
    if not is_made_id(tool_call.id):
        yield (trace_id, "id", tool_call.id)
        yield ("id", call.context.service_name or "", tool_call.id)
    yield (trace_id, tool_call.name)
    for arguments in {slot.arguments, *_bare_argument(tool_call.arguments)}:
        yield (trace_id, tool_call.name, arguments)


def _bare_argument(arguments: str) -> Iterator[str]:
    """The only argument's value: some senders give a tool span that instead of the arguments."""
    try:
        value = parse_json(arguments)
    except ValueError:
        return
    if isinstance(value, dict) and len(value) == 1:
        yield canonical_arguments(str(next(iter(value.values()))))
