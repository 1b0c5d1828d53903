"""The same hostile values in the place of every dialect's own content: bounded time, bounded memory, no exception."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_receiver.config import LimitsConfig
from otel_receiver.dialects.registry import DIALECTS, read_span
from otel_receiver.otlp import parse_traces
from otel_receiver.spans import Attributes, LogRecord, Span, Value
from spanloop.records import QualityFlag
from tests.golden.harness import load, tags
from tests.unit.otel_receiver.dialects.factories import make_span

MIB = 1024 * 1024
NAMES = sorted({dialect.name for dialect in DIALECTS})
UNCAPTURED = {
    "agent_lightning": make_span({"agentlightning.reward.0.value": "1" * 50}, name="agentlightning.annotation"),
    "quotient": make_span({"quotient.trace.id": "x" * 50}, name="quotient.end_of_trace"),
    "vector_store": make_span(
        {"db.system.name": "chroma", "db.operation": "query", "db.query.retrieved_documents": "[" + " " * 50 + "]"}
    ),
}
DEEP = '[{"role":"user","content":' + '{"a":' * 40 + "1" + "}" * 41 + "]"
LISTS = ("llm.input_messages", "llm.output_messages", "gen_ai.prompt", "gen_ai.completion", "llm.request.functions")

Sample = tuple[Span, tuple[LogRecord, ...]]


@cache
def samples() -> dict[str, Sample]:
    """Of each dialect the captured span with most attributes that reports a call, and its log records."""
    found: dict[str, Sample] = {name: (span, ()) for name, span in UNCAPTURED.items()}
    for tag in tags():
        spans, logs = load(tag)
        for span in spans:
            mine = tuple(
                record for record in logs if (record.trace_id, record.span_id) == (span.trace_id, span.span_id)
            )
            reading = read_span(span, mine)
            name = reading.context.dialect
            if name is not None and reading.model_calls and _size((span, mine)) > _size(found.get(name)):
                found[name] = (span, mine)
    return found


def _size(sample: Sample | None) -> int:
    return 0 if sample is None else len(sample[0].attributes) + 10 * len(sample[1])


def with_content(sample: Sample, content: Value) -> Sample:
    """The sample with another value wherever it holds content: in attributes, events, and log bodies."""
    span, logs = sample
    events = tuple(replace(event, attributes=_swapped(event.attributes, content)) for event in span.events)
    records = tuple(
        replace(record, attributes=_swapped(record.attributes, content), body=_content(record.body, content))
        for record in logs
    )
    return replace(span, attributes=_swapped(span.attributes, content), events=events), records


def _swapped(attributes: Attributes, content: Value) -> Attributes:
    return {key: _content(value, content) for key, value in attributes.items()}


def _content(value: Value, content: Value) -> Value:
    """The other value in place of a structure or a long text; words, numbers and ids stay."""
    is_content = (
        len(value) >= 40 or value[:1] in ("[", "{") if isinstance(value, str) else isinstance(value, dict | tuple)
    )
    return content if is_content else value


def with_keys(sample: Sample, keys: dict[str, Value]) -> Sample:
    """The sample with more attributes."""
    return replace(sample[0], attributes={**sample[0].attributes, **keys}), sample[1]


HOSTILE: dict[str, Callable[[Sample], Sample]] = {
    "JSON forty levels deep": lambda sample: with_content(sample, DEEP),
    "JSON without bottom": lambda sample: with_content(sample, "[" * 100_000),
    "a repr without bottom": lambda sample: with_content(sample, "Message(a=" * 20_000),
    "structures in every place": lambda sample: with_content(
        sample, ({"role": ("user",), "parts": {"type": 7}}, None, ())
    ),
    "indexes of a thousand million": lambda sample: with_keys(
        sample, {f"{name}.999999999.role": "user" for name in LISTS}
    ),
    "a hundred thousand keys": lambda sample: with_keys(
        sample, {f"{name}.{index}.message.content": "x" for name in LISTS for index in range(20_000)}
    ),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
def test_every_dialect_reads_hostile_content_in_bounded_time(name, change):
    """Ten seconds of one core at most, on a machine that others share; the span keeps its place and its dialect."""
    span, logs = change(samples()[name])
    started = time.process_time()
    reading = read_span(span, logs)
    assert time.process_time() - started < 10.0
    assert (name, span.span_id) == (reading.context.dialect, reading.span.span_id)


@pytest.mark.parametrize("name", NAMES)
def test_every_dialect_reads_large_values_in_bounded_time_and_memory(name):
    """The largest value that is let through, in every place at once: ten seconds and eight times its size at most."""
    size = LimitsConfig().value_bytes_max
    span, logs = with_content(samples()[name], '[{"role":"user","content":"' + "x" * size)
    started = time.process_time()
    tracemalloc.start()
    reading = read_span(span, logs)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.process_time() - started < 10.0
    assert peak < 8 * size
    assert span.span_id == reading.span.span_id


def test_a_value_of_sixty_mib_is_dropped_before_any_dialect_sees_it():
    """It is counted as a lost attribute, so that the step is flagged; its neighbours stay."""
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add(trace_id=b"t" * 16, span_id=b"s" * 8, name="chat")
    span.attributes.add(key="gen_ai.input.messages").value.string_value = "x" * (60 * MIB)
    span.attributes.add(key="gen_ai.operation.name").value.string_value = "chat"
    (parsed,) = parse_traces(request.SerializeToString(), LimitsConfig()).records
    assert ({"gen_ai.operation.name": "chat"}, 1) == (parsed.attributes, parsed.dropped_attributes_count)
    assert QualityFlag.PROMPT_TRUNCATED in read_span(parsed).model_calls[0].flags
