"""OTLP over gRPC: what a real client is answered, above all where grpcio's own answer would lose data."""

import gzip
import threading
import time
from concurrent import futures

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otel_receiver.config import AdmissionConfig, LimitsConfig, ServerConfig
from otel_receiver.errors import AddressInUse, InsecureBind
from otel_receiver.otlp import parse_traces
from otel_receiver.server.grpc import GrpcServer
from tests.unit.otel_receiver.front import (
    LOGS_EXPORT,
    METRICS_EXPORT,
    TRACE_EXPORT,
    Front,
    logs_request,
    metrics_request,
    running,
    span,
    trace_request,
    with_invalid_utf8,
)

MIB = 1024 * 1024


def call(front: Front, body: bytes, method: str = TRACE_EXPORT, **options) -> bytes:
    """One raw call on a connection of its own."""
    channel_options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(f"127.0.0.1:{front.grpc_port}", options=channel_options) as channel:
        return channel.unary_unary(method)(body, timeout=30, **options)


def failure(front: Front, body: bytes, **options) -> grpc.RpcError:
    """The error of a call that must fail."""
    with pytest.raises(grpc.RpcError) as caught:
        call(front, body, **options)
    return caught.value


def retry_delay_s(error: grpc.RpcError) -> float | None:
    """The wait the server asks for, or None when it asks for no retry."""
    details = dict(error.trailing_metadata()).get("grpc-status-details-bin")
    for detail in status_pb2.Status.FromString(details).details if details else ():
        info = error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            return info.retry_delay.ToNanoseconds() / 1e9
    return None


def test_full_success_leaves_partial_success_unset_and_keeps_the_bytes(tmp_path):
    """The answer is the empty message, and the log holds the request byte for byte."""
    body = trace_request(span(1), span(2)).SerializeToString()
    with running(tmp_path) as front:
        assert b"" == call(front, body)
        assert [body] == front.requests
        assert 2 == front.telemetry.value("records_accepted", signal="traces")


def test_empty_and_unknown_content_succeeds(tmp_path):
    """An empty request is acknowledged and keeps nothing; unknown fields are kept with the rest."""
    unknown = trace_request(span()).SerializeToString() + b"\xaa\x06\x03abc"
    with running(tmp_path) as front:
        assert b"" == call(front, b"")
        assert b"" == call(front, unknown)
        assert [unknown] == front.requests


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_requests_are_accepted(tmp_path, compression):
    """The log holds the decompressed bytes."""
    body = trace_request(span(1, name="x" * 10_000)).SerializeToString()
    with running(tmp_path) as front:
        assert b"" == call(front, body, compression=compression)
        assert [body] == front.requests


def test_a_request_over_4_mib_is_accepted(tmp_path):
    """The default limit is 4 MiB, and a Collector drops what is refused as too large."""
    body = trace_request(span(1, name="x" * 8 * MIB)).SerializeToString()
    with running(tmp_path) as front:
        assert b"" == call(front, body)
        assert [len(body)] == [len(kept) for kept in front.requests]


@pytest.mark.parametrize("compression", [None, grpc.Compression.Gzip])
def test_too_large_is_resource_exhausted_without_retry(tmp_path, compression):
    """The limit holds after decompression too, and asks for no retry: the same request would fail again."""
    body = trace_request(span(1, name="x" * 2 * MIB)).SerializeToString()
    with running(tmp_path, limits=LimitsConfig(request_bytes_max=MIB)) as front:
        error = failure(front, body, compression=compression)
        assert (grpc.StatusCode.RESOURCE_EXHAUSTED, None) == (error.code(), retry_delay_s(error))
        assert [] == front.requests


@pytest.mark.parametrize(
    "body", [b"\xff\xff\xff\xffgarbage", b"hello world", gzip.compress(b"x" * 100), b"\x0a\x7f\x0a"]
)
def test_garbage_is_invalid_argument_and_dead_lettered(tmp_path, body):
    """The deserialiser of grpcio would answer INTERNAL and leave no trace of the bytes."""
    with running(tmp_path) as front:
        error = failure(front, body)
        assert grpc.StatusCode.INVALID_ARGUMENT is error.code()
        assert "not" in error.details()
        assert 1 == front.telemetry.value("dead_letters", kept="true")
        assert 1 == front.telemetry.value("refusals", signal="traces", cause="malformed")
        assert b"" == call(front, trace_request(span()).SerializeToString())


