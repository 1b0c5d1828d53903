"""Pulling from a DuckDB file: what arrives, what a second pull does, revisions, filters, and sources that are none."""

from __future__ import annotations

import json
import subprocess
import sys

import duckdb
import pytest

from tests.unit.trainer.factories import SEARCH, user, write
from tests.unit.trainer.stores import add_episode, make_store
from trainer import source
from trainer.errors import SourceError, WorkspaceError
from trainer.source import PullFilter, pull
from trainer.workspace import Workspace


@pytest.fixture
def workspace(tmp_path):
    """A fresh workspace."""
    return Workspace.open(tmp_path / "ws", create=True)


def counts(row):
    """New, revised and unchanged episodes, points added and refused."""
    return (
        row.episodes_new,
        row.episodes_revised,
        row.episodes_unchanged,
        row.points_added,
        row.points_refused,
    )


def test_every_decision_point_arrives_with_its_records(tmp_path, workspace):
    """Messages, tools, action and span ids come through as records."""
    store = make_store(tmp_path / "e.duckdb", ["a"], num_steps=2)
    assert (1, 0, 0, 2, 0) == counts(pull(workspace, str(store)))
    first, second = workspace.decision_points(workspace.candidates())
    assert ("a:0", "a", 0, "conversation-a") == (
        first.point_id, first.episode_id, first.step_index, first.conversation_id
    )  # fmt: skip
    assert ((user("plan for a"),), (SEARCH,)) == (first.messages, first.tools)
    assert [("search", '{"query": "q0"}')] == [(item.name, item.arguments) for item in first.action.tool_calls]
    assert ("Done.", "stop", f"{1:032x}", f"{1:016x}") == (
        second.action.text, second.finish_reason, second.trace_id, second.span_id
    )  # fmt: skip
    assert 1793527200 * 10**9 == first.started_at  # 2026-11-01T10:00:00Z


def test_a_second_pull_adds_nothing(tmp_path, workspace):
    """Pulling is idempotent."""
    store = make_store(tmp_path / "e.duckdb", ["a", "b"])
    pull(workspace, str(store))
    assert (0, 0, 2, 0, 0) == counts(pull(workspace, str(store)))
    assert 4 == len(workspace.candidates())


def test_only_what_is_new_is_read(tmp_path, workspace):
    """A pull after more episodes came brings those."""
    store = make_store(tmp_path / "e.duckdb", ["a"])
    pull(workspace, str(store))
    add_episode(store, "b", num_steps=3)
    assert (1, 0, 1, 3, 0) == counts(pull(workspace, str(store)))


def test_a_revision_replaces_what_is_current_and_keeps_what_was_used(tmp_path, workspace):
    """Late spans make a new revision; runs on the earlier one stay explainable."""
    store = make_store(tmp_path / "e.duckdb", ["a"])
    pull(workspace, str(store))
    before = workspace.candidates()
    add_episode(store, "a", revision=2, num_steps=3, ask="another question")
    assert (0, 1, 0, 3, 0) == counts(pull(workspace, str(store)))
    assert [2, 2, 2] == [item.revision for item in workspace.candidates()]
    assert (user("plan for a"),) == workspace.decision_points(before)[0].messages


def test_filters_choose_episodes_and_a_later_pull_brings_the_rest(tmp_path, workspace):
    """By agent, dialect and time."""
    store = make_store(tmp_path / "e.duckdb")
    add_episode(store, "old", started="2026-01-01 00:00:00")
    add_episode(store, "new", started="2026-06-01 00:00:00")
    add_episode(store, "other", agent="writer", started="2026-06-01 00:00:00")
    assert 1 == pull(workspace, str(store), PullFilter(agents=("planner",), since="2026-03-01")).episodes_new
    assert 0 == pull(workspace, str(store), PullFilter(dialects=("otel-genai",))).episodes_new
    assert 1 == pull(workspace, str(store), PullFilter(until="2026-03-01")).episodes_new
    assert (1, 0, 2) == counts(pull(workspace, str(store)))[:3]


def test_steps_left_behind_by_a_trainable_pull_come_with_the_next_full_one(tmp_path, workspace):
    """The same revision may bring more points later, none of them twice."""
    store = make_store(tmp_path / "e.duckdb", ["a"], num_steps=3)
    with duckdb.connect(str(store)) as connection:
        connection.execute("UPDATE decision_points SET trainable = false WHERE step_index = 1")
    assert (1, 2) == (pull(workspace, str(store), PullFilter(trainable_only=True)).episodes_new, 2)
    assert ["a:0", "a:2"] == [item.point_id for item in workspace.candidates()]
    assert 1 == pull(workspace, str(store)).points_added
    assert [True, False, True] == [item.trainable for item in workspace.candidates()]


