"""Backends by the name a run file gives them, with what each needs checked before a run starts."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from art.backend import Backend

from trainer.backends.art_compat import restore_transformers
from trainer.backends.torch_backend import BackendError, TorchBackend
from trainer.grpo.policy import LoraSettings, Policy

restore_transformers()

BACKENDS = ("torch", "art-local", "art-serverless")
SERVERLESS_KEY = "WANDB_API_KEY"  # the variable's name


def make_backend(
    name: str,
    *,
    path: Path | str = ".art",
    policy: Policy | None = None,
    lora: LoraSettings | None = None,
    environment: Mapping[str, str] | None = None,
) -> Backend:
    """A backend: `torch` is ours, `art-local` and `art-serverless` are ART's own.

    Args:
        name: one of `BACKENDS`.
        path: root of ART's directory layout, for backends that keep files.
        policy: trained in place by `torch`; ART's own load theirs.
        lora: the adapter `torch` starts with; `None` trains all weights.
        environment: where keys are looked up; by default the process's.

    Raises:
        BackendError: the name is unknown, or something the backend needs is missing.

    """
    keys = os.environ if environment is None else environment
    if name == "torch":
        return cast("Backend", TorchBackend(path=path, policy=policy, lora=lora))
    if name == "art-local":
        return _art_local(path)
    if name == "art-serverless":
        return _art_serverless(keys)
    raise BackendError(f"backend {name!r} is not known; use one of {', '.join(BACKENDS)}")


def _art_local(path: Path | str) -> Backend:
    """ART's LocalBackend: Unsloth and a vLLM of its own on CUDA."""
    if not torch.cuda.is_available():
        raise BackendError("backend art-local: needs a CUDA device and there is none; use torch")
    missing = [package for package in ("unsloth", "bitsandbytes", "wandb") if not importlib.util.find_spec(package)]
    if missing:
        raise BackendError(
            f"backend art-local: needs {', '.join(missing)}; install openpipe-art[backend] in an environment of its own"
            " (it pins torch 2.10), or use torch"
        )
    from art.local import LocalBackend

    return LocalBackend(path=str(path))


def _art_serverless(keys: Mapping[str, str]) -> Backend:
    """ART's ServerlessBackend: training as a service of Weights & Biases; trajectories leave this machine."""
    key = keys.get(SERVERLESS_KEY)
    if not key:
        raise BackendError(f"backend art-serverless: needs a key in {SERVERLESS_KEY}; set it, or use torch")
    from art.serverless import ServerlessBackend

    return cast("Backend", ServerlessBackend(api_key=key))
