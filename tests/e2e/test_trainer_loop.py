"""The whole loop on a random two-layer policy on the CPU, through the command line.

Pull, train, eval, report, promote, roll back; and what an interruption, a kill, a control run and a second run do.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner
from safetensors.torch import load_file

from tests.unit.trainer.stores import add_episode, make_base, make_run_file, make_store
from trainer.cli import main
from trainer.config import load_config
from trainer.loop import train
from trainer.workspace import Workspace

pytestmark = pytest.mark.timeout(600)


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


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a source, a base policy, a run file, and a workspace the source was pulled into."""
    folder = tmp_path_factory.mktemp("loop")
    make_store(folder / "episodes.duckdb", [f"e{number}" for number in range(40)])
    make_base(folder / "base")
    make_run_file(
        folder, folder / "base", max_steps=4, points_per_step=12, num_generations=8, learning_rate=0.5,
        max_completion_length=6,
    )  # fmt: skip
    with (folder / "run.toml").open("a", encoding="utf-8") as run_file:
        run_file.write("[promotion]\nmax_regression = 0.5\n")
    trainer("pull", "--from", folder / "episodes.duckdb", "--workspace", folder / "ws")
    return folder


@pytest.fixture(scope="module")
def trained(place) -> Workspace:
    """The workspace after one run and its evaluation on held-out conversations."""
    trainer("train", "--config", place / "run.toml", "--workspace", place / "ws")
    trainer("eval", "--workspace", place / "ws")
    return Workspace.open(place / "ws")


@pytest.fixture
def fresh(place, tmp_path) -> Path:
    """A copy of the place with nothing but the pulled episodes."""
    for name in ("episodes.duckdb", "run.toml", "rewards.toml", "letter_checks.py"):
        shutil.copy(place / name, tmp_path / name)
    trainer("pull", "--from", tmp_path / "episodes.duckdb", "--workspace", tmp_path / "ws")
    return tmp_path


def one(workspace: Workspace, sql: str):
    """The only cell of the only row."""
    ((cell,),) = workspace.query(sql)
    return cell


def test_a_gradient_step_leads_back_to_the_spans_it_learned_from(trained):
    """Every sampled answer joins to its criterion scores and to the span of its point, in one view."""
    assert 4 * 12 * 8 * 3 == one(trained, "SELECT count(*) FROM lineage")
    assert 0 == one(trained, "SELECT count(*) FROM lineage WHERE span_id IS NULL OR criterion IS NULL")
    assert {(0, f"{0:016x}"), (1, f"{1:016x}")} == set(
        trained.query("SELECT DISTINCT step_index, span_id FROM lineage")
    )


def test_what_was_trained_is_recorded_token_by_token(trained):
    """Each rollout has a log-probability per token, its group's prompt, and the version that answered."""
    assert 0 == one(
        trained, "SELECT count(*) FROM rollouts WHERE len(token_ids) <> len(logprobs) OR len(token_ids) = 0"
    )
    assert 0 == one(trained, "SELECT count(*) FROM groups WHERE len(prompt_token_ids) = 0")
    assert [(step, step - 1) for step in (1, 2, 3, 4)] == trained.query(
        "SELECT DISTINCT g.step, o.policy_version FROM rollouts AS o JOIN groups AS g USING (group_id) ORDER BY 1"
    )


def test_the_update_used_the_rewards_and_nothing_else(trained):
    """A trained group's values are its rewards; a dropped group's are NULL, with a reason."""
    assert 0 == one(
        trained,
        "SELECT count(*) FROM lineage WHERE (drop_reason IS NULL) <> (trained_value IS NOT DISTINCT FROM reward)",
    )
    kept, total = trained.query("SELECT sum(num_groups_trained), sum(num_groups) FROM updates")[0]
    assert (kept, 48) == (one(trained, "SELECT count(*) FROM groups WHERE drop_reason IS NULL"), total)


def test_training_raises_the_reward_on_held_out_conversations(trained):
    """The whole chain works: both paired lower bounds are above zero."""
    rows = trained.query(
        "SELECT temperature, gain_low > 0 FROM comparisons WHERE pool = 'heldout' AND baseline = 'base' "
        "AND aspect = 'reward' AND step_index IS NULL ORDER BY 1"
    )
    assert [(0.0, True), (1.0, True)] == rows


