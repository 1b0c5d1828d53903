"""The store: one plain DuckDB file, opened for each batch and closed again (decision 2 of the design).

Between two batches anybody may open the file; whoever keeps it open delays the next batch and nothing else. One
transaction holds the rows of a batch and the log position they reach, so a crash leaves the state of the last batch.
Modules named `store*` are the only ones of the receiver that know DuckDB.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from otel_receiver import store_episodes, store_read
from otel_receiver.batch import Progress, StoredEpisode, StoreStatus, WriteBatch, WriteOutcome
from otel_receiver.config import StoreConfig
from otel_receiver.episodes.trace_links import CallLink
from otel_receiver.errors import LogMismatch
from otel_receiver.store_file import StoreFile, check_version, migrate, schema_version, transaction
from otel_receiver.store_write import Connection, write_rows
from spanloop.records import Feedback


class Store:
    """Reads and writes of one file. Every call opens it and lets go of it; safe from any thread.

    Every method raises StoreBusy when another process holds the file for longer than `lock_wait_s`, StoreUnusable when
    it is no store, StoreTooNew when a newer program wrote it. Reading a store that does not exist yet finds nothing.
    """

    def __init__(self, path: Path, config: StoreConfig) -> None:
        self.path = path
        self._file = StoreFile(path, config)

    def prepare(self) -> None:
        """Make the file, or bring an older one to this version, so that a wrong path fails at the start."""
        with self._file.open() as opened:
            migrate(opened.connection, self.path)

    def write(self, batch: WriteBatch) -> WriteOutcome:
        """Write a batch whole, or raise and leave the file as it was. Raises LogMismatch for another log's batch."""
        with self._file.open() as opened:
            migrate(opened.connection, self.path)
            with transaction(opened.connection):
                self._check_log(store_read.progress(opened.connection), batch)
                counts = write_rows(opened.connection, batch)
                _advance(opened.connection, batch)
        return WriteOutcome(
            new_episodes=counts.new_episodes,
            new_revisions=counts.new_revisions,
            unchanged_episodes=counts.unchanged,
            retired_episodes=counts.retired,
            new_spans=counts.new_spans,
            known_spans=len(batch.spans) - counts.new_spans,
            lock_wait_s=opened.lock_wait_s,
        )

    def _check_log(self, known: Progress, batch: WriteBatch) -> None:
        if batch.log_id is not None and known.log_id not in (None, batch.log_id):
            raise LogMismatch(
                f"store {self.path}: derived from ingest log {known.log_id}, not {batch.log_id}; give --log-dir the "
                "directory it was made from, or --store a new file"
            )

    def progress(self) -> Progress:
        """The log position up to which everything is in the store, and which log that is."""
        with self._reading() as connection:
            return store_read.progress(connection) if connection else Progress(log_id=None, committed_position=0)

    def committed_position(self) -> int:
        """The log position up to which everything is in the store."""
        return self.progress().committed_position

    def positions_of(self, trace_ids: Collection[str]) -> Mapping[str, tuple[int, ...]]:
        """Ingest log entries that hold earlier spans or log records of each trace, ascending; unknown ones left out."""
        with self._reading() as connection:
            return store_read.positions_of(connection, trace_ids) if connection and trace_ids else {}

    def episodes_of(self, trace_ids: Collection[str]) -> tuple[frozenset[str], ...]:
        """Stored episodes that touch these traces, each as the traces of all its steps."""
        with self._reading() as connection:
            return store_read.episodes_of(connection, trace_ids) if connection and trace_ids else ()

    def linked_traces(self, links: Collection[CallLink]) -> frozenset[str]:
        """Other traces whose calls these loose ends may continue, or be continued by."""
        with self._reading() as connection:
            return store_read.linked_traces(connection, links) if connection and links else frozenset()

    def status(self) -> StoreStatus | None:
        """What is in the store, per sender; `None` when there is no store yet."""
        with self._reading() as connection:
            return store_read.status(connection, schema_version(connection)) if connection else None

    def newest_episodes(self, after: int, limit: int) -> tuple[StoredEpisode, ...]:
        """Visible episodes beyond a cursor, in the order they were written; each brings the next cursor."""
        with self._reading() as connection:
            return store_episodes.newest_episodes(connection, after, limit) if connection else ()

    def feedback(self) -> tuple[Feedback, ...]:
        """All judgements, in the order they came."""
        with self._reading() as connection:
            return store_read.feedback(connection) if connection else ()

    @contextmanager
    def _reading(self) -> Iterator[Connection | None]:
        """The file opened for reading, `None` when there is nothing in it yet."""
        if not self.path.exists():
            yield None
            return
        with self._file.open(read_only=True) as opened:
            version = schema_version(opened.connection)
            check_version(self.path, version)
            yield opened.connection if version else None


def _advance(connection: Connection, batch: WriteBatch) -> None:
    connection.execute(
        "UPDATE store.progress SET log_id = coalesce(?, log_id), committed_position = ?, "
        "num_batches = num_batches + 1, updated_at = make_timestamp_ns(?)",
        [batch.log_id, batch.committed_position, time.time_ns()],
    ).fetchall()
