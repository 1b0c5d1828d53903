"""The span tree of one or more traces, and what a span inherits from the spans around it.

In: readings in any order, with duplicates, missing parents and parents in a circle. Out: one `Place` per span. Built
top-down with a stack of its own, so neither depth nor width of a trace can exhaust recursion.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

from otel_receiver.dialects.base import Context, Reading

Key = tuple[str, str]
"""Trace id and span id."""

CONTEXT_FIELDS = ("service_name", "agent_name", "conversation_id", "user_id")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Place:
    """Where a span stands: the nearest spans of each kind around it."""

    reading: Reading
    agent: Reading | None = None
    """The innermost agent span, the span itself included."""
    tool: Reading | None = None
    """The innermost tool span above."""
    caller: Reading | None = None
    """The innermost model-call span above, with neither an agent nor a tool between: it may report the same call."""
    tools_from: Reading | None = None
    """The innermost agent or workflow span, the span itself included, that carries tool definitions."""
    history_from: Reading | None = None
    """The same, for a message list."""
    auxiliary: bool = False
    """Below a span whose calls are not the policy's."""
    inherited: Context
    """The span's own context, completed from the nearest ancestors of a dialect."""
    outer: Context
    """What the nearest ancestors of no dialect say: an application's own spans."""


class SpanTree:
    """The places of all spans, in the order of their ids."""

    def __init__(self, readings: Iterable[Reading]) -> None:
        self._readings = unique_readings(readings)
        self._places: dict[Key, Place] = {}
        self._place_all()
        self.places = tuple(self._places[key] for key in sorted(self._places))
        self._roots = self._true_roots()
        self._spread = _unambiguous_contexts(self.places)

    def place(self, trace_id: str, span_id: str) -> Place | None:
        """The place of a span."""
        return self._places.get((trace_id, span_id))

    def root(self, trace_id: str) -> Reading | None:
        """The trace's root span: the first of those without a parent; `None` when it never arrived."""
        return self._roots.get(trace_id)

    def context(self, place: Place) -> Context:
        """A span's context: its own, its nearest ancestors', its root's, else what the whole trace agrees on.

        What spans of no dialect say comes last: the session of a web server need not be the agent's.
        """
        trace_id = place.reading.span.trace_id
        root = self._roots.get(trace_id)
        above = root.context if root is not None else Context()
        context = completed(place.inherited, _of_dialect(above))
        return completed(completed(completed(context, self._spread[trace_id]), place.outer), above)

    def _place_all(self) -> None:
        children: dict[Key, list[Key]] = defaultdict(list)
        tops: list[Key] = []
        for key, reading in self._readings.items():
            parent = _parent_key(reading)
            if parent is None or parent not in self._readings or parent == key:
                tops.append(key)
            else:
                children[parent].append(key)
        for key in tops:
            self._descend(key, None, children)
        # What is left hangs in circles of parents: the first by start time is taken for the top of its circle.
        for key in sorted(self._readings.keys() - self._places.keys(), key=self._start):
            self._descend(key, None, children)

    def _start(self, key: Key) -> tuple[int, Key]:
        return (self._readings[key].span.started_at or 0, key)

    def _descend(self, top: Key, above: Place | None, children: dict[Key, list[Key]]) -> None:
        stack: list[tuple[Key, Place | None]] = [(top, above)]
        while stack:
            key, parent = stack.pop()
            if key in self._places:
                continue
            place = _place_below(self._readings[key], parent)
            self._places[key] = place
            stack.extend((child, place) for child in children.get(key, ()))

    def _true_roots(self) -> dict[str, Reading]:
        roots: dict[str, Reading] = {}
        for key in sorted(self._readings, key=self._start):
            if _parent_key(self._readings[key]) is None:
                roots.setdefault(key[0], self._readings[key])
        return roots


def unique_readings(readings: Iterable[Reading]) -> dict[Key, Reading]:
    """One reading per span; of two that differ, one chosen by content, so the order of arrival cannot matter."""
    unique: dict[Key, Reading] = {}
    for reading in readings:
        key = (reading.span.trace_id, reading.span.span_id)
        present = unique.get(key)
        unique[key] = reading if present is None or present == reading else max(present, reading, key=repr)
    return unique


def completed(context: Context, source: Context) -> Context:
    """The context with its unknown fields taken from the source."""
    missing = {
        name: value
        for name in CONTEXT_FIELDS
        if getattr(context, name) is None and (value := getattr(source, name)) is not None
    }
    return replace(context, **missing) if missing else context


def _of_dialect(context: Context) -> Context:
    """The context, unless a span of no dialect told it."""
    return context if context.dialect is not None else Context()


def _of_no_dialect(context: Context) -> Context:
    return context if context.dialect is None else Context()


def _parent_key(reading: Reading) -> Key | None:
    parent = reading.span.parent_span_id
    return (reading.span.trace_id, parent) if parent else None


def _place_below(reading: Reading, parent: Place | None) -> Place:
    run = reading.agent
    is_agent = run is not None and run.is_agent
    if parent is None:
        return Place(
            reading=reading,
            agent=reading if is_agent else None,
            tools_from=reading if run is not None and run.tools is not None else None,
            history_from=reading if run is not None and run.history else None,
            auxiliary=run is not None and run.auxiliary,
            inherited=_of_dialect(reading.context),
            outer=_of_no_dialect(reading.context),
        )
    above = parent.reading
    apart = bool(above.tool_executions) or (is_agent and _other_name(reading, parent))
    return Place(
        reading=reading,
        agent=reading if is_agent else parent.agent,
        tool=above if above.tool_executions else parent.tool,
        caller=_caller(above, parent, barrier=is_agent),
        tools_from=_tools_from(reading, None if apart else parent.tools_from),
        history_from=reading if run is not None and run.history else None if apart else parent.history_from,
        auxiliary=parent.auxiliary or (run is not None and run.auxiliary),
        inherited=completed(_of_dialect(reading.context), parent.inherited),
        outer=completed(_of_no_dialect(reading.context), parent.outer),
    )


def _tools_from(reading: Reading, above: Reading | None) -> Reading | None:
    """The span whose tools count: this one, unless it only names tools that the span above defines."""
    tools = reading.agent.tools if reading.agent is not None else None
    if tools is None:
        return above
    defined = above.agent.tools if above is not None and above.agent is not None else None
    names = {tool.name for tool in tools if tool.parameters is None}
    is_defined = len(names) == len(tools) and names <= {tool.name for tool in defined or ()}
    return above if is_defined else reading


def _other_name(reading: Reading, parent: Place) -> bool:
    """Whether the span is of another agent than the spans above: tools and history above are not its own."""
    names = (reading.context.agent_name, parent.inherited.agent_name)
    return None not in names and names[0] != names[1]


def _caller(above: Reading, parent: Place, *, barrier: bool) -> Reading | None:
    """The model call around a span, unless an agent or a tool lies between."""
    if barrier or above.tool_executions:
        return None
    return above if above.model_calls else parent.caller


def _unambiguous_contexts(places: Iterable[Place]) -> dict[str, Context]:
    """Per trace, the values of the fields that only one value of the trace's spans is known for."""
    seen: dict[str, dict[str, set[str]]] = defaultdict(lambda: {name: set() for name in CONTEXT_FIELDS})
    for place in places:
        values = seen[place.reading.span.trace_id]
        for name in CONTEXT_FIELDS:
            value = getattr(_of_dialect(place.reading.context), name)
            if value is not None:
                values[name].add(value)
    return {
        trace_id: Context(**{name: next(iter(found)) for name, found in values.items() if len(found) == 1})
        for trace_id, values in seen.items()
    }
