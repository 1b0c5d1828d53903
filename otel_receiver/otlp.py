"""OTLP messages to Span and LogRecord, and the answers to senders; the only reader of OTLP messages.

`check` runs before a request is acknowledged and looks at structure and ids only; `parse_traces` and `parse_logs` run
later, on the same bytes from the ingest log, and come to the same verdict on every record. `parse_*` is the hot path.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1 import logs_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

from otel_receiver.config import LimitsConfig
from otel_receiver.errors import MalformedRequest
from otel_receiver.ingest_log import Signal
from otel_receiver.salvage import salvage
from otel_receiver.spans import Attributes, LogRecord, Span, SpanEvent, SpanLink, SpanStatus, Value

Record = TypeVar("Record")
Request = ExportTraceServiceRequest | ExportLogsServiceRequest
Response = ExportTraceServiceResponse | ExportLogsServiceResponse | ExportMetricsServiceResponse

NO_IDS = frozenset({b"", bytes(8), bytes(16)})
METRICS_NOTE = "metrics are accepted and counted, but not stored by this receiver"

_STATUSES = {0: SpanStatus.UNSET, 1: SpanStatus.OK, 2: SpanStatus.ERROR}
_REQUESTS: dict[Signal, type[Request]] = {
    Signal.TRACES: ExportTraceServiceRequest,
    Signal.LOGS: ExportLogsServiceRequest,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """Why so many records were refused, or kept with a change."""

    reason: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A request that may be kept: its bytes and what to tell the sender."""

    payload: bytes
    """The request's bytes, repaired where that was needed."""
    accepted: int
    rejected: tuple[Rejection, ...] = ()
    repaired: tuple[Rejection, ...] = ()
    """Records that were kept after a repair."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed(Generic[Record]):
    """The usable records of a request, in its order, and what was refused."""

    records: tuple[Record, ...]
    rejected: tuple[Rejection, ...] = ()


def check(signal: Signal, payload: bytes) -> Checked:
    """What of a request can be kept; raises MalformedRequest when its bytes are no request at all.

    A record that cannot be decoded, such as one with a string that is not UTF-8, never costs its neighbours.
    """
    refused: tuple[Rejection, ...] = ()
    repaired: tuple[Rejection, ...] = ()
    try:
        request = decode(signal, payload)
    except DecodeError:
        saved = salvage(payload, _record_type(signal))
        payload = saved.payload
        refused = _rejections(Counter(saved.rejected))
        repaired = _rejections(Counter(saved.repaired))
        try:
            request = decode(signal, payload)
        except DecodeError as error:
            raise MalformedRequest(f"{signal}: not an OTLP request ({error}); check the exporter's protocol") from error
    verdicts = _verdicts(request)
    faults = Counter(fault for fault in verdicts if fault is not None)
    return Checked(
        payload=payload,
        accepted=len(verdicts) - faults.total(),
        rejected=refused + _rejections(faults),
        repaired=repaired,
    )


def decode(signal: Signal, payload: bytes) -> Request:
    """The OTLP message; raises protobuf's DecodeError."""
    return _REQUESTS[signal].FromString(payload)


def plausible_records(signal: Signal, payload: bytes) -> int:
    """How many records make sense when bytes are read as this signal; 0 when they cannot be read as it at all."""
    try:
        request = decode(signal, payload)
    except DecodeError:
        return 0
    if isinstance(request, ExportTraceServiceRequest):
        spans = [m for resource in request.resource_spans for scope in resource.scope_spans for m in scope.spans]
        return sum(_span_fault(m) is None for m in spans)
    records = [m for resource in request.resource_logs for scope in resource.scope_logs for m in scope.log_records]
    return sum(_log_fault(m) is None and (m.time_unix_nano or m.observed_time_unix_nano) > 0 for m in records)


def count_metrics(payload: bytes) -> int:
    """The data points of a metrics request; raises MalformedRequest."""
    try:
        request = ExportMetricsServiceRequest.FromString(payload)
    except DecodeError as error:
        raise MalformedRequest(f"metrics: not an OTLP request ({error}); check the exporter's protocol") from error
    count = 0
    for resource in request.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                data = metric.WhichOneof("data")
                count += len(getattr(metric, data).data_points) if data else 0
    return count


def answer(signal: Signal, checked: Checked, limits: LimitsConfig) -> Response:
    """OTLP's answer: empty on full success, else the number refused and the reasons."""
    refused = sum(rejection.count for rejection in checked.rejected)
    response = ExportTraceServiceResponse() if signal is Signal.TRACES else ExportLogsServiceResponse()
    if isinstance(response, ExportTraceServiceResponse):
        response.partial_success.rejected_spans = refused
    else:
        response.partial_success.rejected_log_records = refused
    response.partial_success.error_message = _explain(checked, limits)
    if not refused and not checked.repaired:
        response.ClearField("partial_success")
    return response


