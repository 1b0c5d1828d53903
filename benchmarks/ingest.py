"""Spans a second that are acknowledged durably, beside MLflow's OTLP endpoint in the same run.

    python -m benchmarks.ingest [--seconds 8] [--install-peer]

The payload is what agents send: requests of 512 spans in traces of 8 (an agent, four model calls with their whole
history, three tools), about 2.9 KB a span. Both servers answer when the spans are on disk: ours in the ingest log,
MLflow's in SQLite. MLflow also writes what its pages show, so the ratio compares answers, not products. The peer lives
in an environment of its own (`.spanloop/peers/mlflow`); without it, its part is left out.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import venv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

ROOT = Path(__file__).parents[1]
PEER = ROOT / ".spanloop" / "peers" / "mlflow"
PEER_VERSION = "mlflow==3.17.2"
SPANS, TRACES = 512, 64
SENDERS = 4
DERIVED_REQUESTS = 8
COMMAND = [sys.executable, "-c", "from otel_receiver.cli import main; main()", "--log-level", "error"]
PLACEHOLDER = b"\xee\xdd\xcc\xbb\xaa\x99\x88\x77"
EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a server did with the load."""

    acknowledged_spans: int
    seconds: float
    latencies_ms: tuple[float, ...]

    @property
    def spans_per_s(self) -> float:
        """The figure that is compared."""
        return self.acknowledged_spans / self.seconds

    def __str__(self) -> str:
        """One line."""
        p50, p99 = statistics.median(self.latencies_ms), sorted(self.latencies_ms)[int(len(self.latencies_ms) * 0.99)]
        return f"{self.spans_per_s:>9,.0f} spans/s acknowledged, p50 {p50:.0f} ms, p99 {p99:.0f} ms a request"


