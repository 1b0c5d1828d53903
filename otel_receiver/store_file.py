"""Opening the DuckDB file for one batch and closing it again, migrating it, and saying who holds it.

DuckDB lets one process write or several read, and refuses every other open at once; there is no queue, so the store
polls. Row groups are small so that a checkpoint, which merges them in powers of two, stays short.
"""

from __future__ import annotations

import os
import random
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import duckdb

from otel_receiver.config import StoreConfig
from otel_receiver.errors import StoreBusy, StoreTooNew, StoreUnusable
from spanloop.records import SCHEMA_VERSION

ROW_GROUP_ROWS = 16_384
"""Rows of a row group: bounds the longest checkpoint, and lets a filter on time skip most of a table."""
STORAGE_VERSION = "v1.5.0"
"""File format: what the newest command line of the 1.x line opens, and 2.x as well."""
ALIAS = "opened_store"
"""Name under which the file is attached; views and tables do not depend on it."""

_HOLDER = re.compile(r"Conflicting lock is held in (?P<program>.*?)\s*\(PID (?P<pid>\d+)\)")
_BUSY = re.compile(r"Could not set lock|already attached|different configuration")
_POLL_FIRST_S = 0.005
_POLL_MAX_S = 0.1

_in_process: dict[str, threading.Lock] = {}
_in_process_guard = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """A step from one schema version to the next."""

    version: int
    """The version the file has afterwards."""
    name: str
    sql: str


MIGRATIONS = (Migration(version=1, name="first tables", sql=""),)
"""In order, one per version. A new file is made by `schema.sql` alone and counts as migrated to the newest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """An open store and how long it took to get it."""

    connection: duckdb.DuckDBPyConnection
    lock_wait_s: float


class StoreFile:
    """One file, attached for the length of a `with` block and let go of afterwards.

    The database engine behind it stays: starting one takes twenty times as long as attaching a file to it.
    """

    def __init__(self, path: Path, config: StoreConfig) -> None:
        self.path = path
        self._config = config
        self._engine: duckdb.DuckDBPyConnection | None = None

    @contextmanager
    def open(self, *, read_only: bool = False) -> Iterator[Opened]:
        """The file, attached and in use; let go of on leaving, also after an error.

        Raises StoreBusy when others hold it for longer than `lock_wait_s`, StoreUnusable when it is no DuckDB file.
        """
        began = time.monotonic()
        deadline = began + self._config.lock_wait_s
        guard = _guard_of(self.path)
        if not guard.acquire(timeout=self._config.lock_wait_s):
            raise StoreBusy(
                f"store {self.path}: another thread has held it for {self._config.lock_wait_s:g} s; try again"
            )
        try:
            connection = self._attach(deadline, read_only=read_only)
            yield Opened(connection=connection, lock_wait_s=time.monotonic() - began)
            connection.execute("USE memory").fetchall()
            connection.execute(f"DETACH {ALIAS}").fetchall()
        except BaseException:
            # An engine that failed may hold the file or a half-done transaction; the next call starts a new one.
            self._drop_engine()
            raise
        finally:
            guard.release()

    def _attach(self, deadline: float, *, read_only: bool) -> duckdb.DuckDBPyConnection:
        connection = self._start_engine()
        pause = _POLL_FIRST_S
        while True:
            try:
                connection.execute(_attach_sql(self.path, read_only=read_only)).fetchall()
            except duckdb.Error as error:
                _raise_unless_busy(self.path, error, self._config, over=time.monotonic() >= deadline)
            else:
                connection.execute(f"USE {ALIAS}").fetchall()
                return connection
            jitter = random.uniform(0.5, 1.5)  # noqa: S311 - keeps pollers apart, guards nothing
            time.sleep(max(0.0, min(pause * jitter, deadline - time.monotonic())))
            pause = min(2 * pause, _POLL_MAX_S)

    def _start_engine(self) -> duckdb.DuckDBPyConnection:
        if self._engine is None:
            config: dict[str, str | bool | int | float | list[str]] = {
                "threads": self._config.threads,
                "memory_limit": self._config.memory_limit,
            }
            self._engine = duckdb.connect(":memory:", config=config)
        return self._engine

    def _drop_engine(self) -> None:
        if self._engine is not None:
            self._engine.close()
            self._engine = None


def _guard_of(path: Path) -> threading.Lock:
    """One lock per file: a second open in one process would drop the first one's file lock (POSIX locks do)."""
    with _in_process_guard:
        return _in_process.setdefault(os.path.realpath(path), threading.Lock())