def answer_metrics() -> ExportMetricsServiceResponse:
    """A warning that nothing was stored: full success would say that it was."""
    response = ExportMetricsServiceResponse()
    response.partial_success.error_message = METRICS_NOTE
    return response


def parse_traces(payload: bytes, limits: LimitsConfig) -> Parsed[Span]:
    """The spans of a trace request; raises MalformedRequest."""
    try:
        request = ExportTraceServiceRequest.FromString(payload)
    except DecodeError as error:
        raise MalformedRequest(f"traces: not an OTLP request ({error})") from error
    spans: list[Span] = []
    faults: Counter[str] = Counter()
    for resource_spans in request.resource_spans:
        resource, _ = _attributes(resource_spans.resource.attributes, limits)
        for scope_spans in resource_spans.scope_spans:
            scope = (scope_spans.scope.name, scope_spans.scope.version)
            for message in scope_spans.spans:
                fault = _span_fault(message)
                if fault is None:
                    spans.append(_span(message, resource, scope, limits))
                else:
                    faults[fault] += 1
    return Parsed(records=tuple(spans), rejected=_rejections(faults))


def parse_logs(payload: bytes, limits: LimitsConfig) -> Parsed[LogRecord]:
    """The log records of a logs request; raises MalformedRequest."""
    try:
        request = ExportLogsServiceRequest.FromString(payload)
    except DecodeError as error:
        raise MalformedRequest(f"logs: not an OTLP request ({error})") from error
    records: list[LogRecord] = []
    faults: Counter[str] = Counter()
    for resource_logs in request.resource_logs:
        resource, _ = _attributes(resource_logs.resource.attributes, limits)
        for scope_logs in resource_logs.scope_logs:
            scope = (scope_logs.scope.name, scope_logs.scope.version)
            for message in scope_logs.log_records:
                fault = _log_fault(message)
                if fault is None:
                    records.append(_log_record(message, resource, scope, limits))
                else:
                    faults[fault] += 1
    return Parsed(records=tuple(records), rejected=_rejections(faults))


def _span(message: trace_pb2.Span, resource: Attributes, scope: tuple[str, str], limits: LimitsConfig) -> Span:
    attributes, dropped = _attributes(message.attributes, limits)
    parent = message.parent_span_id
    events = message.events
    return Span(
        trace_id=message.trace_id.hex(),
        span_id=message.span_id.hex(),
        parent_span_id=None if parent in NO_IDS else parent.hex(),
        name=message.name,
        start_time_unix_nano=message.start_time_unix_nano,
        end_time_unix_nano=message.end_time_unix_nano,
        status=_STATUSES.get(message.status.code, SpanStatus.UNSET),
        status_message=message.status.message,
        attributes=attributes,
        events=tuple(_event(event, limits) for event in events[: limits.events_max]) if events else (),
        links=_links(message.links, limits) if message.links else (),
        dropped_attributes_count=message.dropped_attributes_count + dropped,
        dropped_events_count=message.dropped_events_count + max(0, len(events) - limits.events_max),
        scope_name=scope[0],
        scope_version=scope[1],
        resource=resource,
    )


def _event(message: trace_pb2.Span.Event, limits: LimitsConfig) -> SpanEvent:
    attributes, dropped = _attributes(message.attributes, limits)
    return SpanEvent(
        name=message.name,
        time_unix_nano=message.time_unix_nano,
        attributes=attributes,
        dropped_attributes_count=message.dropped_attributes_count + dropped,
    )


def _links(messages: Sequence[trace_pb2.Span.Link], limits: LimitsConfig) -> tuple[SpanLink, ...]:
    """The links that lead to a span; one with unusable ids leads nowhere."""
    return tuple(
        SpanLink(
            trace_id=link.trace_id.hex(),
            span_id=link.span_id.hex(),
            attributes=_attributes(link.attributes, limits)[0],
        )
        for link in messages[: limits.links_max]
        if len(link.trace_id) == 16 and len(link.span_id) == 8
    )


def _log_record(
    message: logs_pb2.LogRecord, resource: Attributes, scope: tuple[str, str], limits: LimitsConfig
) -> LogRecord:
    attributes, dropped = _attributes(message.attributes, limits)
    try:
        body = _value(message.body, limits, 0)
    except _OverLimit:
        body, dropped = None, dropped + 1
    return LogRecord(
        trace_id="" if message.trace_id in NO_IDS else message.trace_id.hex(),
        span_id="" if message.span_id in NO_IDS else message.span_id.hex(),
        time_unix_nano=message.time_unix_nano,
        observed_time_unix_nano=message.observed_time_unix_nano,
        event_name=message.event_name,
        body=body,
        attributes=attributes,
        dropped_attributes_count=message.dropped_attributes_count + dropped,
        scope_name=scope[0],
        scope_version=scope[1],
        resource=resource,
    )


