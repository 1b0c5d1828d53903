"""The options of `backend.train`: ART's names, and TRL's, to the engine's settings.

Without `loss_type` a call means what it means to ART (`loss_fn`, its clipping, its advantages, its optimizer defaults).
With `loss_type` it means what it means to TRL's `GRPOConfig`. Options of the two may not be mixed.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal, TypedDict

from trainer.errors import TrainerError
from trainer.grpo.advantages import AdvantageConvention
from trainer.grpo.attention import AttentionKind
from trainer.grpo.learner import ComputeSettings
from trainer.grpo.objective import ArtSettings, Correction, LossSettings, LossType, RatioLevel, RecordedLoss
from trainer.grpo.optimizer import OptimizerName, OptimizerSettings, Schedule
from trainer.grpo.update import StopLimits, UpdateSettings


class OptionError(TrainerError):
    """An option of `backend.train` that is unknown or means nothing here."""


class SharedOptions(TypedDict, total=False):
    """Options both ways of calling have."""

    learning_rate: float
    optim: Literal["adamw", "sgd", "adamw_8bit"]
    adam_beta1: float
    adam_beta2: float
    adam_epsilon: float
    momentum: float
    weight_decay: float
    max_grad_norm: float
    lr_scheduler_type: Literal["constant", "linear", "cosine"]
    warmup_steps: int
    max_optimizer_steps: int | None
    """Where a falling learning rate reaches zero."""
    num_iterations: int
    num_minibatches: int
    seed: int
    attention: Literal["blocks", "flex", "dense", "unpacked"] | None
    micro_batch_tokens: int
    micro_batch_enough: int | None
    gradient_checkpointing: bool
    activation_offload: bool
    kl_budget: float | None
    mismatch_limit: float | None
    advantage: Literal["trl", "art", "verl", "dr", "batch", "none"]
    recorded_loss: Literal["luffy", "topr"]
    luffy_gamma: float
    allow_training_without_logprobs: bool
    save_checkpoint: bool
    verbose: bool


class TrlOptions(TypedDict, total=False):
    """Options with `loss_type`, as in TRL's `GRPOConfig`."""

    loss_type: Literal["grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sft"]
    epsilon: float
    epsilon_high: float | None
    delta: float | None
    beta: float
    use_bias_correction_kl: bool
    importance_sampling_level: Literal["token", "sequence"]
    scale_rewards: Literal["group", "batch", "none"]
    max_completion_length: int
    vllm_importance_sampling_mode: Literal["none", "token_truncate", "token_mask", "sequence_truncate", "sequence_mask"]
    vllm_importance_sampling_clip_max: float | None
    vllm_importance_sampling_clip_min: float | None
    keep_zero_variance: bool


class ArtOptions(TypedDict, total=False):
    """Options without `loss_type`, as in ART's `LocalBackend.train`."""

    loss_fn: Literal["cispo", "ppo"]
    loss_fn_config: None
    normalize_advantages: bool
    adam_params: None
    kl_penalty_coef: float
    kl_penalty_reference_step: None
    kl_ref_adapter_path: None
    epsilon: float | None
    epsilon_high: float | None
    advantage_balance: float
    scale_rewards: bool
    importance_sampling_level: Literal["token", "sequence", "average", "geometric_average"]
    max_negative_advantage_importance_sampling_weight: float | None
    mask_prob_ratio: bool
    kimi_k2_tau: float | None
    precalculate_logprobs: bool
    plot_tensors: bool
    truncated_importance_sampling: float | None
    scale_learning_rate_by_reward_std_dev: bool
    logprob_calculation_chunk_size: int
    packed_sequence_length: int | None
    num_trajectories_learning_rate_multiplier_power: float


