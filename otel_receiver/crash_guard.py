"""Remembers over restarts what was being worked on, so that an input that kills the process is skipped in the end.

An exception is seen by the worker itself; a segmentation fault or the out-of-memory killer is not. Before each piece of
work its name is written to a small file, and taken back afterwards. No sync is needed: the kernel keeps the page when
the process dies, and after a power loss nothing is to blame.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FILE_NAME = "working-on"
_WIDTH = 120


class Poisonous(Exception):
    """A piece of work that ended the process too often; handled like any other crash of it."""


class CrashGuard:
    """One file in the ingest log's directory; for one thread. Without a directory it remembers nothing."""

    def __init__(self, directory: Path | None, attempts_max: int) -> None:
        self._attempts_max = attempts_max
        self._suspect, self._crashes = "", 0
        self._fd = -1
        if directory is not None:
            self._fd = os.open(directory / FILE_NAME, os.O_CREAT | os.O_RDWR, 0o600)
            count, _, name = os.pread(self._fd, _WIDTH, 0).decode(errors="replace").strip().partition(" ")
            if count.isdecimal() and name:
                self._suspect, self._crashes = name, int(count)

    @contextmanager
    def attempt(self, name: str) -> Iterator[None]:
        """Work that is remembered while it lasts; raises Poisonous when it ended the process too often."""
        crashes = self._crashes if name == self._suspect else 0
        if crashes >= self._attempts_max:
            raise Poisonous(f"{name}: ended the process {crashes} times; it is skipped")
        self._write(f"{crashes + 1} {name}")
        try:
            yield
        finally:
            self._write("")

    def close(self) -> None:
        """Let go of the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _write(self, text: str) -> None:
        if self._fd >= 0:
            os.pwrite(self._fd, text[:_WIDTH].ljust(_WIDTH).encode(), 0)
