"""Equal runs need equally many threads: a run keeps those it started with, also where it is resumed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from tests.unit.trainer.stores import make_base, make_run_file, make_store
from trainer.cli import main
from trainer.config import load_config
from trainer.loop import train
from trainer.runs import Run
from trainer.workspace import Workspace

pytestmark = pytest.mark.timeout(300)


class StopsAfterOne:
    """A sink whose failure ends the run after its first step."""

    def log(self, step, metrics):
        """Fail."""
        raise ConnectionError("away")

    def close(self):
        """Nothing."""


@pytest.fixture
def place(tmp_path) -> Path:
    """A folder with pulled episodes, a base policy and a run file of two steps."""
    make_store(tmp_path / "episodes.duckdb", [f"e{number}" for number in range(40)])
    make_base(tmp_path / "base")
    make_run_file(tmp_path, tmp_path / "base", points_per_step=12, num_generations=8, learning_rate=0.5)
    arguments = ["pull", "--from", tmp_path / "episodes.duckdb", "--workspace", tmp_path / "ws"]
    CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)
    return tmp_path


def run(place: Path, **settings: object) -> Run:
    """A whole run without evaluations, in this process."""
    overrides = {"eval.validation_points": "0", **{f"train.{name}": str(value) for name, value in settings.items()}}
    return train(Workspace.open(place / "ws"), load_config(place / "run.toml", overrides))


def weights(run: Run) -> bytes:
    """After the last step."""
    return (run.last_checkpoint / "model.safetensors").read_bytes()


def test_a_resumed_run_computes_with_the_threads_it_started_with(place):
    """Started with what torch chose, three; resumed where torch would choose one: the same weights to the last bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        undisturbed = run(place)
        workspace = Workspace.open(place / "ws")
        with pytest.raises(ConnectionError):
            train(workspace, load_config(place / "run.toml", {"eval.validation_points": "0"}), sinks=[StopsAfterOne()])
        single = run(place, num_threads=1)
        assert 3 == torch.get_num_threads(), "the caller has its threads back"
    finally:
        torch.set_num_threads(before)
    ((stopped,),) = workspace.query("SELECT run_id FROM run_status WHERE last_event = 'failed'")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "trainer.cli", "train", "--workspace", "ws", "--resume", str(stopped)]
    subprocess.run(command, cwd=place, env=environment, check=True, capture_output=True, timeout=200)
    resumed = workspace.folder / "runs" / str(stopped)
    assert 3 == json.loads((resumed / "config.json").read_text())["train"]["num_threads"]
    saved = workspace.query("SELECT path FROM checkpoints WHERE run_id = ? AND step = 2", [stopped])[0][0]
    assert weights(undisturbed) == (workspace.folder / str(saved) / "model.safetensors").read_bytes()
    assert weights(undisturbed) != weights(single), "with one thread the sums round otherwise, or this shows nothing"