def test_a_point_that_cannot_be_read_is_kept_untrainable_and_its_neighbours_stay(tmp_path, workspace, caplog):
    """Bad messages are counted and flagged; the log names the point and quotes nothing."""
    store = make_store(tmp_path / "e.duckdb")
    add_episode(store, "a", num_steps=3, broken_step=1)
    assert (1, 0, 0, 3, 1) == counts(pull(workspace, str(store)))
    good, bad, also_good = workspace.candidates()
    assert (True, False, True) == (good.trainable, bad.trainable, also_good.trainable)
    assert "message_unparsed" in bad.quality_flags
    assert "point=a:1" in caplog.text


def test_a_state_has_the_hash_of_its_meaning(tmp_path, workspace):
    """Equal prompts of two episodes are one state."""
    store = make_store(tmp_path / "e.duckdb")
    for episode_id in ("a", "b"):
        add_episode(store, episode_id, ask="the same question")
    pull(workspace, str(store))
    hashes = {item.point_id: item.state_hash for item in workspace.candidates()}
    assert hashes["a:0"] == hashes["b:0"]
    assert hashes["a:0"] != hashes["a:1"]


def test_more_episodes_than_a_batch_arrive_whole(tmp_path, workspace, monkeypatch):
    """Batches bound memory, not the result."""
    monkeypatch.setattr(source, "EPISODES_PER_BATCH", 2)
    store = make_store(tmp_path / "e.duckdb", list("abcde"))
    assert (5, 0, 0, 10, 0) == counts(pull(workspace, str(store)))


def test_the_source_is_free_again_after_a_pull(tmp_path, workspace):
    """The receiver can write its next batch."""
    store = make_store(tmp_path / "e.duckdb", ["a"])
    pull(workspace, str(store))
    code = f"import duckdb; duckdb.connect({str(store)!r}).execute('CREATE TABLE proof (x INT)')"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_source_held_by_another_program_is_waited_for_and_then_named(tmp_path, workspace, monkeypatch):
    """A forgotten session delays a pull, and the message says what to do."""
    monkeypatch.setattr(source, "LOCK_WAIT_S", 0.2)
    store = make_store(tmp_path / "e.duckdb", ["a"])
    code = f"import duckdb, sys; c = duckdb.connect({str(store)!r}); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert b"held" in holder.stdout.readline()
        with pytest.raises(SourceError, match="another program has held it"):
            pull(workspace, str(store))
        holder.communicate(b"", timeout=30)
    assert 1 == pull(workspace, str(store)).episodes_new


def test_a_remote_source_says_that_it_is_not_part_of_this_version(workspace):
    """No half-working client."""
    with pytest.raises(SourceError, match="not part of this version; copy or mount its DuckDB file"):
        pull(workspace, "grpc://localhost:4317")


def test_sources_that_are_none_are_named(tmp_path, workspace):
    """Missing file, no DuckDB file, a DuckDB file without episodes, one with other columns."""
    with pytest.raises(SourceError, match="no such file"):
        pull(workspace, str(tmp_path / "no.duckdb"))
    for name in ("text.duckdb", "text.json"):
        with pytest.raises(SourceError, match="not a readable DuckDB file"):
            pull(workspace, str(write(tmp_path / name, "no database")))
    duckdb.connect(str(tmp_path / "empty.duckdb")).close()
    with pytest.raises(SourceError, match="has no episodes in it"):
        pull(workspace, str(tmp_path / "empty.duckdb"))
    with duckdb.connect(str(tmp_path / "other.duckdb")) as connection:
        connection.execute("CREATE TABLE episodes (episode_id VARCHAR)")
    with pytest.raises(SourceError, match="written by another version"):
        pull(workspace, str(tmp_path / "other.duckdb"))


def test_each_pull_is_recorded(tmp_path, workspace):
    """The workspace says what was read from where, with which filters."""
    store = make_store(tmp_path / "e.duckdb", ["a"])
    pull(workspace, str(store), PullFilter(agents=("planner",)))
    ((where, filters, new),) = workspace.query("SELECT source, filters, episodes_new FROM pulls")
    assert (str(store), ["planner"], 1) == (where, json.loads(filters)["agents"], new)


def test_a_workspace_that_is_none_or_newer_is_named(tmp_path, workspace):
    """The remedy is in the message."""
    with pytest.raises(WorkspaceError, match=r"no workspace in .*; run `trainer pull"):
        Workspace.open(tmp_path / "nowhere")
    with workspace.transaction() as connection:
        connection.execute("UPDATE workspace_info SET value = '99' WHERE key = 'schema_version'")
    with pytest.raises(WorkspaceError, match="schema version 99, this trainer reads 1"):
        Workspace.open(workspace.folder)


def test_looking_for_news_reads_no_decision_point(tmp_path):
    """On a large store every point of the view joins its messages: a pull with nothing new must not touch it."""
    store = make_store(tmp_path / "e.duckdb", ["a", "b"])
    workspace = Workspace.open(tmp_path / "ws", create=True)
    pull(workspace, str(store))
    with duckdb.connect(str(store)) as connection:
        connection.execute("ALTER TABLE decision_points RENAME TO points")
        connection.execute(
            "CREATE VIEW decision_points AS SELECT * FROM points WHERE error('decision points were read')"
        )
    assert 2 == pull(workspace, str(store)).episodes_unchanged
