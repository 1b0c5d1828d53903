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
PACKAGES = {"art-local": ("unsloth", "bitsandbytes", "wandb"), "art-serverless": ("wandb",)}
"""What ART's own import while they train, whether it is used or not."""
REMEDIES = {
    "art-local": "install openpipe-art[backend] in an environment of its own (it pins torch 2.10)",
    "art-serverless": "`pip install wandb`",
}


def make_backend(
    name: str,
    *,
    path: Path | str = ".art",
    policy: Policy | None = None,
    lora: LoraSettings | None = None,
    environment: Mapping[str, str] | None = None,
    base_url: str | None = None,
) -> Backend:
    """A backend: `torch` is ours, the others are ART's own.

    `art-local` is Unsloth with a vLLM of its own on CUDA; `art-serverless` trains as a service of Weights & Biases, so
    trajectories leave this machine.

    Args:
        name: one of `BACKENDS`.
        path: root of ART's directory layout, for backends that keep files.
        policy: trained in place by `torch`; ART's own load theirs.
        lora: the adapter `torch` starts with; `None` trains all weights.
        environment: where keys are looked up; by default the process's.
        base_url: where `art-serverless` is asked; by default the service ART names.

    Raises:
        BackendError: the name is unknown, or something the backend needs is missing.

    """
    check_needs(name, environment)
    if name == "torch":
        return cast("Backend", TorchBackend(path=path, policy=policy, lora=lora))
    if name == "art-local":
        from art.local import LocalBackend

        return LocalBackend(path=str(path))
    from art.serverless import ServerlessBackend

    key = (os.environ if environment is None else environment)[SERVERLESS_KEY]
    return cast("Backend", ServerlessBackend(api_key=key, base_url=base_url))


def check_needs(name: str, environment: Mapping[str, str] | None = None) -> None:
    """Refuse a backend that cannot run here.

    Raises:
        BackendError: the name is unknown, or something the backend needs is missing.

    """
    if name not in BACKENDS:
        raise BackendError(f"backend {name!r} is not known; use one of {', '.join(BACKENDS)}")
    if name == "art-local" and not torch.cuda.is_available():
        raise BackendError("backend art-local: needs a CUDA device and there is none; use torch")
    if name == "art-serverless" and not (os.environ if environment is None else environment).get(SERVERLESS_KEY):
        raise BackendError(f"backend art-serverless: needs a key in {SERVERLESS_KEY}; set it, or use torch")
    missing = [package for package in PACKAGES.get(name, ()) if not importlib.util.find_spec(package)]
    if missing:
        raise BackendError(f"backend {name}: needs {', '.join(missing)}; {REMEDIES[name]}, or use torch")
