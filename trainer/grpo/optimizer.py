"""Optimizers and learning-rate schedules by name.

The schedule is a function of the step number alone, so resuming needs nothing but the step.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import nn

from trainer.errors import TrainerError


class OptimizerError(TrainerError):
    """An optimizer that cannot be built here."""


class OptimizerName(StrEnum):
    """What turns gradients into steps."""

    ADAMW = "adamw"
    SGD = "sgd"
    """With momentum. Unlike Adam it makes no full step out of a gradient that is nothing but noise."""
    ADAMW_8BIT = "adamw_8bit"
    """AdamW with 8-bit moments; needs bitsandbytes and CUDA."""


class Schedule(StrEnum):
    """The learning rate over steps, after the warm-up."""

    CONSTANT = "constant"
    LINEAR = "linear"
    COSINE = "cosine"


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerSettings:
    """An optimizer and its rate."""

    optimizer: OptimizerName = OptimizerName.ADAMW
    learning_rate: float = 1e-5
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    momentum: float = 0.9
    """Of `sgd`."""
    schedule: Schedule = Schedule.CONSTANT
    warmup_steps: int = 0
    total_steps: int | None = None
    """Where `linear` and `cosine` reach zero."""

    def __post_init__(self) -> None:
        """Refuse rates below zero and a decay without an end."""
        if self.learning_rate < 0 or self.warmup_steps < 0:
            raise ValueError(
                f"optimizer: learning_rate {self.learning_rate}, warmup_steps {self.warmup_steps}; below 0"
            )
        if self.schedule is not Schedule.CONSTANT and not self.total_steps:
            raise ValueError(f"optimizer: schedule {self.schedule} needs total_steps, the step where it reaches zero")


def learning_rate(settings: OptimizerSettings, step: int) -> float:
    """The rate of optimizer step `step`, counted from 0."""
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    if settings.schedule is Schedule.CONSTANT or settings.total_steps is None:
        return settings.learning_rate
    span = max(1, settings.total_steps - settings.warmup_steps)
    progress = min(1.0, (step - settings.warmup_steps) / span)
    if settings.schedule is Schedule.LINEAR:
        return settings.learning_rate * (1 - progress)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def build_optimizer(parameters: Iterable[nn.Parameter], settings: OptimizerSettings) -> torch.optim.Optimizer:
    """The optimizer over the trained parameters.

    Raises:
        OptimizerError: `adamw_8bit` without bitsandbytes or without CUDA.

    """
    chosen = list(parameters)
    betas = (settings.beta1, settings.beta2)
    match settings.optimizer:
        case OptimizerName.SGD:
            return torch.optim.SGD(
                chosen, lr=settings.learning_rate, momentum=settings.momentum, weight_decay=settings.weight_decay
            )
        case OptimizerName.ADAMW:
            return torch.optim.AdamW(
                chosen,
                lr=settings.learning_rate,
                betas=betas,
                eps=settings.epsilon,
                weight_decay=settings.weight_decay,
                fused=True,
            )
        case OptimizerName.ADAMW_8BIT:
            return _adamw_8bit(chosen, settings, betas)


def _adamw_8bit(
    parameters: list[nn.Parameter], settings: OptimizerSettings, betas: tuple[float, float]
) -> torch.optim.Optimizer:
    if not all(parameter.is_cuda for parameter in parameters):
        raise OptimizerError("optimizer adamw_8bit: the parameters are not on CUDA; use adamw")
    try:
        bitsandbytes = importlib.import_module("bitsandbytes")
    except ImportError as error:
        raise OptimizerError("optimizer adamw_8bit: needs the package bitsandbytes; install it or use adamw") from error
    built: torch.optim.Optimizer = bitsandbytes.optim.AdamW8bit(
        parameters, lr=settings.learning_rate, betas=betas, eps=settings.epsilon, weight_decay=settings.weight_decay
    )
    return built
