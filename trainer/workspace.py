"""The trainer's own DuckDB: every stage's records, joined by ids (`workspace.sql` documents tables and views).

The file is opened for each transaction and closed again, so that a notebook, the `duckdb` command line or another
`trainer` command can read it while a run goes on.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import duckdb
import pyarrow as pa

from spanloop.convert import message_from_chat, messages_from_chat, tools_from_chat
from spanloop.records import QualityFlag
from trainer.dataset import Candidate, DecisionPoint
from trainer.errors import WorkspaceError
from trainer.rows import TABLES, Row

FILE_NAME = "workspace.duckdb"
SCHEMA_VERSION = "1"
LOCK_WAIT_S = 20.0
"""Seconds to wait while another program holds the file."""
LOCK_POLL_S = 0.05
STORAGE_VERSION = "v1.4.0"
"""Written so that the 1.5 command line of DuckDB opens the file."""

Value = str | int | float | bool | None | list["Value"]
"""What a cell of a result holds."""


class Workspace:
    """The folder a trainer works in, and the database in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / FILE_NAME

    @classmethod
    def open(cls, folder: Path, *, create: bool = False) -> Workspace:
        """The workspace in `folder`; raises `WorkspaceError` when there is none, or of a newer version."""
        workspace = cls(folder)
        if not workspace.path.is_file():
            if not create:
                raise WorkspaceError(f"no workspace in {folder}; run `trainer pull --from episodes.duckdb` first")
            folder.mkdir(parents=True, exist_ok=True)
        workspace._prepare()
        return workspace

    def _prepare(self) -> None:
        with self.transaction() as connection:
            version = _stored_version(connection)
            if version not in {None, SCHEMA_VERSION}:
                raise WorkspaceError(
                    f"workspace {self.path} has schema version {version}, this trainer reads {SCHEMA_VERSION}; "
                    f"use the release that wrote it, or another --workspace"
                )
            if version is None:
                connection.execute(Path(__file__).with_name("workspace.sql").read_text(encoding="utf-8"))
                connection.execute("INSERT INTO workspace_info VALUES ('schema_version', ?)", [SCHEMA_VERSION])

    @contextmanager
    def transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection within one transaction: everything lands, or nothing."""
        connection = _connect(self.path)
        try:
            connection.begin()
            yield connection
            connection.commit()
        finally:
            # Closing rolls back what was not committed.
            connection.close()

    def insert(self, rows: Sequence[Row]) -> None:
        """Write rows of any tables in one transaction."""
        with self.transaction() as connection:
            insert_rows(connection, rows)

    def query(self, sql: str, parameters: Sequence[Value] = ()) -> list[tuple[Value, ...]]:
        """The rows of a query."""
        with self.transaction() as connection:
            return [tuple(row) for row in connection.execute(sql, list(parameters)).fetchall()]

    def query_records(self, sql: str, parameters: Sequence[Value] = ()) -> list[dict[str, Value]]:
        """The rows of a query by column name, for printing."""
        with self.transaction() as connection:
            cursor = connection.execute(sql, list(parameters))
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def candidates(self) -> tuple[Candidate, ...]:
        """Every current decision point, without its messages."""
        with self.transaction() as connection:
            rows = connection.execute(
                "SELECT point_id, revision, state_hash, episode_id, step_index, conversation_id, agent_name, dialect, "
                "started_at, trainable, quality_flags, num_chars FROM current_points ORDER BY point_id"
            ).fetchall()
        return tuple(
            Candidate(
                point_id=row[0],
                revision=row[1],
                state_hash=row[2],
                episode_id=row[3],
                step_index=row[4],
                conversation_id=row[5],
                agent_name=row[6],
                dialect=row[7],
                started_at=row[8],
                trainable=row[9],
                quality_flags=frozenset(row[10]),
                num_chars=row[11],
            )
            for row in rows
        )

    def decision_points(self, candidates: Sequence[Candidate]) -> tuple[DecisionPoint, ...]:
        """The candidates with their messages, in their order; raises `WorkspaceError` when one is gone."""
        wanted = pa.table({"point_id": [c.point_id for c in candidates], "revision": [c.revision for c in candidates]})
        with self.transaction() as connection:
            connection.register("wanted", wanted)
            rows = connection.execute(
                "SELECT p.point_id, p.model, p.messages, p.tools, p.action, p.finish_reason, p.trace_id, p.span_id "
                "FROM decision_points AS p JOIN wanted USING (point_id, revision)"
            ).fetchall()
        by_id = {row[0]: row[1:] for row in rows}
        missing = [item.point_id for item in candidates if item.point_id not in by_id]
        if missing:
            raise WorkspaceError(f"decision point {missing[0]} is not in {self.path}; pull again")
        return tuple(_decision_point(item, by_id[item.point_id]) for item in candidates)


def insert_rows(connection: duckdb.DuckDBPyConnection, rows: Sequence[Row], *, replace: bool = False) -> None:
    """Write rows of any tables over an open connection; with `replace`, in place of rows with their key."""
    by_kind: dict[type[Row], list[Row]] = defaultdict(list)
    for row in rows:
        by_kind[type(row)].append(row)
    for kind, same in by_kind.items():
        columns = [field.name for field in fields(kind)]
        table = pa.table({name: [getattr(row, name) for row in same] for name in columns})
        connection.register("new_rows", table)
        verb = "INSERT OR REPLACE" if replace else "INSERT"
        connection.execute(f"{verb} INTO {TABLES[kind]} BY NAME SELECT * FROM new_rows")  # noqa: S608  # our table names
        connection.unregister("new_rows")


def _connect(path: Path) -> duckdb.DuckDBPyConnection:
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            return duckdb.connect(str(path), config={"storage_compatibility_version": STORAGE_VERSION})
        except duckdb.IOException as error:
            if "lock" not in str(error).lower():
                raise WorkspaceError(f"workspace {path}: cannot be opened: {_first_line(error)}") from None
            if time.monotonic() > deadline:
                raise WorkspaceError(
                    f"workspace {path}: another program holds it since {LOCK_WAIT_S:.0f} s; close that one first"
                ) from None
            time.sleep(LOCK_POLL_S)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _stored_version(connection: duckdb.DuckDBPyConnection) -> str | None:
    known = connection.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = 'workspace_info'").fetchone()
    if known is None:
        return None
    row = connection.execute("SELECT value FROM workspace_info WHERE key = 'schema_version'").fetchone()
    return None if row is None else str(row[0])


def _decision_point(item: Candidate, row: Sequence[str | None]) -> DecisionPoint:
    model, messages, tools, action, finish_reason, trace_id, span_id = row
    return DecisionPoint(
        point_id=item.point_id,
        state_hash=item.state_hash,
        episode_id=item.episode_id,
        step_index=item.step_index,
        conversation_id=item.conversation_id,
        agent_name=item.agent_name,
        model=model,
        dialect=item.dialect,
        messages=messages_from_chat(json.loads(messages or "[]")),
        tools=tools_from_chat(json.loads(tools or "null") or ()),
        action=message_from_chat(json.loads(action)) if action else None,
        finish_reason=finish_reason,
        started_at=item.started_at,
        quality_flags=frozenset(QualityFlag(flag) for flag in item.quality_flags if flag in set(QualityFlag)),
        multiplicity=item.multiplicity,
        revision=item.revision,
        trace_id=trace_id,
        span_id=span_id,
    )
