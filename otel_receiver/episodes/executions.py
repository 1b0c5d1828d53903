"""Match executed tools, as their own spans report them, to the tool calls of the turns.

By call id; else by name and arguments, equal calls in order; else by name alone, which is flagged where it is a guess.
A span belongs to the nearest call before it, of its own agent first.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from otel_receiver.dialects.base import Context, Reading, ToolExecution
from otel_receiver.episodes.calls import NO_TIME, Call, is_made_id
from otel_receiver.episodes.history import Turn
from otel_receiver.episodes.keys import canonical_arguments, squeezed
from otel_receiver.episodes.tree import Place, SpanTree
from spanloop.convert import parse_json
from spanloop.records import ToolCall

NEAREST_MAX = 32
"""Earlier calls with the same id, or name and arguments, looked at for one execution."""


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
    position: int
    tool_call: ToolCall

    @property
    def order(self) -> tuple[int, int]:
        """The order of slots: by start of the model call, then as the model wrote them."""
        return (self.turn.call.order[0], self.position)


class ExecutionMatcher:
    """The slots of all turns, by what an execution may know of them."""

    def __init__(self, turns: Iterable[Turn]) -> None:
        self._slots: dict[tuple[str, ...], list[_Slot]] = defaultdict(list)
        self._taken: set[_Slot] = set()
        slots = [
            _Slot(turn=turn, position=position, tool_call=tool_call)
            for turn in turns
            if turn.action is not None
            for position, tool_call in enumerate(turn.action.tool_calls)
        ]
        for slot in sorted(slots, key=lambda slot: (slot.turn.call.order, slot.position)):
            for key in _slot_keys(slot):
                self._slots[key].append(slot)
        self._traces = {slot.turn.call.ref.trace_id for slot in slots}

    def match(self, reading: Reading, place: Place, context: Context, report: ToolExecution) -> Execution:
        """The execution with its call, where one fits; of another trace only if its own trace calls no model."""
        trace_id = reading.span.trace_id
        slot: _Slot | None = None
        guessed = False
        if report.call_id:
            slot = self._nearest((trace_id, "id", report.call_id), place)
            if slot is None and trace_id not in self._traces:
                slot = self._nearest(("id", context.service_name or "", report.call_id), place)
                slot = slot if slot is not None and _same_conversation(slot.turn.call.context, context) else None
        if slot is None and report.arguments is not None:
            slot = self._next_open((trace_id, report.name, _arguments_key(report.arguments)), place)
        if slot is None:
            slot = self._next_open((trace_id, report.name), place)
            guessed = slot is not None and self._has_rival(slot)
        if slot is None:
            return Execution(reading=reading, place=place, report=report)
        self._taken.add(slot)
        call = slot.turn.call
        return Execution(
            reading=reading, place=place, report=report, call=call, call_id=slot.tool_call.id, guessed=guessed
        )

    def _nearest(self, key: tuple[str, ...], place: Place) -> _Slot | None:
        return next(iter(_nearest_first(self._slots.get(key, ()), place)), None)

    def _next_open(self, key: tuple[str, ...], place: Place) -> _Slot | None:
        """The first call without an execution, of the nearest model call that has one."""
        found = [slot for slot in _nearest_first(self._slots.get(key, ()), place) if slot not in self._taken]
        if not found:
            return None
        turn = found[0].turn
        return min((slot for slot in found if slot.turn is turn), key=lambda slot: slot.position)

    def _has_rival(self, slot: _Slot) -> bool:
        """Whether another call of the turn has the name, other arguments and no execution yet."""
        key = (slot.turn.call.ref.trace_id, slot.tool_call.name)
        arguments = canonical_arguments(slot.tool_call.arguments)
        return any(
            other.turn is slot.turn
            and other not in self._taken
            and canonical_arguments(other.tool_call.arguments) != arguments
            for other in self._slots[key]
        )


def match_executions(tree: SpanTree, turns: Iterable[Turn]) -> tuple[Execution, ...]:
    """Every execution of the readings, with its call where one fits."""
    matcher = ExecutionMatcher(turns)
    places = [place for place in tree.places if place.reading.tool_executions]
    return tuple(
        matcher.match(place.reading, place, tree.context(place), report)
        for place in sorted(places, key=_start)
        for report in place.reading.tool_executions
    )


def _same_conversation(one: Context, other: Context) -> bool:
    ids = (one.conversation_id, other.conversation_id)
    return None in ids or ids[0] == ids[1]


def _start(place: Place) -> tuple[int, int, str, str]:
    span = place.reading.span
    started = NO_TIME if span.started_at is None else span.started_at
    ended = NO_TIME if span.ended_at is None else span.ended_at
    return (started, ended, span.trace_id, span.span_id)


def _slot_keys(slot: _Slot) -> Iterator[tuple[str, ...]]:
    trace_id, call = slot.turn.call.ref.trace_id, slot.tool_call
    if not is_made_id(call.id):
        yield (trace_id, "id", call.id)
        yield ("id", slot.turn.call.context.service_name or "", call.id)
    yield (trace_id, call.name)
    keys = {_arguments_key(call.arguments), *_bare_argument(call.arguments)}
    for key in keys:
        yield (trace_id, call.name, key)


def _arguments_key(arguments: str) -> str:
    return canonical_arguments(arguments)


def _bare_argument(arguments: str) -> Iterator[str]:
    """The only argument's value: some senders give a tool span that instead of the arguments."""
    try:
        value = parse_json(arguments)
    except ValueError:
        return
    if isinstance(value, dict) and len(value) == 1:
        only = next(iter(value.values()))
        yield canonical_arguments(only) if isinstance(only, str) else squeezed(str(only))


def _nearest_first(slots: Sequence[_Slot], place: Place) -> list[_Slot]:
    """The slots before a span, nearest first, of its own agent first; where none is before, the first after it."""
    start = place.reading.span.started_at
    end = len(slots) if start is None else bisect_right(slots, start, key=lambda slot: slot.order[0])
    before = list(islice(reversed(slots[max(0, end - NEAREST_MAX) : end]), NEAREST_MAX))
    found = before or list(slots[end : end + 1])
    return sorted(found, key=lambda slot: slot.turn.call.place.agent is not place.agent)
