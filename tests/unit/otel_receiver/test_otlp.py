"""OTLP messages to records: every value type, every limit, and bad records that cost no neighbour."""

import random

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from otel_receiver.config import LimitsConfig
from otel_receiver.errors import MalformedRequest
from otel_receiver.ingest_log import Signal
from otel_receiver.otlp import Rejection, check, parse_logs, parse_traces
from otel_receiver.salvage import NOT_UTF8, UNDECODABLE
from otel_receiver.spans import SpanEvent, SpanLink, SpanStatus
from tests.unit.otel_receiver.front import logs_request, span, trace_request, with_invalid_utf8

LIMITS = LimitsConfig()


def only_span(message, limits: LimitsConfig = LIMITS):
    """The one span of a request with this message."""
    (record,) = parse_traces(trace_request(message).SerializeToString(), limits).records
    return record


def nested(depth: int) -> AnyValue:
    """A string inside so many arrays."""
    value = AnyValue(string_value="deep")
    for _ in range(depth):
        outer = AnyValue()
        outer.array_value.values.append(value)
        value = outer
    return value


def tagged(tag: int, content: bytes) -> bytes:
    """A length-delimited field by the protobuf encoding, for messages protobuf itself refuses to build."""
    low, high = len(content) & 0x7F, len(content) >> 7
    return bytes([tag, low | 0x80, high] if high else [tag, low]) + content


def test_every_field_of_a_span_is_read():
    """Ids are lower-case hex; resource and scope come with each span."""
    message = span(1, parent_span_id=b"\xab" * 8, dropped_attributes_count=3, dropped_events_count=2)
    message.status.code, message.status.message = 2, "boom"
    event = message.events.add(name="exception", time_unix_nano=7, dropped_attributes_count=1)
    event.attributes.add(key="exception.type").value.string_value = "KeyError"
    message.links.add(trace_id=b"\x01" * 16, span_id=b"\x02" * 8).attributes.add(key="k").value.bool_value = True
    message.links.add(trace_id=b"short", span_id=b"\x02" * 8)
    record = only_span(message)
    assert ("00000000000000000000000000000001", "0000000000000001") == (record.trace_id, record.span_id)
    assert ("abababababababab", "span 1", 1000, 1500) == (
        record.parent_span_id,
        record.name,
        record.start_time_unix_nano,
        record.end_time_unix_nano,
    )
    assert (SpanStatus.ERROR, "boom", 3, 2) == (
        record.status,
        record.status_message,
        record.dropped_attributes_count,
        record.dropped_events_count,
    )
    expected = SpanEvent(
        name="exception", time_unix_nano=7, attributes={"exception.type": "KeyError"}, dropped_attributes_count=1
    )
    assert (expected,) == record.events
    assert (SpanLink(trace_id="01" * 16, span_id="02" * 8, attributes={"k": True}),) == record.links
    assert ({"service.name": "svc"}, "scope") == (record.resource, record.scope_name)


def test_every_value_type_is_plain_python():
    """Bytes stay bytes, arrays are tuples, key-value lists are dicts, a value without content is None."""
    message = span()
    add = message.attributes.add
    add(key="s").value.string_value = "text"
    add(key="b").value.bool_value = False
    add(key="i").value.int_value = -(2**63)
    add(key="d").value.double_value = 0.5
    add(key="raw").value.bytes_value = b"\xff\x00"
    array = add(key="a").value.array_value
    array.values.add().int_value = 1
    array.values.add()
    inner = add(key="m").value.kvlist_value.values.add(key="x").value.kvlist_value
    inner.values.add(key="y").value.string_value = "z"
    add(key="none")
    add(key="s").value.string_value = "the later one wins"
    expected = {
        "s": "the later one wins",
        "b": False,
        "i": -(2**63),
        "d": 0.5,
        "raw": b"\xff\x00",
        "a": (1, None),
        "m": {"x": {"y": "z"}},
        "none": None,
    }
    assert expected == only_span(message).attributes


def test_attributes_over_a_limit_are_dropped_and_counted():
    """Too many, too long and too deep each count as the sender's own dropped attributes do; neighbours stay."""
    limits = LimitsConfig(attributes_max=4, value_bytes_max=10, value_depth_max=2)
    message = span(1, dropped_attributes_count=1)
    message.attributes.add(key="long").value.string_value = "x" * 11
    message.attributes.add(key="deep").value.CopyFrom(nested(3))
    message.attributes.add(key="fits").value.string_value = "x" * 10
    message.attributes.add(key="flat").value.CopyFrom(nested(2))
    message.attributes.add(key="fifth").value.int_value = 5
    record = only_span(message, limits)
    assert {"fits": "x" * 10, "flat": (("deep",),)} == record.attributes
    assert 4 == record.dropped_attributes_count


def test_events_and_links_over_a_limit_are_dropped():
    """The first ones stay; dropped events are counted."""
    message = span()
    for index in range(3):
        message.events.add(name=str(index))
        message.links.add(trace_id=b"\x01" * 16, span_id=bytes([1] * 7 + [index]))
    record = only_span(message, LimitsConfig(events_max=2, links_max=1))
    assert ["0", "1"] == [event.name for event in record.events]
    assert (1, 1) == (record.dropped_events_count, len(record.links))


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("trace_id", b"abc", "trace_id is 3 bytes, must be 16"),
        ("trace_id", b"", "trace_id is 0 bytes, must be 16"),
        ("trace_id", bytes(16), "trace_id is all zeros"),
        ("span_id", bytes(8), "span_id is all zeros"),
        ("span_id", b"123456789", "span_id is 9 bytes, must be 8"),
        ("parent_span_id", b"1", "parent_span_id is 1 bytes, must be 8 or absent"),
    ],
)
def test_bad_ids_are_refused_alike_before_and_after_the_log(field, value, reason):
    """`check` and `parse_traces` come to the same verdict with the same reason; the other spans stay."""
    bad = span(2)
    setattr(bad, field, value)
    payload = trace_request(span(1), bad, span(3)).SerializeToString()
    checked, parsed = check(Signal.TRACES, payload), parse_traces(payload, LIMITS)
    assert (Rejection(reason=reason, count=1),) == checked.rejected == parsed.rejected
    assert 2 == checked.accepted == len(parsed.records)


