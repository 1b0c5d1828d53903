"""Checkpoints: everything a run needs to go on as if it had never stopped, in one directory that is there or is not.

A directory holds the adapter in peft's form (`adapter_model.safetensors`, `adapter_config.json`: vLLM and peft load the
directory as it is) or the weights in transformers' form, the optimizer and the random generators
(`trainer_state.safetensors`), and `checkpoint.json`: where the run stands, its configuration and the size of each file.

It is written under another name, synced and renamed, so a kill at any moment leaves the one before or the new one. The
numbers survive exactly: on a CPU a resumed run computes the same losses to the last bit.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import cast

import torch
import torch.distributed as dist
from peft import PeftModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.distributed.tensor import DTensor

from trainer.errors import TrainerError
from trainer.grpo.distributed import place_like
from trainer.grpo.policy import ADAPTER_CONFIG_FILE, Policy, load_policy
from trainer.grpo.update import Updater
from trainer.rollouts.weights import load_weights

FORMAT = 1
MANIFEST_FILE = "checkpoint.json"
STATE_FILE = "trainer_state.safetensors"
Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


class CheckpointError(TrainerError):
    """A checkpoint cannot be written or is not what it should be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a run stands when a checkpoint is written."""

    step: int
    """Updates done; the directory's name."""
    policy_version: int = 0
    optimizer_step: int = 0
    data_cursor: Mapping[str, Json] = field(default_factory=dict)
    """Whatever the loop needs to take the next batch."""
    config: Mapping[str, Json] = field(default_factory=dict)
    """The resolved configuration of the run."""
    metric: float | None = None
    """What "best" is judged by, larger is better; `None`: not evaluated."""


def save_checkpoint(root: Path, policy: Policy, updater: Updater | None, progress: Progress) -> Path:
    """Write `<root>/<step, four digits>` and return it; an existing one of that step is replaced.

    Under `torchrun` every process calls this; the first one writes.
    """
    weights = _policy_state(policy)
    state = {} if updater is None else _updater_state(policy, updater)
    target = root / f"{progress.step:04d}"
    if not (dist.is_initialized() and dist.get_rank() != 0):
        _write(target, policy, weights, state, progress)
    if dist.is_initialized():
        dist.barrier()
    return target


def load_checkpoint(directory: Path, policy: Policy, updater: Updater | None = None) -> Progress:
    """Put a checkpoint's weights into the policy and its state into the updater and the random generators.

    Raises:
        CheckpointError: the directory is no complete checkpoint of this format.

    """
    progress = read_progress(directory)
    load_weights(policy, directory)
    if updater is not None:
        _restore_updater(_read_state(directory / STATE_FILE), policy, updater)
        updater.optimizer_step = progress.optimizer_step
    return progress


def read_progress(directory: Path) -> Progress:
    """What `checkpoint.json` says, after checking that every file it names is there in full."""
    manifest = _read_manifest(directory)
    for name, size in cast("dict[str, int]", manifest["files"]).items():
        path = directory / name
        if not path.is_file() or path.stat().st_size != size:
            raise CheckpointError(f"checkpoint {directory}: {name} is missing or not {size} bytes; use an earlier one")
    return Progress(**cast("dict[str, Json]", manifest["progress"]))  # type: ignore[arg-type]  # written by us


def list_checkpoints(root: Path) -> tuple[Path, ...]:
    """The checkpoints below `root`, oldest first; what a kill left half-written is not among them."""
    if not root.is_dir():
        return ()
    return tuple(sorted(path for path in root.iterdir() if path.name.isdigit() and (path / MANIFEST_FILE).is_file()))


def latest_checkpoint(root: Path) -> Path | None:
    """The newest complete checkpoint below `root`."""
    for path in reversed(list_checkpoints(root)):
        try:
            read_progress(path)
        except CheckpointError:
            continue
        return path
    return None


def prune_checkpoints(root: Path, *, keep_last: int, protected: Collection[Path] = ()) -> tuple[Path, ...]:
    """Delete all but the newest `keep_last`, the best by metric, and the protected; returns what was deleted."""
    everything = list_checkpoints(root)
    rated = {path: metric for path in everything if (metric := _metric(path)) is not None}
    spared = {path.resolve() for path in protected} | {path.resolve() for path in everything[-max(1, keep_last) :]}
    if rated:
        spared.add(max(rated, key=lambda path: rated[path]).resolve())
    doomed = tuple(path for path in everything if path.resolve() not in spared)
    for path in doomed:
        _remove(path)
    return doomed


