"""OTLP over HTTP on the standard library's server: /v1/traces, /v1/logs, /v1/metrics, and /metrics, /healthz.

Protobuf and JSON share the paths, told apart by Content-Type; an answer, also an error, has the request's encoding.
A thread per connection, their number bounded; every wait on a socket is bounded; a body is bounded before and after
decompression.
"""

from __future__ import annotations

import contextlib
import logging
import math
import socket
import ssl
import threading
import zlib
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from google.protobuf.message import Message
from google.rpc import code_pb2  # type: ignore[import-untyped]  # generated code that is shipped without stubs

from otel_receiver.config import LimitsConfig, ServerConfig
from otel_receiver.errors import AddressInUse, MalformedRequest, RequestTooLarge
from otel_receiver.ingest_log import Signal
from otel_receiver.otlp_json import answer_json
from otel_receiver.server.auth import Address, check_exposure, parse_address, ssl_context
from otel_receiver.server.exchange import Exchange, Refusal

logger = logging.getLogger(__name__)

PROTOBUF, JSON, TEXT = "application/x-protobuf", "application/json", "text/plain; version=0.0.4; charset=utf-8"
PATHS: dict[str, Signal | None] = {"/v1/traces": Signal.TRACES, "/v1/logs": Signal.LOGS, "/v1/metrics": None}
_STATUS = {
    code_pb2.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    code_pb2.RESOURCE_EXHAUSTED: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    code_pb2.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
    code_pb2.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
}
_PIECE = 256 * 1024
_LINE_MAX = 1024


