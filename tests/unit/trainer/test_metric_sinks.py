"""Where figures go beside the workspace: real event files, and packages that are missing."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from trainer.config import MetricsConfig
from trainer.errors import RunError
from trainer.metric_sinks import check_sinks, open_sinks, update_metrics
from trainer.rows import UpdateRow


def test_event_files_hold_every_figure_of_every_step(tmp_path):
    """Read back with TensorBoard's own reader; a resumed run goes on in the same directory."""
    config = MetricsConfig(tensorboard=str(tmp_path))
    with open_sinks(config, "r1", 0) as (sink,):
        sink.log(1, {"loss/train": 0.5, "reward/mean": 0.25})
    with open_sinks(config, "r1", 1) as (sink,):
        sink.log(2, {"loss/train": 0.125})
    found = EventAccumulator(str(tmp_path / "r1")).Reload()
    assert [(1, 0.5), (2, 0.125)] == [(item.step, item.value) for item in found.Scalars("loss/train")]
    assert [(1, 0.25)] == [(item.step, item.value) for item in found.Scalars("reward/mean")]


@pytest.mark.filterwarnings("ignore")
def test_mlflow_has_one_run_of_ours_however_often_it_is_resumed(tmp_path):
    """Read back with MLflow's own client from a database."""
    from mlflow import tracking

    config = MetricsConfig(mlflow=f"sqlite:///{tmp_path / 'm.db'}")
    for done, value in enumerate((0.5, 0.25)):
        check_sinks(config)
        with open_sinks(config, "r1", done) as (sink,):
            sink.log(done + 1, {"loss/train": value, "prompts/recorded/tool_call": 1.0})
    client = tracking.MlflowClient(tracking_uri=config.mlflow)
    experiment = client.get_experiment_by_name("spanloop").experiment_id
    (run,) = client.search_runs([experiment])
    history = client.get_metric_history(run.info.run_id, "loss/train")
    assert [(1, 0.5), (2, 0.25)] == [(item.step, item.value) for item in history]
    assert ("r1", "FINISHED") == (run.data.tags["spanloop.run_id"], run.info.status)


@pytest.mark.filterwarnings("ignore")
def test_a_store_mlflow_does_not_open_is_named_before_anything_runs(tmp_path):
    """The address, MLflow's reason in short, and what would do."""
    with pytest.raises(RunError, match=r"metrics\.mlflow nowhere://x: does not open .*sqlite:///mlflow\.db"):
        check_sinks(MetricsConfig(mlflow="nowhere://x"))


@pytest.mark.filterwarnings("ignore")
def test_wandb_keeps_an_offline_run_under_our_id(tmp_path, monkeypatch, caplog):
    """Its file lies where W&B puts it, to be synced later; Weave, which parts of ART import, is not started with it."""
    import weave  # noqa: F401

    monkeypatch.setenv("WANDB_DISABLE_WEAVE", "")
    monkeypatch.delenv("WANDB_DISABLE_WEAVE")
    for name, value in (("WANDB_MODE", "offline"), ("WANDB_DIR", str(tmp_path)), ("WANDB_SILENT", "true")):
        monkeypatch.setenv(name, value)
    with open_sinks(MetricsConfig(wandb="plans"), "r1", 0) as (sink,):
        sink.log(1, {"loss/train": 0.5})
    (file,) = tmp_path.rglob("*.wandb")
    assert "run-r1.wandb" == file.name
    deadline = time.monotonic() + 60  # W&B's own process writes it, and may still do so after the run has finished
    while b"loss/train" not in file.read_bytes():
        assert time.monotonic() < deadline, f"{file.stat().st_size} bytes, and not the figure"
        time.sleep(0.1)
    assert not [record for record in caplog.records if record.name.startswith("weave")]


@pytest.mark.parametrize("key", ["tensorboard", "mlflow", "wandb"])
def test_a_missing_package_is_named_before_anything_runs(monkeypatch, key):
    """The key, the pip package and the way out."""
    monkeypatch.setitem(sys.modules, key, None)
    with pytest.raises(RunError, match=rf"metrics\.{key}: needs the package {key}.*pip install {key}"):
        check_sinks(MetricsConfig(**{key: "somewhere"}))
    check_sinks(MetricsConfig())


def test_the_figures_are_those_of_the_workspace():
    """What was not measured is left out."""
    row = UpdateRow(
        run_id="r", step=1, policy_version=1, checkpoint_id="r:1", num_groups=4, num_groups_trained=3, reward_mean=None,
        metrics='{"loss/train": 0.5, "kl": null}', seconds=2.0, ended_at=datetime(2026, 1, 1, tzinfo=UTC),
    )  # fmt: skip
    expected = {"loss/train": 0.5, "groups/asked": 4.0, "groups/trained": 3.0, "time/step_s": 2.0}
    assert expected == update_metrics(row)
