"""One token per row from logits, with its log-probability: temperature, top-p, greedy, and noise that belongs to a row.

A row's noise is one uniform number per token, drawn from the row's own generator. So a rollout depends on the seed, its
prompt and its index, not on which rows happen to share the batch (up to the rounding of the logits themselves).
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import torch
from torch import Tensor

BLOCK = 64
"""Vocabulary entries per block: the inverse of the distribution function is looked up by block, then inside it."""


class Choice(NamedTuple):
    """The chosen tokens and their log-probabilities."""

    tokens_B: Tensor
    logprobs_B: Tensor
    """float32, of the whole vocabulary's distribution at the sampling temperature (1 for greedy)."""


def row_uniforms(key: str, num_tokens: int) -> Tensor:
    """The noise of the rollout named `key`: `num_tokens` float64 numbers in [0, 1)."""
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest) >> 1)
    return torch.rand(num_tokens, generator=generator, dtype=torch.float64)


def choose(logits_B_V: Tensor, uniforms_B: Tensor, *, temperature: float, top_p: float) -> Choice:
    """One token per row by inverse transform sampling; the most likely one at temperature 0."""
    logits_B_V = logits_B_V.float()
    if temperature == 0:
        tokens_B = logits_B_V.argmax(-1)
        return Choice(tokens_B, _chosen(logits_B_V, tokens_B) - logits_B_V.logsumexp(-1))
    if temperature != 1:
        logits_B_V = logits_B_V / temperature
    peak_B = logits_B_V.amax(-1, keepdim=True)
    weights_B_W = _weights(logits_B_V, peak_B)
    if top_p < 1:
        nucleus_B_W, order_B_W = _nucleus(weights_B_W, top_p)
        tokens_B = _chosen(order_B_W, _invert(nucleus_B_W, uniforms_B))
    else:
        tokens_B = _invert(weights_B_W, uniforms_B)
    log_total_B = weights_B_W.sum(-1).log_() + peak_B.squeeze(-1)
    return Choice(tokens_B, _chosen(logits_B_V, tokens_B) - log_total_B)


def _weights(logits_B_V: Tensor, peak_B: Tensor) -> Tensor:
    """Unnormalised probabilities of the vocabulary, with zeros to the end of the last block, in one tensor."""
    num_rows, size = logits_B_V.shape
    weights_B_W = logits_B_V.new_empty(num_rows, size + -size % BLOCK)
    weights_B_W[:, size:] = 0
    torch.sub(logits_B_V, peak_B, out=weights_B_W[:, :size]).exp_()
    return weights_B_W


def _chosen(values_B_V: Tensor, index_B: Tensor) -> Tensor:
    return values_B_V.gather(-1, index_B[:, None]).squeeze(-1)


def _nucleus(weights_B_W: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """Weights by falling size, zero past the smallest set that holds `top_p` of the mass, and the tokens' order."""
    sorted_B_W, order_B_W = weights_B_W.sort(stable=True, dim=-1, descending=True)
    mass_before_B_W = sorted_B_W.double().cumsum(-1) - sorted_B_W
    outside_B_W = mass_before_B_W >= top_p * sorted_B_W.double().sum(-1, keepdim=True)
    return sorted_B_W.masked_fill(outside_B_W, 0), order_B_W


def _invert(weights_B_W: Tensor, uniforms_B: Tensor) -> Tensor:
    """The entry in which a row's uniform number falls when the entries' weights are laid end to end."""
    num_rows = len(weights_B_W)
    blocks_B_N_K = weights_B_W.view(num_rows, -1, BLOCK)
    ends_B_N = blocks_B_N_K.sum(-1, dtype=torch.float64).cumsum(-1)
    total_B = ends_B_N[:, -1]
    # Just below the total, whatever the product rounds to: past it lie only entries without weight.
    target_B = torch.minimum(uniforms_B * total_B, torch.nextafter(total_B, torch.zeros_like(total_B)))
    block_B = _first_above(ends_B_N, target_B)
    rows_B = torch.arange(num_rows, device=weights_B_W.device)
    inside_B_K = blocks_B_N_K[rows_B, block_B].double()
    start_B = _chosen(ends_B_N, block_B) - inside_B_K.sum(-1)
    # Rounding can put the target just outside its block; the nearest entry with a weight takes it.
    offset_B = _first_above(inside_B_K.cumsum(-1), (target_B - start_B).clamp_(min=0))
    return block_B * BLOCK + torch.minimum(offset_B, _last_positive(inside_B_K))


def _first_above(ends_B_N: Tensor, target_B: Tensor) -> Tensor:
    return torch.searchsorted(ends_B_N, target_B[:, None], right=True).squeeze(-1).clamp_(max=ends_B_N.shape[-1] - 1)


def _last_positive(weights_B_K: Tensor) -> Tensor:
    positions_K = torch.arange(weights_B_K.shape[-1], device=weights_B_K.device)
    return torch.where(weights_B_K > 0, positions_K, 0).amax(-1)
