"""OTLP over HTTP: paths, encodings, limits and error bodies as the specification has them."""

import gzip
import http.client
import json
import socket
import ssl
import subprocess
import threading
from concurrent import futures

import httpx
import pytest
from google.protobuf import json_format
from google.rpc import status_pb2
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otel_receiver.config import AdmissionConfig, LimitsConfig, ServerConfig
from otel_receiver.errors import AddressInUse, InsecureBind, RequestTooLarge
from otel_receiver.otlp import parse_logs, parse_traces
from otel_receiver.server.http import HttpServer, gunzip
from tests.unit.otel_receiver.front import Front, logs_request, metrics_request, running, span, trace_request

PROTOBUF = {"Content-Type": "application/x-protobuf"}
JSON = {"Content-Type": "application/json"}
MIB = 1024 * 1024

SPAN_JSON = {
    "traceId": "5B8EFFF798038103D269B633813FC60C",
    "spanId": "EEE19B7EC3C1B174",
    "name": "json span",
    "kind": 2,
    "startTimeUnixNano": "1544712660000000000",
    "endTimeUnixNano": 1544712661000000000,
    "status": {"code": 2, "message": "no"},
    "someFutureField": {"a": 1},
    "attributes": [{"key": "int", "value": {"intValue": "9007199254740993"}}],
}


def traces_json(*spans: object) -> bytes:
    """A JSON request with these spans."""
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).encode()


def post(front: Front, path: str, body: bytes, headers: dict[str, str] = PROTOBUF) -> httpx.Response:
    """One request."""
    return httpx.post(f"http://127.0.0.1:{front.http_port}{path}", content=body, headers=headers, timeout=30)


def status_of(response: httpx.Response) -> status_pb2.Status:
    """The google.rpc.Status an error must carry, in the response's encoding."""
    if response.headers["Content-Type"] == "application/json":
        return json_format.Parse(response.content, status_pb2.Status())
    assert "application/x-protobuf" == response.headers["Content-Type"]
    return status_pb2.Status.FromString(response.content)


def test_protobuf_traces_and_logs_are_kept(tmp_path):
    """The answer is 200 with the empty message in the request's encoding."""
    traces, logs = trace_request(span()).SerializeToString(), logs_request("x").SerializeToString()
    with running(tmp_path) as front:
        for path, body in (("/v1/traces", traces), ("/v1/logs", logs)):
            response = post(front, path, body)
            assert (200, b"", "application/x-protobuf") == (
                response.status_code,
                response.content,
                response.headers["Content-Type"],
            )
        assert [traces, logs] == front.requests
        assert ["x"] == [record.body for record in parse_logs(front.requests[1], LimitsConfig()).records]


def test_json_follows_otlp_not_protobuf(tmp_path):
    """Hex ids, 64-bit numbers as strings or numbers, integer enums, unknown fields ignored."""
    with running(tmp_path) as front:
        response = post(front, "/v1/traces", traces_json(SPAN_JSON), JSON | {"Content-Type": "application/json; v=1"})
        assert (200, {}, "application/json") == (
            response.status_code,
            response.json(),
            response.headers["Content-Type"],
        )
        (record,) = parse_traces(front.requests[0], LimitsConfig()).records
    assert ("5b8efff798038103d269b633813fc60c", "eee19b7ec3c1b174") == (record.trace_id, record.span_id)
    assert (1544712660000000000, 1544712661000000000) == (record.start_time_unix_nano, record.end_time_unix_nano)
    assert ("error", 9007199254740993) == (record.status, record.attributes["int"])


def test_a_json_record_that_cannot_be_read_costs_no_other(tmp_path):
    """Two unreadable spans and one with a bad id are refused with counts; the good one is kept."""
    spans = [SPAN_JSON, SPAN_JSON | {"name": {}}, "nonsense", SPAN_JSON | {"traceId": "XYZ"}]
    with running(tmp_path) as front:
        response = post(front, "/v1/traces", traces_json(*spans), JSON)
        partial = response.json()["partialSuccess"]
        assert (200, "3") == (response.status_code, partial["rejectedSpans"])
        assert "2 refused: the record does not follow OTLP's JSON encoding" in partial["errorMessage"]
        assert 1 == len(parse_traces(front.requests[0], LimitsConfig()).records)


