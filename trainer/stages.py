"""What a run is made of, opened together and closed together: policy, sampler, reward model, ART backend.

The in-process sampler answers with the very module the backend trains, so a new policy needs no loading; vLLM servers
load every checkpoint. Servers that were started here end with the run, however it ends. With one of ART's own backends
(`art_service.py`) the policy lives in a service, which answers for it too.
"""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
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

from trainer.art_service import ART_PROJECT, BASE_VERSION, ArtService, check_service, open_service
from trainer.backends.art_sampler import ArtSampler
from trainer.backends.torch_backend import TorchBackend
from trainer.checkpoint import prune_checkpoints
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


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateOutcome:
    """What an update came to."""

    policy_version: int
    checkpoint: str
    """A directory, or the name a service has for the weights."""
    metrics: Mapping[str, float]


class Stages(ABC):
    """The open parts of a run."""

    def __init__(self, run: Run, reward_model: RewardModel) -> None:
        self.reward_model = reward_model
        self.policy_version = run.policy_version
        self._config = run.config.train

    @property
    @abstractmethod
    def sampler(self) -> Sampler:
        """Answers with the policy as it is now."""

    @property
    @abstractmethod
    def policy_tokenizer(self) -> PreTrainedTokenizerBase:
        """The policy's own, which made the prompts' tokens."""

    @property
    @abstractmethod
    def server_mismatches(self) -> Mapping[TemplateMismatch, int]:
        """Distinct prompts so far that a server rendered otherwise than the trainer, by kind; none in process."""

    @abstractmethod
    async def update(self, groups: Sequence[Group]) -> UpdateOutcome:
        """Train on the groups and save; afterwards the sampler answers with the new policy."""

    @abstractmethod
    def prune(self, keep: Collection[Path]) -> None:
        """Delete checkpoints beyond `train.save_total_limit`, except those in `keep`."""


class TorchStages(Stages):
    """The policy is trained in this process."""

    def __init__(
        self,
        run: Run,
        reward_model: RewardModel,
        sampler: AnySampler,
        backend: TorchBackend,
        model: art.TrainableModel[Any, Any],
    ) -> None:
        super().__init__(run, reward_model)
        self._shares_gpu = run.config.vllm.share_gpu
        self._sampler = sampler
        self._backend = backend
        self._model = model

    @property
    def sampler(self) -> Sampler:
        """See `Stages`."""
        return self._sampler

    @property
    def policy_tokenizer(self) -> PreTrainedTokenizerBase:
        """See `Stages`."""
        return self._backend.policy_of(self._model).tokenizer

    @property
    def server_mismatches(self) -> Mapping[TemplateMismatch, int]:
        """See `Stages`."""
        return {} if isinstance(self._sampler, InProcessSampler) else self._sampler.template_mismatches

    async def update(self, groups: Sequence[Group]) -> UpdateOutcome:
        """See `Stages`."""
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
        return UpdateOutcome(policy_version=result.step, checkpoint=str(checkpoint), metrics=dict(result.metrics))

    def _gpu_to_itself(self) -> AbstractContextManager[None]:
        """Within the block servers that share the GPU hold none of its memory."""
        shared = self._shares_gpu and isinstance(self._sampler, VllmSampler)
        return cast("VllmSampler", self._sampler).asleep() if shared else nullcontext()

    def prune(self, keep: Collection[Path]) -> None:
        """See `Stages`."""
        newest = self._backend.checkpoint_of(self._model)
        if newest is not None:
            prune_checkpoints(newest.parent, keep_last=self._config.save_total_limit, protected=keep)


class ServiceStages(Stages):
    """The policy is trained and asked in a service of one of ART's own backends."""

    def __init__(self, run: Run, reward_model: RewardModel, service: ArtService) -> None:
        super().__init__(run, reward_model)
        self._service = service
        self._sampler: ArtSampler = service.sampler(run.policy_version)

    @property
    def sampler(self) -> Sampler:
        """See `Stages`."""
        return self._sampler

    @property
    def policy_tokenizer(self) -> PreTrainedTokenizerBase:
        """See `Stages`."""
        return self._service.tokenizer

    @property
    def server_mismatches(self) -> Mapping[TemplateMismatch, int]:
        """See `Stages`."""
        return self._sampler.template_mismatches

    async def update(self, groups: Sequence[Group]) -> UpdateOutcome:
        """See `Stages`. Nothing to learn from is nothing to send: the policy stays the version it is."""
        result = self._service.train([trajectory_group(group) for group in groups]) if groups else None
        if result is not None:
            self.policy_version = result.step
            self._sampler.advance(result.step)
        return UpdateOutcome(
            policy_version=self.policy_version,
            checkpoint=self._service.location(self.policy_version),
            metrics={} if result is None else dict(result.metrics),
        )

    def prune(self, keep: Collection[Path]) -> None:
        """See `Stages`."""
        protected = [int(path.name) for path in keep if path.name.isdigit() and self._service.model.name in path.parts]
        self._service.prune(self._config.save_total_limit, protected)


def check_backend(config: RunConfig) -> None:
    """Refuse a backend whose needs are missing, or settings it does not take.

    Raises:
        RunError: it names what is missing and the remedy.

    """
    if config.train.backend != "torch":
        check_service(config)


@asynccontextmanager
async def open_stages(run: Run, reward_model: RewardModel) -> AsyncIterator[Stages]:
    """Everything a run needs, its policy as after the last recorded step."""
    # The workspace says what happened: a checkpoint of a step it does not know was saved just before a kill.
    _drop_unrecorded(_checkpoints_of(run), run.policy_version)
    if run.config.train.backend != "torch":
        with open_service(run.config, run.run_id, _art_root(run)) as service:
            service.forget_after(run.policy_version)
            _check_step(run, service.step)
            yield ServiceStages(run, reward_model, service)
        return
    policy = _open_policy(run.config)
    model: art.TrainableModel[Any, Any] = art.TrainableModel(
        name=run.run_id, project=ART_PROJECT, base_model=str(run.config.policy.base), report_metrics=[]
    )
    async with TorchBackend(path=_art_root(run), policy=policy) as backend:
        # Not `model.register`: it would start an inference server, and the sampler needs none.
        await backend.register(model)
        _check_step(run, await backend._get_step(model))
        with closing(_sampler_of(run, policy)) as sampler:
            yield TorchStages(run, reward_model, sampler, backend, model)


def _check_step(run: Run, step: int) -> None:
    """The weights must be those of the last recorded step."""
    if step != run.policy_version:
        raise RunError(
            f"run {run.run_id}: step {run.policy_version} is recorded, but the newest complete checkpoint is of step "
            f"{step}; restore {_checkpoints_of(run) / f'{run.policy_version:04d}'} or start a new run"
        )


@contextmanager
def open_sampler(run: Run) -> Iterator[Sampler]:
    """A sampler that answers with the run's base policy, until it is given a checkpoint."""
    config = run.config
    if config.train.backend != "torch":
        with open_service(config, run.run_id, _art_root(run)) as service:
            yield service.sampler(BASE_VERSION, offers=True)
        return
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


def _drop_unrecorded(root: Path, last: int) -> None:
    """Also those of ART's LocalBackend, which lie in the same place and have no manifest."""
    for path in root.iterdir() if root.is_dir() else ():
        if path.name.isdigit() and int(path.name) > last:
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
