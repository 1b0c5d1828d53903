"""A model call with its place: the unit that assembly sorts, merges, chains and turns into steps.

In: readings. Out: `Call`s, one per reported inference, before twins are merged. A call knows its span, its context with
what it inherits from the spans around it, and the scope it runs in; nothing else in `episodes/` walks the span tree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import takewhile

from otel_receiver.dialects.base import SYNTHETIC_ID_PREFIX, Context, ModelCall, Reading, SpanRef
from otel_receiver.episodes.tree import Place, SpanTree
from spanloop.records import Message, QualityFlag, Role

SYSTEM_ROLES = frozenset({Role.SYSTEM, Role.DEVELOPER})
NO_TIME = 2**63 - 1
"""Sorts a call without times after all that have one."""

OUTPUT_TOOLS = ("final_result", "final_answer")
"""Tools by which frameworks let a model give its structured final answer; nobody need return a result for them."""

Order = tuple[int, int, str, str, int]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Call:
    """One inference, compared by identity: two calls may say the same."""

    ref: SpanRef
    index: int
    """Position among the calls of its span; most spans have one."""
    place: Place
    context: Context
    report: ModelCall
    body: tuple[Message, ...]
    """The prompt without system messages."""
    system: str
    """The system prompt."""
    merged_span_ids: tuple[str, ...] = ()
    flags: frozenset[QualityFlag] = frozenset()
    """What assembly found; the sender's own are in `report.flags`."""

    @property
    def order(self) -> Order:
        """The order of calls that no message history orders: start, end, then ids so that it is total."""
        started = NO_TIME if self.ref.started_at is None else self.ref.started_at
        ended = NO_TIME if self.ref.ended_at is None else self.ref.ended_at
        return (started, ended, self.ref.trace_id, self.ref.span_id, self.index)

    @property
    def scope(self) -> tuple[str, str, str]:
        """Trace, tool span and agent span the call runs in: what one run of one agent shares."""
        return (self.ref.trace_id, span_id_of(self.place.tool), span_id_of(self.place.agent))

    @property
    def output(self) -> Message | None:
        """The model's answer."""
        return self.report.output

    @property
    def attempt_failed(self) -> bool:
        """Whether nothing usable came of the call: it failed, or its answer broke off."""
        return (self.ref.failed and (self.output is None or self.report.finish_reason is None)) or self.broken_off

    @property
    def broken_off(self) -> bool:
        """Whether a streamed answer ended without a finish reason, on a span that does not say it succeeded."""
        told_whole = self.report.is_whole or self.report.finish_reason is not None
        return bool(self.report.streamed) and not told_whole and not self.ref.succeeded

    def flagged(self, *flags: QualityFlag) -> Call:
        """The call with more flags."""
        return replace(self, flags=self.flags.union(flags))


def span_id_of(reading: Reading | None) -> str:
    """The span id of a reading, or the empty string where there is none."""
    return reading.span.span_id if reading is not None else ""


def is_made_id(call_id: str) -> bool:
    """Whether a dialect made this tool-call id for want of one."""
    return call_id.startswith(SYNTHETIC_ID_PREFIX)


def is_output_tool(name: str) -> bool:
    """Whether a tool is the framework's way of giving the final answer."""
    return name.startswith(OUTPUT_TOOLS)


def calls_of(tree: SpanTree) -> Iterator[Call]:
    """Every call of the readings, in the tree's order."""
    for place in tree.places:
        for index, report in enumerate(place.reading.model_calls):
            yield Call(
                ref=place.reading.span,
                index=index,
                place=place,
                context=tree.context(place),
                report=report,
                body=without_system(report.messages),
                system=_system_prompt(report.messages),
            )


def with_report(call: Call, report: ModelCall) -> Call:
    """The call with another report of the same inference."""
    return replace(call, report=report, body=without_system(report.messages), system=_system_prompt(report.messages))


def _system_prompt(messages: tuple[Message, ...]) -> str:
    """The system messages that open the prompt; where none does, all: later ones are notes of the moment."""
    opening = tuple(takewhile(lambda message: message.role in SYSTEM_ROLES, messages))
    return "\n".join(message.text for message in opening or messages if message.role in SYSTEM_ROLES)


def without_system(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The messages that are not the system's."""
    return tuple(message for message in messages if message.role not in SYSTEM_ROLES)
