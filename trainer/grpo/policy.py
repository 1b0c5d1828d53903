"""The policy: one causal language model with its tokenizer, as LoRA adapter or full weights.

The in-process sampler samples from the very module the engine trains, so there is no second copy to keep in step.
The module stays in evaluation mode: with dropout the learner would not compute the log-probabilities the sampler saw.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from trainer.errors import TrainerError

ADAPTER_CONFIG_FILE = "adapter_config.json"


class PolicyError(TrainerError):
    """A policy could not be loaded or has a shape the engine cannot train."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraSettings:
    """A new LoRA adapter. `targets` "all-linear" is every linear layer except the language-model head."""

    rank: int = 16
    alpha: int = 32
    targets: str | tuple[str, ...] = "all-linear"
    seed: int = 0
    """Of the A matrices; the B matrices start at zero, so a fresh adapter changes nothing."""

    def __post_init__(self) -> None:
        """Refuse a rank without parameters."""
        if self.rank < 1 or self.alpha <= 0:
            raise ValueError(f"lora: rank {self.rank}, alpha {self.alpha}; use a rank from 1 and an alpha above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A model ready to sample from and to train."""

    module: PreTrainedModel | PeftModel
    tokenizer: PreTrainedTokenizerBase
    device: torch.device

    @property
    def has_adapter(self) -> bool:
        """Whether only a LoRA adapter is trained."""
        return isinstance(self.module, PeftModel)

    @property
    def causal_lm(self) -> PreTrainedModel:
        """The model with its language-model head, adapter layers inside."""
        if isinstance(self.module, PeftModel):
            return cast("PreTrainedModel", self.module.get_base_model())
        return self.module

    @property
    def lm_head(self) -> nn.Module:
        """The layer that maps hidden states to logits."""
        head = self.causal_lm.get_output_embeddings()  # type: ignore[no-untyped-call]  # transformers leaves it bare
        return cast("nn.Module", head)

    def trainable_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters an update changes, by name, in a fixed order."""
        return {name: p for name, p in self.module.named_parameters() if p.requires_grad}

    @contextmanager
    def reference(self) -> Iterator[None]:
        """Within the block the module computes the base model, the adapter switched off.

        Raises:
            PolicyError: the policy has no adapter, so the base is gone once the weights have changed.

        """
        if not isinstance(self.module, PeftModel):
            raise PolicyError("policy: full weights keep no reference policy; train a LoRA adapter or set beta to 0")
        with self.module.disable_adapter():
            yield


def load_policy(
    base: Path | str,
    *,
    adapter: Path | None = None,
    lora: LoraSettings | None = None,
    device: str = "auto",
    dtype: str = "auto",
) -> Policy:
    """The model of directory (or hub name) `base`, with a saved `adapter`, a fresh one by `lora`, or full weights.

    `device` "auto" is CUDA where there is one. `dtype` "auto" is bfloat16 for the frozen base of an adapter on CUDA
    and float32 otherwise: full weights need float32 masters (updates of 1e-6 vanish in bfloat16); the update computes
    in bfloat16 under autocast there. Adapter weights are always float32 or wider.

    Raises:
        PolicyError: the directory holds no model or no adapter, or both `adapter` and `lora` were given.

    """
    if adapter is not None and lora is not None:
        raise PolicyError("policy: both a saved adapter and a fresh LoRA were asked for; choose one")
    where = torch.device(_resolve_device(device))
    weights = _load_base(base, _resolve_dtype(dtype, where, frozen=adapter is not None or lora is not None))
    module: PreTrainedModel | PeftModel = weights
    if adapter is not None:
        module = _load_adapter(weights, adapter)
    elif lora is not None:
        module = with_adapter(weights, lora)
    nn.Module.to(module, where)
    module.eval()
    tokenizer = AutoTokenizer.from_pretrained(str(base))
    return Policy(module=module, tokenizer=tokenizer, device=where)


def _resolve_device(device: str) -> str:
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def _resolve_dtype(dtype: str, device: torch.device, *, frozen: bool) -> torch.dtype:
    if dtype == "auto":
        return torch.bfloat16 if frozen and device.type == "cuda" else torch.float32
    resolved = getattr(torch, dtype, None)
    if not isinstance(resolved, torch.dtype) or not resolved.is_floating_point:
        raise PolicyError(f"policy: dtype {dtype!r} is no floating-point type of torch; use auto, float32 or bfloat16")
    return resolved


def _load_base(base: Path | str, dtype: torch.dtype) -> PreTrainedModel:
    if isinstance(base, Path) and not (base / "config.json").is_file():
        raise PolicyError(f"policy: {base} holds no config.json; point to a directory saved by transformers")
    return cast("PreTrainedModel", AutoModelForCausalLM.from_pretrained(str(base), dtype=dtype, use_safetensors=True))


def _load_adapter(weights: PreTrainedModel, adapter: Path) -> PeftModel:
    if not (adapter / ADAPTER_CONFIG_FILE).is_file():
        raise PolicyError(f"policy: {adapter} holds no {ADAPTER_CONFIG_FILE}; point to a directory saved by peft")
    with _peft_warnings_off():
        return PeftModel.from_pretrained(weights, str(adapter), is_trainable=True)


def with_adapter(weights: PreTrainedModel, lora: LoraSettings) -> PeftModel:
    """The model with a fresh adapter on it and its own weights frozen."""
    targets = lora.targets if isinstance(lora.targets, str) else list(lora.targets)
    config = LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, target_modules=targets, lora_dropout=0.0, task_type=TaskType.CAUSAL_LM
    )
    with torch.random.fork_rng(devices=[]), _peft_warnings_off():
        torch.manual_seed(lora.seed)
        return cast("PeftModel", get_peft_model(weights, config))


@contextmanager
def _peft_warnings_off() -> Iterator[None]:
    with warnings.catch_warnings():
        # peft 0.21 asks transformers 5 for a property under its old name; nothing a user could act on.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        yield