class _OverLimit(Exception):
    """A value is larger or deeper than the limits allow."""


def _attributes(pairs: Sequence[KeyValue], limits: LimitsConfig) -> tuple[dict[str, Value], int]:
    """Attributes by key and the number that a limit dropped."""
    result: dict[str, Value] = {}
    dropped = max(0, len(pairs) - limits.attributes_max)
    longest = limits.value_bytes_max
    for pair in pairs if not dropped else pairs[: limits.attributes_max]:
        value = pair.value
        kind = value.WhichOneof("value")
        if kind == "string_value":
            text = value.string_value
            if len(text) <= longest:
                result[pair.key] = text
            else:
                dropped += 1
        elif kind == "int_value":
            result[pair.key] = value.int_value
        else:
            try:
                result[pair.key] = _value(value, limits, 0)
            except _OverLimit:
                dropped += 1
    return result, dropped


def _value(message: AnyValue, limits: LimitsConfig, depth: int) -> Value:
    """A plain Python value; raises _OverLimit."""
    kind = message.WhichOneof("value")
    match kind:
        case "string_value" | "bytes_value":
            value: str | bytes = getattr(message, kind)
            if len(value) > limits.value_bytes_max:
                raise _OverLimit
            return value
        case "bool_value":
            return message.bool_value
        case "int_value":
            return message.int_value
        case "double_value":
            return message.double_value
        case "array_value" | "kvlist_value" if depth >= limits.value_depth_max:
            raise _OverLimit
        case "array_value":
            return tuple(_value(item, limits, depth + 1) for item in message.array_value.values)
        case "kvlist_value":
            return _kvlist(message.kvlist_value.values, limits, depth + 1)
    return None


def _kvlist(pairs: Sequence[KeyValue], limits: LimitsConfig, depth: int) -> Mapping[str, Value]:
    if len(pairs) > limits.attributes_max:
        raise _OverLimit
    return {pair.key: _value(pair.value, limits, depth) for pair in pairs}


def _record_type(signal: Signal) -> type[trace_pb2.Span | logs_pb2.LogRecord]:
    return trace_pb2.Span if signal is Signal.TRACES else logs_pb2.LogRecord


def _verdicts(request: Request) -> list[str | None]:
    """What is wrong with the ids of each record, in the request's order."""
    if isinstance(request, ExportTraceServiceRequest):
        return [_span_fault(m) for resource in request.resource_spans for s in resource.scope_spans for m in s.spans]
    return [_log_fault(m) for resource in request.resource_logs for s in resource.scope_logs for m in s.log_records]


def _span_fault(message: trace_pb2.Span) -> str | None:
    """Why the ids of a span are unusable, or None."""
    trace_id, span_id, parent = message.trace_id, message.span_id, message.parent_span_id
    if len(trace_id) != 16:
        return f"trace_id is {len(trace_id)} bytes, must be 16"
    if len(span_id) != 8:
        return f"span_id is {len(span_id)} bytes, must be 8"
    if trace_id in NO_IDS:
        return "trace_id is all zeros"
    if span_id in NO_IDS:
        return "span_id is all zeros"
    if parent and len(parent) != 8:
        return f"parent_span_id is {len(parent)} bytes, must be 8 or absent"
    return None


def _log_fault(message: logs_pb2.LogRecord) -> str | None:
    """Why the ids of a log record are unusable, or None; it may have none, belonging to no span."""
    if len(message.trace_id) not in (0, 16):
        return f"trace_id is {len(message.trace_id)} bytes, must be 16 or absent"
    if len(message.span_id) not in (0, 8):
        return f"span_id is {len(message.span_id)} bytes, must be 8 or absent"
    return None


def _rejections(counts: Counter[str]) -> tuple[Rejection, ...]:
    return tuple(Rejection(reason=reason, count=count) for reason, count in counts.most_common())


def _explain(checked: Checked, limits: LimitsConfig) -> str:
    """All reasons, cut to what an answer may hold."""
    parts = [f"{item.count} refused: {item.reason}" for item in checked.rejected]
    parts += [f"{item.count} kept after repair: {item.reason}" for item in checked.repaired]
    text = "; ".join(parts).encode()[: limits.error_message_bytes_max]
    return text.decode(errors="ignore")
