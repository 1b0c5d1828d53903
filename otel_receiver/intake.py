"""From the bytes of a request to a durable entry of the ingest log; what servers and imports share.

An answer is given only for what is on disk. Bytes that are no request go to the dead-letter file.
"""

from __future__ import annotations

import time
from typing import Protocol

from otel_receiver.dead_letters import DeadLetters
from otel_receiver.errors import MalformedRequest
from otel_receiver.ingest_log import IngestLog, Signal
from otel_receiver.otlp import Checked, check, count_metrics
from otel_receiver.otlp_json import check_json, metrics_payload
from otel_receiver.telemetry import Telemetry


class Clock(Protocol):
    """Nanoseconds since the epoch, by the receiver's clock."""

    def __call__(self) -> int:
        """The time now."""


class Intake:
    """Checks requests and appends them; safe from any thread."""

    def __init__(
        self, log: IngestLog, dead_letters: DeadLetters, telemetry: Telemetry, clock: Clock = time.time_ns
    ) -> None:
        self._log = log
        self._dead_letters = dead_letters
        self._telemetry = telemetry
        self._clock = clock

    def receive(self, signal: Signal, body: bytes, *, is_json: bool = False) -> Checked:
        """The verdict on a request whose good records are on disk now; raises MalformedRequest, LogWriteFailed."""
        try:
            checked = check_json(signal, body) if is_json else check(signal, body)
        except MalformedRequest as error:
            self._dead_letters.add(signal, str(error), body)
            raise
        return self.keep(signal, checked)

    def keep(self, signal: Signal, checked: Checked) -> Checked:
        """Append a checked request; raises LogWriteFailed."""
        if checked.accepted:
            self._log.append(signal, checked.payload, self._clock())
        labels = {"signal": str(signal)}
        self._telemetry.accepted.add(checked.accepted, labels)
        self._telemetry.rejected.add(sum(item.count for item in checked.rejected), labels)
        self._telemetry.repaired.add(sum(item.count for item in checked.repaired), labels)
        self._telemetry.bytes.add(len(checked.payload), labels)
        return checked

    def count_metrics(self, body: bytes, *, is_json: bool = False) -> int:
        """The data points of a metrics request, which is counted and not kept; raises MalformedRequest."""
        points = count_metrics(metrics_payload(body) if is_json else body)
        self._telemetry.accepted.add(points, {"signal": "metrics"})
        return points
