"""A process of the two-process test: gradients and two updates under FSDP2 on gloo; the first process saves them."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch.distributed.tensor import DTensor

from tests.unit.trainer.grpo.factories import tiny_policy
from trainer.checkpoint import Progress, save_checkpoint
from trainer.grpo.learner import ComputeSettings
from trainer.grpo.optimizer import OptimizerSettings
from trainer.grpo.samples import Sample, Segment
from trainer.grpo.update import Updater, UpdateSettings

SETTINGS = UpdateSettings(
    optimizer=OptimizerSettings(learning_rate=1e-2), compute=ComputeSettings(micro_batch_tokens=12), num_minibatches=2
)
"""Micro-batches so small that they do not divide evenly over two processes."""


def samples() -> list[Sample]:
    """Answers of different lengths to three prompts that share starts."""
    prompts = [(5, 6, 7), (5, 6, 7, 8, 9), (30, 31)]
    made = []
    for index in range(7):
        answer = tuple(40 + index + place for place in range(1 + index % 4))
        segment = Segment(prompt_ids=prompts[index % 3], token_ids=answer)
        made.append(Sample(segments=(segment,), advantage=(-1.0) ** index * (1 + index / 4)))
    return made


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """All shards of it."""
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().clone()


def measure(folder: Path) -> dict[str, torch.Tensor]:
    """Gradients, then weights after two updates, by name; a checkpoint is written between them."""
    policy = tiny_policy(dtype=torch.float64)
    updater = Updater(policy, SETTINGS.optimizer)
    updater.accumulate(samples(), SETTINGS)
    found = {f"gradient {name}": whole(p.grad) for name, p in policy.trainable_parameters().items()}
    updater.optimizer.zero_grad(set_to_none=True)
    updater.update(samples(), SETTINGS)
    save_checkpoint(folder, policy, updater, Progress(step=1, optimizer_step=updater.optimizer_step))
    updater.update(samples(), SETTINGS)
    found |= {f"weight {name}": whole(p) for name, p in policy.trainable_parameters().items()}
    return found


def main() -> None:
    """Measure in this process's group; the first process writes."""
    folder = Path(sys.argv[1])
    dist.init_process_group("gloo")
    found = measure(folder / "checkpoints")
    if dist.get_rank() == 0:
        save_file(found, folder / "found.safetensors")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
