"""The weights of a Qwen3-shaped model, ready for decoding: projections joined, LoRA merged, norms in one operation.

Reads the module as it is now, adapter included; a reading is good until the weights change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

SHAPES = frozenset({"Qwen3ForCausalLM", "Qwen2ForCausalLM", "LlamaForCausalLM", "MistralForCausalLM"})
STATIC_ROPE = frozenset({"default", "linear", "yarn", "llama3"})
"""Rotary embeddings whose frequencies do not depend on the length of the sequence."""
JOINED_BYTES_MAX = 2**30
"""Models up to this size are copied into joined, LoRA-merged matrices; the parts of larger ones are called in place."""

Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer's parts. `qkv` and `gate_up` put the outputs of their projections side by side."""

    attention_norm: Function
    qkv: Function
    head_norm: Function
    """Of queries and keys [..., heads, D], side by side; the identity where a model has none."""
    output: Function
    mlp_norm: Function
    gate_up: Function
    down: Function


def fits(model: PreTrainedModel) -> bool:
    """Whether the layers are those this reading knows: nothing but RMSNorm, rotary full attention and SwiGLU."""
    config = model.config
    layer_types = getattr(config, "layer_types", None) or ()
    rope = getattr(config, "rope_parameters", None) or {}
    return (
        type(model).__name__ in SHAPES
        and config.hidden_act == "silu"
        and all(kind == "full_attention" for kind in layer_types)
        and (bool(layer_types) or getattr(config, "sliding_window", None) is None)
        and rope.get("rope_type", "default") in STATIC_ROPE
    )


def read_layers(model: PreTrainedModel) -> list[Layer]:
    """The layers, first to last."""
    joined = _small(model)
    layers = model.get_submodule("model.layers").children()
    counts = (int(model.config.num_attention_heads), int(model.config.num_key_value_heads))
    return [_read_layer(layer, counts, joined=joined) for layer in layers]


def read_head(model: PreTrainedModel) -> Function:
    """Final hidden states to logits."""
    norm = _norm(model.get_submodule("model.norm"))
    head = _join([model.get_submodule("lm_head")], joined=_small(model))
    return lambda x_N: head(norm(x_N))


def _small(model: PreTrainedModel) -> bool:
    return sum(parameter.numel() * parameter.element_size() for parameter in model.parameters()) <= JOINED_BYTES_MAX


def _read_layer(layer: nn.Module, counts: tuple[int, int], *, joined: bool) -> Layer:
    def join(prefix: str, *names: str) -> Function:
        return _join([layer.get_submodule(f"{prefix}.{name}") for name in names], joined=joined)

    head_norm: Function = _identity
    if hasattr(layer.self_attn, "q_norm"):
        norms = [layer.get_submodule(f"self_attn.{name}") for name in ("q_norm", "k_norm")]
        head_norm = _head_norm(norms[0], norms[1], *counts)
    return Layer(
        attention_norm=_norm(layer.get_submodule("input_layernorm")),
        qkv=join("self_attn", "q_proj", "k_proj", "v_proj"),
        head_norm=head_norm,
        output=join("self_attn", "o_proj"),
        mlp_norm=_norm(layer.get_submodule("post_attention_layernorm")),
        gate_up=join("mlp", "gate_proj", "up_proj"),
        down=join("mlp", "down_proj"),
    )


def _norm(module: nn.Module) -> Function:
    """The norm as one operation in float32; in half precision the module, whose order of rounding the learner has."""
    weight, epsilon = getattr(module, "weight", None), getattr(module, "variance_epsilon", None)
    if not isinstance(weight, Tensor) or weight.dtype != torch.float32 or not isinstance(epsilon, float):
        return module
    return lambda x: functional.rms_norm(x, weight.shape, weight, epsilon)


def _head_norm(query: nn.Module, key: nn.Module, num_queries: int, num_keys: int) -> Function:
    """The norms of queries and keys as one, each head with its own weights."""
    weights = [getattr(norm, "weight", None) for norm in (query, key)]
    plain = [weight for weight in weights if isinstance(weight, Tensor) and weight.dtype == torch.float32]
    epsilon = getattr(query, "variance_epsilon", None)
    if len(plain) < len(weights) or not isinstance(epsilon, float) or epsilon != getattr(key, "variance_epsilon", None):
        return lambda x: torch.cat([query(x[..., :num_queries, :]), key(x[..., num_queries:, :])], dim=-2)
    joined = torch.cat([plain[0].expand(num_queries, -1), plain[1].expand(num_keys, -1)])
    return lambda x: functional.rms_norm(x, x.shape[-1:], None, epsilon) * joined


def _identity(x: Tensor) -> Tensor:
    return x


def _join(modules: Sequence[nn.Module], *, joined: bool) -> Function:
    """One function for several projections of the same input."""
    parts = [part for module in modules if (part := _effective_weight(module)) is not None] if joined else []
    biases = [bias for _, bias in parts if bias is not None]
    if len(parts) == len(modules) and len(biases) in {0, len(parts)}:
        weight = torch.cat([part for part, _ in parts]) if len(parts) > 1 else parts[0][0]
        bias = torch.cat(biases) if biases else None
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
    if type(module) is not LoraLinear:
        return None
    base: nn.Module = module.get_base_layer()
    if type(base) is not nn.Linear or base.weight.dtype != torch.float32:
        return None
    if module.merged or getattr(module, "lora_variant", None):
        return None
    active = [] if module.disable_adapters else [name for name in module.active_adapters if name in module.lora_A]
    delta = sum((module.get_delta_weight(name) for name in active), torch.zeros_like(base.weight))
    return base.weight + delta, base.bias