def test_recorded_base_and_tuned_are_asked_at_the_same_held_out_points(trained):
    """One evaluation per policy and temperature; no held-out state was trained on; the opening is noted."""
    rows = trained.query(
        "SELECT policy, temperature, num_points FROM evaluations WHERE pool = 'heldout' ORDER BY policy, temperature"
    )
    points = one(trained, "SELECT count(*) FROM run_points WHERE pool = 'heldout'")
    asked = [("base", 0.0), ("base", 0.5), ("base", 1.0), ("recorded", None), ("tuned", 0.0), ("tuned", 1.0)]
    assert [(*policy, points) for policy in asked] == rows
    assert [(points, 0)] == trained.query("SELECT num_points, num_trained_before FROM pool_openings")
    assert 0 == one(
        trained,
        "SELECT count(*) FROM groups JOIN decision_points AS p USING (point_id, revision) "
        "JOIN run_points AS r ON r.state_hash = p.state_hash AND r.pool <> 'train'",
    )


def test_the_validation_pool_was_watched_before_and_after(trained):
    """The base before the first step, the tuned policy after the last, sampled and greedy."""
    rows = trained.query(
        "SELECT policy, policy_version, temperature FROM evaluations WHERE pool = 'validation' ORDER BY ALL"
    )
    assert [("base", 0, 0.0), ("base", 0, 1.0), ("tuned", 4, 0.0), ("tuned", 4, 1.0)] == rows


def test_the_resolved_configuration_lies_beside_the_run(trained):
    """Defaults included, as JSON."""
    run_id = one(trained, "SELECT run_id FROM runs")
    saved = json.loads((trained.folder / "runs" / run_id / "config.json").read_text())
    assert (0.5, 0.2, "dapo") == (
        saved["train"]["learning_rate"], saved["train"]["epsilon"], saved["train"]["loss_type"]
    )  # fmt: skip


