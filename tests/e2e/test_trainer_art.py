"""A run on ART's own ServerlessBackend, whose service is asked over HTTP: trained there, answered there.

ART's backend and client are the real ones; the service (`serverless.py`) answers on this machine. Of the package wandb,
which ART imports whether it is used or not, a stand-in says that there is no run to log to.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from click.testing import CliRunner

from tests.e2e.serverless import ENTITY, KEY, Serverless
from tests.unit.trainer.stores import make_base, make_run_file, make_store
from trainer.cli import main
from trainer.config import load_config
from trainer.loop import train
from trainer.workspace import Workspace

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore"),  # ART and litellm use what their dependencies have deprecated
]


class NoArtifactError(Exception):
    """What wandb raises for an artifact that is not there."""


def no_artifact(*args, **kwargs):
    """There is none."""
    raise NoArtifactError


def stand_in_for_wandb() -> ModuleType:
    """Just what ART 0.5.18 touches around an update."""
    module = ModuleType("wandb")
    module.__spec__ = ModuleSpec("wandb", None)
    run = SimpleNamespace(
        entity=ENTITY, project="p", name="n", _is_finished=False, define_metric=lambda *a, **k: None,
        config=SimpleNamespace(update=lambda *a, **k: None),
    )  # fmt: skip
    module.init = lambda **kwargs: run
    module.Settings = SimpleNamespace
    module.Api = lambda: SimpleNamespace(artifact=no_artifact)
    module.errors = SimpleNamespace(CommError=NoArtifactError)
    return module


@pytest.fixture
def service(tmp_path, monkeypatch) -> Iterator[Serverless]:
    """The service, with its key in the environment."""
    make_base(tmp_path / "base")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setitem(sys.modules, "wandb", stand_in_for_wandb())
    served = Serverless(tmp_path / "base", tmp_path / "served")
    yield served
    served.close()


@pytest.fixture
def place(tmp_path, service) -> Path:
    """A folder with pulled episodes and a run file that names the service."""
    make_store(tmp_path / "episodes.duckdb", [f"e{number}" for number in range(40)])
    run_file = make_run_file(
        tmp_path, tmp_path / "base", max_steps=3, points_per_step=8, num_generations=4, learning_rate=0.05,
        max_completion_length=6,
    )  # fmt: skip
    lines = [line for line in run_file.read_text().splitlines() if not line.startswith(("optim", "loss_type"))]
    text = "\n".join(lines).replace("[train]", '[train]\nbackend = "art_serverless"\nloss_type = "grpo"')
    run_file.write_text(f'{text}\n[art]\nbase_url = "{service.url}"\nbase_model = "meals/Base"\n')
    trainer("pull", "--from", tmp_path / "episodes.duckdb", "--workspace", tmp_path / "ws")
    return tmp_path


def trainer(*arguments: object) -> str:
    """What the command prints; it must succeed."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)
    assert 0 == result.exit_code, result.output
    return result.stdout


def refused(*arguments: object) -> str:
    """What a command that fails says."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)
    assert 1 == result.exit_code, result.output
    return result.stderr


class StopsAfter:
    """A sink whose failure ends the run after a recorded step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def log(self, step, metrics):
        """Fail at the step."""
        if step == self.step:
            raise ConnectionError("away")

    def close(self):
        """Nothing."""


def test_a_run_trains_and_is_answered_in_the_service_and_is_evaluated_there(place, service):
    """Each step asks for the version the last update made; base and tuned policy are asked by their names."""
    config, workspace_folder = place / "run.toml", place / "ws"
    trainer("train", "--config", config, "--workspace", workspace_folder, "--set", "eval.validation_points=4")
    workspace = Workspace.open(workspace_folder)
    ((run_id,),) = workspace.query("SELECT run_id FROM runs")
    name = f"wandb-artifact:///{ENTITY}/spanloop/{run_id}"
    assert [(1, 0, 1), (2, 1, 2), (3, 2, 3)] == workspace.query(
        "SELECT DISTINCT g.step, o.policy_version, u.policy_version FROM groups AS g "
        "JOIN rollouts AS o USING (group_id) JOIN updates AS u ON u.step = g.step ORDER BY ALL"
    )
    assert [(f"{name}:step{step}",) for step in (1, 2, 3)] == workspace.query(
        "SELECT path FROM checkpoints ORDER BY step"
    )
    kept = [row[0] for row in workspace.query("SELECT num_groups_trained FROM updates ORDER BY step")]
    assert kept == [job["groups"] for job in service.jobs]
    assert {(0.05, False, 0.2, 0.2)} >= {
        (job["learning_rate"], "loss_fn" in job, job["epsilon"], job["epsilon_high"]) for job in service.jobs
    }
    metrics = json.loads(str(workspace.query("SELECT metrics FROM updates WHERE step = 1")[0][0]))
    assert pytest.approx(service.jobs[0]["loss"]) == metrics["loss/train"]

    found = json.loads(trainer("eval", "--workspace", workspace_folder, "--pool", "validation", "--json"))
    assert {"base T=1", "tuned T=1"} <= set(found["means"])
    assert {f"{name}:step0", f"{name}:step3"} == set(service.asked[-1:] + service.asked[:1])
    assert "which the service keeps" in refused("promote", "--workspace", workspace_folder)


def test_a_run_in_the_service_goes_on_after_its_last_recorded_step(place, service):
    """An update that was made but not recorded before a kill is deleted; old versions are pruned, the base never."""
    workspace = Workspace.open(place / "ws")
    config = load_config(place / "run.toml", {"train.save_total_limit": "1", "eval.validation_points": "0"})
    with pytest.raises(ConnectionError):
        train(workspace, config, sinks=[StopsAfter(1)])
    service.update_of_nobody()
    trainer("train", "--resume", "--workspace", place / "ws")
    assert [(1, 1), (2, 2), (3, 3)] == workspace.query("SELECT step, policy_version FROM updates ORDER BY step")
    assert [2, 1, 2] == service.deleted, "the unrecorded one, then all but the newest"
    assert [0, 3] == service.versions


def test_a_step_that_teaches_nothing_is_not_sent(place, service):
    """The service trains nothing, the policy stays the base, and the step counts."""
    (place / "rewards.toml").write_text('[[criteria]]\nname = "any"\ncheck = "python:letter_checks:always"\n')
    (place / "letter_checks.py").write_text("def always(answer):\n    return 1.0\n")
    trainer("train", "--config", place / "run.toml", "--workspace", place / "ws", "--steps", 2)
    workspace = Workspace.open(place / "ws")
    assert [(1, 0, 0), (2, 0, 0)] == workspace.query(
        "SELECT step, policy_version, num_groups_trained FROM updates ORDER BY step"
    )
    assert [] == service.jobs


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("train.loss_type=dapo", 'train.loss_type "dapo" is not ART\'s; use cispo'),
        ("train.max_grad_norm=0.1", "takes no train.max_grad_norm; leave it out"),
        ("rollouts.sampler=vllm", "its own endpoint answers"),
        ("policy.lora.r=4", "leave [policy.lora] out"),
        ("art.options.precalculate_logprob=true", "did you mean precalculate_logprobs?"),
    ],
)
def test_what_the_service_does_not_take_is_said_before_a_run_is_recorded(place, setting, told):
    """The setting by name, and what would do."""
    assert told in refused("train", "--config", place / "run.toml", "--workspace", place / "ws", "--set", setting)
    assert [] == Workspace.open(place / "ws").query("SELECT run_id FROM runs")