def template() -> bytes:
    """One request whose trace ids begin with a placeholder, so that every copy can be made new in a millisecond."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "benchmark"
    spans = resource.scope_spans.add().spans
    for trace in range(TRACES):
        trace_id = PLACEHOLDER + (trace + 1).to_bytes(8)
        history = [
            {"role": "user", "parts": [{"type": "text", "content": f"Plan dinner {trace}. " + "Be brief. " * 60}]}
        ]
        _add(spans, trace_id, 1, 0, "invoke_agent planner", {"gen_ai.operation.name": "invoke_agent"})
        for turn in range(4):
            call = {
                "type": "tool_call",
                "id": f"t{turn}",
                "name": "find",
                "arguments": {"query": f"recipe {turn}" * 20},
            }
            answer = {"role": "assistant", "parts": [call], "finish_reason": "tool_calls"}
            attributes = {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "openai",
                "gen_ai.request.model": "gpt-4o-mini",
                "gen_ai.conversation.id": f"conversation {trace}",
                "gen_ai.input.messages": json.dumps(history),
                "gen_ai.output.messages": json.dumps([answer]),
                "gen_ai.system_instructions": json.dumps([{"type": "text", "content": "You plan meals. " * 40}]),
            }
            _add(spans, trace_id, 2 + turn, 1, "chat gpt-4o-mini", attributes)
            if turn < 3:
                result = {"type": "tool_call_response", "id": f"t{turn}", "response": "a recipe with lentils " * 45}
                tool = {
                    "gen_ai.operation.name": "execute_tool",
                    "gen_ai.tool.name": "find",
                    "gen_ai.tool.call.id": f"t{turn}",
                }
                _add(
                    spans,
                    trace_id,
                    6 + turn,
                    1,
                    "execute_tool find",
                    tool | {"gen_ai.tool.call.result": result["response"]},
                )
                history += [{"role": "assistant", "parts": [call]}, {"role": "tool", "parts": [result]}]
    assert len(spans) == SPANS
    return request.SerializeToString()


def _add(spans: object, trace_id: bytes, number: int, parent: int, name: str, attributes: dict[str, str]) -> None:
    span = spans.add(trace_id=trace_id, span_id=number.to_bytes(8), name=name)  # type: ignore[attr-defined]
    if parent:
        span.parent_span_id = parent.to_bytes(8)
    span.start_time_unix_nano = 1_700_000_000_000_000_000 + number * 1_000_000
    span.end_time_unix_nano = span.start_time_unix_nano + 900_000
    for key, value in attributes.items():
        span.attributes.add(key=key).value.string_value = value


class Load:
    """New requests without end, numbered over all senders."""

    def __init__(self) -> None:
        self._template = template()
        self._next = int(time.time()) << 20
        self._lock = threading.Lock()
        self.request_bytes = len(self._template)

    def next(self) -> bytes:
        """The next request."""
        with self._lock:
            self._next += 1
            number = self._next
        return self._template.replace(PLACEHOLDER, number.to_bytes(8))


def measure(load: Load, connect: Callable[[], Callable[[bytes], None]], seconds: float, senders: int) -> Measured:
    """Send from several connections for so long, after one request each that is not counted."""
    latencies: list[float] = []
    ends: list[float] = []
    ready = threading.Barrier(senders + 1)

    def work() -> None:
        send = connect()
        send(load.next())
        ready.wait(120)
        until = time.perf_counter() + seconds
        while (began := time.perf_counter()) < until:
            send(load.next())
            ends.append(time.perf_counter())
            latencies.append(1000 * (ends[-1] - began))

    threads = [threading.Thread(target=work) for _ in range(senders)]
    for thread in threads:
        thread.start()
    ready.wait(120)
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    return Measured(acknowledged_spans=SPANS * len(latencies), seconds=max(ends) - began, latencies_ms=tuple(latencies))


def ours(load: Load, seconds: float) -> Measured:
    """Our receiver, as shipped, deriving episodes behind the answers."""
    with tempfile.TemporaryDirectory(dir=_disk()) as name:
        directory = Path(name)
        ready, settings = directory / "ready.json", directory / "receiver.toml"
        # What is not derived when the load ends stays in the log; nobody waits for it here.
        settings.write_text("[pipeline]\nshutdown_drain_s = 0.1\n")
        command = [*COMMAND, "serve", "--store", str(directory / "e.duckdb"), "--ready-file", str(ready)]
        command += ["--config", str(settings), "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0"]
        with _process(command, directory) as process:
            _wait(ready.exists, process)
            address = json.loads(ready.read_text())["grpc"]
            return measure(load, lambda: _grpc_sender(address), seconds, SENDERS)


def derive(load: Load, requests: int) -> float:
    """Spans a second from a file to episodes in the store, by one `otel-receiver import`, its start included."""
    with tempfile.TemporaryDirectory(dir=_disk()) as name:
        directory = Path(name)
        bodies = [load.next() for _ in range(requests)]
        path = directory / "requests.binpb"
        path.write_bytes(b"".join(len(body).to_bytes(4) + body for body in bodies))
        began = time.perf_counter()
        command = [*COMMAND, "import", "--store", str(directory / "e.duckdb"), str(path)]
        subprocess.run(command, check=True, capture_output=True)
        took = time.perf_counter() - began
        with duckdb.connect(str(directory / "e.duckdb"), read_only=True) as connection:
            ((stored,),) = connection.execute("SELECT count(*) FROM store.spans").fetchall()
    assert stored == requests * SPANS, f"{stored} of {requests * SPANS} spans are in the store"
    return stored / took


def _grpc_sender(address: str) -> Callable[[bytes], None]:
    export = grpc.insecure_channel(address).unary_unary(EXPORT)

    def send(body: bytes) -> None:
        while True:
            try:
                export(body, timeout=60)
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                time.sleep(0.5)
            else:
                return

    return send


def mlflow(load: Load, seconds: float) -> Measured:
    """MLflow's tracking server with SQLite and one worker, over OTLP/HTTP, the only protocol it has.

    SQLite takes one writer, so one connection may do better than several: the better of the two counts.
    """
    with tempfile.TemporaryDirectory(dir=_disk()) as name:
        port = _free_port()
        command = [str(PEER / "bin" / "mlflow"), "server", "--backend-store-uri", f"sqlite:///{name}/m.db"]
        command += ["--default-artifact-root", f"{name}/artifacts", "--port", str(port), "--workers", "1"]
        with _process(command, Path(name)) as process:
            _wait(lambda: _answers(port), process)
            tries = [measure(load, lambda: _http_sender(port), seconds, senders) for senders in (1, SENDERS)]
            return max(tries, key=lambda tried: tried.spans_per_s)


def _http_sender(port: int) -> Callable[[bytes], None]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    headers = {"Content-Type": "application/x-protobuf", "x-mlflow-experiment-id": "0"}

    def send(body: bytes) -> None:
        while True:
            try:
                connection.request("POST", "/v1/traces", body=body, headers=headers)
                response = connection.getresponse()
                text = response.read()
            except (OSError, http.client.HTTPException):
                # It closes connections that wait long; the request is sent again, as an exporter would.
                connection.close()
                continue
            if response.status != 200:
                raise RuntimeError(f"mlflow answered {response.status}: {text[:200]!r}")
            return

    return send


def _answers(port: int) -> bool:
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False


@contextlib.contextmanager
def _process(command: list[str], directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server in a process group of its own, ended with all it started."""
    with (directory / "output.txt").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=directory, start_new_session=True)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


def _wait(is_ready: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while not is_ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{process.args!r} did not start")
        time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _disk() -> Path:
    """A directory on the disk of the checkout: a system's temporary files may be in memory, where a sync is free."""
    directory = ROOT / ".spanloop"
    directory.mkdir(exist_ok=True)
    return directory


def install_peer() -> None:
    """Make the peer's environment."""
    venv.create(PEER, with_pip=True)
    subprocess.run([str(PEER / "bin" / "pip"), "install", "--quiet", PEER_VERSION], check=True)


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0, help="load on each server")
    parser.add_argument(
        "--install-peer", action="store_true", help=f"first install {PEER_VERSION} into an environment of its own"
    )
    options = parser.parse_args(arguments)
    if options.install_peer:
        install_peer()
    load = Load()
    print(f"{SENDERS} connections, {SPANS} spans a request, {load.request_bytes / SPANS:,.0f} bytes a span")
    result = ours(load, options.seconds)
    print(f"otel-receiver  {result}")
    print(f"               {derive(load, DERIVED_REQUESTS):>9,.0f} spans/s from a file to episodes in the store")
    if not (PEER / "bin" / "mlflow").exists():
        print(f"mlflow         not installed; `python -m benchmarks.ingest --install-peer` measures {PEER_VERSION} too")
        return 0
    peer = mlflow(load, options.seconds)
    print(f"mlflow         {peer}\nratio          {result.spans_per_s / peer.spans_per_s:.0f} to 1")
    return 0


if __name__ == "__main__":
    sys.exit(main())