class HttpServer(ThreadingHTTPServer):
    """Listens from `start` to `stop`."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, config: ServerConfig, limits: LimitsConfig, exchange: Exchange) -> None:
        self.config = config
        self.limits = limits
        self.exchange = exchange
        self.stopping = False
        self._tls = ssl_context(config.tls)
        self._room = threading.BoundedSemaphore(config.http_connections_max)
        self._busy = threading.Condition()
        self._num_busy = 0
        address = parse_address(config.http)
        check_exposure(address, config)
        if ":" in address.host:
            self.address_family = socket.AF_INET6
        self._listen(address)
        self.port = int(self.server_address[1])
        self.address = str(Address(address.host, self.port))
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.1}, name="http")

    def _listen(self, address: Address) -> None:
        try:
            super().__init__((address.host, address.port), _Handler)
        except OSError as error:
            raise AddressInUse(
                f"HTTP address {address}: cannot listen there ({error.strerror}); another process may hold the port: "
                "stop it, or choose another with --http (port 0 takes a free one)"
            ) from error

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Take no more connections, let requests under way finish within the grace time."""
        self.stopping = True
        if self._thread.is_alive():
            self.shutdown()
            self._thread.join()
        self.server_close()
        with self._busy:
            self._busy.wait_for(lambda: self._num_busy == 0, self.config.stop_grace_s)

    def process_request(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        """Give the connection a thread, or turn it away when there are too many."""
        assert isinstance(request, socket.socket)
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
            return
        with contextlib.suppress(OSError):
            request.settimeout(1.0)
            request.sendall(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n")
        self.shutdown_request(request)

    def process_request_thread(
        self, request: socket.socket | tuple[bytes, socket.socket], client_address: object
    ) -> None:
        """Serve one connection; the TLS handshake is made here, so that a slow one holds up nobody else."""
        assert isinstance(request, socket.socket)
        try:
            request.settimeout(self.config.http_idle_s)
            if self._tls is not None:
                request = self._tls.wrap_socket(request, server_side=True)
            super().process_request_thread(request, client_address)
        except (OSError, ssl.SSLError):
            self.shutdown_request(request)
        finally:
            self._room.release()

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 (the standard library's)
        """A connection that broke is the client's affair; it sends again."""
        logger.debug("http connection broke client=%s", client_address)

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """Count a request under way, for `stop` to wait for."""
        with self._busy:
            self._num_busy += 1
        try:
            yield
        finally:
            with self._busy:
                self._num_busy -= 1
                self._busy.notify_all()


class _Handler(BaseHTTPRequestHandler):
    """The requests of one connection."""

    protocol_version = "HTTP/1.1"
    server_version = "otel-receiver"
    sys_version = ""
    # Whole answers leave in one packet.
    wbufsize = -1
    disable_nagle_algorithm = True
    server: HttpServer

    def do_POST(self) -> None:
        """Answer an export request."""
        with self.server.busy():
            path = self.path.partition("?")[0]
            if path in PATHS:
                self._export(PATHS[path])
            else:
                self._complain(HTTPStatus.NOT_FOUND, code_pb2.NOT_FOUND, f"no such path; known are {', '.join(PATHS)}")

    def do_GET(self) -> None:
        """Answer a probe or a scrape."""
        path = self.path.partition("?")[0]
        if path == "/healthz":
            stopping = self.server.stopping
            status = HTTPStatus.SERVICE_UNAVAILABLE if stopping else HTTPStatus.OK
            self._send(status, TEXT, b"stopping\n" if stopping else b"ok\n")
        elif path == "/metrics":
            refusal = self._exchange.authorise(self.headers.get("Authorization"), None)
            if refusal is None:
                self._send(HTTPStatus.OK, TEXT, self._exchange.telemetry.prometheus().encode())
            else:
                self._refuse(refusal)
        elif path in PATHS:
            message = f"{self.command} is not allowed here; POST an OTLP request"
            self._complain(HTTPStatus.METHOD_NOT_ALLOWED, code_pb2.UNIMPLEMENTED, message, {"Allow": "POST"})
        else:
            self._complain(HTTPStatus.NOT_FOUND, code_pb2.NOT_FOUND, "no such path; known are /metrics and /healthz")

    def do_PUT(self) -> None:
        """Say what is allowed instead."""
        self.do_GET()

    do_HEAD = do_DELETE = do_PATCH = do_OPTIONS = do_PUT  # noqa: N815 (the standard library's names)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002
        """Answer a request the standard library cannot read, in OTLP's form instead of its HTML."""
        self._send_message(
            HTTPStatus(code),
            Refusal(code=code_pb2.INVALID_ARGUMENT, message=message or "bad request", cause="not_served").status(),
        )

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the standard library's name)
        """Requests are counted, not logged."""

    @property
    def _exchange(self) -> Exchange:
        return self.server.exchange

    @property
    def _is_json(self) -> bool:
        return self._media_type == JSON

    @property
    def _media_type(self) -> str:
        # A request line that cannot be read has no headers.
        headers = getattr(self, "headers", None) or {}
        return (headers.get("Content-Type") or "").partition(";")[0].strip().lower()

    def _export(self, signal: Signal | None) -> None:
        """Read, check and keep one request, and answer it."""
        refusal = self._exchange.authorise(self.headers.get("Authorization"), signal)
        if refusal is not None:
            self._refuse(refusal)
            return
        if self._media_type not in (PROTOBUF, JSON):
            message = f"Content-Type {self._media_type!r} is not served; send {PROTOBUF} or {JSON}"
            self._complain(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, code_pb2.INVALID_ARGUMENT, message)
            return
        encoding = (self.headers.get("Content-Encoding") or "identity").strip().lower()
        if encoding not in ("gzip", "identity", "none", ""):
            message = f"Content-Encoding {encoding!r} is not served; send gzip or none"
            extra = {"Accept-Encoding": "gzip"}
            self._complain(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, code_pb2.INVALID_ARGUMENT, message, extra)
            return
        outcome = self._outcome(signal, compressed=encoding == "gzip")
        if isinstance(outcome, Refusal):
            self._refuse(outcome)
        else:
            self._send_message(HTTPStatus.OK, outcome)

    def _outcome(self, signal: Signal | None, *, compressed: bool) -> Message | Refusal:
        try:
            # What is on its way counts too: many large bodies read at once would be held in memory otherwise.
            with self._exchange.admission.admit(self._announced()):
                body = self._body()
                if compressed:
                    body = gunzip(body, self.server.limits.request_bytes_max)
        except (ConnectionError, TimeoutError):
            self.close_connection = True
            raise
        # The boundary: whatever goes wrong while the body is read is answered, not thrown.
        except Exception as error:  # noqa: BLE001
            # The rest of the body is still on the connection, where the next request should be.
            self.close_connection = True
            return self._exchange.refuse(error, signal)
        return self._exchange.export(signal, body, "http", is_json=self._is_json)

    def _announced(self) -> int:
        """The size of the body as far as it is known; raises RequestTooLarge, MalformedRequest."""
        limit = self.server.limits.request_bytes_max
        text = self.headers.get("Content-Length")
        if text is None:
            if self._is_chunked:
                return limit
            raise MalformedRequest("no Content-Length; send it, or Transfer-Encoding: chunked")
        if not text.isdecimal():
            raise MalformedRequest("Content-Length is no number; send the body's size in bytes")
        if int(text) > limit:
            raise RequestTooLarge(f"{text} bytes, limit limits.request_bytes_max = {limit}; send smaller batches")
        return int(text)

    @property
    def _is_chunked(self) -> bool:
        return (self.headers.get("Transfer-Encoding") or "").strip().lower() == "chunked"

    def _body(self) -> bytes:
        return self._chunks() if self._is_chunked else self._exactly(int(self.headers["Content-Length"]))

    def _exactly(self, size: int) -> bytes:
        data = self.rfile.read(size)
        if len(data) < size:
            raise ConnectionResetError
        return data

    def _chunks(self) -> bytes:
        """A chunked body; raises RequestTooLarge, MalformedRequest."""
        limit = self.server.limits.request_bytes_max
        body = bytearray()
        while (size := self._chunk_size()) > 0:
            if len(body) + size > limit:
                raise RequestTooLarge(f"over limits.request_bytes_max = {limit} bytes; send smaller batches")
            body += self._exactly(size)
            self.rfile.readline(_LINE_MAX)
        while self.rfile.readline(_LINE_MAX) not in (b"\r\n", b"\n", b""):
            pass
        return bytes(body)

    def _chunk_size(self) -> int:
        line = self.rfile.readline(_LINE_MAX).partition(b";")[0].strip()
        # int() alone would also take signs and underscores.
        if not line or line.strip(b"0123456789abcdefABCDEF"):
            raise MalformedRequest("a chunk has no size; check Transfer-Encoding")
        return int(line, 16)

    def _refuse(self, refusal: Refusal) -> None:
        """Answer with google.rpc.Status, as OTLP demands."""
        status = _STATUS[refusal.code]
        extra: dict[str, str] = {}
        if refusal.cause == "overloaded":
            status = HTTPStatus.TOO_MANY_REQUESTS
        if refusal.retry_after_s is not None:
            extra["Retry-After"] = str(math.ceil(refusal.retry_after_s))
        if status is HTTPStatus.UNAUTHORIZED:
            extra["WWW-Authenticate"] = "Bearer"
            self.close_connection = True
        self._send_message(status, refusal.status(), extra)

    def _complain(self, status: HTTPStatus, code: int, message: str, extra: dict[str, str] | None = None) -> None:
        """Refuse a request that is none of OTLP's, before its body is read."""
        self.close_connection = True
        refusal = Refusal(code=code, message=message, cause="not_served")
        path = self.path.partition("?")[0]
        self._exchange.count(refusal, PATHS.get(path))
        self._send_message(status, refusal.status(), extra)

    def _send_message(self, status: HTTPStatus, message: Message, extra: dict[str, str] | None = None) -> None:
        body = answer_json(message) if self._is_json else message.SerializeToString()
        self._send(status, JSON if self._is_json else PROTOBUF, body, extra)

    def _send(self, status: HTTPStatus, media_type: str, body: bytes, extra: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection or self.server.stopping:
            self.send_header("Connection", "close")
        for name, value in (extra or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()


def gunzip(data: bytes, limit: int) -> bytes:
    """The decompressed body, also of several gzip members; raises RequestTooLarge as soon as it is too much."""
    body = bytearray()
    while data:
        stream = zlib.decompressobj(wbits=31)
        while not stream.eof:
            try:
                piece = stream.decompress(data, min(_PIECE, limit + 1 - len(body)))
            except zlib.error as error:
                raise MalformedRequest(f"the body is no gzip ({error}); check Content-Encoding") from error
            body += piece
            data = stream.unconsumed_tail
            if len(body) > limit:
                raise RequestTooLarge(
                    f"over limits.request_bytes_max = {limit} bytes after decompression; send smaller batches"
                )
            if not piece and not data and not stream.eof:
                raise MalformedRequest("the gzip body ends early; check Content-Encoding and Content-Length")
        data = stream.unused_data
    return bytes(body)