def _attach_sql(path: Path, *, read_only: bool) -> str:
    quoted = str(path).replace("'", "''")
    # By the ending of its name DuckDB would take a file for something else (`.json`) and say so in odd words.
    options = "TYPE duckdb, " + ("READ_ONLY" if read_only else f"ROW_GROUP_SIZE {ROW_GROUP_ROWS}")
    if not read_only and not (path.exists() and path.stat().st_size):
        options += f", STORAGE_VERSION '{STORAGE_VERSION}'"  # an existing file keeps its own
    return f"ATTACH '{quoted}' AS {ALIAS} ({options})"


def _raise_unless_busy(path: Path, error: duckdb.Error, config: StoreConfig, *, over: bool) -> None:
    text = str(error)
    if not _BUSY.search(text):
        raise StoreUnusable(f"store {path}: {_first_line(text)}; name another file with --store") from error
    if over:
        raise StoreBusy(
            f"store {path}: {holder_of(text)} has held it for more than {config.lock_wait_s:g} s; close that session, "
            "or open it read-only and briefly; nothing is lost meanwhile"
        ) from error


def holder_of(text: str) -> str:
    """Who holds the file, from DuckDB's error text."""
    match = _HOLDER.search(text)
    return f"process {match['pid']} ({match['program']})" if match else "another process"


def _first_line(text: str) -> str:
    return next(iter(text.splitlines()), "unknown error")


@contextmanager
def transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """All or nothing: commits at the end, rolls back on any error."""
    connection.execute("BEGIN").fetchall()
    try:
        yield
    except BaseException:
        # A rollback that fails as well must not hide the first error; the engine is dropped after either.
        with suppress(duckdb.Error):
            connection.execute("ROLLBACK").fetchall()
        raise
    connection.execute("COMMIT").fetchall()


def schema_version(connection: duckdb.DuckDBPyConnection) -> int:
    """The version of the opened file; 0 when it has no tables yet."""
    found = connection.execute(
        "SELECT 1 FROM duckdb_tables() WHERE database_name = ? AND schema_name = 'store' AND table_name = 'migrations'",
        [ALIAS],
    ).fetchall()
    if not found:
        return 0
    return int(connection.execute("SELECT max(version) FROM store.migrations").fetchall()[0][0])


def check_version(path: Path, version: int, *, newest: int = SCHEMA_VERSION) -> None:
    """Raise StoreTooNew when the file was written by a newer version of this program."""
    if version > newest:
        raise StoreTooNew(
            f"store {path}: schema version {version}, but this program knows up to {newest}; "
            "upgrade spanloop, or name another file with --store"
        )


def migrate(
    connection: duckdb.DuckDBPyConnection,
    path: Path,
    *,
    migrations: tuple[Migration, ...] = MIGRATIONS,
    newest: int = SCHEMA_VERSION,
) -> int:
    """Bring the opened file to the newest version, each step with its record in one transaction; the version before."""
    version = schema_version(connection)
    check_version(path, version, newest=newest)
    if version == 0:
        _refuse_foreign(connection, path)
        with transaction(connection):
            _create(connection, migrations)
    for migration in migrations[version:] if version else ():
        with transaction(connection):
            connection.execute(migration.sql).fetchall()
            _record(connection, migration)
            connection.execute(_resource("views.sql")).fetchall()
    return version


def _refuse_foreign(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """A database with tables of its own is somebody else's."""
    rows = connection.execute("SELECT table_name FROM duckdb_tables() WHERE database_name = ?", [ALIAS]).fetchall()
    if rows:
        raise StoreUnusable(f"store {path}: a DuckDB file with tables of another program; name another with --store")


def _create(connection: duckdb.DuckDBPyConnection, migrations: tuple[Migration, ...]) -> None:
    connection.execute(_resource("schema.sql")).fetchall()
    connection.execute(_resource("views.sql")).fetchall()
    for migration in migrations:
        _record(connection, migration)
    connection.execute(
        "INSERT INTO store.progress (log_id, committed_position, num_batches, updated_at) "
        "VALUES (NULL, 0, 0, make_timestamp_ns(?))",
        [time.time_ns()],
    ).fetchall()


def _record(connection: duckdb.DuckDBPyConnection, migration: Migration) -> None:
    connection.execute(
        "INSERT INTO store.migrations (version, name, applied_at) VALUES (?, ?, make_timestamp_ns(?))",
        [migration.version, migration.name, time.time_ns()],
    ).fetchall()


def _resource(name: str) -> str:
    return files("spanloop").joinpath(name).read_text(encoding="utf-8")
