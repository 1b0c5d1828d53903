"""Sampling from the very module the engine trains: no server, no second copy, no stale weights.

In: prompts. Out: one group of rollouts per prompt. Each distinct prompt is computed once and shared by its samples;
prompts of similar length go through together, as many as the memory budget holds; rows that have ended leave the batch.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from trainer.grpo.policy import Policy
from trainer.rollouts import qwen_decoder, qwen_weights
from trainer.rollouts.base import Prompt, Rollout, SamplingParams
from trainer.rollouts.decoder import Decoder, TransformersDecoder
from trainer.rollouts.decoding import BatchRequest, decode
from trainer.rollouts.errors import ContextLimitError
from trainer.rollouts.reading import RolloutReader, Sampled
from trainer.rollouts.rendering import renderer_of
from trainer.rollouts.token_choice import row_uniforms
from trainer.rollouts.weights import load_weights


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """What one decoding batch may hold; a single prompt with its samples always goes through."""

    rows_max: int = 512
    kv_bytes_max: int = 2**30
    """Keys and values of prompts and samples together, padding included, at full answer length."""


class _Row(NamedTuple):
    """Which rollout a row of a batch is."""

    prompt_index: int
    rollout_index: int


class _Work(NamedTuple):
    """A distinct prompt and the rollouts that answer it."""

    token_ids: tuple[int, ...]
    rows: tuple[_Row, ...]


class InProcessSampler:
    """A `Sampler` over a policy's own module.

    `load_policy` writes a checkpoint's weights into that module; a loop that trains the same module needs only
    `advance`. Greedy and seeded sampling give the same tokens whatever else is in the batch, up to the rounding of
    matrix products of different sizes.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        policy_version: int = 0,
        context_tokens_max: int | None = None,
        limits: BatchLimits | None = None,
        stop_token_ids: Sequence[int] = (),
        general_decoder: bool = False,
    ) -> None:
        """Sample from `policy`.

        Args:
            policy: the module, its tokenizer and its device.
            policy_version: what the rollouts say of their policy.
            context_tokens_max: prompt and answer together; by default what the model was made for.
            limits: the size of a batch.
            stop_token_ids: tokens that end an answer, beside the tokenizer's and the model's own.
            general_decoder: use transformers' forward also where the faster decoder fits.

        """
        self.policy = policy
        self.policy_version = policy_version
        config = policy.causal_lm.config
        self._context_max = min(context_tokens_max or config.max_position_embeddings, config.max_position_embeddings)
        self._limits = limits or BatchLimits()
        own = getattr(policy.causal_lm.generation_config, "eos_token_id", None)
        self._reader = RolloutReader(policy.tokenizer, [*_as_list(own), *stop_token_ids])
        self._stops = torch.tensor(sorted(self._reader.stop_ids), device=policy.device)
        self._general = general_decoder or not qwen_weights.fits(policy.causal_lm)

    def sample(self, prompts: Sequence[Prompt], params: SamplingParams) -> list[tuple[Rollout, ...]]:
        """One group of `params.num_samples` rollouts per prompt, in the order of the prompts.

        An answer is cut (finish reason `length`) at `max_tokens` or where the context ends.

        Raises:
            ContextLimitError: prompts fill the context; it names all of them, and nothing was sampled.
            RenderingError: the chat template refuses a prompt.

        """
        rendered = [renderer_of(self.policy.tokenizer).token_ids(prompt.messages, prompt.tools) for prompt in prompts]
        self._check_lengths(prompts, rendered)
        seed = secrets.randbits(63) if params.seed is None else params.seed
        prompt_keys = _prompt_keys(prompts)
        sampled: dict[_Row, Sampled] = {}
        with _evaluating(self.policy.module), torch.no_grad():
            decoder = self._decoder()
            for batch in self._batches(_distinct(rendered, params.num_samples), params.max_tokens):
                rows = [row for entry in batch for row in entry.rows]
                keys = [f"{seed}\0{prompt_keys[row.prompt_index]}\0{row.rollout_index}" for row in rows]
                request = self._request(batch, params, keys)
                sampled.update(zip(rows, decode(decoder, request), strict=True))
        return [
            self._reader.group(
                prompt.prompt_id,
                rendered[index],
                [sampled[_Row(index, i)] for i in range(params.num_samples)],
                params,
                self.policy_version,
            )
            for index, prompt in enumerate(prompts)
        ]

    def load_policy(self, checkpoint: Path, policy_version: int) -> None:
        """Write this checkpoint's weights into the policy's module. Raises PolicyError where they do not fit."""
        load_weights(self.policy, checkpoint)
        self.policy_version = policy_version

    def advance(self, policy_version: int) -> None:
        """The module was trained in place: its rollouts carry this version from now on."""
        self.policy_version = policy_version

    def close(self) -> None:
        """Nothing to release: the module belongs to the caller."""

    def _decoder(self) -> Decoder:
        if self._general:
            return TransformersDecoder(self.policy.causal_lm)
        return qwen_decoder.QwenDecoder(self.policy.causal_lm)

    def _check_lengths(self, prompts: Sequence[Prompt], rendered: Sequence[tuple[int, ...]]) -> None:
        pairs = zip(prompts, rendered, strict=True)
        too_long = [(prompt.prompt_id, len(ids)) for prompt, ids in pairs if len(ids) >= self._context_max]
        if too_long:
            raise ContextLimitError(too_long, self._context_max)

    def _batches(self, work: list[_Work], max_tokens: int) -> Iterator[list[_Work]]:
        """Distinct prompts by length, cut where the next one would exceed the limits."""
        config = self.policy.causal_lm.config
        head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        item = next(self.policy.causal_lm.parameters()).element_size()
        bytes_per_token = 2 * config.num_hidden_layers * heads * head_size * item
        batch: list[_Work] = []
        for entry in sorted(work, key=lambda entry: len(entry.token_ids)):
            rows = sum(len(other.rows) for other in batch) + len(entry.rows)
            prompt_copies = rows if self._general else len(batch) + 1
            tokens = prompt_copies * len(entry.token_ids) + rows * max_tokens
            too_big = rows > self._limits.rows_max or tokens * bytes_per_token > self._limits.kv_bytes_max
            if batch and too_big:
                yield batch
                batch = []
            batch.append(entry)
        if batch:
            yield batch

    def _request(self, batch: list[_Work], params: SamplingParams, keys: list[str]) -> BatchRequest:
        device = self.policy.device
        room = [min(params.max_tokens, self._context_max - len(entry.token_ids)) for entry in batch]
        budgets = [tokens for tokens, entry in zip(room, batch, strict=True) for _ in entry.rows]
        return BatchRequest(
            prompts=[entry.token_ids for entry in batch],
            num_rows=[len(entry.rows) for entry in batch],
            budgets_B=torch.tensor(budgets, device=device),
            uniforms_B_S=torch.stack([row_uniforms(key, max(budgets)) for key in keys]).to(device),
            stops=self._stops,
            temperature=params.temperature,
            top_p=params.top_p,
        )


def _prompt_keys(prompts: Sequence[Prompt]) -> list[str]:
    """What each prompt's noise is drawn from: a prompt given twice is answered afresh the second time."""
    seen: Counter[str] = Counter()
    keys = []
    for prompt in prompts:
        keys.append(f"{prompt.prompt_id}\0{seen[prompt.prompt_id]}")
        seen[prompt.prompt_id] += 1
    return keys


def _distinct(rendered: Sequence[tuple[int, ...]], num_samples: int) -> list[_Work]:
    """Equal prompts as one, with the rollouts of all of them."""
    rows: dict[tuple[int, ...], list[_Row]] = {}
    for prompt_index, ids in enumerate(rendered):
        rows.setdefault(ids, []).extend(_Row(prompt_index, number) for number in range(num_samples))
    return [_Work(ids, tuple(answers)) for ids, answers in rows.items()]


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Dropout off within the block; afterwards every part is in the mode it was in."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


def _as_list(token_ids: int | Sequence[int] | None) -> list[int]:
    if token_ids is None:
        return []
    return [token_ids] if isinstance(token_ids, int) else list(token_ids)
