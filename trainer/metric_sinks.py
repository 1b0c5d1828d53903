"""Where else the figures of an update go: TensorBoard, MLflow, Weights & Biases, or anything with the same two methods.

The workspace holds every figure whatever is configured here. A package is imported only when its key of `[metrics]` is
set; a missing one is named before anything is trained. To add a sink, implement `MetricSink` and give it to the loop.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from trainer.config import MetricsConfig
from trainer.errors import RunError
from trainer.rows import UpdateRow

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

log = logging.getLogger(__name__)

EXPERIMENT = "spanloop"
"""The MLflow experiment runs are listed under."""
RUN_TAG = "spanloop.run_id"
REASON_CHARACTERS_MAX = 160
"""Of a package's own error text, what goes into ours."""
PACKAGES = {"tensorboard": "tensorboard", "mlflow": "mlflow", "wandb": "wandb"}
"""Key of `[metrics]`, and the pip package it needs."""


class MetricSink(Protocol):
    """Takes the figures of one run."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """The figures of an update; called once for every step, in order, after the step is recorded."""

    def close(self) -> None:
        """No further update follows in this process; the run may be resumed in another."""


def update_metrics(update: UpdateRow) -> dict[str, float]:
    """The figures of an update as the workspace has them; what was not measured is left out."""
    measured = {name: value for name, value in json.loads(update.metrics).items() if value is not None}
    reward = {} if update.reward_mean is None else {"reward/mean": update.reward_mean}
    return {
        **measured,
        **reward,
        "groups/asked": float(update.num_groups),
        "groups/trained": float(update.num_groups_trained),
        "time/step_s": update.seconds,
    }


def check_sinks(config: MetricsConfig) -> None:
    """Raise `RunError` where a configured sink lacks its pip package, or MLflow does not open."""
    for key, package in PACKAGES.items():
        if getattr(config, key) is not None and importlib.util.find_spec(package) is None:
            raise RunError(
                f"metrics.{key}: needs the package {package}, which is not installed; "
                f"`pip install {package}`, or leave metrics.{key} out"
            )
    if config.mlflow is not None:
        _open_mlflow(config.mlflow)


@contextmanager
def open_sinks(
    config: MetricsConfig, run_id: str, steps_done: int, others: Sequence[MetricSink] = ()
) -> Iterator[tuple[MetricSink, ...]]:
    """The configured sinks and these others, open for a run of which `steps_done` are recorded; closed at the end."""
    check_sinks(config)
    with ExitStack() as stack:
        sinks: list[MetricSink] = [stack.enter_context(closing(sink)) for sink in others]
        if config.tensorboard is not None:
            sinks.append(stack.enter_context(closing(TensorBoardSink(config.tensorboard, run_id, steps_done))))
        if config.mlflow is not None:
            sinks.append(stack.enter_context(closing(MlflowSink(config.mlflow, run_id))))
        if config.wandb is not None:
            sinks.append(stack.enter_context(closing(WandbSink(config.wandb, run_id))))
        yield tuple(sinks)


class TensorBoardSink:
    """Event files in a directory per run."""

    def __init__(self, directory: str, run_id: str, steps_done: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # Steps that were written but not recorded before a kill are done again.
        self._writer = SummaryWriter(str(Path(directory) / run_id), purge_step=steps_done + 1)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Scalars; on disk when this returns."""
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """End the file."""
        self._writer.close()


def _open_mlflow(uri: str) -> tuple[MlflowClient, str | None]:
    """A client and the id of our experiment, if there is one. Raises RunError where the store does not open."""
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    try:
        client = MlflowClient(tracking_uri=uri)
        found = client.get_experiment_by_name(EXPERIMENT)
    except MlflowException as error:
        # A folder is refused by MLflow 3.17 and later, in many words.
        raise RunError(
            f"metrics.mlflow {uri}: does not open ({str(error).partition('.')[0]}); give the address of a running "
            "server, or a database such as sqlite:///mlflow.db"
        ) from error
    return client, None if found is None else str(found.experiment_id)


def _in_short(error: Exception) -> str:
    return str(error).partition("\n")[0][:REASON_CHARACTERS_MAX]


class MlflowSink:
    """A run of the experiment `spanloop`, found again by its tag when ours is resumed."""

    def __init__(self, uri: str, run_id: str) -> None:
        self._client, found = _open_mlflow(uri)
        experiment = found or self._client.create_experiment(EXPERIMENT)
        runs = self._client.search_runs([experiment], filter_string=f"tags.`{RUN_TAG}` = '{run_id}'", max_results=1)
        run = runs[0] if runs else self._client.create_run(experiment, run_name=run_id, tags={RUN_TAG: run_id})
        self._run_id: str = run.info.run_id

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """One batch; a server that is away costs its figures, not the run."""
        from mlflow.entities import Metric
        from mlflow.exceptions import MlflowException

        moment_ms = int(time.time() * 1000)
        batch = [Metric(name, value, moment_ms, step) for name, value in metrics.items()]
        try:
            self._client.log_batch(self._run_id, metrics=batch)
        except MlflowException as error:
            log.warning("metrics_lost sink=mlflow step=%d error=%s", step, type(error).__name__)

    def close(self) -> None:
        """Mark the run as ended."""
        self._client.set_terminated(self._run_id)


class WandbSink:
    """A run of a Weights & Biases project under our run's id."""

    def __init__(self, project: str, run_id: str) -> None:
        import wandb

        # Parts of ART import Weave, and W&B starts it where it is imported: it would ask for a login and send each call
        # of an OpenAI client, prompts included, to a service nobody chose. Who wants it sets the variable to false.
        os.environ.setdefault("WANDB_DISABLE_WEAVE", "true")
        try:
            self._run = wandb.init(project=project, id=run_id, name=run_id, resume="allow")
        except wandb.errors.Error as error:
            raise RunError(
                f"metrics.wandb {project}: does not open ({str(error).partition('.')[0]}); log in with `wandb login`, "
                "or set WANDB_MODE=offline"
            ) from error

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """One row of the history."""
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        """Upload what is left."""
        self._run.finish()
