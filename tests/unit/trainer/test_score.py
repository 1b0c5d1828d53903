"""Scoring what was recorded: distribution, criteria, gates, step indices, and the pool that stays closed."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from tests.unit.trainer.factories import write
from tests.unit.trainer.stores import make_store
from trainer.cli import main
from trainer.config import DataConfig
from trainer.rewards.spec import load_reward_model
from trainer.score import score_recorded
from trainer.source import pull
from trainer.workspace import Workspace

SPEC = """
[[criteria]]
name = "valid"
check = "tool_calls_valid"
[[criteria]]
name = "texty"
check = "python:text_checks:is_text"
[[gates]]
criterion = "texty"
cap = 0.25
"""


@pytest.fixture
def place(tmp_path):
    """Two episodes of a search and an answer, and a specification that dislikes searches."""
    workspace = Workspace.open(tmp_path / "ws", create=True)
    pull(workspace, str(make_store(tmp_path / "e.duckdb", ["a", "b"])))
    write(tmp_path / "text_checks.py", "def is_text(answer):\n    return bool(answer.message.text)\n")
    write(tmp_path / "rewards.toml", SPEC)
    return tmp_path


def test_the_recorded_actions_are_scored_by_hand(place):
    """Searches: (1 + 0) / 2, capped at 0.25; answers: calls unscored, so 1. Mean 0.625."""
    workspace = Workspace.open(place / "ws")
    found = score_recorded(workspace, DataConfig(heldout=0, validation=0), load_reward_model(place / "rewards.toml"))
    assert (4, 0, 0.625) == (found.num_points, found.num_unscored, found.reward_mean)
    assert (0, 0, 2, 0, 0, 0, 0, 0, 0, 2) == found.histogram
    assert ((0, 2, 0.25), (1, 2, 1.0)) == found.by_step_index
    valid, texty = found.criteria
    assert (1.0, 2, 2, 0, 0) == (valid.mean, valid.num_scored, valid.num_unscored, valid.num_broken, valid.num_gated)
    assert (0.5, 4, 0, 0, 2) == (texty.mean, texty.num_scored, texty.num_unscored, texty.num_broken, texty.num_gated)


def test_the_held_out_pool_stays_closed(place):
    """Its points are counted, not scored."""
    workspace = Workspace.open(place / "ws")
    found = score_recorded(
        workspace, DataConfig(heldout=0.999, validation=0), load_reward_model(place / "rewards.toml")
    )
    assert (0, (("held out", 4),)) == (found.num_points, found.left_out)


def test_the_command_prints_text_and_json_without_torch(place):
    """Both name the criterion that capped the rewards."""
    arguments = ["score", "--reward", str(place / "rewards.toml"), "--workspace", str(place / "ws"),
                 "--set", "data.heldout=0"]  # fmt: skip
    text = CliRunner().invoke(main, arguments, catch_exceptions=False).stdout
    assert "4 recorded actions, mean reward 0.625, 0 unscored" in text
    found = json.loads(CliRunner().invoke(main, [*arguments, "--json"], catch_exceptions=False).stdout)
    assert [0, 2] == [item["num_gated"] for item in found["criteria"]]