def test_truncated_requests_are_refused_whole(tmp_path):
    """Half a request is no request: the sender still has it, and nothing of it is kept twice."""
    body = trace_request(span(1), span(2)).SerializeToString()
    with running(tmp_path) as front:
        assert grpc.StatusCode.INVALID_ARGUMENT is failure(front, body[:-7]).code()
        assert [] == front.requests


def test_one_invalid_utf8_string_costs_no_other_span(tmp_path):
    """The affected span is kept with U+FFFD and one more dropped attribute; the sender is warned."""
    bad = span(2)
    bad.attributes.add(key="k").value.string_value = "a BAD! b"
    body = with_invalid_utf8(trace_request(span(1), bad, span(3)))
    with running(tmp_path) as front:
        partial = ExportTraceServiceResponse.FromString(call(front, body)).partial_success
        assert (0, True) == (partial.rejected_spans, "1 kept after repair" in partial.error_message)
        spans = parse_traces(front.requests[0], LimitsConfig()).records
    assert ["span 1", "span 2", "span 3"] == [item.name for item in spans]
    assert {"k": "a \ufffd\ufffd\ufffd\ufffd b"} == spans[1].attributes
    assert [0, 1, 0] == [item.dropped_attributes_count for item in spans]


def test_a_bad_trace_id_is_a_partial_success(tmp_path):
    """A span with a 3-byte trace id is refused with count and reason; the others are stored."""
    bad = span(2)
    bad.trace_id = b"abc"
    with running(tmp_path) as front:
        answer = call(front, trace_request(span(1), bad, span(3)).SerializeToString())
        partial = ExportTraceServiceResponse.FromString(answer).partial_success
        assert 1 == partial.rejected_spans
        assert "1 refused: trace_id is 3 bytes, must be 16" == partial.error_message
        assert 2 == front.telemetry.value("records_accepted", signal="traces")
        assert 2 == len(parse_traces(front.requests[0], LimitsConfig()).records)


def test_logs_are_kept_and_metrics_are_counted_with_a_warning(tmp_path):
    """Log records land in the log; data points do not, and the answer says so."""
    with running(tmp_path) as front:
        logs = logs_request("one", "two").SerializeToString()
        assert ExportLogsServiceResponse() == ExportLogsServiceResponse.FromString(call(front, logs, LOGS_EXPORT))
        assert ["logs"] == [entry.signal for entry in front.log.read(0)]
        answer = call(front, metrics_request().SerializeToString(), METRICS_EXPORT)
        partial = ExportMetricsServiceResponse.FromString(answer).partial_success
        assert (0, True) == (partial.rejected_data_points, "not stored" in partial.error_message)
        assert 3 == front.telemetry.value("records_accepted", signal="metrics")
        assert 1 == len(front.requests)


def test_a_full_disk_is_unavailable_with_a_wait(tmp_path, monkeypatch):
    """What cannot be written is never acknowledged, and the sender is asked to keep it."""
    body = trace_request(span()).SerializeToString()
    with running(tmp_path) as front:
        with monkeypatch.context() as patch:
            patch.setattr("os.fdatasync", _no_space)
            error = failure(front, body)
        assert grpc.StatusCode.UNAVAILABLE is error.code()
        assert 1.0 <= retry_delay_s(error) <= 5.0
        assert "free disk space" in error.details()
        assert b"" == call(front, body)
        assert [body] == front.requests


def _no_space(fd: int) -> None:
    raise OSError(28, "No space left on device")


def test_an_unexpected_error_is_unavailable_and_says_nothing_of_the_content(tmp_path, monkeypatch, caplog):
    """The default answer would be UNKNOWN, at which a Collector drops the batch for good."""

    def explode(*_: object) -> None:
        raise RuntimeError("secret prompt")

    with running(tmp_path) as front:
        monkeypatch.setattr(front.log, "append", explode)
        error = failure(front, trace_request(span()).SerializeToString())
    assert grpc.StatusCode.UNAVAILABLE is error.code()
    assert retry_delay_s(error) is not None
    assert "RuntimeError" in caplog.text
    assert "secret prompt" not in caplog.text + error.details()


