"""What a run is made of, opened together and closed together: policy, sampler, reward model, ART backend.

The in-process sampler answers with the very module the backend trains, so a new policy needs no loading; vLLM servers
load every checkpoint. Servers that were started here end with the run, however it ends.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

# First, so that its environment settings are in place when ART is imported.
from trainer.backends.trajectories import ScoredRollout, to_trajectory_group  # isort: skip

import art
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from trainer.backends.factory import make_backend
from trainer.backends.torch_backend import BackendError, TorchBackend
from trainer.checkpoint import list_checkpoints, prune_checkpoints
from trainer.config import RunConfig, TrainConfig
from trainer.errors import RunError
from trainer.groups import Group
from trainer.grpo.policy import LoraSettings, Policy, load_policy
from trainer.rewards.base import RewardModel
from trainer.rollouts.base import Sampler
from trainer.rollouts.in_process import InProcessSampler
from trainer.rollouts.template_mismatch import TemplateMismatch
from trainer.rollouts.vllm import VllmSampler
from trainer.runs import Run
from trainer.samplers import AnySampler, in_process_sampler, vllm_sampler

VLLM_LOG = "vllm.log"
"""In the run's folder: what a vLLM server that was started for it says."""
ART_PROJECT = "spanloop"
"""The project under which ART's directory layout keeps the runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateOutcome:
    """What an update came to."""

    policy_version: int
    checkpoint: Path
    metrics: Mapping[str, float]


class Stages:
    """The open parts of a run."""

    def __init__(
        self,
        run: Run,
        reward_model: RewardModel,
        sampler: AnySampler,
        backend: TorchBackend,
        model: art.TrainableModel[Any, Any],
    ) -> None:
        self.reward_model = reward_model
        self.policy_version = run.steps_done
        self._config = run.config.train
        self._shares_gpu = run.config.vllm.share_gpu
        self._sampler = sampler
        self._backend = backend
        self._model = model

    @property
    def sampler(self) -> Sampler:
        """Answers with the policy as it is now."""
        return self._sampler

    @property
    def policy_tokenizer(self) -> PreTrainedTokenizerBase:
        """The policy's own, which made the prompts' tokens."""
        return self._backend.policy_of(self._model).tokenizer

    @property
    def server_mismatches(self) -> Mapping[TemplateMismatch, int]:
        """Distinct prompts so far that a server rendered otherwise than the trainer, by kind; none in process."""
        return {} if isinstance(self._sampler, InProcessSampler) else self._sampler.template_mismatches

    async def update(self, groups: Sequence[Group]) -> UpdateOutcome:
        """Train on the groups and save; afterwards the sampler answers with the new policy."""
        trajectories = [trajectory_group(group) for group in groups]
        with self._gpu_to_itself():
            result = await self._backend.train(self._model, trajectories, **train_options(self._config))
        assert result.checkpoint_path is not None
        checkpoint = Path(result.checkpoint_path)
        self.policy_version = result.step
        if isinstance(self._sampler, InProcessSampler):
            self._sampler.advance(result.step)
        else:
            self._sampler.load_policy(checkpoint, result.step)
        return UpdateOutcome(policy_version=result.step, checkpoint=checkpoint, metrics=dict(result.metrics))

    def _gpu_to_itself(self) -> AbstractContextManager[None]:
        """Within the block servers that share the GPU hold none of its memory."""
        shared = self._shares_gpu and isinstance(self._sampler, VllmSampler)
        return cast("VllmSampler", self._sampler).asleep() if shared else nullcontext()

    def prune(self, keep: Collection[Path]) -> None:
        """Delete checkpoints beyond `train.save_total_limit`, except those in `keep`."""
        newest = self._backend.checkpoint_of(self._model)
        if newest is not None:
            prune_checkpoints(newest.parent, keep_last=self._config.save_total_limit, protected=keep)


def check_backend(config: TrainConfig) -> None:
    """Refuse a backend whose needs are missing, or whose checkpoints no sampler here could answer with.

    Raises:
        RunError: it names what is missing and the remedy.

    """
    if config.backend == "torch":
        return
    try:
        make_backend(config.backend.replace("_", "-"))
    except BackendError as error:
        raise RunError(f'train.backend = "{config.backend}": {error}') from None
    raise RunError(
        f'train.backend = "{config.backend}": its policy lives in a service of its own, which the samplers of a run '
        "file do not ask; call it from an ART script (trainer.backends.factory.make_backend), or use torch here"
    )


@asynccontextmanager
async def open_stages(run: Run, reward_model: RewardModel) -> AsyncIterator[Stages]:
    """Everything a run needs, its policy as after the last recorded step."""
    policy = _open_policy(run.config)
    model: art.TrainableModel[Any, Any] = art.TrainableModel(
        name=run.run_id, project=ART_PROJECT, base_model=str(run.config.policy.base), report_metrics=[]
    )
    # The workspace says what happened: a checkpoint of a step it does not know was saved just before a kill.
    _drop_unrecorded(_checkpoints_of(run), run.steps_done)
    async with TorchBackend(path=_art_root(run), policy=policy) as backend:
        # Not `model.register`: it would start an inference server, and the sampler needs none.
        await backend.register(model)
        step = await backend._get_step(model)
        if step != run.steps_done:
            raise RunError(
                f"run {run.run_id}: step {run.steps_done} is recorded, but the newest complete checkpoint is of step "
                f"{step}; restore {_checkpoints_of(run) / f'{run.steps_done:04d}'} or start a new run"
            )
        with closing(_sampler_of(run, policy)) as sampler:
            yield Stages(run, reward_model, sampler, backend, model)


@contextmanager
def open_sampler(run: Run) -> Iterator[Sampler]:
    """A sampler that answers with the run's base policy, until it is given a checkpoint."""
    config = run.config
    with closing(
        vllm_sampler(config, run.folder / VLLM_LOG)
        if config.rollouts.sampler == "vllm"
        else in_process_sampler(config, _open_policy(config), 0)
    ) as sampler:
        yield sampler


