"""Attention over a token trie: each token attends to its ancestors and itself.

Three ways to compute the same thing, chosen when an update starts (`learner.py` checks the choice against plain
per-sample computation before the first gradient):

- `blocks` (CPU): the trie's row falls into chains (runs in which each token follows the one before) and, per branching,
  one rectangle in which everything hanging off it attends to the chain above. Flash attention runs on each block and
  the partial softmaxes are merged by their log-sum-exp, so no mask exists and nothing masked is computed.
- `flex` (CUDA): flex attention with a block mask, compiled once with dynamic shapes.
- `dense` (anywhere): scaled dot-product attention with a boolean `T x T` mask; the fallback.

All three enter the model through transformers' attention interface as one function that finds the plan in its keyword
arguments, where gradient checkpointing finds it again when it recomputes a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import cache
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from transformers import AttentionInterface, PreTrainedModel

from trainer.grpo.blocks import BlockAttention, block_plan
from trainer.grpo.trie import PackedSamples

INTERFACE_NAME = "spanloop_trie"
FLEX_BLOCK = 128
"""Rows are padded to a multiple of this: the block size of flex attention's masks."""


class AttentionKind(StrEnum):
    """How attention over a trie is computed; `unpacked` does not build tries at all."""

    BLOCKS = "blocks"
    FLEX = "flex"
    DENSE = "dense"
    UNPACKED = "unpacked"


class TrieAttention(Protocol):
    """Attention of one micro-batch, ready for every layer."""

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Query `[1, heads, T, d]`, key and value `[1, kv heads, T, d]`; the result has the query's shape."""


class DenseAttention:
    """A boolean mask of every pair: simple, and quadratic in the row."""

    def __init__(self, packed: PackedSamples, device: torch.device) -> None:
        ends = packed.subtree_end_T.to(device)
        places = torch.arange(packed.num_tokens, device=device)
        # Key j is an ancestor of query i (or i itself) when i lies in j's subtree, which starts at j.
        self.mask = ((places[:, None] >= places) & (places[:, None] < ends))[None, None]

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """See `TrieAttention`."""
        repeat = query.shape[1] // key.shape[1]
        # Repeated heads, since torch has no fast kernel for grouped heads together with a mask.
        key, value = key.repeat_interleave(repeat, 1), value.repeat_interleave(repeat, 1)
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=self.mask, scale=scale)


class FlexAttention:
    """Flex attention with a block mask; needs CUDA, since its backward does."""

    def __init__(self, packed: PackedSamples, device: torch.device) -> None:
        length = padded_length(packed.num_tokens)
        # A padding token has no descendants and follows everything: it sees itself, so its softmax is finite.
        tail = torch.arange(packed.num_tokens, length) + 1
        ends = torch.cat([packed.subtree_end_T, tail]).to(device)

        def ancestor(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return (query >= key) & (query < ends[key])

        self.mask: BlockMask = create_block_mask(ancestor, None, None, length, length, device=device.type)

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """See `TrieAttention`."""
        grouped = query.shape[1] != key.shape[1]
        return _compiled_flex()(query, key, value, block_mask=self.mask, scale=scale, enable_gqa=grouped)


def padded_length(num_tokens: int) -> int:
    """The length flex attention computes for a row of so many tokens."""
    return -(-num_tokens // FLEX_BLOCK) * FLEX_BLOCK


@cache
def _compiled_flex() -> Callable[..., Tensor]:
    # Without dynamic shapes every new row length would compile for a quarter of a minute.
    return cast("Callable[..., Tensor]", torch.compile(flex_attention, dynamic=True))


def trie_attention(kind: AttentionKind, packed: PackedSamples, device: torch.device) -> TrieAttention:
    """The attention of one micro-batch."""
    match kind:
        case AttentionKind.BLOCKS:
            return BlockAttention(block_plan(packed.nodes, device))
        case AttentionKind.FLEX:
            return FlexAttention(packed, device)
        case AttentionKind.DENSE:
            return DenseAttention(packed, device)
        case AttentionKind.UNPACKED:
            raise ValueError("attention: unpacked samples have no trie; compute them row by row")


@contextmanager
def attention_interface(model: PreTrainedModel) -> Iterator[None]:
    """Within the block the model's layers call the trie attention passed as `trie_attention=`.

    The model's own choice comes back afterwards, because a sampler uses the same module.
    """
    own = model.config._attn_implementation
    model.config._attn_implementation = INTERFACE_NAME
    try:
        yield
    finally:
        model.config._attn_implementation = own


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    trie_attention: TrieAttention | None = None,
    **_options: object,
) -> tuple[Tensor, None]:
    """The function registered with transformers: the result has heads after tokens."""
    if trie_attention is None or attention_mask is not None:
        raise TypeError(f"attention: {type(module).__name__} hands on no trie plan, or builds a mask of its own")
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    return trie_attention(query, key, value, scale).transpose(1, 2).contiguous(), None


AttentionInterface.register(INTERFACE_NAME, _attend)