def test_a_parent_of_zeros_is_no_parent():
    """Some senders write zeros where the specification leaves the field out."""
    assert only_span(span(1, parent_span_id=bytes(8))).parent_span_id is None


def test_log_records_may_belong_to_no_span():
    """Missing and all-zero ids are empty; ids of a wrong length are refused."""
    request = logs_request("none", "zeros", "some", "wrong")
    records = request.resource_logs[0].scope_logs[0].log_records
    records[1].trace_id, records[1].span_id = bytes(16), bytes(8)
    records[2].trace_id, records[2].span_id = b"\x0a" * 16, b"\x0b" * 8
    records[3].trace_id = b"abc"
    parsed = parse_logs(request.SerializeToString(), LIMITS)
    assert [("none", "", ""), ("zeros", "", ""), ("some", "0a" * 16, "0b" * 8)] == [
        (record.body, record.trace_id, record.span_id) for record in parsed.records
    ]
    assert ("e", 1) == (parsed.records[0].event_name, parsed.records[0].time_unix_nano)
    assert (Rejection(reason="trace_id is 3 bytes, must be 16 or absent", count=1),) == parsed.rejected


@pytest.mark.parametrize("place", ["name", "key", "value", "event", "status", "deep"])
def test_invalid_utf8_anywhere_in_a_span_is_mended_there(place):
    """Wherever the bytes stand, the span is kept with U+FFFD and counted as changed, the others byte for byte."""
    bad = span(2)
    match place:
        case "name":
            bad.name = "BAD!"
        case "key":
            bad.attributes.add(key="BAD!").value.int_value = 1
        case "value":
            bad.attributes.add(key="k").value.string_value = "BAD!"
        case "event":
            bad.events.add(name="BAD!")
        case "status":
            bad.status.message = "BAD!"
        case "deep":
            bad.attributes.add(key="k").value.kvlist_value.values.add(key="x").value.string_value = "BAD!"
    checked = check(Signal.TRACES, with_invalid_utf8(trace_request(span(1), bad, span(3))))
    assert (3, (), (Rejection(reason=NOT_UTF8, count=1),)) == (checked.accepted, checked.rejected, checked.repaired)
    expected = trace_request(span(1), bad, span(3))
    expected.resource_spans[0].scope_spans[0].spans[1].dropped_attributes_count = 1
    got = ExportTraceServiceRequest.FromString(checked.payload)
    assert str(expected).replace("BAD!", "\ufffd" * 4) == str(got)


def test_invalid_utf8_in_resource_and_scope_costs_no_span():
    """Bytes outside the spans are mended without a count: no span is changed."""
    request = trace_request(span(1))
    request.resource_spans[0].resource.attributes[0].value.string_value = "BAD!"
    request.resource_spans[0].scope_spans[0].scope.version = "BAD!"
    request.resource_spans[0].schema_url = "BAD!"
    checked = check(Signal.TRACES, with_invalid_utf8(request))
    assert (1, (), ()) == (checked.accepted, checked.rejected, checked.repaired)
    (record,) = parse_traces(checked.payload, LIMITS).records
    assert ({"service.name": "\ufffd" * 4}, "\ufffd" * 4) == (record.resource, record.scope_version)


def test_a_span_nested_too_deep_for_protobuf_is_refused_alone():
    """The parser gives up at 100 levels; the other spans are kept."""
    value = b"\x0a\x01x"
    for _ in range(60):
        value = tagged(0x2A, tagged(0x0A, value))
    deep = span(2).SerializeToString() + tagged(0x4A, tagged(0x12, value))
    parts = [span(1).SerializeToString(), deep, span(3).SerializeToString()]
    request = tagged(0x0A, tagged(0x12, b"".join(tagged(0x12, part) for part in parts)))
    checked = check(Signal.TRACES, request)
    assert (2, (Rejection(reason=UNDECODABLE, count=1),)) == (checked.accepted, checked.rejected)
    assert ["span 1", "span 3"] == [record.name for record in parse_traces(checked.payload, LIMITS).records]


def test_random_damage_never_raises_anything_else():
    """Whatever bytes arrive, the verdict is a count or MalformedRequest, and what is accepted can be parsed again."""
    generator = random.Random(5)
    message = span(2)
    message.attributes.add(key="k").value.string_value = "value"
    good = trace_request(span(1), message, span(3)).SerializeToString()
    accepted = 0
    for _ in range(3000):
        data = bytearray(good)
        for _ in range(generator.randint(1, 4)):
            data[generator.randrange(len(data))] = generator.randrange(256)
        del data[generator.randint(len(data) // 2, len(data)) :]
        try:
            checked = check(Signal.TRACES, bytes(data))
        except MalformedRequest:
            continue
        accepted += checked.accepted
        assert checked.accepted == len(parse_traces(checked.payload, LIMITS).records)
    assert accepted > 0
