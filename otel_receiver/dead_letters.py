"""The dead-letter file: refused bytes and inputs that crash the processor, where an operator can see them.

One JSON object a line: time, signal, reason, position in the ingest log when it has one, and the bytes in base64.
The file's size is capped; what does not fit is counted only.
"""

from __future__ import annotations

import base64
import json
import os
import threading
import time
from pathlib import Path

from otel_receiver.telemetry import Telemetry

FILE_NAME = "dead-letters.jsonl"


class DeadLetters:
    """Appends to one file; safe from any thread."""

    def __init__(self, directory: Path, bytes_max: int, telemetry: Telemetry) -> None:
        self.path = directory / FILE_NAME
        self._bytes_max = bytes_max
        self._telemetry = telemetry
        self._lock = threading.Lock()

    def add(self, signal: str, reason: str, data: bytes, position: int | None = None) -> bool:
        """Whether the bytes were kept; a full file or disk must not stop the receiver."""
        letter = {
            "time_unix_nano": time.time_ns(),
            "signal": signal,
            "reason": reason,
            "position": position,
            "base64": base64.b64encode(data).decode(),
        }
        line = json.dumps(letter).encode() + b"\n"
        with self._lock:
            kept = self._append(line)
        self._telemetry.dead_letters.add(1, {"kept": str(kept).lower()})
        return kept

    def _append(self, line: bytes) -> bool:
        try:
            # Only the owner may read it: these are users' data.
            fd = os.open(self.path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        except OSError:
            return False
        try:
            size = os.fstat(fd).st_size
            if size + len(line) > self._bytes_max:
                return False
            if os.write(fd, line) < len(line):
                os.ftruncate(fd, size)
                return False
        except OSError:
            return False
        finally:
            os.close(fd)
        return True
