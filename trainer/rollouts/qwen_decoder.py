"""Decoding for Qwen3-shaped models without the overhead of a general forward.

Computes the same function as transformers' forward, to the rounding of float32. What it saves: a prompt's keys and
values exist once and are read by all its rows in one product; sampled tokens go into a buffer of fixed size per row.
Fits Qwen3, Qwen2, Llama and Mistral shapes. Shapes: U prompts, B rows, G the most rows of one prompt, P prompt
positions, S sampled positions, H key-value heads, R query heads per key-value head, D head size, N hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from trainer.rollouts.decoder import padded, prompt_of_rows
from trainer.rollouts.qwen_weights import Layer, read_head, read_layers

PREFILL_TOKENS_MAX = 8192
"""Prompt tokens computed at once, padding included; bounds the activations."""
SUFFIX_START = 32
"""Sampled positions the buffer holds at first; it doubles up to the longest answer allowed."""


class _Layout:
    """Where each row's queries stand in the rectangle [U, G] that attends to the prompts."""

    def __init__(self, prompt_of_B: Tensor, num_prompts: int) -> None:
        counts_U = torch.bincount(prompt_of_B, minlength=num_prompts)
        self.prompt_of_B = prompt_of_B
        self.num_prompts = num_prompts
        self.width = int(counts_U.max())
        self.full = len(prompt_of_B) == num_prompts * self.width
        starts_U = counts_U.cumsum(0) - counts_U
        index_B = torch.arange(len(prompt_of_B), device=prompt_of_B.device)
        self.slot_B = prompt_of_B * self.width + index_B - starts_U[prompt_of_B]

    def to_rectangle(self, x_B_H_R_X: Tensor) -> Tensor:
        """Row-wise values as [U, H, G, R, X]; places without a row hold zeros."""
        heads, repeats, size = x_B_H_R_X.shape[1:]
        if not self.full:
            rectangle = x_B_H_R_X.new_zeros(self.num_prompts * self.width, heads, repeats, size)
            x_B_H_R_X = rectangle.index_copy_(0, self.slot_B, x_B_H_R_X)
        return x_B_H_R_X.view(self.num_prompts, self.width, heads, repeats, size).transpose(1, 2)

    def to_rows(self, x_U_H_G_R_X: Tensor) -> Tensor:
        """The inverse: [B, H, R, X]."""
        rows = x_U_H_G_R_X.transpose(1, 2).flatten(0, 1)
        return rows if self.full else rows[self.slot_B]


@dataclass(slots=True)
class _Batch:
    """The state of one batch: per layer the keys and values of the prompts, and those of the sampled tokens."""

    prompt_keys: list[Tensor]
    """[U, H, D, P] each, transposed for the product with the queries."""
    prompt_values: list[Tensor]
    """[U, H, P, D] each."""
    padding_U_P: Tensor
    """-inf past each prompt's end, else 0."""
    lengths_B: Tensor
    suffix_keys: list[Tensor]
    """[U, H, G, S, D] each: laid out as the queries that meet the prompts are."""
    suffix_values: list[Tensor]
    layout: _Layout
    num_sampled: int
    max_tokens: int


