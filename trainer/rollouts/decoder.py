"""Decoding with a shared prompt: what a decoder is, and the one that works with any transformers causal LM.

A batch holds several prompts; each has one or more rows (its samples), and rows of one prompt are neighbours. The
prompt is computed once for all its rows. Shapes: U prompts, B rows, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Protocol, cast

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel


class Decoder(Protocol):
    """Computes next-token logits for the rows of one batch at a time."""

    def prefill(self, prompts: Sequence[tuple[int, ...]], num_rows: Sequence[int], max_tokens: int) -> Tensor:
        """Begin a batch: logits after each prompt, one line per row, shape [B, V].

        `num_rows` says how many rows each prompt has; no row takes more than `max_tokens` tokens.
        """

    def step(self, tokens_B: Tensor) -> Tensor:
        """Append one token to every row; the logits after it, shape [B, V]."""

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only; ascending indices into the current rows."""


def padded(prompts: Sequence[tuple[int, ...]], device: torch.device, *, left: bool = False) -> tuple[Tensor, Tensor]:
    """The prompts as one matrix of ids [U, P], zeros after (or before) the shorter ones, and their lengths [U]."""
    longest = max(len(prompt) for prompt in prompts)
    ids = torch.zeros(len(prompts), longest, dtype=torch.long)
    for row, prompt in zip(ids, prompts, strict=True):
        begin = longest - len(prompt) if left else 0
        row[begin : begin + len(prompt)] = torch.tensor(prompt)
    return ids.to(device), torch.tensor([len(prompt) for prompt in prompts], device=device)


def prompt_of_rows(num_rows: Sequence[int], device: torch.device) -> Tensor:
    """For every row the index of its prompt: [0, 0, 1, 1, 1, …]."""
    return torch.arange(len(num_rows)).repeat_interleave(torch.tensor(num_rows)).to(device)


class TransformersDecoder:
    """Decodes through the model's own forward with its key-value cache; works for every causal LM of transformers.

    The prompt's cache is computed once and then repeated for its rows. Prompts are padded on the left, so that the
    last position is every prompt's last token.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._device = next(model.parameters()).device
        self._cache: DynamicCache | None = None
        # transformers renamed the argument within major version 5.
        renamed = "cache" in inspect.signature(model.forward).parameters
        self._cache_argument = "cache" if renamed else "past_key_values"

    def prefill(self, prompts: Sequence[tuple[int, ...]], num_rows: Sequence[int], max_tokens: int) -> Tensor:
        """See `Decoder.prefill`."""
        ids_U_P, lengths_U = padded(prompts, self._device, left=True)
        longest = ids_U_P.shape[1]
        real_U_P = torch.arange(longest, device=self._device) >= longest - lengths_U[:, None]
        positions_U_P = (real_U_P.cumsum(-1) - 1).clamp_(min=0)
        self._cache = cache = DynamicCache(config=self._model.config)
        logits_U_V = self._forward(ids_U_P, real_U_P, positions_U_P, cache)
        rows_B = prompt_of_rows(num_rows, self._device)
        cache.batch_select_indices(rows_B)
        self._position_B = lengths_U[rows_B]
        self._mask_B_T = torch.cat([real_U_P[rows_B], real_U_P.new_ones(len(rows_B), max_tokens)], dim=1)
        self._num_cached = longest
        return logits_U_V[rows_B]

    def _forward(self, ids: Tensor, mask: Tensor, positions: Tensor, cache: DynamicCache) -> Tensor:
        """Logits after the last token of every line."""
        output = self._model(
            input_ids=ids,
            attention_mask=mask.long(),
            position_ids=positions,
            use_cache=True,
            logits_to_keep=1,
            **{self._cache_argument: cache},
        )
        return cast("Tensor", output.logits[:, -1])

    def step(self, tokens_B: Tensor) -> Tensor:
        """See `Decoder.step`."""
        assert self._cache is not None, "step before prefill"
        self._num_cached += 1
        mask_B_T = self._mask_B_T[:, : self._num_cached]
        logits_B_V = self._forward(tokens_B[:, None], mask_B_T, self._position_B[:, None], self._cache)
        self._position_B = self._position_B + 1
        return logits_B_V

    def keep(self, rows: Tensor) -> None:
        """See `Decoder.keep`."""
        assert self._cache is not None, "keep before prefill"
        self._cache.batch_select_indices(rows)
        self._position_B = self._position_B[rows]
        self._mask_B_T = self._mask_B_T[rows]