def test_gzip_is_accepted_in_both_encodings(tmp_path):
    """The log holds the decompressed protobuf."""
    body = trace_request(span()).SerializeToString()
    with running(tmp_path) as front:
        assert (
            200 == post(front, "/v1/traces", gzip.compress(body), PROTOBUF | {"Content-Encoding": "gzip"}).status_code
        )
        packed = gzip.compress(traces_json(SPAN_JSON))
        assert 200 == post(front, "/v1/traces", packed, JSON | {"Content-Encoding": "gzip"}).status_code
        assert body == front.requests[0]
        assert 2 == len(front.requests)


def test_a_gzip_bomb_is_413_and_never_unpacked(tmp_path):
    """20 KB that would become 20 MB: refused at the limit, without retry."""
    bomb = gzip.compress(bytes(20 * MIB))
    with running(tmp_path, limits=LimitsConfig(request_bytes_max=4 * MIB)) as front:
        response = post(front, "/v1/traces", bomb, PROTOBUF | {"Content-Encoding": "gzip"})
        assert (413, None) == (response.status_code, response.headers.get("Retry-After"))
        assert "limits.request_bytes_max = 4194304" in status_of(response).message


def test_gunzip_takes_members_and_exactly_the_limit():
    """Two members are one body; the limit is reached and not passed."""
    data = gzip.compress(b"a" * 500_000) + gzip.compress(b"b" * 500_000)
    assert b"a" * 500_000 + b"b" * 500_000 == gunzip(data, 1_000_000)
    with pytest.raises(RequestTooLarge):
        gunzip(data, 999_999)


@pytest.mark.parametrize("headers", [PROTOBUF, JSON])
@pytest.mark.parametrize("body", [b"\xff\xffgarbage", b"{not json", b"[1]"])
def test_garbage_is_400_with_a_status_in_the_requests_encoding(tmp_path, headers, body):
    """The client must drop it, the bytes are in the dead-letter file."""
    with running(tmp_path) as front:
        response = post(front, "/v1/traces", body, headers)
        assert (400, 3) == (response.status_code, status_of(response).code)
        assert headers["Content-Type"] == response.headers["Content-Type"]
        assert 1 == len(front.dead_letters.path.read_text().splitlines())


def test_broken_gzip_is_400(tmp_path):
    """No gzip at all, and gzip that ends early."""
    with running(tmp_path) as front:
        for body in (b"plain", gzip.compress(b"x" * 1000)[:-9]):
            response = post(front, "/v1/traces", body, PROTOBUF | {"Content-Encoding": "gzip"})
            assert 400 == response.status_code
            assert "gzip" in status_of(response).message


def test_what_is_not_served_is_told_apart(tmp_path):
    """405 for other methods, 415 for other types and encodings, 404 for other paths, each with a Status body."""
    with running(tmp_path) as front:
        base = f"http://127.0.0.1:{front.http_port}"
        wrong_method = httpx.get(f"{base}/v1/traces")
        assert (405, "POST") == (wrong_method.status_code, wrong_method.headers["Allow"])
        assert 405 == httpx.put(f"{base}/v1/logs", content=b"").status_code
        assert "" != status_of(wrong_method).message
        assert 415 == post(front, "/v1/traces", b"x", {"Content-Type": "text/plain"}).status_code
        assert 415 == httpx.post(f"{base}/v1/traces").status_code
        assert 415 == post(front, "/v1/traces", b"x", PROTOBUF | {"Content-Encoding": "br"}).status_code
        assert 404 == post(front, "/v1/profiles", b"x").status_code
        assert 501 == httpx.request("BREW", base).status_code


def test_too_large_is_413_before_the_body_is_read(tmp_path):
    """An announced body over the limit is refused at once."""
    with running(tmp_path, limits=LimitsConfig(request_bytes_max=1000)) as front:
        connection = http.client.HTTPConnection("127.0.0.1", front.http_port, timeout=10)
        connection.putrequest("POST", "/v1/traces")
        connection.putheader("Content-Type", "application/x-protobuf")
        connection.putheader("Content-Length", "1001")
        connection.endheaders()
        assert 413 == connection.getresponse().status
        connection.close()