def test_too_many_bytes_in_flight_are_unavailable_with_a_random_wait(tmp_path, monkeypatch):
    """While one request is written, one over the budget is asked to come back, after a wait of its own."""
    body = trace_request(span(1, name="x" * 1000)).SerializeToString()
    with running(tmp_path, admission=AdmissionConfig(in_flight_bytes_max=1500)) as front:
        release, reached = threading.Event(), threading.Event()
        append = front.log.append
        monkeypatch.setattr(front.log, "append", lambda *a: (reached.set(), release.wait(20), append(*a))[2])
        with futures.ThreadPoolExecutor(1) as pool:
            first = pool.submit(call, front, body)
            assert reached.wait(10)
            errors = [failure(front, body) for _ in range(3)]
            release.set()
            assert b"" == first.result()
        assert {grpc.StatusCode.UNAVAILABLE} == {error.code() for error in errors}
        assert 3 == len({retry_delay_s(error) for error in errors})
        assert 0 == front.exchange.admission.in_flight_bytes


def test_a_processor_too_far_behind_is_unavailable(tmp_path):
    """The lag is bounded: beyond it senders keep their data."""
    body = trace_request(span()).SerializeToString()
    with running(tmp_path, admission=AdmissionConfig(lag_bytes_max=1)) as front:
        assert b"" == call(front, body)
        error = failure(front, body)
        assert grpc.StatusCode.UNAVAILABLE is error.code()
        assert "admission.lag_bytes_max = 1" in error.details()


def test_tokens_are_asked_for(tmp_path):
    """Only a bearer token of the file is let in; the health service answers everybody."""
    tokens = tmp_path / "tokens"
    tokens.write_text("old-token\n\nnew-token\n")
    body = trace_request(span()).SerializeToString()
    with running(tmp_path, auth={"token_file": tokens}) as front:
        for wrong in ((), (("authorization", "Bearer nope"),), (("authorization", "Basic new-token"),)):
            assert grpc.StatusCode.UNAUTHENTICATED is failure(front, body, metadata=wrong).code()
        assert [] == front.requests
        for right in ("Bearer old-token", "bearer new-token"):
            assert b"" == call(front, body, metadata=(("authorization", right),))
        with grpc.insecure_channel(f"127.0.0.1:{front.grpc_port}") as channel:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
        assert health_pb2.HealthCheckResponse.SERVING == answer.status


def test_a_port_in_use_is_a_clear_error(tmp_path):
    """The error names the address and the option; nothing shares the port silently."""
    with running(tmp_path) as front, pytest.raises(AddressInUse, match=rf"127\.0\.0\.1:{front.grpc_port}.*--grpc"):
        GrpcServer(ServerConfig(grpc=f"127.0.0.1:{front.grpc_port}"), LimitsConfig(), front.exchange)


def test_an_open_address_without_tls_and_auth_is_refused(tmp_path):
    """Prompts are no public matter: the error says what to set."""
    with running(tmp_path) as front, pytest.raises(InsecureBind, match=r"server\.tls\.cert_file"):
        GrpcServer(ServerConfig(grpc="0.0.0.0:0"), LimitsConfig(), front.exchange)


def test_every_acknowledged_request_is_kept_when_the_server_stops(tmp_path):
    """Senders run while the server stops: what was acknowledged is in the log, everything else may be sent again."""
    acknowledged, codes = set(), set()
    stop = threading.Event()

    def send(worker: int, port: int) -> None:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            export = channel.unary_unary(TRACE_EXPORT)
            for index in range(10_000):
                name = f"{worker}-{index}"
                try:
                    export(trace_request(span(index + 1, name=name)).SerializeToString(), timeout=10)
                    acknowledged.add(name)
                except grpc.RpcError as error:
                    codes.add(error.code())
                    if stop.is_set():
                        return

    with futures.ThreadPoolExecutor(4) as pool:
        with running(tmp_path) as front:
            for worker in range(4):
                pool.submit(send, worker, front.grpc_port)
            deadline = time.monotonic() + 20
            while len(acknowledged) < 40 and time.monotonic() < deadline:
                time.sleep(0.01)
            log = front.log
        stop.set()
    kept = {record.name for entry in log.read(0) for record in parse_traces(entry.payload, LimitsConfig()).records}
    log.close()
    assert 40 <= len(acknowledged)
    assert set() == acknowledged - kept
    assert codes <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
