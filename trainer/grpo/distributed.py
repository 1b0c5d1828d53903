"""Several processes under `torchrun`: FSDP2 shards the weights, micro-batches are divided, the gradient stays the same.

Every process holds all samples, so each knows the normaliser of the whole batch; FSDP sums their gradients. Processes
must run equally many forwards, or their collectives would not meet: where micro-batches do not divide, the first one
is repeated with weight zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers.modeling_layers import GradientCheckpointingLayer

from trainer.grpo.learner import AttentionChoice, Learner
from trainer.grpo.trie import MicroBatch

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The processes that train together."""

    rank: int = 0
    size: int = 1

    @classmethod
    def current(cls) -> World:
        """The initialised process group, or this process alone."""
        if not (dist.is_available() and dist.is_initialized()):
            return cls()
        return cls(rank=dist.get_rank(), size=dist.get_world_size())

    def shard(self, learner: Learner) -> Learner:
        """The learner with its parameters sharded over all processes; unchanged in a single process."""
        if self.size == 1:
            return learner
        for layer in learner.modules():
            if isinstance(layer, GradientCheckpointingLayer):
                fully_shard(layer)
        fully_shard(learner)
        return learner

    def assign(self, batches: Sequence[MicroBatch]) -> list[tuple[MicroBatch, bool]]:
        """The micro-batches of this process, largest first, and whether each counts; equally many in every process."""
        if self.size == 1:
            return [(batch, True) for batch in batches]
        ordered = sorted(batches, key=lambda batch: -batch.num_tokens)
        mine = ordered[self.rank :: self.size]
        rounds = -(-len(ordered) // self.size)
        return [(batch, True) for batch in mine] + [(ordered[-1], False)] * (rounds - len(mine))

    def sum(self, value: float) -> float:
        """Over all processes."""
        return float(sum(self.gather([value])))

    def gather(self, values: Iterable[T]) -> list[T]:
        """The values of all processes, in rank order."""
        mine = list(values)
        if self.size == 1:
            return mine
        parts: list[list[T] | None] = [None] * self.size
        dist.all_gather_object(parts, mine)
        return [value for part in parts for value in cast("list[T]", part)]

    def union(self, values: dict[int, Tensor], device: torch.device) -> dict[int, Tensor]:
        """The entries of all processes, on this one's device."""
        if self.size == 1:
            return values
        gathered = self.gather((index, value.cpu()) for index, value in values.items())
        return {index: value.to(device) for index, value in gathered}

    def slowest(self, choice: AttentionChoice) -> AttentionChoice:
        """The choice all processes can follow: the one that rejected most."""
        return max(self.gather([choice]), key=lambda each: len(each.rejected))

    def clip(self, parameters: Sequence[nn.Parameter], limit: float) -> float:
        """Scale gradients down to a norm of `limit`; the norm before, over all processes."""
        norm = nn.utils.clip_grad_norm_(parameters, limit)
        whole = norm.full_tensor() if isinstance(norm, DTensor) else norm
        return float(whole.item())


def place_like(value: Tensor, parameter: Tensor) -> Tensor:
    """A whole tensor of optimizer state where and how the optimizer keeps it beside its parameter.

    Step counters are scalars and stay in host memory.
    """
    if not isinstance(value, Tensor) or value.dim() == 0 or isinstance(value, DTensor):
        return value
    if isinstance(parameter, DTensor):
        return distribute_tensor(value.to(parameter.device), parameter.device_mesh, parameter.placements)
    return value.to(parameter.device)