def test_chunked_bodies_are_read_and_bounded(tmp_path):
    """A body without Content-Length is read by chunks, up to the limit."""
    body = trace_request(span(1, name="x" * 3000)).SerializeToString()
    url = "http://127.0.0.1:{}/v1/traces"
    with running(tmp_path, limits=LimitsConfig(request_bytes_max=5000)) as front:
        pieces = iter([body[:1000], body[1000:]])
        assert 200 == httpx.post(url.format(front.http_port), content=pieces, headers=PROTOBUF).status_code
        assert [body] == front.requests
        too_much = iter([b"x" * 3000] * 2)
        assert 413 == httpx.post(url.format(front.http_port), content=too_much, headers=PROTOBUF).status_code


def test_a_connection_is_kept_for_the_next_request(tmp_path):
    """Two requests on one connection, the first of them refused."""
    with running(tmp_path) as front:
        connection = http.client.HTTPConnection("127.0.0.1", front.http_port, timeout=10)
        connection.request("POST", "/v1/traces", body=b"\xff\xff", headers=PROTOBUF)
        response = connection.getresponse()
        response.read()
        local = connection.sock.getsockname()
        assert 400 == response.status
        connection.request("POST", "/v1/traces", body=trace_request(span()).SerializeToString(), headers=PROTOBUF)
        assert (200, local) == (connection.getresponse().status, connection.sock.getsockname())
        connection.close()


def test_overload_is_429_and_a_failing_log_503_both_with_retry_after(tmp_path, monkeypatch):
    """Both ask the sender to keep its data, for whole seconds."""
    body = trace_request(span(1, name="x" * 1000)).SerializeToString()
    with running(tmp_path, admission=AdmissionConfig(in_flight_bytes_max=1500)) as front:
        release, reached = threading.Event(), threading.Event()
        append = front.log.append
        with monkeypatch.context() as patch:
            patch.setattr(front.log, "append", lambda *a: (reached.set(), release.wait(20), append(*a))[2])
            with futures.ThreadPoolExecutor(1) as pool:
                first = pool.submit(post, front, "/v1/traces", body)
                assert reached.wait(10)
                refused = post(front, "/v1/traces", body)
                release.set()
                assert 200 == first.result().status_code
        assert (429, 14) == (refused.status_code, status_of(refused).code)
        assert 1 <= int(refused.headers["Retry-After"]) <= 5
        monkeypatch.setattr("os.fdatasync", _no_space)
        failed = post(front, "/v1/traces", body, PROTOBUF)
        assert (503, True) == (failed.status_code, "Retry-After" in failed.headers)
        monkeypatch.undo()


def _no_space(fd: int) -> None:
    raise OSError(28, "No space left on device")


def test_metrics_are_counted_with_a_warning(tmp_path):
    """The answer says that nothing was stored."""
    with running(tmp_path) as front:
        answer = post(front, "/v1/metrics", metrics_request().SerializeToString())
        partial = ExportMetricsServiceResponse.FromString(answer.content).partial_success
        assert (200, 0, True) == (
            answer.status_code,
            partial.rejected_data_points,
            "not stored" in partial.error_message,
        )
        assert [] == front.requests


def test_tokens_are_asked_for_everywhere_but_the_probe(tmp_path):
    """401 with a Status body; /healthz stays open for probes, /metrics does not."""
    (tmp_path / "tokens").write_text("t0ken\n")
    with running(tmp_path, auth={"token_file": tmp_path / "tokens"}) as front:
        body = trace_request(span()).SerializeToString()
        refused = post(front, "/v1/traces", body)
        assert (401, 16) == (refused.status_code, status_of(refused).code)
        assert 200 == post(front, "/v1/traces", body, PROTOBUF | {"Authorization": "Bearer t0ken"}).status_code
        base = f"http://127.0.0.1:{front.http_port}"
        assert 200 == httpx.get(f"{base}/healthz").status_code
        assert 401 == httpx.get(f"{base}/metrics").status_code
        assert 200 == httpx.get(f"{base}/metrics", headers={"Authorization": "Bearer t0ken"}).status_code


