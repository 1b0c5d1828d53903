"""The DuckDB form of the contract: what the public views promise, and that everything is explained."""

import duckdb
import pytest

from otel_receiver.store_columns import COLUMNS
from tests.contract.schemas import open_schema

TEXT, TEXTS, TIME = "VARCHAR", "VARCHAR[]", "TIMESTAMP"
VIEWS = {
    "episodes": [
        ("episode_id", TEXT), ("revision", "INTEGER"), ("conversation_id", TEXT), ("user_id", TEXT),
        ("agent_name", TEXT), ("service_name", TEXT), ("model", TEXT), ("dialect", TEXT), ("started_at", TIME),
        ("ended_at", TIME), ("status", TEXT), ("end_reason", TEXT), ("num_steps", "INTEGER"),
        ("num_tool_calls", "INTEGER"), ("input_tokens", "BIGINT"), ("output_tokens", "BIGINT"),
        ("quality_flags", TEXTS),
    ],
    "decision_points": [
        ("episode_id", TEXT), ("step_index", "INTEGER"), ("conversation_id", TEXT), ("agent_name", TEXT),
        ("model", TEXT), ("dialect", TEXT), ("messages", "JSON"), ("tools", "JSON"), ("action", "JSON"),
        ("finish_reason", TEXT), ("trainable", "BOOLEAN"), ("quality_flags", TEXTS), ("trace_id", TEXT),
        ("span_id", TEXT), ("started_at", TIME),
    ],
    "tool_calls": [
        ("episode_id", TEXT), ("step_index", "INTEGER"), ("call_index", "INTEGER"), ("call_id", TEXT), ("name", TEXT),
        ("arguments", "JSON"), ("result", TEXT), ("status", TEXT),
    ],
    "feedback": [
        ("feedback_id", TEXT), ("episode_id", TEXT), ("step_index", "INTEGER"), ("conversation_id", TEXT),
        ("name", TEXT), ("score", "DOUBLE"), ("label", TEXT), ("comment", TEXT), ("source", TEXT),
        ("received_at", TIME),
    ],
    "transcript": [("episode_id", TEXT), ("position", "BIGINT"), ("role", TEXT), ("text", TEXT)],
}  # fmt: skip
"""Names, order and types of the public views' columns. Scripts of users rely on them: they only ever grow."""


@pytest.fixture(scope="module")
def schema():
    """The tables and views of a new store."""
    with open_schema() as connection:
        yield connection


@pytest.mark.parametrize("view", VIEWS)
def test_public_view_has_exactly_its_columns(schema: duckdb.DuckDBPyConnection, view: str):
    """The columns of a public view, their order and their types are the promised ones."""
    rows = schema.execute(
        "SELECT column_name, data_type FROM duckdb_columns() "
        "WHERE schema_name = 'main' AND table_name = ? ORDER BY column_index",
        [view],
    ).fetchall()
    assert VIEWS[view] == rows


def test_nothing_else_is_public(schema: duckdb.DuckDBPyConnection):
    """The schema `main`, which a command line lists first, has the five views and nothing else."""
    views = schema.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal AND schema_name = 'main'")
    assert set(VIEWS) == {row[0] for row in views.fetchall()}
    assert [] == schema.execute("SELECT table_name FROM duckdb_tables() WHERE schema_name = 'main'").fetchall()


def test_every_table_view_and_column_has_a_comment(schema: duckdb.DuckDBPyConnection):
    """Whoever opens the file finds each column explained in it."""
    silent = schema.execute(
        "SELECT table_name || '.' || column_name FROM duckdb_columns() WHERE NOT internal AND comment IS NULL "
        "UNION ALL SELECT table_name FROM duckdb_tables() WHERE comment IS NULL "
        "UNION ALL SELECT view_name FROM duckdb_views() WHERE NOT internal AND comment IS NULL"
    ).fetchall()
    assert [] == silent


def test_rows_are_handed_over_in_the_columns_of_the_tables(schema: duckdb.DuckDBPyConnection):
    """The Arrow columns of the writer are the columns of schema.sql, in their order."""
    rows = schema.execute(
        "SELECT table_name, list(column_name ORDER BY column_index) FROM duckdb_columns() "
        "WHERE schema_name = 'store' AND table_name NOT IN ('migrations', 'progress') GROUP BY table_name"
    ).fetchall()
    assert {table: list(columns) for table, columns in COLUMNS.items()} == dict(rows)
