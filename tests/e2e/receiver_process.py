"""A receiver as its users run it: a process of its own, on free ports, with a store and a log in a directory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

TRACE_EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
LOGS_EXPORT = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
COMMAND = [sys.executable, "-c", "from otel_receiver.cli import main; main()"]

FAST = """
[buffer]
quiet_s = 0.3
idle_s = 1.0
[pipeline]
flush_interval_s = 0.2
store_retry_s = 0.2
[store]
lock_wait_s = 0.3
"""
"""Short waits, so that tests are quick; everything else as shipped."""


@dataclass(slots=True)
class Running:
    """A receiver that answers."""

    process: subprocess.Popen[bytes]
    grpc: str
    http: str
    stderr: Path

    def kill(self) -> None:
        """End it as a crash would, without any warning."""
        self.process.kill()
        self.process.wait(30)

    def stop(self) -> int:
        """End it as an operator would; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def start(directory: Path, config: str = FAST, before: Callable[[], None] | None = None) -> Running:
    """A receiver over `directory`, once it answers; `before` runs in its process before it starts."""
    ready, settings = directory / "ready.json", directory / "receiver.toml"
    ready.unlink(missing_ok=True)
    settings.write_text(config)
    command = [*COMMAND, "serve", "--config", str(settings), "--store", str(directory / "episodes.duckdb")]
    command += ["--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--ready-file", str(ready)]
    log = directory / "stderr.txt"
    with log.open("ab") as stderr:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"}
        process = subprocess.Popen(command, stderr=stderr, env=environment, preexec_fn=before)  # noqa: PLW1509
    deadline = time.monotonic() + 60
    while not ready.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            process.wait()
            raise AssertionError(f"the receiver did not start: {log.read_text()}")
        time.sleep(0.02)
    bound = json.loads(ready.read_text())
    return Running(process, bound["grpc"], bound["http"], log)


@contextmanager
def running(directory: Path, config: str = FAST, before: Callable[[], None] | None = None) -> Iterator[Running]:
    """The same, ended afterwards whatever happens."""
    receiver = start(directory, config, before)
    try:
        yield receiver
    finally:
        if receiver.process.poll() is None:
            receiver.process.kill()
            receiver.process.wait(30)


def query(directory: Path, sql: str) -> list[tuple]:
    """Rows from the store, waiting while the receiver writes."""
    deadline = time.monotonic() + 30
    while True:
        try:
            with duckdb.connect(str(directory / "episodes.duckdb"), read_only=True) as connection:
                return connection.execute(sql).fetchall()
        except duckdb.IOException:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def wait_for(condition: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
    """Return as soon as a condition holds; fail when it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s} s for {what}"
        time.sleep(0.05)


def agent_trace(number: int, answer: str = "fine", *, with_root: bool = True) -> ExportTraceServiceRequest:
    """One request of an agent: a root span and a model call in OTel GenAI's form with parts."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "e2e"
    spans = resource.scope_spans.add().spans
    trace_id = number.to_bytes(16)
    if with_root:
        root = spans.add(trace_id=trace_id, span_id=(2 * number).to_bytes(8), name="invoke_agent a")
        root.start_time_unix_nano, root.end_time_unix_nano = 10**18 + number, 10**18 + number + 1000
        root.attributes.add(key="gen_ai.operation.name").value.string_value = "invoke_agent"
    call = spans.add(trace_id=trace_id, span_id=(2 * number + 1).to_bytes(8), name="chat m")
    call.parent_span_id = (2 * number).to_bytes(8)
    call.start_time_unix_nano, call.end_time_unix_nano = 10**18 + number, 10**18 + number + 500
    user = [{"role": "user", "parts": [{"type": "text", "content": f"question {number}"}]}]
    output = [{"role": "assistant", "parts": [{"type": "text", "content": answer}], "finish_reason": "stop"}]
    for key, value in {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "m",
        "gen_ai.input.messages": json.dumps(user),
        "gen_ai.output.messages": json.dumps(output),
        "gen_ai.conversation.id": f"c{number}",
    }.items():
        call.attributes.add(key=key).value.string_value = value
    return request
