"""The language-model head by a fused kernel, where one is installed, right and faster than our chunks (CUDA).

Two packages are tried: cut-cross-entropy, which keeps no logits at all, and Liger, which keeps a chunk of them. Both
give a loss per token, which is minus its log-probability. Which one computes is decided once, by a trial on the head's
own weights: values and gradients must be those of the chunks, with another weight for each token (releases of Liger
that scale the gradient of all tokens alike are found out), and the time must be less.

A kernel returns no entropy, so that statistic becomes the sampled one: minus the log-probability of the sampled token,
whose mean is the entropy when the tokens are the policy's own.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import cast

import torch
from torch import Tensor

from trainer.grpo.logprobs import TokenLogprobs, token_logprobs

log = logging.getLogger(__name__)

TRIAL_ROWS = 1024
TRIAL_REPEATS = 3
LARGEST_ERROR = 0.05
"""Nats by which bfloat16 log-probabilities of the two may differ."""
LEAST_COSINE = 0.995
"""Between the gradients of the two."""


class HeadKind(StrEnum):
    """What computes log-probabilities from hidden states."""

    CHUNKED = "chunked"
    CUT_CROSS_ENTROPY = "cut_cross_entropy"
    LIGER = "liger_kernel"


def head_logprobs(
    kind: HeadKind,
    hidden_N_H: Tensor,
    weight_V_H: Tensor,
    bias_V: Tensor | None,
    targets_N: Tensor,
    temperature_N: Tensor,
) -> TokenLogprobs:
    """As `logprobs.token_logprobs`, by the head chosen."""
    if kind is HeadKind.CHUNKED:
        return token_logprobs(hidden_N_H, weight_V_H, bias_V, targets_N, temperature_N)
    if torch.is_autocast_enabled(hidden_N_H.device.type):
        dtype = torch.get_autocast_dtype(hidden_N_H.device.type)
        hidden_N_H, weight_V_H = hidden_N_H.to(dtype), weight_V_H.to(dtype)
    # The logits are linear in the hidden state, so the temperature can divide that.
    scaled = hidden_N_H / temperature_N.unsqueeze(1).to(hidden_N_H.dtype)
    logprobs = -_token_losses(kind, scaled, weight_V_H, targets_N).float()
    return TokenLogprobs(logprobs, -logprobs.detach())


def _token_losses(kind: HeadKind, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    if kind is HeadKind.LIGER:
        functions = importlib.import_module("liger_kernel.transformers.functional")
        fused = cast("Callable[..., Tensor]", functions.liger_fused_linear_cross_entropy)
        return fused(hidden, weight, targets, reduction="none")
    cut = cast("Callable[..., Tensor]", importlib.import_module("cut_cross_entropy").linear_cross_entropy)
    # No gradient is filtered out, however small.
    return cut(hidden, weight, targets, reduction="none", filter_eps=None)


def choose_head(weight_V_H: Tensor, bias_V: Tensor | None, compute: torch.dtype) -> HeadKind:
    """The fastest head that can be used here and agrees on a trial; our chunks on a CPU and in full precision."""
    usable = weight_V_H.is_cuda and bias_V is None and compute in (torch.bfloat16, torch.float16)
    return fastest_head(weight_V_H, compute) if usable else HeadKind.CHUNKED


def fastest_head(weight_V_H: Tensor, compute: torch.dtype) -> HeadKind:
    """The fastest installed head that gives the chunks' values and gradients on random hidden states."""
    fused = [kind for kind in HeadKind if kind is not HeadKind.CHUNKED and importlib.util.find_spec(kind) is not None]
    if not fused:
        return HeadKind.CHUNKED
    weight = weight_V_H.detach().to(compute).requires_grad_(weight_V_H.requires_grad)
    chunked = _try(HeadKind.CHUNKED, weight)
    found = {HeadKind.CHUNKED: chunked.seconds, **dict(_agreeing(fused, weight, chunked))}
    return min(found, key=lambda kind: found[kind])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    """What a head made of the same random hidden states."""

    seconds: float
    """Of the fastest forward and backward."""
    logprobs: Tensor
    gradients: Tensor
    """Of the hidden states and, where it is trained, of the weight: flat."""


def _agreeing(kinds: Sequence[HeadKind], weight: Tensor, chunked: _Trial) -> Iterator[tuple[HeadKind, float]]:
    """The heads whose values and gradients are the chunks', with their seconds."""
    for kind in kinds:
        try:
            trial = _try(kind, weight)
        except Exception as failure:  # noqa: BLE001
            # A release with another signature, or a device its kernels were not built for, costs speed only. Of any
            # class: Triton's own errors (does not compile, asks too much of the device) derive from Exception alone.
            log.warning("fused_head_skipped kind=%s error=%s", kind, type(failure).__name__)
            continue
        error = (trial.logprobs - chunked.logprobs).abs().max().item()
        cosine = torch.nn.functional.cosine_similarity(trial.gradients, chunked.gradients, dim=0).item()
        if error <= LARGEST_ERROR and cosine >= LEAST_COSINE:
            yield kind, trial.seconds


def _try(kind: HeadKind, weight: Tensor) -> _Trial:
    generator = torch.Generator(device=weight.device).manual_seed(0)
    shape = (TRIAL_ROWS, weight.shape[1])
    hidden = torch.randn(shape, generator=generator, device=weight.device, dtype=weight.dtype)
    targets = torch.randint(0, weight.shape[0], shape[:1], generator=generator, device=weight.device)
    # Another weight for each token, of both signs: as advantages have them.
    weights = torch.linspace(-1, 2, TRIAL_ROWS, device=weight.device)
    ones = torch.ones(TRIAL_ROWS, device=weight.device)
    best, logprobs, gradients = float("inf"), ones, ones
    for _ in range(1 + TRIAL_REPEATS):
        leaf = hidden.clone().requires_grad_()
        trained = [leaf, weight] if weight.requires_grad else [leaf]
        started = _moment(weight)
        logprobs = head_logprobs(kind, leaf, weight, None, targets, ones).logprobs_N
        found = torch.autograd.grad((logprobs * weights).sum(), trained)
        best = min(best, _moment(weight) - started)
        gradients = torch.cat([gradient.flatten().float() for gradient in found])
    return _Trial(seconds=best, logprobs=logprobs.detach(), gradients=gradients)


def _moment(like: Tensor) -> float:
    """Now, when what was asked of the device is done."""
    if like.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter()
