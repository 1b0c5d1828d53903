"""Watching: what counts as new, and the limits at which it ends."""

from __future__ import annotations

import pytest

from tests.unit.trainer.stores import add_episode, make_store
from trainer.config import RunConfig
from trainer.errors import SourceError
from trainer.rows import RunPointRow
from trainer.watch import num_new_points, watch
from trainer.workspace import Workspace

ALL = {"heldout": 0, "validation": 0}


@pytest.fixture
def workspace(tmp_path):
    """A fresh workspace."""
    return Workspace.open(tmp_path / "ws", create=True)


def config(**given: float) -> RunConfig:
    """Everything is for training; looks follow each other at once."""
    return RunConfig.model_validate({"data": ALL, "watch": {"poll_s": 0.001, **given}})


def test_a_run_is_started_when_enough_points_are_new(tmp_path, workspace):
    """Two points an episode: the third episode brings the sixth."""
    store = make_store(tmp_path / "e.duckdb", ["a", "b"])
    started = []

    def start_run() -> str:
        started.append(num_new_points(workspace, config()))
        workspace.insert(
            [
                RunPointRow(
                    run_id="r", point_id=item.point_id, revision=1, state_hash=item.state_hash, pool="train",
                    multiplicity=1,
                )
                for item in workspace.candidates()
            ]
        )  # fmt: skip
        return f"run{len(started)}"

    looks = []
    for look in watch(workspace, str(store), config(train_after_points=6, max_runs=1), start_run):
        looks.append(look)
        if len(looks) == 2:
            add_episode(store, "c")
    assert [(4, 4, None), (0, 4, None), (2, 6, "run1")] == [
        (look.pulled.points_added, look.num_new_points, look.run_id) for look in looks
    ]
    assert [6] == started
    assert 0 == num_new_points(workspace, config())


def test_a_source_that_stays_unreadable_ends_the_watch(tmp_path, workspace):
    """After `watch.max_failures` looks in a row; each says that nothing was read."""
    looks = []
    with pytest.raises(SourceError, match="could not be read 3 times in a row"):
        looks.extend(watch(workspace, str(tmp_path / "no.duckdb"), config(max_failures=3), lambda: "never"))
    assert [None, None, None] == [look.pulled for look in looks]
