"""The workspace's tables: documented, equal to their records, written all or not at all."""

from __future__ import annotations

from dataclasses import fields

import pytest

from tests.unit.trainer.factories import make_candidate
from trainer.errors import WorkspaceError
from trainer.rows import TABLES, PullRow, RunEventRow, now
from trainer.workspace import Workspace


@pytest.fixture
def workspace(tmp_path):
    """A fresh workspace."""
    return Workspace.open(tmp_path / "ws", create=True)


def test_records_and_tables_have_the_same_columns(workspace):
    """Column by column, in order; no table without a record."""
    tables = {}
    for table, column in workspace.query(
        "SELECT table_name, column_name FROM duckdb_columns() WHERE schema_name = 'main' AND table_name IN "
        "(SELECT table_name FROM duckdb_tables()) ORDER BY table_name, column_index"
    ):
        tables.setdefault(table, []).append(column)
    assert ["key", "value"] == tables.pop("workspace_info")
    assert tables == {name: [field.name for field in fields(kind)] for kind, name in TABLES.items()}


def test_every_table_column_and_view_is_documented(workspace):
    """A comment on each."""
    assert [] == workspace.query(
        "SELECT table_name, column_name FROM duckdb_columns() WHERE comment IS NULL AND table_name IN "
        "(SELECT table_name FROM duckdb_tables())"
    )
    assert [] == workspace.query("SELECT table_name FROM duckdb_tables() WHERE comment IS NULL")
    assert [] == workspace.query("SELECT view_name FROM duckdb_views() WHERE NOT internal AND comment IS NULL")


def test_a_transaction_that_fails_leaves_nothing(workspace):
    """All rows of a step, or none."""
    good = RunEventRow(run_id="r", happened_at=now(), event="started", detail=None)
    bad = PullRow(
        pull_id="p", source="s", pulled_at=now(), filters="{}", episodes_new=1, episodes_revised=0,
        episodes_unchanged=0, points_added=0, points_refused=0,
    )  # fmt: skip
    workspace.insert([bad])
    with pytest.raises(Exception, match=r"[Cc]onstraint"):
        workspace.insert([good, bad])
    assert [] == workspace.query("SELECT run_id FROM run_events")


def test_opening_a_workspace_again_keeps_what_is_in_it(workspace):
    """The schema is applied once."""
    workspace.insert([RunEventRow(run_id="r", happened_at=now(), event="started", detail=None)])
    assert [("r",)] == Workspace.open(workspace.folder).query("SELECT run_id FROM run_events")


def test_a_point_that_is_gone_is_named(workspace):
    """A run whose points were removed by hand fails with the point's name."""
    with pytest.raises(WorkspaceError, match="decision point e1:0 is not in"):
        workspace.decision_points([make_candidate("e1:0")])
