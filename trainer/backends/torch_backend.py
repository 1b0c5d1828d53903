"""ART's `Backend` on plain torch, transformers and peft: one process, CPU or GPU, no server of its own needed to train.

Checkpoints lie where ART's LocalBackend puts them (`<path>/<project>/models/<name>/checkpoints/<step>`) and hold the
optimizer too, so registering a model again goes on where it stopped.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import art
from art.backend import AnyModel, AnyTrainableModel
from art.types import LocalTrainResult, TrainSFTConfig
from tqdm import tqdm

from trainer.backends.inference import PolicyServer
from trainer.backends.options import OptionError, TrainRequest, train_request
from trainer.backends.trajectories import (
    TokenisationSettings,
    TrainingSet,
    from_trajectory_groups,
    supervised_sample,
)
from trainer.checkpoint import (
    Json,
    Progress,
    latest_checkpoint,
    list_checkpoints,
    load_checkpoint,
    prune_checkpoints,
    save_checkpoint,
)
from trainer.errors import TrainerError
from trainer.grpo.objective import LossSettings, LossType
from trainer.grpo.optimizer import OptimizerSettings
from trainer.grpo.policy import LoraSettings, Policy, load_policy
from trainer.grpo.update import StopLimits, Updater, UpdateReport, UpdateSettings

NOT_SERVED = ("http://127.0.0.1:9/not-served", "none")
"""What a model that nobody serves is told: the discard port, so that a call fails at once."""
DEFAULT_LORA = LoraSettings()
DEFAULT_SFT_BATCH_SIZE = 2
"""ART's, for `batch_size="auto"`."""


class BackendError(TrainerError):
    """The backend was asked for something before it can do it."""


@dataclass(slots=True)
class _Registered:
    """One model's policy and where it stands."""

    policy: Policy
    root: Path
    """Directory of its checkpoints."""
    lock: threading.Lock
    """Held while the policy is trained or sampled from."""
    updater: Updater | None = None
    resumed_from: Path | None = None
    step: int = 0
    cursor: Mapping[str, Json] = field(default_factory=dict)
    server: PolicyServer | None = None


