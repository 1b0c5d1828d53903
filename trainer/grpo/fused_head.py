"""The language-model head by cut-cross-entropy, where it is installed, right and faster than our chunks (CUDA).

Its kernel keeps no logits at all. It returns no entropy, so that statistic becomes the sampled one: minus the
log-probability of the sampled token, whose mean is the entropy when the tokens are the policy's own.
"""

from __future__ import annotations

import importlib
import importlib.util
import time
from collections.abc import Callable
from enum import StrEnum
from typing import cast

import torch
from torch import Tensor

from trainer.grpo.logprobs import TokenLogprobs, token_logprobs

PACKAGE = "cut_cross_entropy"
TRIAL_ROWS = 1024
TRIAL_REPEATS = 3
LARGEST_ERROR = 0.05
"""Nats by which bfloat16 log-probabilities of the two may differ."""


class HeadKind(StrEnum):
    """What computes log-probabilities from hidden states."""

    CHUNKED = "chunked"
    CUT_CROSS_ENTROPY = "cut_cross_entropy"


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
    return _cut_logprobs(hidden_N_H, weight_V_H, targets_N, temperature_N)


def choose_head(weight_V_H: Tensor, bias_V: Tensor | None, compute: torch.dtype) -> HeadKind:
    """Cut-cross-entropy when it can be used here, agrees on a trial and beats the chunks in time."""
    usable = weight_V_H.is_cuda and bias_V is None and compute in (torch.bfloat16, torch.float16)
    if not usable or importlib.util.find_spec(PACKAGE) is None:
        return HeadKind.CHUNKED
    try:
        return _trial(weight_V_H.detach().to(compute))
    except (RuntimeError, TypeError, ValueError, ImportError):
        # A release with another signature, or a device its kernels were not built for, costs speed only.
        return HeadKind.CHUNKED


def _cut_logprobs(hidden: Tensor, weight: Tensor, targets: Tensor, temperature: Tensor) -> TokenLogprobs:
    loss = cast("Callable[..., Tensor]", importlib.import_module(PACKAGE).linear_cross_entropy)
    if torch.is_autocast_enabled(hidden.device.type):
        hidden, weight = (t.to(torch.get_autocast_dtype(hidden.device.type)) for t in (hidden, weight))
    # The logits are linear in the hidden state, so the temperature can divide that. No gradient is filtered out.
    scaled = hidden / temperature.unsqueeze(1).to(hidden.dtype)
    logprobs = -loss(scaled, weight, targets, reduction="none", filter_eps=None).float()
    return TokenLogprobs(logprobs, -logprobs.detach())


def _trial(weight: Tensor) -> HeadKind:
    generator = torch.Generator(device=weight.device).manual_seed(0)
    shape = (TRIAL_ROWS, weight.shape[1])
    hidden = torch.randn(shape, generator=generator, device=weight.device, dtype=weight.dtype)
    targets = torch.randint(0, weight.shape[0], shape[:1], generator=generator, device=weight.device)
    temperature = torch.ones(TRIAL_ROWS, device=weight.device)
    seconds, values = {}, {}
    for kind in HeadKind:
        seconds[kind], values[kind] = _time(kind, hidden, weight, targets, temperature)
    error = (values[HeadKind.CHUNKED] - values[HeadKind.CUT_CROSS_ENTROPY]).abs().max().item()
    faster = seconds[HeadKind.CUT_CROSS_ENTROPY] < seconds[HeadKind.CHUNKED]
    return HeadKind.CUT_CROSS_ENTROPY if error <= LARGEST_ERROR and faster else HeadKind.CHUNKED


def _time(kind: HeadKind, hidden: Tensor, weight: Tensor, targets: Tensor, temperature: Tensor) -> tuple[float, Tensor]:
    """Seconds of the fastest forward and backward after one to warm up, and the values."""
    best, logprobs = float("inf"), torch.empty(0)
    for _ in range(1 + TRIAL_REPEATS):
        torch.cuda.synchronize()
        started = time.perf_counter()
        leaf = hidden.clone().requires_grad_()
        logprobs = head_logprobs(kind, leaf, weight, None, targets, temperature).logprobs_N
        torch.autograd.backward(logprobs.sum())
        torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return best, logprobs.detach()
