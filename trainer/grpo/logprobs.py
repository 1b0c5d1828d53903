"""Log-probabilities of chosen tokens without ever holding all logits.

The language-model head runs in chunks of rows, only at positions whose next token is trained. What the backward needs
is computed as follows.

- The head is frozen (LoRA): the gradient of a row's log-probability with respect to its hidden state is found in the
  same pass, `(W[target] - softmax @ W) / temperature`, so the backward is one multiplication.
- The head is trained: the chunk's probabilities are computed again in the backward, unless all rows fit one chunk, in
  which case they are kept.

Entropy comes out of the same pass, as a statistic without gradient.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

CHUNK_ELEMENTS = 1 << 23
"""Logits held at once: rows of a chunk times the vocabulary (32 MiB in float32)."""
CUDA_CHUNK_ELEMENTS = 1 << 27
"""The same on CUDA (512 MiB): 883 rows of a vocabulary of 151,936. Every chunk reads the head's weight again, 1.5 GB in
half precision for a hidden size of 5,120; by arithmetic that bounds the speed below some 250 rows."""


class TokenLogprobs(NamedTuple):
    """For each target: its log-probability, and the entropy of the distribution it was drawn from (no gradient)."""

    logprobs_N: Tensor
    entropies_N: Tensor


def token_logprobs(
    hidden_N_H: Tensor,
    weight_V_H: Tensor,
    bias_V: Tensor | None,
    target_ids_N: Tensor,
    temperature_N: Tensor,
    *,
    chunk_elements: int | None = None,
) -> TokenLogprobs:
    """`log_softmax((hidden @ weight.T + bias) / temperature)` at the targets, in float32 (float64 stays).

    `chunk_elements` bounds the logits held at once; by default what suits the device.
    """
    if torch.is_autocast_enabled(hidden_N_H.device.type):
        # A backward runs outside autocast: what it multiplies must have one type already.
        dtype = torch.get_autocast_dtype(hidden_N_H.device.type)
        hidden_N_H, weight_V_H = hidden_N_H.to(dtype), weight_V_H.to(dtype)
        bias_V = None if bias_V is None else bias_V.to(dtype)
    temperature_N = temperature_N.to(torch.float64 if hidden_N_H.dtype is torch.float64 else torch.float32)
    by_device = CUDA_CHUNK_ELEMENTS if hidden_N_H.device.type == "cuda" else CHUNK_ELEMENTS
    rows = max(1, (by_device if chunk_elements is None else chunk_elements) // weight_V_H.shape[0])
    logprobs, entropies = _ChunkedHead.apply(  # type: ignore[no-untyped-call]  # torch leaves it bare
        hidden_N_H, weight_V_H, bias_V, target_ids_N, temperature_N, rows, torch.is_grad_enabled()
    )
    return TokenLogprobs(logprobs, entropies)


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, temperature: Tensor) -> Tensor:
    logits = torch.nn.functional.linear(hidden, weight, bias)
    exact = logits if logits.dtype is torch.float64 else logits.float()
    return exact.div_(temperature.unsqueeze(1))


class _ChunkedHead(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        temperature: Tensor,
        rows: int,
        differentiable: bool,  # noqa: FBT001  # autograd functions take no keywords
    ) -> tuple[Tensor, Tensor]:
        frozen = not weight.requires_grad and (bias is None or not bias.requires_grad)
        wants_grad = differentiable and (hidden.requires_grad or not frozen)
        keep = wants_grad and not frozen and hidden.shape[0] <= rows
        exact = torch.float64 if hidden.dtype is torch.float64 else torch.float32
        logprobs = torch.empty(hidden.shape[0], dtype=exact, device=hidden.device)
        entropies, sums = torch.empty_like(logprobs), torch.empty_like(logprobs)
        slopes = torch.empty_like(hidden) if wants_grad and frozen else None
        kept = None
        for start in range(0, hidden.shape[0], rows):
            part = slice(start, start + rows)
            logits = _logits(hidden[part], weight, bias, temperature[part])
            chosen = logits.gather(1, targets[part].unsqueeze(1)).squeeze(1)
            sums[part] = logits.logsumexp(1)
            logprobs[part] = chosen - sums[part]
            probabilities = (logits - sums[part].unsqueeze(1)).exp_()
            # The dot product of matching rows: sum of p * logit without a third tensor of logits' size.
            mean = torch.linalg.vecdot(probabilities, logits)
            entropies[part] = sums[part] - mean
            if slopes is not None:
                pulled = torch.matmul(probabilities.to(weight.dtype), weight)
                slopes[part] = (weight[targets[part]] - pulled) / temperature[part].unsqueeze(1).to(weight.dtype)
            if keep:
                kept = probabilities
        saved = (hidden, weight, bias, targets, temperature, sums, slopes, kept)
        ctx.save_for_backward(*cast("tuple[Tensor, ...]", saved))
        ctx.rows = rows  # type: ignore[attr-defined]  # the documented place
        ctx.mark_non_differentiable(entropies)
        return logprobs, entropies

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        saved = cast("tuple[Tensor, ...]", ctx.saved_tensors)  # type: ignore[attr-defined]  # set by torch
        hidden, slopes = saved[0], cast("Tensor | None", saved[6])
        if slopes is not None:
            return (slopes * grads[0].unsqueeze(1)).to(hidden.dtype), None, None, None, None, None, None
        return (*_head_gradients(grads[0], saved, ctx.rows), None, None, None, None)  # type: ignore[attr-defined]


def _head_gradients(
    grad: Tensor, saved: tuple[Tensor | None, ...], rows: int
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Gradients of hidden states, weight and bias, chunk by chunk."""
    hidden, weight, targets, temperature, sums = cast("tuple[Tensor, ...]", (*saved[:2], *saved[3:6]))
    bias, kept = saved[2], saved[7]
    grad_hidden = torch.empty_like(hidden)
    grad_weight = torch.zeros_like(weight) if weight.requires_grad else None
    grad_bias = torch.zeros_like(bias) if bias is not None and bias.requires_grad else None
    for start in range(0, hidden.shape[0], rows):
        part = slice(start, start + rows)
        if kept is None:
            logits = _logits(hidden[part], weight, bias, temperature[part])
            slope = logits.sub_(sums[part].unsqueeze(1)).exp_()
        else:
            slope = kept  # in place: torch refuses a second backward through the same forward
        scale = grad[part] / temperature[part]
        slope.mul_(-scale.unsqueeze(1))
        slope.scatter_add_(1, targets[part].unsqueeze(1), scale.unsqueeze(1).to(slope.dtype))
        typed = slope.to(weight.dtype)
        grad_hidden[part] = torch.matmul(typed, weight)
        if grad_weight is not None:
            grad_weight.addmm_(typed.mT, hidden[part])
        if grad_bias is not None:
            grad_bias += typed.sum(0)
    return grad_hidden, grad_weight, grad_bias
