"""One of ART's own backends with a run's model registered: training and answering are services, held here by a client.

Everything of the backend runs on one event loop in the background, because its clients belong to the loop that made
them and its services must go on while a step waits for answers.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

# First, so that its environment settings are in place when ART is imported.
from trainer.backends.art_sampler import ArtSampler, EndpointSettings  # isort: skip

import art
from art.backend import Backend
from art.types import TrainResult
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from trainer.art_options import Options, art_train_options
from trainer.backends.background import Background
from trainer.backends.factory import check_needs, make_backend
from trainer.backends.torch_backend import BackendError
from trainer.config import LoraConfig, RunConfig
from trainer.errors import RunError

log = logging.getLogger(__name__)

ART_PROJECT = "spanloop"
"""The project under which ART's directory layout keeps the runs."""
BASE_VERSION = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtService:
    """An open backend and the model it trains."""

    backend: Backend
    model: art.TrainableModel[Any, Any]
    background: Background
    tokenizer: PreTrainedTokenizerBase
    options: Options
    """Of `backend.train`."""
    endpoint: EndpointSettings

    @property
    def step(self) -> int:
        """Updates the backend has made."""
        return self.background.run(self.backend._get_step(self.model))

    def sampler(self, policy_version: int, *, offers: bool = False) -> ArtSampler:
        """Asks the model's own endpoint; with `offers` for earlier versions than the newest too."""
        prepare = self.offer if offers else None
        return ArtSampler(
            self.model, self.tokenizer, self.background, self.endpoint, prepare=prepare, policy_version=policy_version
        )

    def offer(self, version: int) -> None:
        """Have a version answered for: LocalBackend serves only the newest one when it starts."""
        if hasattr(self.backend, "_get_service") and version != self.step:
            self.background.run(self._register(version, str(self._directory(version))))

    async def _register(self, version: int, directory: str) -> None:
        service = await cast("Any", self.backend)._get_service(self.model)
        await service.register_lora_for_step(version, directory)

    def train(self, groups: Sequence[art.TrajectoryGroup]) -> TrainResult:
        """One update by the backend; its result."""
        return self.background.run(self._train(groups))

    async def _train(self, groups: Sequence[art.TrajectoryGroup]) -> TrainResult:
        return await self.backend.train(self.model, groups, **self.options)

    def location(self, version: int) -> str:
        """Where the weights of a version are: a directory, or the name the service has for them."""
        directory = self._directory(version)
        return str(directory) if directory.is_dir() else self.model.get_inference_name(version)

    def _directory(self, version: int) -> Path:
        """Of the checkpoint, for a backend that keeps files."""
        return Path(self.model.base_path) / ART_PROJECT / "models" / self.model.name / "checkpoints" / f"{version:04d}"

    def forget_after(self, version: int) -> None:
        """Delete what was trained after a version: a step that nobody recorded, just before a kill."""
        if self.step > version:
            self.background.run(self.backend._delete_checkpoint_files(self.model, list(range(version + 1))))

    def prune(self, kept: int, protected: Collection[int] = ()) -> None:
        """Keep the newest `kept` versions, the base and these others."""
        step = self.step
        keep = {BASE_VERSION, *protected, *range(max(0, step - kept + 1), step + 1)}
        self.background.run(self.backend._delete_checkpoint_files(self.model, sorted(keep)))


def check_service(config: RunConfig) -> None:
    """Refuse, before anything is recorded, a backend whose needs are missing or that does not take a setting.

    Raises:
        RunError: it names what is missing or not taken, and the remedy.

    """
    backend = config.train.backend
    try:
        check_needs(_factory_name(config))
    except BackendError as error:
        raise RunError(f'train.backend = "{backend}": {error}') from None
    if config.rollouts.sampler == "vllm":
        raise RunError(
            f'train.backend = "{backend}": its own endpoint answers, so rollouts.sampler = "vllm" means nothing; leave '
            "it out"
        )
    if backend == "art_serverless" and config.policy.lora is not None:
        raise RunError(
            f'train.backend = "{backend}": the service chooses its adapter; leave [policy.lora] out, or use torch'
        )
    _train_options(config)


@contextmanager
def open_service(config: RunConfig, run_id: str, root: Path) -> Iterator[ArtService]:
    """The run file's backend with the run's model registered; closed at the end.

    Args:
        config: of the run.
        run_id: what the model is called.
        root: of ART's directory layout.

    """
    background = Background("art-backend")
    backend = make_backend(_factory_name(config), path=root, base_url=config.art.base_url)
    base = config.policy.base or ""
    model: art.TrainableModel[Any, Any] = art.TrainableModel(
        name=run_id,
        project=ART_PROJECT,
        base_model=config.art.base_model or base,
        base_path=str(root),
        report_metrics=[],
        _internal_config=_internal_config(config.policy.lora),
    )
    try:
        background.run(model.register(backend))
        log.info("service_open backend=%s model=%s", config.train.backend, model.get_inference_name())
        yield ArtService(
            backend=backend,
            model=model,
            background=background,
            tokenizer=AutoTokenizer.from_pretrained(base),
            options=_train_options(config),
            endpoint=EndpointSettings(
                request_timeout_s=config.art.request_timeout_s,
                concurrent_requests_max=config.art.concurrent_requests_max,
            ),
        )
    finally:
        try:
            background.run(_close(backend, model))
        finally:
            background.close()


async def _close(backend: Backend, model: art.TrainableModel[Any, Any]) -> None:
    """The model's client first: nobody else closes it."""
    if model.inference_base_url is not None:
        await model.openai_client().close()
    await backend.close()


def _factory_name(config: RunConfig) -> str:
    return config.train.backend.replace("_", "-")


def _train_options(config: RunConfig) -> Options:
    if config.train.backend == "art_local":
        from art.local import LocalBackend

        return art_train_options(config, LocalBackend.train)
    from art.serverless import ServerlessBackend

    return art_train_options(config, ServerlessBackend.train)


def _internal_config(lora: LoraConfig | None) -> art.dev.InternalModelConfig | None:
    """The adapter LocalBackend is to train; ART's own defaults where the run file names none."""
    if lora is None:
        return None
    targets = {} if isinstance(lora.target_modules, str) else {"target_modules": list(lora.target_modules)}
    return cast("art.dev.InternalModelConfig", {"peft_args": {"r": lora.r, "lora_alpha": lora.lora_alpha, **targets}})
