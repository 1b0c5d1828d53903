"""The thread that runs the pipeline behind the servers: reads what is durable, writes what is complete, never gives up.

A store that another process holds delays what others can see, and nothing else: requests are still acknowledged.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import traceback
from collections.abc import Callable

from otel_receiver.config import ReceiverConfig
from otel_receiver.errors import RetryableError
from otel_receiver.ingest_log import IngestLog
from otel_receiver.pipeline import Pipeline, PipelineState
from otel_receiver.telemetry import Telemetry
from spanloop.records import EndReason

logger = logging.getLogger(__name__)


class Processor:
    """Runs from `start` to `stop`."""

    def __init__(
        self, log: IngestLog, open_pipeline: Callable[[], Pipeline], config: ReceiverConfig, telemetry: Telemetry
    ) -> None:
        """Raises what `open_pipeline` raises, except RetryableError: then the thread tries again."""
        self._log = log
        self._open_pipeline = open_pipeline
        self._opened: Pipeline | None = None
        self._config = config.pipeline
        self._quiet_s = config.buffer.quiet_s
        self._telemetry = telemetry
        self._stopping = threading.Event()
        self._deadline = float("inf")
        self._busy_since: float | None = None
        self._thread = threading.Thread(target=self._run, name="processor")
        self.failure: Exception | None = None
        """What ended the thread, if anything unexpected did."""
        with contextlib.suppress(RetryableError):
            self._opened = open_pipeline()

    def start(self) -> None:
        """Begin to process."""
        self._thread.start()

    def stop(self) -> bool:
        """Process what is in the log and write every trace, within the drain time; whether all of it was written."""
        self._deadline = time.monotonic() + self._config.shutdown_drain_s
        self._stopping.set()
        self._thread.join()
        return self.state.committed == self._log.end

    @property
    def state(self) -> PipelineState:
        """How far the pipeline is."""
        if self._opened is None:
            start = self._log.size.start
            return PipelineState(position=start, committed=start, open_traces=0, waiting_traces=0)
        return self._opened.state

    @property
    def lag_bytes(self) -> int:
        """Log that is not yet read."""
        return self._log.end - self.state.position

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    @property
    def lag_s(self) -> float:
        """How long the store has been held by another process."""
        return time.monotonic() - self._busy_since if self._busy_since is not None else 0.0

    @property
    def _pipeline(self) -> Pipeline:
        assert self._opened is not None, "the pipeline is opened before it is used"
        return self._opened

    def _run(self) -> None:
        try:
            self._open()
            if self._opened is None:
                return
            while not self._stopping.is_set():
                self._step(self._config.flush_interval_s)
            self._finish()
        # The boundary of the queue worker: the receiver reports it and stops instead of acknowledging for ever.
        except Exception as error:  # noqa: BLE001
            self.failure = error
            # Where it happened, without the message: that may quote what a sender wrote.
            where = "".join(traceback.format_tb(error.__traceback__))
            logger.error("processor stopped error=%s\n%s", type(error).__name__, where)

    def _open(self) -> None:
        """Find out where the store stands, as soon as it can be read; not at all if the receiver stops before."""
        while self._opened is None and time.monotonic() < self._deadline:
            try:
                self._opened = self._open_pipeline()
            except RetryableError as error:
                self._wait_for_store(error)

    def _step(self, wait_s: float) -> None:
        """Read for one flush interval, then write."""
        until = time.monotonic() + wait_s
        while not self._stopping.is_set() and time.monotonic() < until and not self._pipeline.is_full:
            position = self._pipeline.state.position
            if not self._log.wait_beyond(position, max(0.0, min(until - time.monotonic(), 0.2))):
                continue
            self._read(until)
        self._release()
        self._write(progress_only=False)

    def _read(self, until: float) -> None:
        """Feed what is durable, as long as there is time and room."""
        for entry in self._log.read(self._pipeline.state.position):
            self._pipeline.feed(entry)
            if time.monotonic() >= until or self._pipeline.is_full or self._stopping.is_set():
                return

    def _release(self) -> None:
        """Real time counts only when everything that arrived is read."""
        is_behind = self._log.end > self._pipeline.state.position
        self._pipeline.release(None if is_behind else time.time())

    def _write(self, *, progress_only: bool) -> None:
        """Write, again and again while the store is held, until the receiver stops."""
        while True:
            try:
                self._pipeline.write(progress_only=progress_only, until=lambda: self._deadline)
            except RetryableError as error:
                self._wait_for_store(error)
                if time.monotonic() >= self._deadline:
                    return
            else:
                if self._busy_since is not None:
                    logger.info("store is free again waited_s=%.1f", self.lag_s)
                self._busy_since = None
                self._log.retire(self._pipeline.state.committed)
                return

    def _wait_for_store(self, error: RetryableError) -> None:
        self._telemetry.store_waits.add(1)
        if self._busy_since is None:
            self._busy_since = time.monotonic()
        logger.warning("episodes wait for the store since_s=%.1f: %s", self.lag_s, error)
        remaining = max(0.0, self._deadline - time.monotonic())
        self._stopping.wait(min(self._config.store_retry_s, remaining))
        if self._stopping.is_set():
            time.sleep(min(0.1, remaining))

    def _finish(self) -> None:
        """Drain what is in the log, then every open trace; what does not fit in the time is left to the next start."""
        for entry in self._log.read(self._pipeline.state.position):
            if time.monotonic() >= self._deadline:
                break
            self._pipeline.feed(entry)
            if self._pipeline.is_full:
                self._pipeline.release()
                self._write(progress_only=False)
        # Those whose root has come need not be quiet any more; the others come back whole with their next record.
        self._pipeline.release(time.time() + self._quiet_s)
        self._pipeline.drain(EndReason.IDLE_TIMEOUT)
        self._write(progress_only=True)