IGNORED_ART_OPTIONS = frozenset(
    {"plot_tensors", "logprob_calculation_chunk_size", "packed_sequence_length", "precalculate_logprobs"}
)
"""They say how ART computes, not what."""
UNSUPPORTED_ART_OPTIONS = frozenset(
    {
        "loss_fn_config",
        "adam_params",
        "kl_penalty_reference_step",
        "kl_ref_adapter_path",
        "scale_learning_rate_by_reward_std_dev",
        "num_trajectories_learning_rate_multiplier_power",
    }
)
"""They change the result and are not offered here; a value other than off is refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRequest:
    """A call of `backend.train`, understood."""

    update: UpdateSettings
    convention: AdvantageConvention
    allow_training_without_logprobs: bool = False
    keep_zero_variance: bool = False
    save_checkpoint: bool = True


class _Options:
    """The options given, read once each with a default, so that what nobody read is known."""

    def __init__(self, given: dict[str, object]) -> None:
        self.given = given

    def number(self, name: str, default: float) -> float:
        return float(str(self.given.get(name, default)))

    def count(self, name: str, default: int) -> int:
        return int(str(self.given.get(name, default)))

    def maybe(self, name: str, default: float | None = None) -> float | None:
        value = self.given.get(name, default)
        return None if value is None else float(str(value))

    def flag(self, name: str, *, default: bool = False) -> bool:
        return bool(self.given.get(name, default))

    def word(self, name: str, default: str) -> str:
        return str(self.given.get(name, default))


def train_request(given: dict[str, object]) -> TrainRequest:
    """The settings a call asks for.

    Raises:
        OptionError: an option is unknown, belongs to the other way of calling, or is not offered.

    """
    trl = "loss_type" in given
    _check_names(given, trl=trl)
    options = _Options(given)
    loss, convention = _trl_loss(options) if trl else _art_loss(options)
    try:
        update = UpdateSettings(
            loss=loss,
            optimizer=_optimizer(options, trl=trl),
            compute=_compute(options),
            limits=StopLimits(kl_budget=options.maybe("kl_budget"), mismatch=options.maybe("mismatch_limit", 1.0)),
            max_grad_norm=options.number("max_grad_norm", 1.0 if trl else 0.1),
            num_iterations=options.count("num_iterations", 1),
            num_minibatches=options.count("num_minibatches", 1),
            seed=options.count("seed", 0),
        )
        chosen = AdvantageConvention(options.word("advantage", convention))
    except ValueError as error:
        raise OptionError(f"train: {error}") from error
    return TrainRequest(
        update=update,
        convention=chosen,
        allow_training_without_logprobs=options.flag("allow_training_without_logprobs"),
        keep_zero_variance=options.flag("keep_zero_variance"),
        save_checkpoint=options.flag("save_checkpoint", default=True),
    )


def _check_names(given: dict[str, object], *, trl: bool) -> None:
    own = TrlOptions if trl else ArtOptions
    known = {*SharedOptions.__annotations__, *own.__annotations__}
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            side = "with loss_type (TRL's options)" if trl else "without loss_type (ART's options)"
            raise OptionError(f"train: option {name!r} is not known {side}{hint}")
    for name in UNSUPPORTED_ART_OPTIONS & given.keys():
        if given[name] not in (None, False, 0, 0.0):
            raise OptionError(f"train: option {name}={given[name]!r} is not offered by this backend; leave it out")


def _trl_loss(options: _Options) -> tuple[LossSettings, AdvantageConvention]:
    scaling = options.word("scale_rewards", "group")
    conventions = {
        "group": AdvantageConvention.TRL,
        "batch": AdvantageConvention.BATCH,
        "none": AdvantageConvention.DR,
    }
    if scaling not in conventions:
        raise OptionError(f"train: scale_rewards {scaling!r}; use group, batch or none")
    try:
        loss = LossSettings(
            loss_type=LossType(options.word("loss_type", "dapo")),
            importance_sampling_level=RatioLevel(options.word("importance_sampling_level", "token")),
            epsilon=options.number("epsilon", 0.2),
            epsilon_high=options.maybe("epsilon_high"),
            delta=options.maybe("delta"),
            beta=options.number("beta", 0.0),
            use_bias_correction_kl=options.flag("use_bias_correction_kl", default=True),
            max_completion_length=options.count("max_completion_length", 512),
            correction=Correction(options.word("vllm_importance_sampling_mode", "none")),
            correction_max=options.maybe("vllm_importance_sampling_clip_max", 3.0),
            correction_min=options.maybe("vllm_importance_sampling_clip_min"),
            recorded=RecordedLoss(options.word("recorded_loss", "luffy")),
            luffy_gamma=options.number("luffy_gamma", 0.1),
        )
    except ValueError as error:
        raise OptionError(f"train: {error}") from error
    return loss, conventions[scaling]


def _art_loss(options: _Options) -> tuple[LossSettings, AdvantageConvention]:
    name = options.word("loss_fn", "cispo")
    if name not in {"cispo", "ppo"}:
        raise OptionError(f"train: loss_fn {name!r}; use cispo or ppo, or loss_type for TRL's losses")
    scaled = options.flag("scale_rewards", default=True) and options.flag("normalize_advantages", default=True)
    art = ArtSettings(
        ppo=name == "ppo",
        epsilon=options.maybe("epsilon"),
        epsilon_high=options.maybe("epsilon_high"),
        advantage_balance=options.number("advantage_balance", 0.0),
        max_negative_advantage_importance_sampling_weight=options.maybe(
            "max_negative_advantage_importance_sampling_weight"
        ),
        mask_prob_ratio=options.flag("mask_prob_ratio"),
        kimi_k2_tau=options.maybe("kimi_k2_tau"),
        kl_penalty_coef=options.number("kl_penalty_coef", 0.0),
        truncated_importance_sampling=options.maybe("truncated_importance_sampling"),
    )
    try:
        loss = LossSettings(
            loss_type=LossType.ART,
            importance_sampling_level=RatioLevel(options.word("importance_sampling_level", "token")),
            recorded=RecordedLoss(options.word("recorded_loss", "luffy")),
            luffy_gamma=options.number("luffy_gamma", 0.1),
            art=art,
        )
    except ValueError as error:
        raise OptionError(f"train: {error}") from error
    return loss, AdvantageConvention.ART if scaled else AdvantageConvention.DR


def _optimizer(options: _Options, *, trl: bool) -> OptimizerSettings:
    total = options.maybe("max_optimizer_steps")
    return OptimizerSettings(
        optimizer=OptimizerName(options.word("optim", "adamw")),
        learning_rate=options.number("learning_rate", 1e-6 if trl else 5e-6),
        weight_decay=options.number("weight_decay", 0.0 if trl else 0.1),
        beta1=options.number("adam_beta1", 0.9),
        beta2=options.number("adam_beta2", 0.999 if trl else 0.99),
        epsilon=options.number("adam_epsilon", 1e-8),
        momentum=options.number("momentum", 0.9),
        schedule=Schedule(options.word("lr_scheduler_type", "constant")),
        warmup_steps=options.count("warmup_steps", 0),
        total_steps=None if total is None else int(total),
    )


def _compute(options: _Options) -> ComputeSettings:
    attention, enough = options.given.get("attention"), options.maybe("micro_batch_enough")
    return ComputeSettings(
        attention=None if attention is None else AttentionKind(str(attention)),
        micro_batch_tokens=options.count("micro_batch_tokens", 8192),
        micro_batch_enough=None if enough is None else int(enough),
        gradient_checkpointing=options.flag("gradient_checkpointing"),
        activation_offload=options.flag("activation_offload"),
    )
