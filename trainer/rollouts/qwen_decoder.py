"""Decoding for Qwen3-shaped models without the overhead of a general forward.

Reads the module's own weights (LoRA included) and computes the same function as transformers' forward, to the rounding
of float32. What it saves: the prompt's keys and values exist once per prompt and are read by all its rows in one
product; sampled tokens go into a buffer of fixed size per row; joined projections and no Python layers in between.
Fits Qwen3, Qwen2, Llama and Mistral shapes: RMSNorm, rotary positions, grouped queries, SwiGLU, full attention.
Shapes: U prompts, B rows, P prompt positions, S sampled positions, H key-value heads, R query heads per key-value head,
D head size, N hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from trainer.rollouts.decoder import padded, prompt_of_rows

SHAPES = frozenset({"Qwen3ForCausalLM", "Qwen2ForCausalLM", "LlamaForCausalLM", "MistralForCausalLM"})
JOINED_BYTES_MAX = 2**30
"""Weights up to this size are copied once per call into joined, LoRA-merged matrices; larger ones are used in place."""
PREFILL_TOKENS_MAX = 8192
"""Prompt tokens computed at once, padding included; bounds the activations."""
SUFFIX_START = 32
"""Sampled positions the buffer holds at first; it doubles until `max_tokens`."""

Linear = Callable[[Tensor], Tensor]


def fits(model: PreTrainedModel) -> bool:
    """Whether this decoder computes exactly what the model's own forward does."""
    config = model.config
    layer_types = getattr(config, "layer_types", None) or ()
    rope = getattr(config, "rope_parameters", None) or {}
    return (
        type(model).__name__ in SHAPES
        and config.hidden_act == "silu"
        and all(kind == "full_attention" for kind in layer_types)
        and (bool(layer_types) or getattr(config, "sliding_window", None) is None)
        and rope.get("rope_type", "default") in {"default", "linear", "yarn", "llama3"}
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layer:
    """One layer's weights, ready to use."""

    attention_norm: nn.Module
    qkv: Linear
    query_norm: nn.Module | None
    key_norm: nn.Module | None
    output: Linear
    mlp_norm: nn.Module
    gate_up: Linear
    down: Linear


@dataclass(slots=True)
class _Batch:
    """The state of one batch: per layer the prompts' keys and values, and those of the sampled tokens."""

    prompt_keys: list[Tensor]
    """[U, H, D, P] each, transposed for the product with the queries."""
    prompt_values: list[Tensor]
    """[U, H, P, D] each."""
    padding_U_P: Tensor | None
    """-inf past each prompt's end, None where all prompts are equally long."""
    lengths_B: Tensor
    suffix_keys: list[Tensor]
    """[B, H, S, D] each."""
    suffix_values: list[Tensor]
    layout: _Layout
    num_sampled: int
    max_tokens: int


class _Layout:
    """Where each row's queries stand in the rectangle [U, G] that attends to the prompts, G the most rows of one."""

    def __init__(self, prompt_of_B: Tensor, num_prompts: int) -> None:
        counts_U = torch.bincount(prompt_of_B, minlength=num_prompts)
        self.prompt_of_B = prompt_of_B
        self.num_prompts = num_prompts
        self.width = int(counts_U.max())
        self.full = bool((counts_U == self.width).all())
        starts_U = counts_U.cumsum(0) - counts_U
        index_B = torch.arange(len(prompt_of_B), device=prompt_of_B.device)
        self.slot_B = prompt_of_B * self.width + index_B - starts_U[prompt_of_B]

    def to_prompts(self, x_B_H_R_X: Tensor) -> Tensor:
        """Row-wise values as [U, H, G·R, X]."""
        num_rows, heads, repeats, size = x_B_H_R_X.shape
        if not self.full:
            rectangle = x_B_H_R_X.new_zeros(self.num_prompts * self.width, heads, repeats, size)
            x_B_H_R_X = rectangle.index_copy_(0, self.slot_B, x_B_H_R_X)
        grouped = x_B_H_R_X.view(self.num_prompts, self.width, heads, repeats, size).transpose(1, 2)
        return grouped.reshape(self.num_prompts, heads, self.width * repeats, size)

    def to_rows(self, x_U_H_GR_X: Tensor, repeats: int) -> Tensor:
        """The inverse: [B, H, R, X]."""
        heads, size = x_U_H_GR_X.shape[1], x_U_H_GR_X.shape[-1]
        grouped = x_U_H_GR_X.view(self.num_prompts, heads, self.width, repeats, size).transpose(1, 2)
        rows = grouped.reshape(self.num_prompts * self.width, heads, repeats, size)
        return rows if self.full else rows[self.slot_B]


class QwenDecoder:
    """A `Decoder` for the models that `fits` accepts. Holds a snapshot of small models' weights: build one per call."""

    def __init__(self, model: PreTrainedModel) -> None:
        config, inner = model.config, model.model
        self._embed, self._norm, self._rotary = inner.embed_tokens, inner.norm, inner.rotary_emb
        self._kv_heads = int(config.num_key_value_heads)
        self._repeats = int(config.num_attention_heads) // self._kv_heads
        self._head_size = int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)
        self._device = self._embed.weight.device
        size = sum(p.numel() * p.element_size() for p in model.parameters())
        joined = size <= JOINED_BYTES_MAX
        self._layers = [_read_layer(layer, joined=joined) for layer in inner.layers[: config.num_hidden_layers]]
        self._head = _join([model.get_output_embeddings()], joined=joined)
        self._batch: _Batch | None = None

    # Prefill

    def prefill(self, prompts: Sequence[tuple[int, ...]], num_rows: Sequence[int], max_tokens: int) -> Tensor:
        """See `Decoder.prefill`."""
        ids_U_P, lengths_U = padded(prompts, self._device)
        num_prompts, longest = ids_U_P.shape
        self._cos_T_D, self._sin_T_D = self._rotations(longest + max_tokens)
        cache = [self._empty_prompt_cache(num_prompts, longest) for _ in self._layers]
        chunk = max(1, PREFILL_TOKENS_MAX // longest)
        last_U_N = torch.cat(
            [
                self._prefill_chunk(ids_U_P[at : at + chunk], lengths_U[at : at + chunk], cache, at)
                for at in range(0, num_prompts, chunk)
            ]
        )
        prompt_of_B = prompt_of_rows(num_rows, self._device)
        self._batch = _Batch(
            prompt_keys=[keys for keys, _ in cache],
            prompt_values=[values for _, values in cache],
            padding_U_P=_padding(lengths_U, longest, last_U_N.dtype),
            lengths_B=lengths_U[prompt_of_B],
            suffix_keys=[],
            suffix_values=[],
            layout=_Layout(prompt_of_B, num_prompts),
            num_sampled=0,
            max_tokens=max_tokens,
        )
        self._grow(self._batch)
        return self._head(last_U_N)[prompt_of_B]

    def _rotations(self, length: int) -> tuple[Tensor, Tensor]:
        positions = torch.arange(length, device=self._device)[None]
        cos, sin = self._rotary(self._embed.weight[:1, None], positions)
        return cos[0], sin[0]

    def _empty_prompt_cache(self, num_prompts: int, longest: int) -> tuple[Tensor, Tensor]:
        weight = self._embed.weight
        return (
            weight.new_empty(num_prompts, self._kv_heads, self._head_size, longest),
            weight.new_empty(num_prompts, self._kv_heads, longest, self._head_size),
        )

    def _prefill_chunk(self, ids_U_P: Tensor, lengths_U: Tensor, cache: list[tuple[Tensor, Tensor]], at: int) -> Tensor:
        """Final hidden state at each prompt's last token; fills the cache from prompt `at` on.

        Prompts are padded on the right, where causal attention keeps the padding from everything before it.
        """
        num_prompts, longest = ids_U_P.shape
        x_U_P_N = self._embed(ids_U_P)
        cos, sin = self._cos_T_D[:longest, None], self._sin_T_D[:longest, None]
        for layer, (keys, values) in zip(self._layers, cache, strict=True):
            q, k, v = (part.transpose(1, 2) for part in self._project(layer, x_U_P_N, cos, sin))
            keys[at : at + num_prompts] = k.transpose(2, 3)
            values[at : at + num_prompts] = v
            attended = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=self._repeats > 1)
            x_U_P_N = x_U_P_N + layer.output(attended.transpose(1, 2).flatten(2))
            x_U_P_N = _mlp(layer, x_U_P_N)
        last_U_N = x_U_P_N[torch.arange(num_prompts, device=self._device), lengths_U - 1]
        return cast("Tensor", self._norm(last_U_N))

    def _project(self, layer: _Layer, x_N: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [..., H·R, D], keys and values [..., H, D] of the inputs [..., N], rotated."""
        heads = layer.qkv(layer.attention_norm(x_N)).unflatten(-1, (-1, self._head_size))
        q, k, v = heads.split([self._kv_heads * self._repeats, self._kv_heads, self._kv_heads], dim=-2)
        if layer.query_norm is not None and layer.key_norm is not None:
            q, k = layer.query_norm(q), layer.key_norm(k)
        return _rotate(q, cos, sin), _rotate(k, cos, sin), v

    # Decode

    def step(self, tokens_B: Tensor) -> Tensor:
        """See `Decoder.step`."""
        batch = self._batch
        assert batch is not None, "step before prefill"
        if batch.num_sampled == batch.suffix_keys[0].shape[2]:
            self._grow(batch)
        position_B = batch.lengths_B + batch.num_sampled
        cos, sin = self._cos_T_D[position_B][:, None], self._sin_T_D[position_B][:, None]
        x_B_N = self._embed(tokens_B)
        for index, layer in enumerate(self._layers):
            q, k, v = self._project(layer, x_B_N, cos, sin)
            x_B_N = x_B_N + layer.output(self._attend(batch, index, q, k, v))
            x_B_N = _mlp(layer, x_B_N)
        batch.num_sampled += 1
        return self._head(self._norm(x_B_N))

    def _attend(self, batch: _Batch, index: int, q_B_HR_D: Tensor, k_B_H_D: Tensor, v_B_H_D: Tensor) -> Tensor:
        """Attention of one new token per row to its prompt and to the row's own tokens, itself included."""
        at, layout = batch.num_sampled, batch.layout
        keys, values = batch.suffix_keys[index], batch.suffix_values[index]
        keys[:, :, at] = k_B_H_D
        values[:, :, at] = v_B_H_D
        q_B_H_R_D = q_B_HR_D.unflatten(1, (self._kv_heads, self._repeats)) * self._head_size**-0.5
        to_prompt = layout.to_prompts(q_B_H_R_D) @ batch.prompt_keys[index]
        if batch.padding_U_P is not None:
            to_prompt += batch.padding_U_P[:, None, None]
        to_suffix = q_B_H_R_D @ keys[:, :, : at + 1].transpose(2, 3)
        longest = to_prompt.shape[-1]
        scores = torch.cat([layout.to_rows(to_prompt, self._repeats), to_suffix], dim=-1)
        weights = scores.softmax(-1, dtype=torch.float32).to(q_B_HR_D.dtype)
        from_prompt = layout.to_prompts(weights[..., :longest]) @ batch.prompt_values[index]
        attended = layout.to_rows(from_prompt, self._repeats) + weights[..., longest:] @ values[:, :, : at + 1]
        return attended.flatten(1)

    def _grow(self, batch: _Batch) -> None:
        """Room for more sampled positions: the first ones, or twice as many as now."""
        size = min(batch.max_tokens, max(SUFFIX_START, 2 * batch.num_sampled))
        num_rows = len(batch.lengths_B)
        for kept in (batch.suffix_keys, batch.suffix_values):
            grown = [
                self._embed.weight.new_empty(num_rows, self._kv_heads, size, self._head_size) for _ in self._layers
            ]
            for new, old in zip(grown, kept, strict=False):
                new[:, :, : batch.num_sampled] = old
            kept[:] = grown

    def keep(self, rows: Tensor) -> None:
        """See `Decoder.keep`."""
        batch = self._batch
        assert batch is not None, "keep before prefill"
        prompts, prompt_of_B = batch.layout.prompt_of_B[rows].unique(return_inverse=True)
        if len(prompts) < batch.layout.num_prompts:
            batch.prompt_keys = [keys[prompts] for keys in batch.prompt_keys]
            batch.prompt_values = [values[prompts] for values in batch.prompt_values]
            batch.padding_U_P = None if batch.padding_U_P is None else batch.padding_U_P[prompts]
        batch.layout = _Layout(prompt_of_B, len(prompts))
        batch.lengths_B = batch.lengths_B[rows]
        batch.suffix_keys = [keys[rows] for keys in batch.suffix_keys]
        batch.suffix_values = [values[rows] for values in batch.suffix_values]


def _padding(lengths_U: Tensor, longest: int, dtype: torch.dtype) -> Tensor | None:
    past_U_P = torch.arange(longest, device=lengths_U.device) >= lengths_U[:, None]
    if not bool(past_U_P.any()):
        return None
    return torch.zeros(past_U_P.shape, dtype=dtype, device=lengths_U.device).masked_fill(past_U_P, float("-inf"))


def _rotate(x_D: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding, halves paired (arXiv:2104.09864 in the layout of transformers)."""
    first, second = x_D.chunk(2, dim=-1)
    return x_D * cos + torch.cat([-second, first], dim=-1) * sin


def _mlp(layer: _Layer, x_N: Tensor) -> Tensor:
    gate, up = layer.gate_up(layer.mlp_norm(x_N)).chunk(2, dim=-1)
    return x_N + layer.down(functional.silu(gate) * up)


def _read_layer(layer: nn.Module, *, joined: bool) -> _Layer:
    attention, mlp = layer.self_attn, layer.mlp
    return _Layer(
        attention_norm=layer.input_layernorm,
        qkv=_join([attention.q_proj, attention.k_proj, attention.v_proj], joined=joined),
        query_norm=getattr(attention, "q_norm", None),
        key_norm=getattr(attention, "k_norm", None),
        output=_join([attention.o_proj], joined=joined),
        mlp_norm=layer.post_attention_layernorm,
        gate_up=_join([mlp.gate_proj, mlp.up_proj], joined=joined),
        down=_join([mlp.down_proj], joined=joined),
    )


def _join(modules: Sequence[nn.Module], *, joined: bool) -> Linear:
    """One function for several projections of the same input, outputs side by side."""
    weights = [_effective_weight(module) for module in modules] if joined else []
    known = [weight for weight in weights if weight is not None]
    if joined and len(known) == len(modules):
        weight = torch.cat([weight for weight, _ in known]) if len(known) > 1 else known[0][0]
        biases = [bias for _, bias in known if bias is not None]
        bias = torch.cat(biases) if len(biases) == len(known) else None
        if bias is not None or not biases:
            return lambda x: functional.linear(x, weight, bias)
    if len(modules) == 1:
        return modules[0]
    return lambda x: torch.cat([module(x) for module in modules], dim=-1)


def _effective_weight(module: nn.Module) -> tuple[Tensor, Tensor | None] | None:
    """Weight and bias the module multiplies with now, LoRA merged; None where only the module itself knows.

    Merging rounds, so a half-precision adapter is not merged: the learner computes it apart from the base.
    """
    if type(module) is nn.Linear:
        return module.weight, module.bias
    if not isinstance(module, LoraLayer) or type(module.get_base_layer()) is not nn.Linear:
        return None
    base = module.get_base_layer()
    active = [name for name in module.active_adapters if name in module.lora_A]
    if module.disable_adapters or module.merged or not active:
        return (base.weight, base.bias) if not (module.merged and module.disable_adapters) else None
    variants = getattr(module, "lora_variant", {})
    if base.weight.dtype != torch.float32 or any(name in variants for name in active):
        return None
    delta = sum((module.get_delta_weight(name).to(base.weight.dtype) for name in active), torch.zeros(()))
    return base.weight + delta, base.bias
