"""A run file's settings in the terms of ART's own backends, which take fewer than the engine of this project.

A setting that a backend does not take may keep its default and is refused otherwise: nothing that was asked for is
left out in silence.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping

from trainer.config import RunConfig, Scalar, TrainConfig
from trainer.errors import RunError
from trainer.explain import nearest

Options = dict[str, Scalar]

LOSSES = {"cispo": "cispo", "grpo": "ppo"}
"""Our loss types that ART computes, and ART's names: `ppo` is the clipped term, averaged over answers."""
NOT_TAKEN = (
    "delta",
    "beta",
    "optim",
    "adam_beta1",
    "adam_beta2",
    "momentum",
    "weight_decay",
    "max_grad_norm",
    "num_iterations",
    "num_minibatches",
    "lr_scheduler_type",
    "warmup_steps",
    "kl_budget",
    "micro_batch_tokens",
    "micro_batch_enough",
    "gradient_checkpointing",
    "temperature",
    "top_p",
)
"""Of `[train]`; temperature and top-p because ART's update computes log-probabilities at temperature 1."""


def art_train_options(config: RunConfig, train: Callable[..., object]) -> Options:
    """The options of a call of `train`, a method of one of ART's backends.

    Raises:
        RunError: a setting means nothing to the backend; it names all of them, and what would be valid.

    """
    taken = [name for name, value in inspect.signature(train).parameters.items() if value.kind is value.KEYWORD_ONLY]
    _refuse_not_taken(config.train)
    _refuse_unknown(config.art.options, taken)
    return {**_shared(config.train), **_loss(config.train, taken), **config.art.options}


def _refuse_not_taken(train: TrainConfig) -> None:
    defaults = TrainConfig()
    changed = [name for name in NOT_TAKEN if getattr(train, name) != getattr(defaults, name)]
    if changed:
        raise RunError(
            f'train.backend = "{train.backend}": takes no train.{", train.".join(changed)}; leave '
            f"{'it' if len(changed) == 1 else 'them'} out (ART's own options go into [art.options]), or use torch"
        )
    if train.scale_rewards == "batch":
        raise RunError(
            f'train.backend = "{train.backend}": train.scale_rewards "batch" is not ART\'s; use group or none'
        )
    if train.loss_type not in LOSSES:
        raise RunError(
            f'train.backend = "{train.backend}": train.loss_type "{train.loss_type}" is not ART\'s; use cispo (ART\'s '
            "default) or grpo (ART's ppo), or use torch"
        )


def _refuse_unknown(options: Mapping[str, Scalar], taken: list[str]) -> None:
    for name in options:
        if name not in taken:
            near = nearest(name, tuple(taken))
            hint = f"did you mean {near}?" if near else f"it has {', '.join(taken)}"
            raise RunError(f"art.options.{name}: the backend's train has no such option; {hint}")


def _shared(train: TrainConfig) -> Options:
    return {
        "learning_rate": train.learning_rate,
        "scale_rewards": train.scale_rewards == "group",
        "importance_sampling_level": train.importance_sampling_level,
    }


def _loss(train: TrainConfig, taken: list[str]) -> Options:
    """The loss by the name the backend has for it, with its clipping."""
    ppo = LOSSES[train.loss_type] == "ppo"
    named: Options = {"loss_fn": LOSSES[train.loss_type]} if "loss_fn" in taken else {"ppo": ppo}
    if ppo:
        return {**named, "epsilon": train.epsilon, "epsilon_high": train.epsilon_high or train.epsilon}
    # Ours caps the ratio itself; ART's clips it to [1 - epsilon, 1 + epsilon_high]. Without a cap ART's own stands.
    return named if train.epsilon_high is None else {**named, "epsilon": 1.0, "epsilon_high": train.epsilon_high - 1}
