"""The ingest log: raw requests on disk, in order of arrival, before anything else happens to them.

In: the bytes of a request. Out: its position, once it is durable. A position is a byte offset over all segment files,
so positions only grow, also across restarts. Entry = header (magic, payload length, CRC-32, signal, time of arrival)
and payload. Many appenders share one fdatasync. A torn tail after a crash is cut when the log is opened; damage in the
middle is stepped over, up to the next entry whose checksum holds.
"""

from __future__ import annotations

import bisect
import contextlib
import os
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from otel_receiver.config import LogConfig
from otel_receiver.errors import LogEntryMissing, LogMismatch, LogWriteFailed
from otel_receiver.log_files import own_directory, read_identity, segment_path, segment_starts, sync_directory

MAGIC = b"SPL\x01"
HEADER = struct.Struct("<4sIIBQ")
_CHECKED = struct.Struct("<BQ")


class Signal(StrEnum):
    """What a request carries."""

    TRACES = "traces"
    LOGS = "logs"


_CODES = {Signal.TRACES: 1, Signal.LOGS: 2}
_SIGNALS = {code: signal for signal, code in _CODES.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """One request as it was appended."""

    position: int
    next_position: int
    signal: Signal
    payload: bytes
    received_at: int
    """Nanoseconds since the epoch, the receiver's clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSize:
    """How much the log holds."""

    start: int
    """The oldest position still there."""
    end: int
    """The position the next entry gets."""
    segments: int


class IngestLog:
    """An append-only log in a directory of its own, owned by one process; any thread may append or read.

    With `read_only` it takes no lock, changes nothing and sees the entries that were there when it was opened.
    """

    def __init__(self, directory: Path, config: LogConfig, *, read_only: bool = False) -> None:
        self._directory = directory
        self._config = config
        self._read_only = read_only
        self._write_lock = threading.Lock()
        self._read_lock = threading.Lock()
        self._synced = threading.Condition()
        self._syncing = False
        self._cuts: list[int] = []
        self._is_closed = read_only
        self._fds: dict[int, int] = {}
        self._lock_fd = -1 if read_only else own_directory(directory)
        self._identity = read_identity(directory, read_only=read_only)
        self._starts = segment_starts(directory)
        self._fd = -1
        self._segment = self._starts[-1] if self._starts else 0
        self._end = self._recover()
        self._durable = self._end

    @property
    def identity(self) -> str:
        """A random name, made with the log: a position means nothing without it."""
        return self._identity

    @property
    def end(self) -> int:
        """The end of what is durable."""
        return self._durable

    @property
    def size(self) -> LogSize:
        """How much the log holds."""
        with self._read_lock:
            start = self._starts[0] if self._starts else self._durable
            return LogSize(start=start, end=self._durable, segments=len(self._starts))

    def append(self, signal: Signal, payload: bytes, received_at: int) -> int:
        """The entry's position, once it is on disk; raises LogWriteFailed, and then nothing of it is kept."""
        head = HEADER.pack(
            MAGIC, len(payload), _checksum(_CODES[signal], received_at, payload), _CODES[signal], received_at
        )
        with self._write_lock:
            position = self._write(head, payload)
            end, epoch = self._end, len(self._cuts)
        self._wait_durable(end, epoch)
        return position

    def read(self, position: int) -> Iterator[LogEntry]:
        """The durable entries from a position on; a retired position starts at the oldest entry."""
        end = self._durable
        if position > end:
            raise LogMismatch(
                f"position {position} is beyond the end {end} of ingest log {self._directory}: "
                "the store was derived from another log; give the log it belongs to, or a new store"
            )
        position = max(position, self.size.start)
        while position < end:
            entry = self._entry_at(position) or self._next_entry(position)
            if entry is None:
                return
            yield entry
            position = entry.next_position

    def entry(self, position: int) -> LogEntry:
        """The entry at a position; raises LogEntryMissing when it was retired or is damaged."""
        entry = self._entry_at(position) if self.size.start <= position < self._durable else None
        if entry is None:
            raise LogEntryMissing(
                f"ingest log {self._directory}: no entry at position {position}; it was retired "
                "(raise log.retain_hours or log.retain_bytes_max) or is damaged"
            )
        return entry

    def wait_beyond(self, position: int, timeout_s: float) -> bool:
        """Whether something durable lies beyond a position, after waiting for it at most so long."""
        with self._synced:
            return self._synced.wait_for(lambda: self._durable > position, timeout_s)

    def retire(self, below: int) -> int:
        """Delete whole segments below a position that are too old or too much; returns how many."""
        deleted = 0
        oldest = time.time() - self._config.retain_hours * 3600
        with self._read_lock:
            while len(self._starts) > 1 and self._starts[1] <= below:
                path = segment_path(self._directory, self._starts[0])
                too_much = self._durable - self._starts[0] > self._config.retain_bytes_max
                if not too_much and path.stat().st_mtime >= oldest:
                    break
                self._forget_fd(self._starts.pop(0))
                path.unlink()
                deleted += 1
        return deleted

    def close(self) -> None:
        """Make everything durable and give the directory free."""
        with self._write_lock, self._read_lock:
            self._is_closed = True
            if self._fd >= 0:
                os.fdatasync(self._fd)
                os.close(self._fd)
                self._fd = -1
            for start in list(self._fds):
                self._forget_fd(start)
            if self._lock_fd >= 0:
                os.close(self._lock_fd)
                self._lock_fd = -1

    def _write(self, head: bytes, payload: bytes) -> int:
        """Put an entry behind the last one, or leave the log as it was; the caller holds the write lock."""
        if self._is_closed:
            raise self._failure(OSError("the log is closed"))
        try:
            self._roll()
            position, offset = self._end, self._end - self._segment
            written = os.pwritev(self._fd, [head, payload], offset)
            if written < len(head) + len(payload):
                self._write_rest((head + payload)[written:], offset + written)
        except OSError as error:
            self._cut_back(self._end)
            raise self._failure(error) from error
        self._end = position + len(head) + len(payload)
        return position

    def _write_rest(self, rest: bytes, offset: int) -> None:
        """Write what a short write left over: the disk is nearly full, or a signal came."""
        view = memoryview(rest)
        while view:
            written = os.pwrite(self._fd, view, offset)
            view, offset = view[written:], offset + written

    def _roll(self) -> None:
        """Begin a new segment when there is none or the active one is full."""
        if self._fd >= 0 and self._end - self._segment < self._config.segment_bytes:
            return
        if self._fd >= 0:
            try:
                os.fdatasync(self._fd)
            except OSError:
                self._drop_unsynced()
                raise
            with self._synced:
                self._durable = self._end
            os.close(self._fd)
            self._fd = -1
        self._fd = os.open(segment_path(self._directory, self._end), os.O_CREAT | os.O_WRONLY, 0o600)
        self._segment = self._end
        sync_directory(self._directory)
        with self._read_lock:
            if self._end not in self._starts:
                self._starts.append(self._end)

    def _wait_durable(self, end: int, epoch: int) -> None:
        """Return when everything before `end` is on disk; the first waiter syncs for all."""
        while True:
            with self._synced:
                self._synced.wait_for(lambda: not self._syncing or self._durable >= end or len(self._cuts) > epoch)
                # Positions behind a cut are given out again, so what is durable now says nothing about this entry.
                if (self._cuts[epoch] if len(self._cuts) > epoch else self._durable) >= end:
                    return
                if len(self._cuts) > epoch:
                    raise self._failure(OSError("the sync of a neighbouring entry failed"))
                if self._syncing:
                    continue
                self._syncing = True
            self._sync_as_leader()

    def _sync_as_leader(self) -> None:
        """Sync the active segment once for every entry written so far."""
        with self._write_lock:
            target, epoch = self._end, len(self._cuts)
            fd = os.dup(self._fd) if self._fd >= 0 else -1
        try:
            if fd >= 0:
                os.fdatasync(fd)
                with self._synced:
                    if epoch == len(self._cuts):
                        self._durable = max(self._durable, target)
        except OSError as error:
            with self._write_lock:
                self._drop_unsynced()
            raise self._failure(error) from error
        finally:
            if fd >= 0:
                os.close(fd)
            with self._synced:
                self._syncing = False
                self._synced.notify_all()

    def _drop_unsynced(self) -> None:
        """After a failed sync the kernel may have dropped pages: forget every entry that was not durable.

        A second sync of the same file would report success for pages that are gone, so the segment is given up.
        The caller holds the write lock.
        """
        with self._synced:
            self._cuts.append(self._durable)
            self._cut_back(self._durable)
            if self._fd >= 0:
                os.close(self._fd)
            self._fd = -1
            self._end = self._durable

    def _cut_back(self, end: int) -> None:
        """Cut the active segment at a position, as far as a failing disk lets us: later entries overwrite the rest."""
        if self._fd >= 0 and end >= self._segment:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, end - self._segment)

    def _failure(self, error: OSError) -> LogWriteFailed:
        return LogWriteFailed(
            f"ingest log {self._directory}: cannot write ({error.strerror or error}); "
            "free disk space or move the log with --log-dir; nothing was acknowledged"
        )

    def _recover(self) -> int:
        """The end of the last valid entry; a torn tail behind it is cut off, unless valid entries follow damage."""
        if not self._starts:
            return 0
        last = self._starts[-1]
        length = segment_path(self._directory, last).stat().st_size
        self._durable = last + length
        position = last
        while (entry := self._entry_at(position) or self._next_entry(position)) is not None:
            position = entry.next_position
        if not self._read_only:
            self._fd = os.open(segment_path(self._directory, last), os.O_WRONLY)
            os.ftruncate(self._fd, position - last)
            os.fdatasync(self._fd)
        return position

    def _entry_at(self, position: int) -> LogEntry | None:
        """The entry at a position, or None when there is no whole, undamaged one."""
        with self._read_lock:
            fd, offset = self._locate(position)
            if fd < 0:
                return None
            head = os.pread(fd, HEADER.size, offset)
            if len(head) < HEADER.size:
                return None
            magic, length, checksum, code, received_at = HEADER.unpack(head)
            if magic != MAGIC or code not in _SIGNALS or position + HEADER.size + length > self._durable:
                return None
            payload = os.pread(fd, length, offset + HEADER.size)
        if len(payload) < length or checksum != _checksum(code, received_at, payload):
            return None
        return LogEntry(
            position=position,
            next_position=position + HEADER.size + length,
            signal=_SIGNALS[code],
            payload=payload,
            received_at=received_at,
        )

    def _next_entry(self, position: int) -> LogEntry | None:
        """The first undamaged entry behind a damaged or missing one."""
        while position < self._durable:
            found = self._find_magic(position + 1)
            if found is None:
                return None
            entry = self._entry_at(found)
            if entry is not None:
                return entry
            position = found
        return None

    def _find_magic(self, position: int) -> int | None:
        """Where the next header may begin, in this segment or at the start of the next."""
        with self._read_lock:
            fd, offset = self._locate(position)
            if fd >= 0:
                rest = os.pread(fd, os.fstat(fd).st_size - offset, offset)
                if (index := rest.find(MAGIC)) >= 0:
                    return position + index
            later = bisect.bisect_right(self._starts, position)
            return self._starts[later] if later < len(self._starts) else None

    def _locate(self, position: int) -> tuple[int, int]:
        """File descriptor and offset of a position; the caller holds the read lock."""
        index = bisect.bisect_right(self._starts, position) - 1
        if index < 0:
            return -1, 0
        start = self._starts[index]
        if start not in self._fds:
            while len(self._fds) >= 8:
                self._forget_fd(next(iter(self._fds)))
            self._fds[start] = os.open(segment_path(self._directory, start), os.O_RDONLY)
        return self._fds[start], position - start

    def _forget_fd(self, start: int) -> None:
        fd = self._fds.pop(start, -1)
        if fd >= 0:
            os.close(fd)


def _checksum(code: int, received_at: int, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(_CHECKED.pack(code, received_at)))