def export_merged(base: Path | str, checkpoint: Path, out: Path) -> Path:
    """Write the base with the checkpoint's adapter merged into its weights: a plain model directory."""
    if not (checkpoint / ADAPTER_CONFIG_FILE).is_file():
        raise CheckpointError(
            f"checkpoint {checkpoint} holds no adapter; full weights need no merging, use it as it is"
        )
    policy = load_policy(base, adapter=checkpoint, device="cpu")
    merged = cast("PeftModel", policy.module).merge_and_unload()
    merged.save_pretrained(str(out))
    policy.tokenizer.save_pretrained(str(out))
    return out


def _metric(path: Path) -> float | None:
    metric = cast("dict[str, Json]", _read_manifest(path)["progress"]).get("metric")
    return float(metric) if isinstance(metric, int | float) else None


def _read_manifest(directory: Path) -> dict[str, Json]:
    try:
        manifest = json.loads((directory / MANIFEST_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"checkpoint {directory}: {MANIFEST_FILE} cannot be read ({error})") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise CheckpointError(f"checkpoint {directory}: format is not {FORMAT}; use the release that wrote it")
    return manifest


def _write(
    target: Path, policy: Policy, weights: dict[str, Tensor], state: dict[str, Tensor], progress: Progress
) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = target.with_name(f".{target.name}.writing")
    _remove(staging)
    staging.mkdir()
    if isinstance(policy.module, PeftModel):
        # peft would otherwise ask a model hub whether the vocabulary has grown.
        policy.module.save_pretrained(str(staging), state_dict=weights, save_embedding_layers=False)
    else:
        policy.module.save_pretrained(str(staging), state_dict=weights)
        policy.tokenizer.save_pretrained(str(staging))
    if state:
        save_file(state, staging / STATE_FILE)
    files = {path.name: path.stat().st_size for path in sorted(staging.iterdir())}
    manifest = {"format": FORMAT, "progress": asdict(progress), "files": files}
    (staging / MANIFEST_FILE).write_text(json.dumps(manifest, indent=1, sort_keys=True), encoding="utf-8")
    for path in staging.iterdir():
        _sync(path)
    _sync(staging)
    _replace(staging, target)


def _replace(staging: Path, target: Path) -> None:
    """Two renames where a directory is replaced: killed between them, earlier steps are what is left."""
    old = target.with_name(f".{target.name}.replaced")
    _remove(old)
    if target.exists():
        target.rename(old)
    staging.rename(target)
    _sync(target.parent)
    _remove(old)


def _remove(path: Path) -> None:
    """Delete a directory so that it is never seen half-deleted."""
    if not path.exists():
        return
    if not path.name.startswith("."):
        path = path.rename(path.with_name(f".{path.name}.deleting"))
    shutil.rmtree(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _policy_state(policy: Policy) -> dict[str, Tensor]:
    """The tensors that are saved, gathered from all processes: a module's weights, or what its adapter trains."""
    wanted = policy.trainable_parameters().keys() if policy.has_adapter else policy.module.state_dict().keys()
    return {name: _whole(tensor) for name, tensor in policy.module.state_dict().items() if name in wanted}


def _updater_state(policy: Policy, updater: Updater) -> dict[str, Tensor]:
    """Optimizer tensors by parameter name, and the random generators."""
    state: dict[str, Tensor] = {"rng.torch": torch.get_rng_state(), "rng.python": _python_rng()}
    if torch.cuda.is_available():
        state["rng.cuda"] = torch.cuda.get_rng_state()
    for name, parameter in policy.trainable_parameters().items():
        for key, value in updater.optimizer.state.get(parameter, {}).items():
            if value is not None:
                tensor = value if isinstance(value, Tensor) else torch.tensor(value)
                state[f"optimizer.{name}:{key}"] = _whole(tensor).detach().cpu().contiguous()
    return state


def _python_rng() -> Tensor:
    """The Mersenne Twister's 624 words and its position."""
    return torch.tensor(random.getstate()[1], dtype=torch.int64)


def _read_state(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(str(path))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"checkpoint {path.parent}: {path.name} cannot be read ({error})") from error


def _restore_updater(state: Mapping[str, Tensor], policy: Policy, updater: Updater) -> None:
    parameters = policy.trainable_parameters()
    updater.optimizer.state.clear()
    for entry, tensor in state.items():
        if not entry.startswith("optimizer."):
            continue
        name, _, key = entry.removeprefix("optimizer.").rpartition(":")
        if name not in parameters:
            raise CheckpointError(f"checkpoint: optimizer state of {name}, which this policy does not train")
        updater.optimizer.state[parameters[name]][key] = place_like(tensor, parameters[name])
    torch.set_rng_state(state["rng.torch"])
    random.setstate((3, tuple(state["rng.python"].tolist()), None))
    if "rng.cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["rng.cuda"])
