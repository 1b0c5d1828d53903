"""One batch from its prompts to the end of every answer: choose, check what has ended, compact, go on.

Shapes: B rows now in the batch, S sampled positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.rollouts.decoder import Decoder
from trainer.rollouts.reading import Sampled
from trainer.rollouts.token_choice import Choice, choose

LIVE_SHARE = 0.85
"""Rows are compacted when fewer than this share still run: copying the cache at every end would cost more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRequest:
    """What to decode. Rows of one prompt are neighbours."""

    prompts: Sequence[tuple[int, ...]]
    num_rows: Sequence[int]
    """How many rows answer each prompt."""
    budgets_B: Tensor
    """The most tokens each row may take."""
    uniforms_B_S: Tensor
    """Each row's noise, one number per token."""
    stops: Tensor
    """Token ids that end an answer."""
    temperature: float
    top_p: float


class _Rows:
    """Which rows still run, and every token chosen so far."""

    def __init__(self, request: BatchRequest) -> None:
        device = request.budgets_B.device
        self.request = request
        self.order_B = torch.arange(len(request.budgets_B), device=device)
        """The original index of every row in the batch."""
        self.live_B = torch.ones(len(request.budgets_B), dtype=torch.bool, device=device)
        self._chosen: list[tuple[Tensor, Tensor, Tensor]] = []

    def take(self, choice: Choice, position: int) -> int:
        """Note the tokens of the running rows; how many rows go on after them."""
        live_B = self.live_B
        self._chosen.append((self.order_B[live_B], choice.tokens_B[live_B], choice.logprobs_B[live_B]))
        within_B = position + 1 < self.request.budgets_B[self.order_B]
        self.live_B = live_B & ~torch.isin(choice.tokens_B, self.request.stops) & within_B
        return int(self.live_B.sum())

    def compact(self) -> Tensor:
        """Forget the rows that have ended; the indices of those that stay."""
        kept = self.live_B.nonzero().squeeze(-1)
        self.order_B, self.live_B = self.order_B[kept], self.live_B[kept]
        return kept

    def sampled(self) -> list[Sampled]:
        """All rows in their original order."""
        index, tokens, logprobs = (torch.cat(parts).tolist() for parts in zip(*self._chosen, strict=True))
        token_ids: list[list[int]] = [[] for _ in self.request.budgets_B]
        values: list[list[float]] = [[] for _ in self.request.budgets_B]
        for row, token, logprob in zip(index, tokens, logprobs, strict=True):
            token_ids[row].append(token)
            values[row].append(logprob)
        return [Sampled(tuple(ids), tuple(numbers)) for ids, numbers in zip(token_ids, values, strict=True)]


def decode(decoder: Decoder, request: BatchRequest) -> list[Sampled]:
    """The answers of all rows. A row ends with a stop token or with its budget, which is at least one token."""
    steps = int(request.budgets_B.max())
    logits_B_V = decoder.prefill(request.prompts, request.num_rows, steps)
    rows = _Rows(request)
    for position in range(steps):
        noise_B = request.uniforms_B_S[rows.order_B, position]
        choice = choose(logits_B_V, noise_B, temperature=request.temperature, top_p=request.top_p)
        num_live, tokens_B = rows.take(choice, position), choice.tokens_B
        if num_live == 0:
            break
        if num_live < LIVE_SHARE * len(tokens_B):
            kept = rows.compact()
            decoder.keep(kept)
            tokens_B = tokens_B[kept]
        logits_B_V = decoder.step(tokens_B)
    return rows.sampled()
