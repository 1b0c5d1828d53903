"""OTLP over gRPC: TraceService, LogsService, MetricsService and the standard health service.

Requests are taken as raw bytes: grpcio's own deserialiser answers INTERNAL for one bad string, without calling us, and
a Collector then drops the batch for good. For the same reason `maximum_concurrent_rpcs` stays unset: it refuses
without RetryInfo. The number of threads and the admission of bytes bound what is held in memory.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from otel_receiver.config import LimitsConfig, ServerConfig, TlsConfig
from otel_receiver.errors import AddressInUse
from otel_receiver.ingest_log import Signal
from otel_receiver.server.auth import Address, check_exposure, check_tls, parse_address, read_secret
from otel_receiver.server.exchange import Exchange, Refusal

logger = logging.getLogger(__name__)

SERVICES: dict[str, Signal | None] = {
    "opentelemetry.proto.collector.trace.v1.TraceService": Signal.TRACES,
    "opentelemetry.proto.collector.logs.v1.LogsService": Signal.LOGS,
    "opentelemetry.proto.collector.metrics.v1.MetricsService": None,
}
_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


class GrpcServer:
    """Listens from `start` to `stop`."""

    def __init__(self, config: ServerConfig, limits: LimitsConfig, exchange: Exchange) -> None:
        self._config = config
        self._exchange = exchange
        self._health = health.HealthServicer()
        self._server = grpc.server(
            ThreadPoolExecutor(config.grpc_workers, thread_name_prefix="grpc"), options=_options(config, limits)
        )
        self._server.add_generic_rpc_handlers([_handlers(name, self._handler(sig)) for name, sig in SERVICES.items()])
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        address = parse_address(config.grpc)
        self.port = self._bind(address)
        self.address = str(Address(address.host, self.port))

    def start(self) -> None:
        """Begin to answer."""
        self._server.start()
        self._set_health(health_pb2.HealthCheckResponse.SERVING)

    def stop(self) -> None:
        """Turn new requests away, let those under way finish within the grace time."""
        self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        self._server.stop(self._config.stop_grace_s).wait()

    def _bind(self, address: Address) -> int:
        check_exposure(address, self._config)
        credentials = _credentials(self._config.tls)
        try:
            if credentials is None:
                return self._server.add_insecure_port(str(address))
            return self._server.add_secure_port(str(address), credentials)
        except RuntimeError as error:
            raise AddressInUse(
                f"gRPC address {address}: cannot listen there; another process may hold the port: "
                "stop it, or choose another with --grpc (port 0 takes a free one)"
            ) from error

    def _handler(self, signal: Signal | None) -> Callable[[bytes, grpc.ServicerContext], bytes]:
        def export(body: bytes, context: grpc.ServicerContext) -> bytes:
            # Message data is read before this is called, but nothing is decoded for a sender who is not let in.
            metadata = dict(context.invocation_metadata())
            refusal = self._exchange.authorise(_text(metadata.get("authorization")), signal)
            outcome: Message | Refusal = refusal or self._exchange.export(signal, body, "grpc")
            if isinstance(outcome, Refusal):
                status = outcome.status().SerializeToString()
                context.set_trailing_metadata((("grpc-status-details-bin", status),))
                context.abort(_CODES[outcome.code], outcome.message)
            assert isinstance(outcome, Message)
            return outcome.SerializeToString()

        return export

    def _set_health(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        for name in ("", *SERVICES):
            self._health.set(name, status)


def _handlers(
    service: str, export: Callable[[bytes, grpc.ServicerContext], bytes]
) -> grpc.GenericRpcHandler[bytes, bytes]:
    return grpc.method_handlers_generic_handler(service, {"Export": grpc.unary_unary_rpc_method_handler(export)})


def _options(config: ServerConfig, limits: LimitsConfig) -> list[tuple[str, int]]:
    return [
        # Holds after decompression too.
        ("grpc.max_receive_message_length", limits.request_bytes_max),
        # Off, so that a second receiver on the port fails instead of taking half of the connections.
        ("grpc.so_reuseport", 0),
        ("grpc.keepalive_time_ms", int(config.keepalive_s * 1000)),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
    ]


def _credentials(config: TlsConfig) -> grpc.ServerCredentials | None:
    """The TLS side of the server, or None."""
    check_tls(config)
    if config.cert_file is None or config.key_file is None:
        return None
    key = read_secret(config.key_file, "server.tls.key_file")
    cert = read_secret(config.cert_file, "server.tls.cert_file")
    ca_file = config.client_ca_file
    authority = read_secret(ca_file, "server.tls.client_ca_file") if ca_file else None
    return grpc.ssl_server_credentials([(key, cert)], authority, require_client_auth=ca_file is not None)


def _text(value: str | bytes | None) -> str | None:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
