"""Back-pressure: how much may be under way before senders are asked to come back later."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from otel_receiver.config import AdmissionConfig
from otel_receiver.errors import Overloaded


class Admission:
    """Counts the bytes of requests under way; safe from any thread."""

    def __init__(self, config: AdmissionConfig, lag_bytes: Callable[[], int]) -> None:
        self._config = config
        self._lag_bytes = lag_bytes
        self._lock = threading.Lock()
        self._in_flight = 0

    @property
    def in_flight_bytes(self) -> int:
        """Bytes of requests accepted but not yet answered."""
        return self._in_flight

    @contextmanager
    def admit(self, size: int) -> Iterator[None]:
        """Hold room for a request while it is answered; raises Overloaded. One request alone always fits."""
        lag = self._lag_bytes()
        if lag > self._config.lag_bytes_max:
            raise Overloaded(
                f"the processor is {lag} bytes behind, limit admission.lag_bytes_max = "
                f"{self._config.lag_bytes_max}; close whatever holds the store, and send again"
            )
        with self._lock:
            if self._in_flight and self._in_flight + size > self._config.in_flight_bytes_max:
                raise Overloaded(
                    f"{self._in_flight} bytes are in flight, limit admission.in_flight_bytes_max = "
                    f"{self._config.in_flight_bytes_max}; send again"
                )
            self._in_flight += size
        try:
            yield
        finally:
            with self._lock:
                self._in_flight -= size

    def retry_delay_s(self) -> float:
        """How long a sender is asked to wait; random, so that senders do not come back all at once."""
        # Spreading load needs no secrecy.
        return random.uniform(self._config.retry_min_s, self._config.retry_max_s)  # noqa: S311