class Assets(HTMLParser):
    """Collects what a page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag, attrs):
        """Note every address and every script."""
        self.loaded += [value for name, value in attrs if name in {"src", "href", "srcset", "data", "action"}]
        self.loaded += [tag] if tag in {"script", "link", "iframe", "object", "embed"} else []

    def handle_data(self, data):
        """Note the text."""
        self.text.append(data)


def test_the_report_is_one_file_that_loads_nothing(trained, tmp_path):
    """Curves, criteria, answers and lineage stand in it; no script, no address."""
    path = trainer("report", "--workspace", trained.folder, "--out", tmp_path / "r.html").strip()
    page = Path(path).read_text(encoding="utf-8")
    assets = Assets()
    assets.feed(page)
    assert [] == assets.loaded
    assert "url(" not in page
    assert "@import" not in page
    text = " ".join(assets.text)
    shown = ("Reward over steps", "says_something", "trained on", "recorded", "loss/grad_norm", "FROM lineage", "optim")
    assert [] == [expected for expected in shown if expected not in text]
    gain = one(
        trained,
        "SELECT gain FROM comparisons WHERE pool = 'heldout' AND baseline = 'base' AND aspect = 'reward' "
        "AND step_index IS NULL AND temperature = 1",
    )
    assert f"{gain:+.3f}" in text


def test_a_proven_checkpoint_is_promoted_and_taken_back(trained):
    """`current` leads to the weights while the promotion stands; each change is recorded."""
    workspace, run_id = trained.folder, one(trained, "SELECT run_id FROM runs")
    assert f"{run_id}:4" in trainer("promote", "--workspace", workspace)
    assert (workspace / "current" / "model.safetensors").is_file()
    assert f"{run_id}:4" == json.loads(trainer("runs", "--json", "--workspace", workspace))[0]["current"]
    assert "current is the base policy" in trainer("rollback", "--workspace", workspace)
    assert not (workspace / "current").exists()
    assert "nothing is promoted" in refused("rollback", "--workspace", workspace)
    assert [("promoted",), ("rolled_back",)] == trained.query("SELECT action FROM promotions ORDER BY decided_at")


def test_a_finished_run_is_not_resumed(trained):
    """The message says what to do instead."""
    assert "has finished its 4 steps; start a new one" in refused("train", "--resume", "--workspace", trained.folder)


def weights(workspace: Workspace, run_id: str, step: int) -> bytes:
    """The saved weights after a step."""
    (path,) = workspace.query("SELECT path FROM checkpoints WHERE run_id = ? AND step = ?", [run_id, step])[0]
    return (workspace.folder / path / "model.safetensors").read_bytes()


def answers(workspace: Workspace, run_id: str) -> list[tuple]:
    """What was sampled to train on, and how the update saw it."""
    return workspace.query(
        "SELECT g.step, g.point_id, o.rollout_index, o.token_ids, o.logprobs, w.trained_value FROM groups AS g "
        "JOIN rollouts AS o USING (group_id) JOIN rewards AS w USING (rollout_id) WHERE g.run_id = ? ORDER BY ALL",
        [run_id],
    )


SHORT = ("--steps", 3, "--set", "eval.validation_points=0")
"""Three steps and no evaluation."""


def start(folder: Path) -> subprocess.Popen:
    """A training process; its log comes line by line on stderr."""
    arguments = ["train", "--config", "run.toml", "--workspace", "ws", *map(str, SHORT)]
    return subprocess.Popen(
        [sys.executable, "-m", "trainer.cli", *arguments],
        cwd=folder,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def wait_for_step(process: subprocess.Popen, step: int) -> None:
    """Read the log until the step is recorded."""
    for line in process.stderr:
        if f" step={step} " in line:
            return
    raise AssertionError(f"the run ended before step {step}")


def test_equal_seeds_give_equal_runs_and_an_interrupted_one_ends_the_same(fresh):
    """Undisturbed twice, killed after a step, stopped by Ctrl-C: the same answers and weights to the last bit."""
    for _ in range(2):
        trainer("train", "--config", fresh / "run.toml", "--workspace", fresh / "ws", *SHORT)
    for sign, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 1)):
        with start(fresh) as process:
            wait_for_step(process, 1)
            process.send_signal(sign)
            process.stderr.read()
            assert code == process.wait(timeout=120)
        trainer("train", "--resume", "--workspace", fresh / "ws")
    workspace = Workspace.open(fresh / "ws")
    first, *others = [row[0] for row in workspace.query("SELECT run_id FROM runs ORDER BY run_id")]
    assert 3 == len(others)
    for other in others:
        assert answers(workspace, first) == answers(workspace, other)
        assert weights(workspace, first, 3) == weights(workspace, other, 3)
    events = [row[0] for row in workspace.query("SELECT event FROM run_events ORDER BY happened_at")]
    assert ["started", "finished"] * 2 == events[:4]
    assert ["started", "resumed", "finished", "started", "interrupted", "resumed", "finished"] == events[4:]


def test_a_control_run_shuffles_and_is_never_promoted(fresh):
    """The values trained on are the step's rewards in other places, and the registry refuses the run."""
    trainer("train", "--config", fresh / "run.toml", "--workspace", fresh / "ws", "--control", "shuffled", *SHORT)
    workspace = Workspace.open(fresh / "ws")
    moved, trained_on = workspace.query(
        "SELECT count(*) FILTER (trained_value <> value), count(trained_value) FROM rewards WHERE evaluation_id IS NULL"
    )[0]
    assert 0.2 * trained_on < moved < trained_on
    assert "is a control run (shuffled rewards)" in refused("promote", "--workspace", fresh / "ws")


def test_a_step_that_teaches_nothing_changes_nothing_and_says_so(fresh):
    """Equal rewards everywhere: every group is dropped with its reason, and the saved weights are the base's."""
    (fresh / "rewards.toml").write_text('[[criteria]]\nname = "any"\ncheck = "python:letter_checks:always"\n')
    (fresh / "letter_checks.py").write_text("def always(answer):\n    return 1.0\n")
    trainer("train", "--config", fresh / "run.toml", "--workspace", fresh / "ws", *SHORT[:1], 1, *SHORT[2:])
    workspace = Workspace.open(fresh / "ws")
    assert [("zero_variance", 12)] == workspace.query("SELECT drop_reason, count(*) FROM groups GROUP BY ALL")
    assert [(0, 12, 1.0)] == workspace.query("SELECT num_groups_trained, num_groups, reward_mean FROM updates")
    saved = load_file(workspace.folder / one(workspace, "SELECT path FROM checkpoints") / "model.safetensors")
    base = load_file(Path(one(workspace, "SELECT base FROM runs")) / "model.safetensors")
    assert [] == [name for name, tensor in base.items() if not tensor.equal(saved[name])]
    trainer("report", "--workspace", fresh / "ws")


