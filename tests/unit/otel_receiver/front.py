"""The front half of a receiver, from the sockets to the ingest log, and requests to send it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_receiver.config import AdmissionConfig, AuthConfig, LimitsConfig, LogConfig, ServerConfig, TelemetryConfig
from otel_receiver.dead_letters import DeadLetters
from otel_receiver.ingest_log import IngestLog
from otel_receiver.intake import Intake
from otel_receiver.server.admission import Admission
from otel_receiver.server.auth import Tokens
from otel_receiver.server.exchange import Exchange
from otel_receiver.server.grpc import GrpcServer
from otel_receiver.server.http import HttpServer
from otel_receiver.telemetry import Telemetry

TRACE_EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
LOGS_EXPORT = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
METRICS_EXPORT = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """A running front half."""

    log: IngestLog
    exchange: Exchange
    dead_letters: DeadLetters
    telemetry: Telemetry
    grpc_port: int
    http_port: int

    @property
    def requests(self) -> list[bytes]:
        """What is durable."""
        return [entry.payload for entry in self.log.read(0)]


@contextmanager
def running(
    directory: Path,
    limits: LimitsConfig = LimitsConfig(),  # noqa: B008 (frozen)
    admission: AdmissionConfig = AdmissionConfig(),  # noqa: B008 (frozen)
    **server: object,
) -> Iterator[Front]:
    """Both servers on free ports over a log in a directory."""
    config = ServerConfig.model_validate({"grpc": "127.0.0.1:0", "http": "127.0.0.1:0", "stop_grace_s": 2.0} | server)
    auth: AuthConfig = config.auth
    telemetry = Telemetry(TelemetryConfig())
    log = IngestLog(directory / "log", LogConfig())
    letters = DeadLetters(directory, limits.dead_letter_bytes_max, telemetry)
    exchange = Exchange(
        intake=Intake(log, letters, telemetry),
        admission=Admission(admission, lambda: log.end),
        tokens=Tokens.from_file(auth.token_file),
        limits=limits,
        telemetry=telemetry,
    )
    grpc_server, http_server = GrpcServer(config, limits, exchange), HttpServer(config, limits, exchange)
    grpc_server.start()
    http_server.start()
    try:
        yield Front(
            log=log,
            exchange=exchange,
            dead_letters=letters,
            telemetry=telemetry,
            grpc_port=grpc_server.port,
            http_port=http_server.port,
        )
    finally:
        grpc_server.stop()
        http_server.stop()
        log.close()
        telemetry.close()


def span(index: int = 1, **fields: object) -> Span:
    """A span with valid ids that depend on the index."""
    message = Span(trace_id=index.to_bytes(16), span_id=index.to_bytes(8), name=f"span {index}")
    message.start_time_unix_nano, message.end_time_unix_nano = 1_000 * index, 1_000 * index + 500
    message.MergeFrom(Span(**fields))
    return message


def trace_request(*spans: Span) -> ExportTraceServiceRequest:
    """A request with one resource and one scope."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "svc"
    scope = resource.scope_spans.add()
    scope.scope.name = "scope"
    scope.spans.extend(spans)
    return request


def logs_request(*bodies: str) -> ExportLogsServiceRequest:
    """A request with a record for each body."""
    request = ExportLogsServiceRequest()
    scope = request.resource_logs.add().scope_logs.add()
    for index, body in enumerate(bodies):
        scope.log_records.add(time_unix_nano=index + 1, event_name="e").body.string_value = body
    return request


def metrics_request() -> ExportMetricsServiceRequest:
    """A gauge with two points and a sum with one."""
    request = ExportMetricsServiceRequest()
    scope = request.resource_metrics.add().scope_metrics.add()
    gauge = scope.metrics.add(name="gauge").gauge
    gauge.data_points.add(as_int=1)
    gauge.data_points.add(as_int=2)
    scope.metrics.add(name="sum").sum.data_points.add(as_int=3)
    return request


def with_invalid_utf8(request: ExportTraceServiceRequest, marker: bytes = b"BAD!") -> bytes:
    """The request's bytes with every marker replaced by bytes that are no UTF-8."""
    return request.SerializeToString().replace(marker, b"\xff\xfe\xfd\xfc")
