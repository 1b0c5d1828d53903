"""A whole receiver in one process: what `otel-receiver serve` starts, watches and stops."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

from otel_receiver.config import ReceiverConfig
from otel_receiver.crash_guard import CrashGuard
from otel_receiver.dead_letters import DeadLetters
from otel_receiver.errors import ConfigError
from otel_receiver.ingest_log import IngestLog
from otel_receiver.intake import Intake
from otel_receiver.pipeline import PipelineParts, open_pipeline
from otel_receiver.processor import Processor
from otel_receiver.server.admission import Admission
from otel_receiver.server.auth import Tokens
from otel_receiver.server.exchange import Exchange
from otel_receiver.server.grpc import GrpcServer
from otel_receiver.server.http import HttpServer
from otel_receiver.store import Store
from otel_receiver.telemetry import Telemetry

logger = logging.getLogger(__name__)


class Receiver:
    """Answers from `start` to `stop`. Raises ReceiverError from its constructor when it cannot be started."""

    def __init__(self, config: ReceiverConfig, store_path: Path, log_dir: Path) -> None:
        if not (config.server.grpc or config.server.http):
            raise ConfigError("server.grpc and server.http are both empty; give at least one address to listen on")
        self.grpc: GrpcServer | None = None
        self.http: HttpServer | None = None
        self._stack = ExitStack()
        with self._stack:
            self._build(config, store_path, log_dir)
            # Nothing failed: keep everything open.
            self._stack = self._stack.pop_all()

    def _build(self, config: ReceiverConfig, store_path: Path, log_dir: Path) -> None:
        """Make every part; what is made last is stopped first."""
        telemetry = Telemetry(config.telemetry)
        self._stack.callback(telemetry.close)
        self.log = IngestLog(log_dir, config.log)
        self._stack.callback(self.log.close)
        letters = DeadLetters(log_dir, config.limits.dead_letter_bytes_max, telemetry)
        parts = PipelineParts(
            log=self.log,
            store=Store(store_path, config.store),
            config=config,
            telemetry=telemetry,
            dead_letters=letters,
            guard=CrashGuard(log_dir, config.pipeline.attempts_max),
        )
        self._stack.callback(parts.guard.close)
        self.processor = Processor(self.log, lambda: open_pipeline(parts), config, telemetry)
        self._stack.callback(self._stop_processor)
        admission = Admission(config.admission, lambda: self.processor.lag_bytes)
        exchange = Exchange(
            intake=Intake(self.log, letters, telemetry),
            admission=admission,
            tokens=Tokens.from_file(config.server.auth.token_file),
            limits=config.limits,
            telemetry=telemetry,
        )
        self._listen(config, exchange)
        self._gauges(telemetry, admission)

    def _listen(self, config: ReceiverConfig, exchange: Exchange) -> None:
        if config.server.grpc:
            self.grpc = GrpcServer(config.server, config.limits, exchange)
            self._stack.callback(self.grpc.stop)
        if config.server.http:
            self.http = HttpServer(config.server, config.limits, exchange)
            self._stack.callback(self.http.stop)

    def start(self) -> None:
        """Begin to process and to answer."""
        self.processor.start()
        if self.grpc is not None:
            self.grpc.start()
        if self.http is not None:
            self.http.start()

    def stop(self) -> None:
        """Turn senders away, finish what is under way, bring everything into the store if there is time."""
        self._stack.close()

    def _stop_processor(self) -> None:
        if self.processor.is_alive and not self.processor.stop():
            logger.warning("not everything is in the store yet; the rest is derived at the next start")

    def _gauges(self, telemetry: Telemetry, admission: Admission) -> None:
        log, processor = self.log, self.processor
        telemetry.gauge("in_flight_bytes", "Bytes of requests under way", lambda: admission.in_flight_bytes)
        telemetry.gauge("log_bytes", "Size of the ingest log", lambda: log.size.end - log.size.start)
        telemetry.gauge("lag_bytes", "Ingest log that is not yet read", lambda: processor.lag_bytes)
        telemetry.gauge("uncommitted_bytes", "Log not yet in the store", lambda: log.end - processor.state.committed)
        telemetry.gauge("open_traces", "Traces that wait for more records", lambda: processor.state.open_traces)
        telemetry.gauge("store_wait_seconds", "Time the store has been held", lambda: processor.lag_s)


def run(config: ReceiverConfig, store_path: Path, log_dir: Path, ready_file: Path | None) -> None:
    """Serve until a signal or a failure of the processor; raises ReceiverError when it cannot be started."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: _stop_or_quit(stopping))
    receiver = Receiver(config, store_path, log_dir)
    receiver.start()
    try:
        _announce(receiver, store_path, log_dir, ready_file)
        while not stopping.wait(0.5) and receiver.processor.is_alive:
            pass
    finally:
        logger.info("stopping")
        receiver.stop()
    logger.info("stopped")
    if receiver.processor.failure is not None:
        sys.exit(1)


def _stop_or_quit(stopping: threading.Event) -> None:
    """The first signal stops gracefully, the second at once: whatever was acknowledged is on disk."""
    if stopping.is_set():
        os._exit(1)
    stopping.set()


def _announce(receiver: Receiver, store_path: Path, log_dir: Path, ready_file: Path | None) -> None:
    """Say where the receiver listens, on stderr and in the ready file."""
    ready = {
        "grpc": receiver.grpc.address if receiver.grpc else None,
        "http": receiver.http.address if receiver.http else None,
        "pid": os.getpid(),
        "store": str(store_path),
        "log_dir": str(log_dir),
    }
    line = json.dumps(ready)
    print(f"ready {line}", file=sys.stderr, flush=True)
    if ready_file is not None:
        temporary = ready_file.with_name(ready_file.name + ".new")
        temporary.write_text(line + "\n", encoding="utf-8")
        temporary.replace(ready_file)
