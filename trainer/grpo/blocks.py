"""Block-wise attention over a trie, without a mask: chains, rectangles, and softmaxes merged by log-sum-exp.

A trie's row falls into chains (runs in which each token follows the one before: a causal triangle each) and, per
branching, one rectangle in which everything that hangs off it attends to the chain above. Together they cover each pair
of a token and an ancestor (or itself) once. Flash attention runs on each block; since the backward of flash attention
takes the log-sum-exp of the whole softmax, feeding it the merged one gives each block's exact share of the gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Protocol, cast

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from trainer.grpo.trie import Node

LONG_CHAIN = 512
"""Chains of at least so many tokens run alone; shorter ones are batched with others of about their length."""
PADDING_SHARE = 0.15
"""A batch of short chains may waste this share of its rows on padding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rectangle:
    """Queries of a row range that all attend to every key of another, earlier range."""

    query_start: int
    query_end: int
    key_start: int
    key_end: int


def chains_of(nodes: Sequence[Node]) -> list[tuple[int, int]]:
    """Row ranges in which each token attends to itself and all before it in the range."""
    starts = [node.start for node in nodes if not _continues(nodes, node)]
    return list(pairwise([*starts, nodes[-1].end]))


def _continues(nodes: Sequence[Node], node: Node) -> bool:
    return node.parent >= 0 and nodes[node.parent].end == node.start


