"""The real OpenTelemetry SDK sends, as agents do: traces and logs, over gRPC and HTTP, plain and compressed."""

import time

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogExporter
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpanExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpLogExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import set_span_in_context

from tests.e2e.receiver_process import query, running, wait_for

RESOURCE = Resource.create({"service.name": "sdk-agent"})


def exporters(receiver, transport: str):
    """A span and a log exporter for a transport."""
    if transport.startswith("grpc"):
        compression = grpc.Compression.Gzip if transport.endswith("gzip") else grpc.Compression.NoCompression
        options = {"endpoint": f"http://{receiver.grpc}", "insecure": True, "compression": compression}
        return GrpcSpanExporter(**options), GrpcLogExporter(**options)
    compression = Compression.Gzip if transport.endswith("gzip") else Compression.NoCompression
    base = f"http://{receiver.http}/v1"
    return (
        HttpSpanExporter(endpoint=f"{base}/traces", compression=compression),
        HttpLogExporter(endpoint=f"{base}/logs", compression=compression),
    )


def run_agent(span_exporter, log_exporter) -> None:
    """One request: an agent span, a model call, and its messages as events, as OTel GenAI had them before 1.37."""
    tracing, logging = TracerProvider(resource=RESOURCE), LoggerProvider(resource=RESOURCE)
    tracing.add_span_processor(BatchSpanProcessor(span_exporter))
    logging.add_log_record_processor(BatchLogRecordProcessor(log_exporter))
    tracer, logger = tracing.get_tracer("agent", "1.0"), logging.get_logger("agent", "1.0")
    with (
        tracer.start_as_current_span("invoke_agent sdk"),
        tracer.start_as_current_span(
            "chat m",
            attributes={"gen_ai.operation.name": "chat", "gen_ai.system": "openai", "gen_ai.request.model": "m"},
        ) as call,
    ):
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Sunny."}}
        for name, body in (("gen_ai.user.message", {"content": "Weather?"}), ("gen_ai.choice", choice)):
            logger.emit(
                LogRecord(
                    timestamp=time.time_ns(),
                    context=set_span_in_context(call),
                    severity_number=SeverityNumber.INFO,
                    event_name=name,
                    body=body,
                    attributes={"gen_ai.system": "openai"},
                )
            )
    tracing.shutdown()
    logging.shutdown()


@pytest.mark.parametrize("transport", ["grpc", "grpc+gzip", "http", "http+gzip"])
def test_an_agent_with_the_sdk_becomes_an_episode(tmp_path, transport):
    """Spans and log records, sent on two channels, meet in one episode with one decision point."""
    with running(tmp_path) as receiver:
        run_agent(*exporters(receiver, transport))
        wait_for(lambda: query(tmp_path, "SELECT num_steps, status FROM episodes") == [(1, "ok")], "the episode")
        assert 0 == receiver.stop()
    ((service, model, messages, action),) = query(
        tmp_path,
        "SELECT e.service_name, e.model, d.messages->'$[0]'->>'content', d.action->>'content' "
        "FROM episodes e JOIN decision_points d USING (episode_id)",
    )
    assert ("sdk-agent", "m", "Weather?", "Sunny.") == (service, model, messages, action)


def test_metrics_of_the_sdk_are_taken_and_health_is_served(tmp_path, caplog):
    """A mixed pipeline makes no errors: metrics are accepted, and the standard health service says SERVING."""
    with running(tmp_path) as receiver:
        exporter = OTLPMetricExporter(endpoint=f"http://{receiver.grpc}", insecure=True)
        provider = MeterProvider([PeriodicExportingMetricReader(exporter, export_interval_millis=60_000)])
        provider.get_meter("m").create_counter("c").add(1)
        assert provider.force_flush(10_000)
        provider.shutdown()
        with grpc.insecure_channel(receiver.grpc) as channel:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service="opentelemetry.proto.collector.trace.v1.TraceService"), timeout=10
            )
        assert health_pb2.HealthCheckResponse.SERVING == answer.status
        assert 0 == receiver.stop()
    assert [] == [record.message for record in caplog.records if record.levelname == "ERROR"]


def test_a_large_batch_of_long_prompts_is_taken(tmp_path):
    """512 spans with 20 KB each, over twice grpcio's default limit, arrive in one request."""
    with running(tmp_path) as receiver:
        exporter = GrpcSpanExporter(endpoint=f"http://{receiver.grpc}", insecure=True)
        provider = TracerProvider(resource=RESOURCE)
        provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=1024, schedule_delay_millis=60_000))
        tracer = provider.get_tracer("bulk")
        with tracer.start_as_current_span("root"):
            for index in range(511):
                with tracer.start_as_current_span(f"span {index}", attributes={"prompt": "x" * 20_000}):
                    pass
        assert provider.force_flush(30_000)
        provider.shutdown()
        wait_for(lambda: query(tmp_path, "SELECT count(*) FROM store.spans") == [(512,)], "512 spans")
        assert 0 == receiver.stop()
