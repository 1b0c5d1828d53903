"""Carriers of the OTel GenAI `parts` form (semantic conventions 1.37 and later).

The same attributes stand as JSON text on spans and in span events, and as structures in log records; the
operation-details event may be split over several events of one span.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from otel_receiver.dialects.candidates import Carried, Carrier
from otel_receiver.dialects.fields import finish_reasons_of
from otel_receiver.dialects.finish import finish_reason
from otel_receiver.dialects.json_text import JsonProblem, looks_like_json, read_structured
from otel_receiver.dialects.messages import read_messages, with_system
from otel_receiver.dialects.notes import Notes, is_redacted
from otel_receiver.dialects.raw import one_turn, read_instructions
from otel_receiver.dialects.tool_ids import complete_ids
from otel_receiver.dialects.values import as_int, as_items, as_mapping, as_text
from otel_receiver.spans import LogRecord, Span
from spanloop.records import QualityFlag

INPUT = "gen_ai.input.messages"
OUTPUT = "gen_ai.output.messages"
INSTRUCTIONS = "gen_ai.system_instructions"
TOOLS = "gen_ai.tool.definitions"
DETAILS_EVENT = "gen_ai.client.inference.operation.details"

CHOICE_COUNT = "gen_ai.request.choice.count"

Source = Mapping[str, object]


def sources(span: Span, logs: Iterable[LogRecord]) -> tuple[Source, ...]:
    """Where this form stands: on the span, in its operation-details events (merged), in its log records (merged)."""
    events = merged(event.attributes for event in span.events if event.name == DETAILS_EVENT)
    records = merged(record.attributes for record in logs if event_name(record) == DETAILS_EVENT)
    return tuple(source for source in (span.attributes, events, records) if source)


def event_name(record: LogRecord) -> str:
    """The record's event name; older senders write it as an attribute."""
    return record.event_name or as_text(record.attributes.get("event.name")) or ""


def merged(parts: Iterable[Source]) -> Source:
    """The attributes of several events as one; of a key that stands in several, the first value that is no `None`."""
    whole: dict[str, object] = {}
    for part in parts:
        whole.update({key: value for key, value in part.items() if value is not None and whole.get(key) is None})
    return whole


def prompt_carriers(places: Iterable[Source]) -> Iterator[Carrier]:
    """One carrier per place that holds input messages or instructions."""
    for place in places:
        if place.get(INPUT) is not None or place.get(INSTRUCTIONS) is not None:
            yield lambda place=place: read_prompt(place)  # type: ignore[misc]  # mypy cannot infer a defaulted lambda


def answer_carriers(places: Iterable[Source]) -> Iterator[Carrier]:
    """One carrier per place that holds output messages."""
    for place in places:
        if place.get(OUTPUT) is not None:
            yield lambda place=place: read_answer(place)  # type: ignore[misc]  # mypy cannot infer a defaulted lambda


def read_prompt(place: Source) -> Carried:
    """The instructions and input messages of one place."""
    notes = Notes()
    body = read_attribute(place.get(INPUT), notes, QualityFlag.PROMPT_TRUNCATED)
    spoken = read_attribute(place.get(INSTRUCTIONS), notes, QualityFlag.PROMPT_TRUNCATED)
    messages = with_system(read_instructions(spoken, notes), read_messages(body, notes))
    return Carried(messages=complete_ids(messages, notes), notes=notes)


def read_answer(place: Source) -> Carried:
    """The first choice among the output messages of one place."""
    notes = Notes()
    body = read_attribute(place.get(OUTPUT), notes, QualityFlag.OUTPUT_TRUNCATED)
    items = as_items(body)
    choice = (body,) if items is None else _first_choice(items, place)
    return Carried(
        messages=one_turn(choice, notes) if body is not None else (),
        notes=notes,
        finish_reason=next((reason for item in choice if (reason := _reason(item)) is not None), None),
    )


def _first_choice(items: Sequence[object], place: Source) -> Sequence[object]:
    """The items of the first choice: one, unless the items of one answer stand there as a message each.

    Then none but the last names a finish reason, and the span does not list a reason for each.
    """
    if len(items) < 2 or len(finish_reasons_of(place)) == len(items) or (as_int(place.get(CHOICE_COUNT)) or 1) > 1:
        return items[:1]
    last = next((index for index, item in enumerate(items) if _reason(item) is not None), len(items) - 1)
    return items[: last + 1]


def _reason(item: object) -> str | None:
    return finish_reason((as_mapping(item) or {}).get("finish_reason"))


def read_attribute(value: object, notes: Notes, cut: QualityFlag) -> object:
    """The structure an attribute holds; text that is no JSON stays text. `cut` is the flag for JSON that was cut."""
    text = as_text(value)
    if text is None:
        return value
    if is_redacted(text):
        notes.flag(QualityFlag.CONTENT_REDACTED)
        return None
    if not looks_like_json(text):
        return text
    reading = read_structured(text)
    if reading.problem is JsonProblem.CUT:
        notes.flag(cut)
    elif reading.problem is not None:
        notes.flag(QualityFlag.MESSAGE_UNPARSED)
    return reading.value
