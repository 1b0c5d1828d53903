"""Log records that carry no ids of a span and name the answer they tell of instead.

An instrumentation that writes its record of a streamed answer after the span's context is gone leaves both ids empty;
the response id is all that joins the two. Such a record waits under a home of its own, made of the service and that
id, where it is kept, found and read again like a trace. Records of no other kind are joined this way: a judgement that
names an answer is feedback, and its target is found when feedback is read.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from otel_receiver.dialects.base import Reading
from otel_receiver.dialects.fields import response_id_of, service_name_of
from otel_receiver.dialects.genai_parts import DETAILS_EVENT, event_name
from otel_receiver.spans import LogRecord

HOME_PREFIX = "answer-"
"""Begins every home; a trace id is hex digits and never does."""

SpanKey = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRef:
    """An answer as a log record names it."""

    service_name: str | None
    response_id: str


def answer_of(record: LogRecord) -> AnswerRef | None:
    """The answer a record without a trace id tells of; `None` for a record of a trace, or one that tells of none."""
    if record.trace_id or event_name(record) != DETAILS_EVENT:
        return None
    response_id = response_id_of(record.attributes)
    return AnswerRef(service_name=service_name_of(record.resource), response_id=response_id) if response_id else None


def home_of(record: LogRecord) -> str:
    """Where a record is kept: under its trace's id, else under its answer's home; empty when it tells of neither."""
    if record.trace_id:
        return record.trace_id
    answer = answer_of(record)
    if answer is None:
        return ""
    text = f"{answer.service_name or ''}\n{answer.response_id}"
    return HOME_PREFIX + hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).hexdigest()


def is_home(trace_id: str) -> bool:
    """Whether the id is an answer's home and no trace's."""
    return trace_id.startswith(HOME_PREFIX)


def owners(readings: Iterable[Reading], records: Iterable[LogRecord]) -> dict[SpanKey, list[LogRecord]]:
    """The records of each span that may have some apart: same service, scope and response id.

    Of several such spans the one that was open at the record's time is meant; where that does not decide, none is.
    """
    open_to: dict[tuple[str | None, str | None, str], list[Reading]] = defaultdict(list)
    for reading in readings:
        for call in reading.model_calls:
            if call.records_apart and call.response_id:
                key = (reading.context.service_name, reading.context.dialect_version, call.response_id)
                open_to[key].append(reading)
    found: dict[SpanKey, list[LogRecord]] = defaultdict(list)
    for record in records:
        answer = answer_of(record)
        if answer is None:
            continue
        scope = f"{record.scope_name} {record.scope_version}".strip() or None
        owner = _owner(open_to.get((answer.service_name, scope, answer.response_id), ()), record)
        if owner is not None:
            found[owner.span.trace_id, owner.span.span_id].append(record)
    return found


def _owner(candidates: Iterable[Reading], record: LogRecord) -> Reading | None:
    meant = list(candidates)
    if len(meant) > 1:
        meant = [reading for reading in meant if _was_open(reading, record)]
    return meant[0] if len(meant) == 1 else None


def _was_open(reading: Reading, record: LogRecord) -> bool:
    started, ended = reading.span.started_at, reading.span.ended_at
    time = record.time_unix_nano or record.observed_time_unix_nano
    return started is not None and ended is not None and started <= time <= ended