def test_watch_pulls_what_is_new_and_trains_on_it(fresh):
    """One look: the new episode arrives and, with enough new points, a run is started."""
    add_episode(fresh / "episodes.duckdb", "late")
    common = ("watch", "--from", fresh / "episodes.duckdb", "--config", fresh / "run.toml", "--once", "--json",
              "--workspace", fresh / "ws", "--set", "train.max_steps=1",
              "--set", "eval.validation_points=0")  # fmt: skip
    look = json.loads(trainer(*common, "--set", "watch.train_after_points=1000"))
    assert (1, 2, None) == (look["pulled"]["episodes_new"], look["pulled"]["points_added"], look["run_id"])
    look = json.loads(trainer(*common, "--set", "watch.train_after_points=20"))
    assert (0, True) == (look["pulled"]["points_added"], look["run_id"] is not None)
    assert 0 == json.loads(trainer(*common, "--set", "watch.train_after_points=20"))["num_new_points"]


def test_an_adapter_is_trained_in_place_of_all_weights(fresh):
    """With [policy.lora] the checkpoint holds an adapter, and the evaluation loads it."""
    trainer("train", "--config", fresh / "run.toml", "--workspace", fresh / "ws", "--set", "policy.lora.r=4",
            "--set", "train.optim=adamw", "--set", "train.learning_rate=0.01", "--steps", 1)  # fmt: skip
    found = json.loads(trainer("eval", "--workspace", fresh / "ws", "--pool", "validation", "--json"))
    workspace = Workspace.open(fresh / "ws")
    path = workspace.folder / one(workspace, "SELECT path FROM checkpoints")
    assert (path / "adapter_model.safetensors").is_file()
    assert not (path / "model.safetensors").exists()
    assert found["means"]["tuned T=1"] != found["means"]["base T=1"]


def test_a_changed_check_stops_a_resumed_run_and_an_evaluation(fresh):
    """Before and after must be measured alike."""
    trainer("train", "--config", fresh / "run.toml", "--workspace", fresh / "ws", *SHORT[:1], 1, *SHORT[2:])
    checks = fresh / "letter_checks.py"
    checks.write_text(checks.read_text() + "\n# changed\n")
    assert "one of its checks has changed" in refused("eval", "--workspace", fresh / "ws")


class Heard:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, dict[str, float]]] = []
        self.closed = 0

    def log(self, step, metrics):
        """Keep."""
        self.steps.append((step, dict(metrics)))

    def close(self):
        """Count."""
        self.closed += 1


def test_a_sink_hears_every_update_once_with_the_figures_of_the_workspace(fresh):
    """In order, equal to what is recorded, closed at the end; how prompts differ from the record is among them."""
    workspace, heard = Workspace.open(fresh / "ws"), Heard()
    config = load_config(fresh / "run.toml", {"train.max_steps": "2", "eval.validation_points": "0"})
    train(workspace, config, sinks=[heard])
    recorded = workspace.query("SELECT step, reward_mean, metrics FROM updates ORDER BY step")
    assert ([1, 2], 1) == ([step for step, _ in heard.steps], heard.closed)
    for (_, metrics), (_, reward, saved) in zip(heard.steps, recorded, strict=True):
        assert reward == metrics["reward/mean"]
        assert {
            name: value for name, value in json.loads(saved).items() if value is not None
        }.items() <= metrics.items()
        assert 12 == metrics["prompts/compared"]


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("train.backend=art_local", "needs a CUDA device"),
        ("train.backend=art_serverless", "needs a key in WANDB_API_KEY"),
        ("rollouts.sampler=vllm", "set vllm.python"),
        ("metrics.wandb=plans", "pip install wandb"),
    ],
)
def test_what_a_run_lacks_is_said_before_it_is_recorded(fresh, monkeypatch, setting, told):
    """Exit code 1, the missing thing by name, and no run in the workspace."""
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    said = refused("train", "--config", fresh / "run.toml", "--workspace", fresh / "ws", "--set", setting)
    assert told in said
    assert 0 == one(Workspace.open(fresh / "ws"), "SELECT count(*) FROM runs")