class QwenDecoder:
    """A `Decoder` for the models that `qwen_weights.fits` accepts; good until the weights change."""

    def __init__(self, model: PreTrainedModel) -> None:
        config = model.config
        self._embed = model.get_submodule("model.embed_tokens")
        self._rotary = model.get_submodule("model.rotary_emb")
        self._layers, self._head = read_layers(model), read_head(model)
        self._kv_heads = int(config.num_key_value_heads)
        self._repeats = int(config.num_attention_heads) // self._kv_heads
        self._head_size = int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)
        self._weight = next(self._embed.parameters())
        self._batch: _Batch | None = None

    def prefill(self, prompts: Sequence[tuple[int, ...]], num_rows: Sequence[int], max_tokens: int) -> Tensor:
        """See `Decoder.prefill`."""
        ids_U_P, lengths_U = padded(prompts, self._weight.device)
        num_prompts, longest = ids_U_P.shape
        self._cos_T_D, self._sin_T_D = self._rotations(longest + max_tokens)
        keys = [self._weight.new_empty(num_prompts, self._kv_heads, self._head_size, longest) for _ in self._layers]
        values = [self._weight.new_empty(num_prompts, self._kv_heads, longest, self._head_size) for _ in self._layers]
        last_U_N = self._weight.new_empty(num_prompts, self._weight.shape[-1])
        chunk = max(1, PREFILL_TOKENS_MAX // longest)
        for at in range(0, num_prompts, chunk):
            part = slice(at, at + chunk)
            last_U_N[part] = self._prefill_chunk(
                ids_U_P[part], lengths_U[part], [key[part] for key in keys], [value[part] for value in values]
            )
        prompt_of_B = prompt_of_rows(num_rows, self._weight.device)
        self._batch = _Batch(
            prompt_keys=keys,
            prompt_values=values,
            padding_U_P=_padding(lengths_U, longest, self._weight.dtype),
            lengths_B=lengths_U[prompt_of_B],
            suffix_keys=[],
            suffix_values=[],
            layout=_Layout(prompt_of_B, num_prompts),
            num_sampled=0,
            max_tokens=max_tokens,
        )
        return self._head(last_U_N)[prompt_of_B]

    def _rotations(self, length: int) -> tuple[Tensor, Tensor]:
        positions = torch.arange(length, device=self._weight.device)[None]
        cos, sin = self._rotary(self._weight[:1, None], positions)
        first, second = sin[0].chunk(2, dim=-1)
        return cos[0], torch.cat([-first, second], dim=-1)

    def _prefill_chunk(self, ids_U_P: Tensor, lengths_U: Tensor, keys: list[Tensor], values: list[Tensor]) -> Tensor:
        """Hidden state at each prompt's last token; writes the keys and values of all positions.

        Prompts are padded on the right, where causal attention keeps the padding from everything before it.
        """
        x_U_P_N: Tensor = self._embed(ids_U_P)
        longest = ids_U_P.shape[1]
        cos, sin = self._cos_T_D[:longest, None], self._sin_T_D[:longest, None]
        for layer, key, value in zip(self._layers, keys, values, strict=True):
            q, k, v = (part.transpose(1, 2) for part in self._project(layer, x_U_P_N, cos, sin))
            key.copy_(k.transpose(2, 3))
            value.copy_(v)
            attended = functional.scaled_dot_product_attention(
                q, k, v, is_causal=True, enable_gqa=self._repeats > 1, scale=1.0
            )
            x_U_P_N = _mlp(layer, x_U_P_N + layer.output(attended.transpose(1, 2).flatten(2)))
        return x_U_P_N[torch.arange(len(ids_U_P), device=ids_U_P.device), lengths_U - 1]

    def _project(self, layer: Layer, x_N: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [..., H·R, D], keys and values [..., H, D] of the inputs [..., N].

        Queries and keys are rotated together; the queries are scaled for their product with the keys.
        """
        heads = layer.qkv(layer.attention_norm(x_N)).view(*x_N.shape[:-1], -1, self._head_size)
        num_queries = self._kv_heads * self._repeats
        rotated = _rotate(layer.head_norm(heads[..., : num_queries + self._kv_heads, :]), cos, sin)
        q, k = rotated[..., :num_queries, :], rotated[..., num_queries:, :]
        return q * self._head_size**-0.5, k, heads[..., num_queries + self._kv_heads :, :]

    def step(self, tokens_B: Tensor) -> Tensor:
        """See `Decoder.step`."""
        batch = self._batch
        assert batch is not None, "step before prefill"
        if not batch.suffix_keys or batch.num_sampled == batch.suffix_keys[0].shape[3]:
            self._grow(batch)
        position_B = batch.lengths_B + batch.num_sampled
        cos, sin = self._cos_T_D[position_B][:, None], self._sin_T_D[position_B][:, None]
        x_B_N: Tensor = self._embed(tokens_B)
        for index, layer in enumerate(self._layers):
            q, k, v = self._project(layer, x_B_N, cos, sin)
            self._append(batch, index, k, v)
            x_B_N = _mlp(layer, x_B_N + layer.output(self._attend(batch, index, q)))
        batch.num_sampled += 1
        return self._head(x_B_N)

    def _append(self, batch: _Batch, index: int, k_B_H_D: Tensor, v_B_H_D: Tensor) -> None:
        """Write a layer's keys and values of the new token of every row."""
        for kept, new in ((batch.suffix_keys[index], k_B_H_D), (batch.suffix_values[index], v_B_H_D)):
            kept[:, :, :, batch.num_sampled] = batch.layout.to_rectangle(new.unsqueeze(2)).squeeze(3)

    def _attend(self, batch: _Batch, index: int, q_B_HR_D: Tensor) -> Tensor:
        """Attention [B, H·R·D] of each row's new token to its prompt and to the row's tokens, itself included.

        Rows of one prompt stand together, so that they meet its keys in one product. Their own keys lie in the same
        order, so that nothing but the queries and the result is moved.
        """
        layout, seen, size = batch.layout, batch.num_sampled + 1, self._head_size
        rectangle = layout.to_rectangle(q_B_HR_D.view(-1, self._kv_heads, self._repeats, size))
        q_UH_GR_D = rectangle.reshape(-1, layout.width * self._repeats, size)
        keys, values = batch.prompt_keys[index].flatten(0, 1), batch.prompt_values[index].flatten(0, 1)
        own_keys, own_values = (
            t[:, :, :, :seen].flatten(0, 2) for t in (batch.suffix_keys[index], batch.suffix_values[index])
        )
        padding_UH_1_P = batch.padding_U_P.repeat_interleave(self._kv_heads, 0).unsqueeze(1)
        to_prompt = torch.baddbmm(padding_UH_1_P, q_UH_GR_D, keys)
        to_own = torch.bmm(q_UH_GR_D.view(-1, self._repeats, size), own_keys.transpose(1, 2))
        scores = torch.cat([to_prompt, to_own.view(*to_prompt.shape[:2], seen)], dim=-1)
        weights = scores.softmax(-1, dtype=torch.float32).to(q_B_HR_D.dtype)
        longest = keys.shape[-1]
        mixed = torch.bmm(weights[..., :longest], values).view(-1, self._repeats, size)
        mixed.baddbmm_(weights[..., longest:].view(-1, self._repeats, seen), own_values)
        return layout.to_rows(mixed.view(rectangle.shape)).flatten(1)

    def _grow(self, batch: _Batch) -> None:
        """Room for more sampled positions: the first ones, or twice as many as now."""
        size = min(batch.max_tokens, max(SUFFIX_START, 2 * batch.num_sampled))
        layout = batch.layout
        shape = (layout.num_prompts, self._kv_heads, layout.width, size, self._head_size)
        for kept in (batch.suffix_keys, batch.suffix_values):
            grown = [self._weight.new_empty(shape) for _ in self._layers]
            for new, old in zip(grown, kept, strict=False):
                new[:, :, :, : batch.num_sampled] = old
            kept[:] = grown

    def keep(self, rows: Tensor) -> None:
        """See `Decoder.keep`."""
        batch = self._batch
        assert batch is not None, "keep before prefill"
        prompts, prompt_of_B = torch.unique(batch.layout.prompt_of_B[rows], return_inverse=True)
        if len(prompts) < batch.layout.num_prompts:
            batch.prompt_keys = [keys[prompts] for keys in batch.prompt_keys]
            batch.prompt_values = [values[prompts] for values in batch.prompt_values]
            batch.padding_U_P = batch.padding_U_P[prompts]
        before, batch.layout = batch.layout, _Layout(prompt_of_B, len(prompts))
        batch.lengths_B = batch.lengths_B[rows]
        for kept in (batch.suffix_keys, batch.suffix_values):
            kept[:] = [batch.layout.to_rectangle(before.to_rows(old)[rows]).contiguous() for old in kept]


def _padding(lengths_U: Tensor, longest: int, dtype: torch.dtype) -> Tensor:
    past_U_P = torch.arange(longest, device=lengths_U.device) >= lengths_U[:, None]
    return torch.zeros(past_U_P.shape, dtype=dtype, device=lengths_U.device).masked_fill(past_U_P, float("-inf"))


def _rotate(x_D: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding, halves paired (arXiv:2104.09864 in the layout of transformers).

    The first half of `sin` is negated already (`_rotations`).
    """
    first, second = x_D.chunk(2, dim=-1)
    return torch.addcmul(x_D * cos, torch.cat([second, first], dim=-1), sin)


def _mlp(layer: Layer, x_N: Tensor) -> Tensor:
    gate, up = layer.gate_up(layer.mlp_norm(x_N)).chunk(2, dim=-1)
    return x_N + layer.down(functional.silu(gate) * up)
