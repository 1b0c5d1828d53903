"""An OTLP/HTTP endpoint that merges what an SDK exports to it into one request per signal and writes it to files.

For SDKs that build their own provider. What tells of the capturing machine is left out, as in `sink.py`.
"""

from __future__ import annotations

import gzip
import os
import sys
import threading
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

KEPT = ("service.name", "telemetry.", "app.", "quotient.")


class HttpSink:
    """Takes the exports of one run; the standard variables point the SDK to it."""

    def __init__(self, tag: str) -> None:
        self._tag = tag
        self.traces = ExportTraceServiceRequest()
        self.logs = ExportLogsServiceRequest()
        handler = type("Bound", (_Handler,), {"sink": self})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{server.server_port}"
        os.environ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] = f"{self.url}/v1/traces"
        os.environ["OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"] = f"{self.url}/v1/logs"
        os.environ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] = "http/protobuf"
        os.environ["OTEL_SERVICE_NAME"] = tag

    def write(self) -> None:
        """Write what came, after the SDK was flushed, into the folder named on the command line."""
        folder = Path(sys.argv[1])
        spans = [s for r in self.traces.resource_spans for scope in r.scope_spans for s in scope.spans]
        records = [s for r in self.logs.resource_logs for scope in r.scope_logs for s in scope.log_records]
        for holder in (*self.traces.resource_spans, *self.logs.resource_logs):
            _keep(holder.resource.attributes, [pair for pair in holder.resource.attributes if _is_kept(pair.key)])
        for event in (event for span in spans for event in span.events):
            _keep(event.attributes, [pair for pair in event.attributes if pair.key != "exception.stacktrace"])
        (folder / f"{self._tag}.traces.pb").write_bytes(self.traces.SerializeToString())
        if records:
            (folder / f"{self._tag}.logs.pb").write_bytes(self.logs.SerializeToString())
        print(self._tag, len(spans), "spans", len(records), "log records")


def _is_kept(key: str) -> bool:
    return key.startswith(KEPT)


def _keep(pairs: object, kept: Iterable[object]) -> None:
    del pairs[:]
    pairs.extend(kept)


class _Handler(BaseHTTPRequestHandler):
    sink: HttpSink

    def log_message(self, *_: object) -> None:
        """Say nothing on the terminal."""

    def do_POST(self) -> None:
        """One export request; anything but traces and logs is accepted and dropped."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        if self.path.endswith("/v1/traces"):
            self.sink.traces.MergeFromString(body)
        elif self.path.endswith("/v1/logs"):
            self.sink.logs.MergeFromString(body)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
