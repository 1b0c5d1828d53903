"""OTLP's JSON encoding to protobuf bytes, and answers back to it.

The OTLP specification (JSON Protobuf Encoding) differs from protobuf's own JSON in one point: trace and span ids are
hex digits, not base64. Base64, as protobuf's own printers write it, is read too: its padding tells it from hex. Names
are lowerCamelCase, 64-bit numbers may be strings, unknown names are ignored. A record that cannot be read is refused
alone.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from otel_receiver.errors import MalformedRequest
from otel_receiver.ingest_log import Signal
from otel_receiver.otlp import Checked, Rejection, check
from otel_receiver.salvage import NOT_UTF8

Json = dict[str, object]
M = TypeVar("M", bound=Message)
R = TypeVar("R", Span, LogRecord)

UNREADABLE = "the record does not follow OTLP's JSON encoding"
REPLACEMENT = "\ufffd"
_IDS = ("traceId", "spanId", "parentSpanId")


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A JSON object as it was read."""

    content: Json
    mended: bool
    """It holds U+FFFD, from the sender or for what was no UTF-8."""


@dataclass(slots=True)
class _Faults:
    """Counts what is wrong with the records while they are read."""

    mended: bool
    unreadable: int = 0
    repaired: int = 0


def check_json(signal: Signal, data: bytes) -> Checked:
    """What of a JSON request can be kept, as protobuf bytes; raises MalformedRequest."""
    return check_document(signal, load_document(data))


def check_document(signal: Signal, document: Document) -> Checked:
    """The same for JSON that is already read."""
    faults = _Faults(document.mended)
    if signal is Signal.TRACES:
        traces = ExportTraceServiceRequest(resource_spans=list(_resource_spans(document.content, faults)))
        payload = traces.SerializeToString()
    else:
        logs = ExportLogsServiceRequest(resource_logs=list(_resource_logs(document.content, faults)))
        payload = logs.SerializeToString()
    checked = check(signal, payload)
    unreadable = (Rejection(reason=UNREADABLE, count=faults.unreadable),) if faults.unreadable else ()
    repaired = (Rejection(reason=NOT_UTF8, count=faults.repaired),) if faults.repaired else ()
    return replace(checked, rejected=unreadable + checked.rejected, repaired=repaired)


def metrics_payload(data: bytes) -> bytes:
    """A JSON metrics request as protobuf bytes; raises MalformedRequest."""
    return _message(load_document(data).content, ExportMetricsServiceRequest()).SerializeToString()


def answer_json(response: Message) -> bytes:
    """An answer in OTLP's JSON encoding."""
    return json_format.MessageToJson(response, indent=None).encode()


def load_document(data: bytes) -> Document:
    """A JSON object; raises MalformedRequest. What no UTF-8 can hold becomes U+FFFD: the document is `mended`."""
    text = data.decode(errors="replace")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MalformedRequest(f"not JSON ({error}); check the exporter's protocol and Content-Type") from error
    if not isinstance(content, dict):
        raise MalformedRequest(f"a JSON {type(content).__name__} is no OTLP request; send an object")
    if "\\ud" in text or "\\uD" in text:
        content = {key: _without_surrogates(item) for key, item in content.items()}
    return Document(content=content, mended=REPLACEMENT in text or "\\ud" in text or "\\uD" in text)


def _resource_spans(document: Json, faults: _Faults) -> Iterator[ResourceSpans]:
    for resource in _objects(document, "resourceSpans"):
        result = _message({key: value for key, value in resource.items() if key != "scopeSpans"}, ResourceSpans())
        for scope in _objects(resource, "scopeSpans"):
            group = _message({key: value for key, value in scope.items() if key != "spans"}, ScopeSpans())
            group.spans.extend(_records(scope, "spans", Span, faults))
            result.scope_spans.append(group)
        yield result


def _resource_logs(document: Json, faults: _Faults) -> Iterator[ResourceLogs]:
    for resource in _objects(document, "resourceLogs"):
        result = _message({key: value for key, value in resource.items() if key != "scopeLogs"}, ResourceLogs())
        for scope in _objects(resource, "scopeLogs"):
            group = _message({key: value for key, value in scope.items() if key != "logRecords"}, ScopeLogs())
            group.log_records.extend(_records(scope, "logRecords", LogRecord, faults))
            result.scope_logs.append(group)
        yield result


def _records(scope: Json, key: str, kind: type[R], faults: _Faults) -> Iterator[R]:
    """The records that can be read; the others are counted."""
    items = scope.get(key)
    for item in items if isinstance(items, list) else []:
        try:
            if not isinstance(item, dict):
                raise MalformedRequest(f"a record in {key} is no JSON object")
            message = _message(_with_ids(item), kind())
        except MalformedRequest:
            faults.unreadable += 1
            continue
        if faults.mended and REPLACEMENT in json.dumps(item, ensure_ascii=False):
            message.dropped_attributes_count += 1
            faults.repaired += 1
        yield message


def _message(document: Json, message: M) -> M:
    """The message of a JSON object; raises MalformedRequest."""
    try:
        return json_format.ParseDict(document, message, ignore_unknown_fields=True, max_recursion_depth=100)
    except (json_format.ParseError, ValueError, TypeError, RecursionError) as error:
        name = message.DESCRIPTOR.name
        raise MalformedRequest(f"JSON of {name} does not follow OTLP's JSON encoding; check the exporter") from error


def _objects(parent: Json, key: str) -> list[Json]:
    """The objects of a list; raises MalformedRequest when there is something else."""
    items = parent.get(key) or []
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise MalformedRequest(f"{key!r} is no list of JSON objects; check the exporter's JSON encoding")
    return items


def _with_ids(record: Json) -> Json:
    """A record, and the links in it, with hex ids turned into the base64 that protobuf's reader expects."""
    changed: Json = {key: _base64_id(record[key]) for key in _IDS if key in record}
    links = record.get("links")
    if isinstance(links, list):
        changed["links"] = [_with_ids(link) if isinstance(link, dict) else link for link in links]
    return record | changed


def _base64_id(value: object) -> str:
    """An id that is neither hex nor base64 becomes one of a single byte, which the check of ids refuses."""
    if value is None or value == "":
        return ""
    try:
        text = value if isinstance(value, str) else "?"
        raw = base64.b64decode(text, validate=True) if text.endswith("=") else bytes.fromhex(text)
    except ValueError:
        raw = b"?"
    return base64.b64encode(raw).decode()


def _without_surrogates(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    return value