def rectangles_of(nodes: Sequence[Node]) -> list[Rectangle]:
    """For each branching: what hangs off it beside the chain, against the chain down to it."""
    chain_starts: list[int] = []
    for node in nodes:
        chain_starts.append(chain_starts[node.parent] if _continues(nodes, node) else node.start)
    first_children = {node.parent: node for node in reversed(nodes)}
    rectangles = []
    for index, node in enumerate(nodes):
        beside = first_children[index].subtree_end if index in first_children else node.subtree_end
        if beside < node.subtree_end:
            rectangles.append(
                Rectangle(
                    query_start=beside, query_end=node.subtree_end, key_start=chain_starts[index], key_end=node.end
                )
            )
    return rectangles


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainBatch:
    """Chains of about equal length, gathered into `[num chains, length]` rows; padding repeats the last token."""

    index: Tensor
    """Row index of each place, flat."""
    target: Tensor
    """Row index of each place that is no padding."""
    num_chains: int
    valid: Tensor
    """Flat places that are no padding."""
    padding: Tensor
    """`[num chains, 1, length, 1]`: whether a place is padding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockPlan:
    """The blocks of one trie: together they cover each pair of a token and an ancestor (or itself) once."""

    long_chains: tuple[tuple[int, int], ...]
    chain_batches: tuple[ChainBatch, ...]
    rectangles: tuple[Rectangle, ...]


def block_plan(nodes: Sequence[Node], device: torch.device) -> BlockPlan:
    """Chains, batched by length where short, and rectangles."""
    chains = chains_of(nodes)
    short = sorted((chain for chain in chains if chain[1] - chain[0] < LONG_CHAIN), key=lambda c: c[0] - c[1])
    batches: list[list[tuple[int, int]]] = []
    for chain in short:
        longest = batches[-1][0][1] - batches[-1][0][0] if batches else 0
        if not batches or chain[1] - chain[0] < (1 - PADDING_SHARE) * longest:
            batches.append([])
        batches[-1].append(chain)
    return BlockPlan(
        long_chains=tuple(chain for chain in chains if chain[1] - chain[0] >= LONG_CHAIN),
        chain_batches=tuple(_chain_batch(batch, device) for batch in batches),
        rectangles=tuple(rectangles_of(nodes)),
    )


def _chain_batch(chains: Sequence[tuple[int, int]], device: torch.device) -> ChainBatch:
    length = chains[0][1] - chains[0][0]
    places = torch.arange(length, device=device)
    rows = torch.tensor([start for start, _ in chains], device=device)[:, None] + places
    last = torch.tensor([end - 1 for _, end in chains], device=device)[:, None]
    inside = rows <= last
    return ChainBatch(
        index=torch.minimum(rows, last).flatten(),
        target=rows[inside],
        num_chains=len(chains),
        valid=inside.flatten().nonzero().squeeze(1),
        padding=~inside[:, None, :, None],
    )


class BlockKernel(Protocol):
    """Softmax attention on one block, with what is needed to merge blocks and to differentiate the whole."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, *, causal: bool, scale: float) -> tuple[Tensor, Tensor]:
        """Output `[B, heads, Q, d]` and log-sum-exp `[B, heads, Q]`."""

    def backward(
        self, grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, *, causal: bool, scale: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of q, k and v; `out` and `lse` are of the whole softmax, not of this block."""


class FlashCpuKernel:
    """Flash attention of torch for CPU, called with its log-sum-exp: three times the plain kernel's speed or more."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, *, causal: bool, scale: float) -> tuple[Tensor, Tensor]:
        """See `BlockKernel`."""
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, causal, scale=scale)
        return out, lse

    def backward(
        self, grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, *, causal: bool, scale: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See `BlockKernel`."""
        grads = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
            grad, q, k, v, out, lse, 0.0, causal, scale=scale
        )
        return cast("tuple[Tensor, Tensor, Tensor]", grads)


class PlainKernel:
    """The same by matrix products alone, for any device, type and release of torch; queries in slices of `ROWS`."""

    ROWS = 512

    def forward(self, q: Tensor, k: Tensor, v: Tensor, *, causal: bool, scale: float) -> tuple[Tensor, Tensor]:
        """See `BlockKernel`."""
        outs, lses = [], []
        for start in range(0, q.shape[2], self.ROWS):
            scores = self._scores(q[:, :, start : start + self.ROWS], k, start, causal=causal, scale=scale)
            lse = scores.logsumexp(-1)
            outs.append(torch.matmul((scores - lse.unsqueeze(-1)).exp().to(v.dtype), v))
            lses.append(lse)
        return torch.cat(outs, 2), torch.cat(lses, 2)

    def backward(
        self, grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, *, causal: bool, scale: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See `BlockKernel`."""
        grad_q, grad_k, grad_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for start in range(0, q.shape[2], self.ROWS):
            rows = slice(start, start + self.ROWS)
            scores = self._scores(q[:, :, rows], k, start, causal=causal, scale=scale)
            weights = (scores - lse[:, :, rows].unsqueeze(-1)).exp()
            inner = (grad[:, :, rows] * out[:, :, rows]).sum(-1, keepdim=True)
            scaled = weights * (torch.matmul(grad[:, :, rows], v.mT) - inner) * scale
            scaled = scaled.to(q.dtype)
            grad_q[:, :, rows] = torch.matmul(scaled, k)
            grad_k += torch.matmul(scaled.mT, q[:, :, rows])
            grad_v += torch.matmul(weights.mT.to(v.dtype), grad[:, :, rows])
        return grad_q, grad_k, grad_v

    @staticmethod
    def _scores(q: Tensor, k: Tensor, start: int, *, causal: bool, scale: float) -> Tensor:
        scores = torch.matmul(q, k.mT) * scale
        scores = scores if scores.dtype is torch.float64 else scores.float()
        if not causal:
            return scores
        later = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).triu(start + 1)
        return scores.masked_fill(later, float("-inf"))


@cache
def choose_kernel(device_type: str, dtype: torch.dtype) -> BlockKernel:
    """The flash kernel where this build of torch has it and it agrees with the plain one, else the plain one.

    The operator has no public name; a release that renames or changes it costs speed, never the result.
    """
    if device_type != "cpu" or not hasattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu"):
        return PlainKernel()
    try:
        return FlashCpuKernel() if _agrees(FlashCpuKernel(), dtype) else PlainKernel()
    except (RuntimeError, TypeError, NotImplementedError):
        return PlainKernel()