class TorchBackend:
    """An `art.Backend`."""

    def __init__(
        self,
        *,
        path: Path | str = ".art",
        policy: Policy | None = None,
        lora: LoraSettings | None = DEFAULT_LORA,
        device: str = "auto",
        dtype: str = "auto",
        inference: tuple[str, str] | None = None,
        serve: bool = True,
    ) -> None:
        """Train models under `path`.

        Args:
            path: root of ART's directory layout.
            policy: train this module instead of loading `model.base_model` (a sampler may share it).
            lora: the adapter a model without checkpoint starts with; `None` trains all weights.
            device: "auto", "cpu" or "cuda".
            dtype: see `load_policy`.
            inference: base URL and key of a server that answers for the policy.
            serve: without `inference`, answer `model.openai_client()` from this process; off for callers that sample
                by themselves.

        """
        self._path = Path(path)
        self._policy = policy
        self._lora = lora
        self._device, self._dtype = device, dtype
        self._inference = inference
        self._serve = serve
        self._models: dict[str, _Registered] = {}

    async def __aenter__(self) -> Self:
        """For `async with`."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        await self.close()

    async def close(self) -> None:
        """Stop inference servers and forget the policies."""
        for registered in self._models.values():
            if registered.server is not None:
                registered.server.close()
        self._models.clear()

    async def register(self, model: AnyModel) -> None:
        """Load the model's policy, from its newest checkpoint where there is one."""
        model.base_path = str(self._path)
        directory = self._directory(model)
        directory.mkdir(parents=True, exist_ok=True)
        description = model.model_dump()
        (directory / "model.json").write_text(json.dumps(description, default=str), encoding="utf-8")
        if model.trainable and model.name not in self._models:
            self._models[model.name] = await asyncio.to_thread(self._open, cast("AnyTrainableModel", model))

    def policy_of(self, model: AnyModel) -> Policy:
        """The policy trained for a registered model."""
        return self._registered(model).policy

    def checkpoint_of(self, model: AnyModel, step: int | None = None) -> Path | None:
        """Directory of the checkpoint of `step`, or the newest; `None` before the first."""
        root = self._registered(model).root
        if step is None:
            return latest_checkpoint(root)
        return next((path for path in list_checkpoints(root) if int(path.name) == step), None)

    async def train(
        self, model: AnyTrainableModel, trajectory_groups: Iterable[art.TrajectoryGroup], **options: object
    ) -> LocalTrainResult:
        """One update on the groups, and a checkpoint. Options: `options.py`.

        A step whose groups teach nothing takes no optimizer step, but counts and is saved, as in ART.

        Raises:
            OptionError: an option is unknown or not offered.
            TrainingStopped: a limit was passed; the last checkpoint stands.

        """
        request = train_request(options)
        registered = self._registered(model)
        started = time.monotonic()
        data = from_trajectory_groups(
            trajectory_groups, registered.policy.tokenizer, self._tokenisation(model, request)
        )
        report, saved = await asyncio.to_thread(self._train_and_save, registered, data, request, options)
        metrics = {
            **report.metrics,
            "data/step_num_groups_submitted": float(data.num_groups),
            "data/step_num_groups_trainable": float(data.num_groups - sum(data.dropped.values())),
            "time/step_trainer_s": time.monotonic() - started,
        }
        return LocalTrainResult(
            step=registered.step, metrics=metrics, checkpoint_path=None if saved is None else str(saved)
        )

    async def _train_sft(
        self,
        model: AnyTrainableModel,
        trajectories: Iterable[art.Trajectory],
        config: TrainSFTConfig,
        dev_config: Mapping[str, Any],
        verbose: bool = False,  # noqa: FBT001, FBT002  # ART's protocol
    ) -> AsyncIterator[dict[str, float]]:
        """Imitate the trajectories' assistant messages; metrics per batch, one checkpoint at the end."""
        del dev_config
        registered = self._registered(model)
        settings = TokenisationSettings(chat_template_kwargs=_template_kwargs(model))
        samples = [supervised_sample(t, registered.policy.tokenizer, settings) for t in trajectories]
        size = DEFAULT_SFT_BATCH_SIZE if config.batch_size == "auto" else config.batch_size
        batches = [samples[start : start + size] for start in range(0, len(samples), size)]
        rates = (
            config.learning_rate if isinstance(config.learning_rate, list) else [config.learning_rate] * len(batches)
        )
        if len(rates) < len(batches):
            raise OptionError(f"train_sft: {len(batches)} batches but {len(rates)} learning rates; give one for each")
        for batch, rate in zip(tqdm(batches, desc="sft", disable=None if verbose else True), rates, strict=False):
            data = TrainingSet(samples=tuple(batch), dropped={}, num_groups=len(batch))
            report = await asyncio.to_thread(self._update, registered, data, _sft_request(rate))
            yield {**report.metrics, "data/step_num_trajectories": float(len(samples))}
        registered.step += 1
        await asyncio.to_thread(self._save, registered, {"learning_rate": rates[-1] if rates else None})

    async def _get_step(self, model: AnyTrainableModel) -> int:
        """Updates done."""
        return self._registered(model).step

    async def _delete_checkpoint_files(self, model: AnyTrainableModel, steps_to_keep: list[int]) -> None:
        """Delete the checkpoints of all other steps."""
        root = self._registered(model).root
        kept = [path for path in list_checkpoints(root) if int(path.name) in steps_to_keep]
        await asyncio.to_thread(prune_checkpoints, root, keep_last=1, protected=kept)

    async def _prepare_backend_for_training(
        self, model: AnyTrainableModel, config: Mapping[str, Any] | None = None
    ) -> tuple[str, str]:
        """Base URL and key of a server that answers with the policy."""
        del config
        if self._inference is not None or not self._serve:
            return self._inference or NOT_SERVED
        registered = self._registered(model)
        if registered.server is None:
            registered.server = PolicyServer(
                registered.policy, registered.lock, lambda: self._model_inference_name(model)
            )
        return registered.server.base_url, registered.server.api_key

    def _model_inference_name(self, model: AnyModel, step: int | None = None) -> str:
        """`name@step`, as ART's LocalBackend serves adapters."""
        known = self._models.get(model.name)
        current = known.step if known is not None else 0
        return f"{model.name}@{current if step is None else step}"

    def supports_automatic_train_step_metrics(self) -> bool:
        """Let `model.log` add the wall-clock time of a step."""
        return True

    def _directory(self, model: AnyModel) -> Path:
        return self._path / model.project / "models" / model.name

    def _registered(self, model: AnyModel) -> _Registered:
        if model.name not in self._models:
            raise BackendError(f"model {model.name} is not registered; call `await model.register(backend)` first")
        return self._models[model.name]

    def _open(self, model: AnyTrainableModel) -> _Registered:
        root = self._directory(model) / "checkpoints"
        policy = self._policy or load_policy(
            _base(model.base_model), lora=self._lora, device=self._device, dtype=self._dtype
        )
        registered = _Registered(policy=policy, root=root, lock=threading.Lock())
        newest = latest_checkpoint(root)
        if newest is not None:
            progress = load_checkpoint(newest, policy)
            registered.step, registered.cursor, registered.resumed_from = progress.step, progress.data_cursor, newest
        return registered

    def _tokenisation(self, model: AnyTrainableModel, request: TrainRequest) -> TokenisationSettings:
        return TokenisationSettings(
            convention=request.convention,
            allow_training_without_logprobs=request.allow_training_without_logprobs,
            keep_zero_variance=request.keep_zero_variance,
            chat_template_kwargs=_template_kwargs(model),
            best_only=request.update.loss.loss_type is LossType.SFT,
        )

    def _train_and_save(
        self, registered: _Registered, data: TrainingSet, request: TrainRequest, options: Mapping[str, object]
    ) -> tuple[UpdateReport, Path | None]:
        report = self._update(registered, data, request)
        registered.step += 1
        return report, self._save(registered, options) if request.save_checkpoint else None

    def _update(self, registered: _Registered, data: TrainingSet, request: TrainRequest) -> UpdateReport:
        with registered.lock:
            updater = self._updater(registered, request.update.optimizer)
            return updater.update(data.samples, request.update, dropped=data.dropped)

    def _updater(self, registered: _Registered, settings: OptimizerSettings) -> Updater:
        """The model's optimizer; the first call restores what a checkpoint holds of it."""
        if registered.updater is None:
            registered.updater = Updater(registered.policy, settings)
            if registered.resumed_from is not None:
                load_checkpoint(registered.resumed_from, registered.policy, registered.updater)
        return registered.updater

    def _save(self, registered: _Registered, options: Mapping[str, object]) -> Path:
        updater = registered.updater
        progress = Progress(
            step=registered.step,
            policy_version=registered.step,
            optimizer_step=0 if updater is None else updater.optimizer_step,
            data_cursor=registered.cursor,
            config={name: value if isinstance(value, _PLAIN) else str(value) for name, value in options.items()},
        )
        return save_checkpoint(registered.root, registered.policy, updater, progress)


_PLAIN = (bool, int, float, str, type(None))


def _base(base_model: str) -> Path | str:
    """A directory where there is one of that name, else a name of the model hub."""
    path = Path(base_model)
    return path if path.is_dir() else base_model


def _template_kwargs(model: AnyTrainableModel) -> Mapping[str, object] | None:
    internal = cast("Mapping[str, Any]", getattr(model, "_internal_config", None) or {})
    return cast("Mapping[str, object] | None", internal.get("chat_template_kwargs"))


def _sft_request(rate: float) -> TrainRequest:
    base = train_request({"learning_rate": rate, "max_grad_norm": 1.0, "weight_decay": 0.0})
    update: UpdateSettings = replace(
        base.update, loss=LossSettings(loss_type=LossType.SFT), limits=StopLimits(mismatch=None)
    )
    return replace(base, update=update)
