"""A checkpoint's weights, written into a policy's module in place."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from peft import PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import Tensor

from trainer.grpo.policy import Policy, PolicyError

ADAPTER_FILE = "adapter_model.safetensors"
MODEL_FILE = "model.safetensors"
MODEL_INDEX_FILE = "model.safetensors.index.json"


def load_weights(policy: Policy, directory: Path) -> None:
    """Copy the adapter (or, for a policy of full weights, the model) saved in `directory` into the policy's module.

    Raises:
        PolicyError: the directory does not hold what this policy trains, or its shapes differ.

    """
    if isinstance(policy.module, PeftModel):
        _load_adapter(policy.module, directory)
    else:
        _load_model(policy, directory)


def _load_adapter(module: PeftModel, directory: Path) -> None:
    state = _read(directory / ADAPTER_FILE)
    try:
        result = set_peft_model_state_dict(module, state)
    except RuntimeError as error:
        raise PolicyError(f"policy: {directory} holds an adapter of another shape; {error}") from error
    unexpected: list[str] = result.unexpected_keys  # type: ignore[attr-defined]  # torch's stub says "namedtuple?"
    if unexpected:
        raise PolicyError(f"policy: {directory} adapts {unexpected[0]}, which this policy does not; use its own")


def _load_model(policy: Policy, directory: Path) -> None:
    index = directory / MODEL_INDEX_FILE
    files = {MODEL_FILE}
    if index.is_file():
        files = set(json.loads(index.read_text())["weight_map"].values())
    state: dict[str, Tensor] = {}
    for name in sorted(files):
        state |= _read(directory / name)
    tied = set(policy.causal_lm.all_tied_weights_keys)
    own = policy.module.state_dict()
    missing = sorted(key for key in own if key not in state and key not in tied)
    wrong = sorted(key for key, value in state.items() if key not in own or own[key].shape != value.shape)
    if missing or wrong:
        raise PolicyError(
            f"policy: {directory} does not fit at {(missing or wrong)[0]}; use a checkpoint of this policy"
        )
    with torch.no_grad():
        for key, value in state.items():
            own[key].copy_(value)


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise PolicyError(f"policy: {path.parent} holds no {path.name}; point to a checkpoint of this policy")
    return load_file(str(path))