def _agrees(kernel: BlockKernel, dtype: torch.dtype) -> bool:
    """Whether a kernel gives the plain kernel's outputs and gradients when two blocks share one softmax."""
    generator = torch.Generator().manual_seed(0)
    q, k, v, grad = (torch.randn(1, 2, 24, 8, generator=generator).to(dtype) for _ in range(4))
    results = []
    for candidate in (kernel, PlainKernel()):
        out, lse = candidate.forward(q, k, v, causal=True, scale=0.3)
        shifted = (lse + 0.5)[:, :, 4:20]
        grads = candidate.backward(
            grad[:, :, 4:20], q[:, :, 4:20], k, v, out[:, :, 4:20], shifted, causal=False, scale=0.3
        )
        results.append((out, lse, *grads))
    tolerance = 0.05 if dtype in (torch.bfloat16, torch.float16) else 1e-4
    pairs = zip(*results, strict=True)
    return all(torch.allclose(a.float(), b.float(), rtol=tolerance, atol=tolerance) for a, b in pairs)


class _TrieBlocks(torch.autograd.Function):
    """Attention of a whole row; saves queries, keys, values, outputs and one log-sum-exp per token and head."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, q: Tensor, k: Tensor, v: Tensor, plan: BlockPlan, kernel: BlockKernel, scale: float
    ) -> Tensor:
        repeat = q.shape[1] // k.shape[1]
        blocks = _Blocks(q, k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1), kernel, scale)
        out, lse = blocks.forward(plan)
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.plan, ctx.kernel, ctx.scale = plan, kernel, scale  # type: ignore[attr-defined]  # the documented place
        return out

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, lse = cast("tuple[Tensor, ...]", ctx.saved_tensors)  # type: ignore[attr-defined]  # set by torch
        plan, kernel, scale = ctx.plan, ctx.kernel, ctx.scale  # type: ignore[attr-defined]  # set in forward
        repeat = q.shape[1] // k.shape[1]
        blocks = _Blocks(q, k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1), kernel, scale)
        grad_q, grad_k, grad_v = blocks.backward(plan, grads[0], out, lse)
        shape = (1, k.shape[1], repeat, *k.shape[2:])
        return grad_q, grad_k.view(shape).sum(2), grad_v.view(shape).sum(2), None, None, None


class _Blocks:
    """One row's queries, keys and values (heads repeated), and the walk over its blocks."""

    def __init__(self, q: Tensor, k: Tensor, v: Tensor, kernel: BlockKernel, scale: float) -> None:
        self.q, self.k, self.v, self.kernel, self.scale = q, k, v, kernel, scale

    def forward(self, plan: BlockPlan) -> tuple[Tensor, Tensor]:
        """Output and log-sum-exp of the row: chains first, then each rectangle is merged in."""
        exact = torch.float64 if self.q.dtype is torch.float64 else torch.float32
        out = torch.empty(self.q.shape, dtype=exact, device=self.q.device)
        lse = torch.empty(self.q.shape[:3], dtype=exact, device=self.q.device)
        for start, end in plan.long_chains:
            rows = slice(start, end)
            out[:, :, rows], lse[:, :, rows] = self._run(self._rows(rows), causal=True)
        for batch in plan.chain_batches:
            values, sums = self._run([_gather(t, batch) for t in (self.q, self.k, self.v)], causal=True)
            out[:, :, batch.target] = _scatter(values, batch)
            lse[:, :, batch.target] = _scatter(sums.unsqueeze(-1), batch).squeeze(-1)
        for block in plan.rectangles:
            rows, keys = slice(block.query_start, block.query_end), slice(block.key_start, block.key_end)
            values, sums = self._run([self.q[:, :, rows], self.k[:, :, keys], self.v[:, :, keys]], causal=False)
            _merge(out[:, :, rows], lse[:, :, rows], values, sums)
        return out.to(self.q.dtype), lse

    def backward(self, plan: BlockPlan, grad: Tensor, out: Tensor, lse: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of the row; each block adds its share."""
        grads = tuple(torch.zeros(t.shape, dtype=t.dtype, device=t.device) for t in (self.q, self.k, self.v))
        for start, end in plan.long_chains:
            rows = slice(start, end)
            shares = self._back(grad, out, lse, rows, rows, causal=True)
            for total, share in zip(grads, shares, strict=True):
                total[:, :, rows] += share
        for batch in plan.chain_batches:
            for total, share in zip(grads, self._back_batch(batch, grad, out, lse), strict=True):
                total[:, :, batch.target] += _scatter(share, batch)
        for block in plan.rectangles:
            rows, keys = slice(block.query_start, block.query_end), slice(block.key_start, block.key_end)
            shares = self._back(grad, out, lse, rows, keys, causal=False)
            for total, share, where in zip(grads, shares, (rows, keys, keys), strict=True):
                total[:, :, where] += share
        return cast("tuple[Tensor, Tensor, Tensor]", grads)

    def _rows(self, rows: slice) -> list[Tensor]:
        return [t[:, :, rows] for t in (self.q, self.k, self.v)]

    def _run(self, qkv: Sequence[Tensor], *, causal: bool) -> tuple[Tensor, Tensor]:
        q, k, v = qkv
        return self.kernel.forward(q, k, v, causal=causal, scale=self.scale)

    def _back(
        self, grad: Tensor, out: Tensor, lse: Tensor, rows: slice, keys: slice, *, causal: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        return self.kernel.backward(
            grad[:, :, rows],
            self.q[:, :, rows],
            self.k[:, :, keys],
            self.v[:, :, keys],
            out[:, :, rows],
            lse[:, :, rows],
            causal=causal,
            scale=self.scale,
        )

    def _back_batch(self, batch: ChainBatch, grad: Tensor, out: Tensor, lse: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v, own, chosen = (_gather(t, batch) for t in (self.q, self.k, self.v, out, grad))
        # Padding repeats a real token, whose gradient must not be counted again.
        chosen = chosen.masked_fill(batch.padding, 0)
        sums = _gather(lse.unsqueeze(-1), batch).squeeze(-1)
        return self.kernel.backward(chosen, q, k, v, own, sums, causal=True, scale=self.scale)


def _gather(tensor: Tensor, batch: ChainBatch) -> Tensor:
    """`[1, heads, T, d]` to `[num chains, heads, length, d]`."""
    rows = tensor[0].index_select(1, batch.index)
    return rows.view(rows.shape[0], batch.num_chains, -1, rows.shape[2]).transpose(0, 1).contiguous()


def _scatter(values: Tensor, batch: ChainBatch) -> Tensor:
    """`[num chains, heads, length, d]` to `[1, heads, number of real tokens, d]`."""
    flat = values.transpose(0, 1).flatten(1, 2)
    return flat.index_select(1, batch.valid).unsqueeze(0)


def _merge(out: Tensor, lse: Tensor, values: Tensor, sums: Tensor) -> None:
    """Add a block to softmaxes already computed over other keys, in place."""
    total = torch.logaddexp(lse, sums)
    out.mul_((lse - total).exp_().unsqueeze(-1)).add_(values * (sums - total).exp_().unsqueeze(-1))
    lse.copy_(total)


class BlockAttention:
    """Attention of one micro-batch by blocks; callable once per layer."""

    def __init__(self, plan: BlockPlan, kernel: BlockKernel | None = None) -> None:
        """`kernel` is for comparisons; by default it is chosen for the tensors that come."""
        self.plan = plan
        self.kernel = kernel

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """See `attention.TrieAttention`."""
        kernel = self.kernel or choose_kernel(query.device.type, query.dtype)
        out = _TrieBlocks.apply(  # type: ignore[no-untyped-call]  # torch leaves it bare
            query, key, value, self.plan, kernel, scale
        )
        return cast("Tensor", out)