def _sampler_of(run: Run, policy: Policy) -> AnySampler:
    """A sampler that answers with the policy after the last recorded step."""
    if run.config.rollouts.sampler != "vllm":
        return in_process_sampler(run.config, policy, run.steps_done)
    sampler = vllm_sampler(run.config, run.folder / VLLM_LOG)
    if run.last_checkpoint is not None:
        try:
            sampler.load_policy(run.last_checkpoint, run.steps_done)
        except BaseException:
            sampler.close()
            raise
    return sampler


def _open_policy(config: RunConfig) -> Policy:
    if config.policy.base is None:
        raise RunError("no base policy; set policy.base in the run file or give --base")
    # Its bars ignore whether stderr is a terminal, and say nothing the run's own bar does not.
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers leaves it bare
    lora = config.policy.lora
    adapter = (
        LoraSettings(rank=lora.r, alpha=lora.lora_alpha, targets=lora.target_modules, seed=config.train.seed)
        if lora is not None
        else None
    )
    return load_policy(Path(config.policy.base), lora=adapter, device=config.policy.device, dtype=config.policy.dtype)


def _art_root(run: Run) -> Path:
    return run.folder.parent.parent / "art"


def _checkpoints_of(run: Run) -> Path:
    return _art_root(run) / ART_PROJECT / "models" / run.run_id / "checkpoints"


def _drop_unrecorded(root: Path, steps_done: int) -> None:
    for path in list_checkpoints(root):
        if int(path.name) > steps_done:
            shutil.rmtree(path)


def trajectory_group(group: Group) -> art.TrajectoryGroup:
    """The group in ART's form, with the values the update is to use."""
    answered = group.answered
    scored = [
        ScoredRollout(rollout=rollout, reward=value)
        for rollout, value in zip(answered.rollouts, group.trained_values, strict=True)
    ]
    point = answered.point
    return to_trajectory_group(point.messages, point.tools, scored, metadata={"point_id": point.point_id})


_SAME_NAMES = (
    "loss_type",
    "epsilon",
    "epsilon_high",
    "delta",
    "beta",
    "scale_rewards",
    "importance_sampling_level",
    "max_completion_length",
    "learning_rate",
    "optim",
    "adam_beta1",
    "adam_beta2",
    "momentum",
    "weight_decay",
    "max_grad_norm",
    "lr_scheduler_type",
    "warmup_steps",
    "num_iterations",
    "num_minibatches",
    "seed",
    "kl_budget",
    "micro_batch_tokens",
    "micro_batch_enough",
    "gradient_checkpointing",
)


def train_options(config: TrainConfig) -> dict[str, str | int | float | bool | None]:
    """The options of `backend.train`, which has the run file's names for them."""
    options: dict[str, str | int | float | bool | None] = {name: getattr(config, name) for name in _SAME_NAMES}
    return {**options, "max_optimizer_steps": config.max_steps * config.num_iterations * config.num_minibatches}