def test_metrics_page_is_prometheus_text(tmp_path):
    """Counters end in _total and carry help, type and labels."""
    with running(tmp_path) as front:
        post(front, "/v1/traces", trace_request(span(1), span(2)).SerializeToString())
        page = httpx.get(f"http://127.0.0.1:{front.http_port}/metrics")
    assert page.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert '\notel_receiver_records_accepted_total{signal="traces"} 2\n' in page.text
    assert "# TYPE otel_receiver_requests_total counter\n" in page.text


def test_a_slow_or_surplus_connection_holds_up_nobody(tmp_path):
    """Over the number of connections a new one gets 503; when one is closed, the next is served."""
    with running(tmp_path, http_connections_max=1) as front:
        idle = socket.create_connection(("127.0.0.1", front.http_port), timeout=10)
        idle.sendall(b"POST /v1/traces HTTP/1.1\r\n")
        with pytest.raises((httpx.HTTPStatusError, httpx.TransportError)):
            post(front, "/v1/traces", b"").raise_for_status()
        idle.close()
        for _ in range(100):
            try:
                if post(front, "/v1/traces", b"").status_code == 200:
                    break
            except httpx.TransportError:
                continue
        else:
            pytest.fail("the place of the closed connection was not given free")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """A certificate of its own authority for 127.0.0.1, made with openssl, and the same as a client's."""
    directory = tmp_path_factory.mktemp("tls")
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost "
        "-addext subjectAltName=IP:127.0.0.1,DNS:localhost -keyout key.pem -out cert.pem"
    )
    subprocess.run(command.split(), cwd=directory, check=True, capture_output=True)
    return directory


def test_mutual_tls_lets_in_only_clients_with_a_certificate(tmp_path, certificates):
    """With a client authority set, a client without a certificate is refused by both protocols."""
    import grpc

    from tests.unit.otel_receiver.front import TRACE_EXPORT

    cert, key = certificates / "cert.pem", certificates / "key.pem"
    tls = {"cert_file": cert, "key_file": key, "client_ca_file": cert}
    body = trace_request(span()).SerializeToString()
    with running(tmp_path, tls=tls) as front:
        url = f"https://127.0.0.1:{front.http_port}/v1/traces"
        trusting = ssl.create_default_context(cafile=str(cert))
        with pytest.raises(httpx.TransportError):
            httpx.post(url, content=body, headers=PROTOBUF, verify=trusting)
        trusting.load_cert_chain(cert, key)
        assert 200 == httpx.post(url, content=body, headers=PROTOBUF, verify=trusting).status_code
        pem, private = cert.read_bytes(), key.read_bytes()
        for credentials, is_let_in in (
            (grpc.ssl_channel_credentials(pem, private, pem), True),
            (grpc.ssl_channel_credentials(pem), False),
        ):
            with grpc.secure_channel(f"localhost:{front.grpc_port}", credentials) as channel:
                outcome = channel.unary_unary(TRACE_EXPORT).future(body, timeout=10)
                assert is_let_in == (outcome.exception() is None)
        assert 2 == len(front.requests)


def test_ports_and_exposure_are_checked(tmp_path):
    """A port in use and an open address are clear errors that name the option."""
    with running(tmp_path) as front:
        with pytest.raises(AddressInUse, match="--http"):
            HttpServer(ServerConfig(http=f"127.0.0.1:{front.http_port}"), LimitsConfig(), front.exchange)
        with pytest.raises(InsecureBind, match="authentication is off"):
            HttpServer(ServerConfig(http="0.0.0.0:0"), LimitsConfig(), front.exchange)


def test_partial_success_names_all_reasons(tmp_path):
    """Each reason comes with its number."""
    bad_trace, bad_span = span(2), span(3)
    bad_trace.trace_id, bad_span.span_id = bytes(16), b"1"
    with running(tmp_path) as front:
        answer = post(front, "/v1/traces", trace_request(span(1), bad_trace, bad_span).SerializeToString())
        partial = ExportTraceServiceResponse.FromString(answer.content).partial_success
    assert 2 == partial.rejected_spans
    assert "1 refused: trace_id is all zeros; 1 refused: span_id is 1 bytes, must be 8" == partial.error_message
